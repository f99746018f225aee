"""A byte-level language model in plain torch, as somebody would have it; knows of no sweep.

python plain.py --layers 2 --width 32 --tokens 200000 --out run
torchrun --nproc-per-node 2 plain.py --layers 2 --width 32 --tokens 200000 --out run
"""

import argparse
import os
import pydoc_data
import sysconfig
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

CONTEXT, BATCH = 64, 8

parser = argparse.ArgumentParser()
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--tokens", type=int, default=100_000)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("run"))
args = parser.parse_args()
out = args.out
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
out.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)
torch.manual_seed(args.seed)
if world > 1:
    dist.init_process_group("gloo")


def read(files):
    return torch.frombuffer(bytearray(b"".join(f.read_bytes() for f in files)), dtype=torch.uint8)


stdlib = Path(sysconfig.get_path("stdlib"))
code, prose = sorted(stdlib.glob("[a-s]*.py")), [Path(pydoc_data.__file__).with_name("topics.py")]
train = torch.cat([read(code), read(prose)[:400_000]])
held_out = {
    "code": read(sorted(stdlib.glob("[t-z]*.py")))[:32_769],
    "prose": read(prose)[400_000:432_769],
}


class Model(nn.Module):
    """A causal transformer over bytes."""

    def __init__(self, layers, width):
        super().__init__()
        self.embed, self.place = nn.Embedding(256, width), nn.Embedding(CONTEXT, width)
        block = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, 256, bias=False)

    def forward(self, x):
        """Logits of the next byte."""
        n = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n)
        h = self.embed(x) + self.place(torch.arange(n))
        return self.head(self.blocks(h, mask=mask, is_causal=True))


def loss_on(model, text, starts):
    rows = torch.stack([text[s : s + CONTEXT + 1] for s in starts]).long()
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


model = Model(args.layers, args.width)
steps = args.tokens // (CONTEXT * BATCH)
optimizer = torch.optim.AdamW(model.parameters(), args.lr, betas=(0.9, 0.98))
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, args.lr / 50)
checkpoint, first = out / "checkpoint.pt", 0
if checkpoint.exists():
    saved = torch.load(checkpoint)
    first = saved["step"]
    for each, state in ((model, "model"), (optimizer, "optimizer"), (schedule, "schedule")):
        each.load_state_dict(saved[state])
for step in range(first, steps):
    order = torch.Generator().manual_seed(args.seed * 10**6 + step)
    starts = torch.randint(len(train) - CONTEXT - 1, (BATCH,), generator=order)[rank::world]
    loss = loss_on(model, train, starts)
    loss.backward()
    if world > 1:
        for weights in model.parameters():
            dist.all_reduce(weights.grad)
            weights.grad /= world
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    if rank == 0 and (step + 1) % 20 == 0:
        print(f"step {step + 1}/{steps} loss {loss.item():.4f}", flush=True)
        parts = (("model", model), ("optimizer", optimizer), ("schedule", schedule))
        state = {name: each.state_dict() for name, each in parts}
        torch.save({"step": step + 1, **state}, f"{checkpoint}.new")
        os.replace(f"{checkpoint}.new", checkpoint)
if rank == 0:
    with torch.no_grad():
        places = range(0, 32_768, CONTEXT)
        scores = {name: loss_on(model, text, places).item() for name, text in held_out.items()}
    row = [steps, sum(scores.values()) / 2, *scores.values()]
    (out / "log.csv").write_text(f"step,val_loss,code,prose\n{','.join(map(repr, row))}\n")
