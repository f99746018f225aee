"""A small Llama trained by transformers' Trainer, as somebody would have it; knows of no sweep."""

import argparse
import sysconfig
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

CONTEXT, BATCH = 64, 16

parser = argparse.ArgumentParser()
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--hidden", type=int, default=32)
parser.add_argument("--heads", type=int, default=2)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output_dir", default="run")
args = parser.parse_args()
set_seed(args.seed)
torch.set_num_threads(1)


def rows(pattern):
    stdlib = Path(sysconfig.get_path("stdlib"))
    text = b"".join(path.read_bytes() for path in sorted(stdlib.glob(pattern)))
    count = len(text) // CONTEXT
    tokens = torch.frombuffer(bytearray(text[: count * CONTEXT]), dtype=torch.uint8).long()
    return [{"input_ids": row, "labels": row} for row in tokens.view(count, CONTEXT)]


config = LlamaConfig(
    vocab_size=256, hidden_size=args.hidden, intermediate_size=4 * args.hidden,
    num_hidden_layers=args.layers, num_attention_heads=args.heads, tie_word_embeddings=True,
    max_position_embeddings=CONTEXT,
)  # fmt: skip
arguments = TrainingArguments(
    args.output_dir, max_steps=args.steps, learning_rate=args.lr, seed=args.seed,
    per_device_train_batch_size=BATCH, lr_scheduler_type="cosine", warmup_steps=5,
    logging_steps=10, save_steps=50, save_total_limit=1, report_to="none", use_cpu=True,
)  # fmt: skip
trainer = Trainer(
    LlamaForCausalLM(config), arguments,
    train_dataset=rows("[a-s]*.py"), eval_dataset=rows("[t-z]*.py")[:512],
)  # fmt: skip
last = sorted(Path(args.output_dir).glob("checkpoint-*"))
trainer.train(resume_from_checkpoint=str(last[-1]) if last else None)
trainer.save_metrics("eval", trainer.evaluate())
