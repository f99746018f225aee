"""Tokens per second of our loop, of a bare loop, and of transformers.Trainer, side by side.

    OMP_NUM_THREADS=1 python benchmarks/train_throughput.py [--write]
    python benchmarks/train_throughput.py --device cuda --params 3.5e8 1.3e9 --vocabulary 32000 \
        --context 2048 --rows 16 --packed 1 2 4 8

All three train the same Llama on the same tokens in the same batches and precision, with fused
AdamW, clipping and a cosine schedule, and read their loss every tenth step. They take turns in
short rounds, so that whatever else the machine does befalls them alike; what counts is the median
over rounds of the ratio to the round beside it. On a CPU the clock is the process's CPU time.
transformers.Trainer needs `pip install accelerate`; without it two contestants are left.

`--packed` also trains so many copies of the first size at once on the device, each in a process of
its own, and prints what they reach together over what one reaches alone.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    LlamaForCausalLM,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.corpora.training_data import Ahead
from trainables.engine import loop
from trainables.engine.model import library_config
from trainables.families import Model, Shape
from trainables.shapes import solve
from trainables.training import Train

RESULTS = Path(__file__).parent / "results" / "train_throughput.md"

POOL = 256
"""Sequences of random tokens that all contestants cycle through."""

LOOK = loop.CHECK_STEPS
"""Steps between readings of the loss, for all contestants."""

WARM_UP = 2
"""Rounds that do not count."""

RATE = 1e-3
"""Peak learning rate of all contestants: how far a model has come can change how fast it is."""

PEAK_FLOPS = 989e12
"""Dense bfloat16 products of an H100 SXM or H200, per second (NVIDIA's data sheets)."""


class Pool:
    """Random tokens behind the interface of `trainables.data`."""

    begin = 0

    def __init__(self, shape: Shape) -> None:
        rng = np.random.default_rng(0)
        self.tokens = rng.integers(shape.vocabulary, size=(POOL, shape.context))

    def sequences(self, first: int, count: int) -> np.ndarray:
        """Sequences first..first+count, round the pool."""
        return self.tokens[np.arange(first, first + count) % POOL]


class Ours:
    """The package's loop, its looks at the clock and the caller among the steps."""

    def __init__(self, shape: Shape, options: argparse.Namespace) -> None:
        settings = Train(
            batch_tokens=options.rows * shape.context,
            learning_rate=RATE,
            width_exponent=0.0,
            device=options.device,
            dtype=options.dtype,
            threads=torch.get_num_threads(),
            compile=options.compile,
            graphs=getattr(options, "graphs", False),
            checkpoint_every_s=0,
        )
        config = TrialConfig(shape, tokens=10**7 * options.rows * shape.context, train=settings)
        self.looks = 0
        self.trial = loop._Trial(config, LocalContext(stop=self._enough))
        cuda = self.trial.group.device.type == "cuda"
        self.trial.ahead = Ahead(Pool(shape), on=cuda)  # type: ignore[arg-type]

    def _enough(self) -> bool:
        self.looks -= 1
        return self.looks <= 0

    def __call__(self, steps: int) -> None:
        """Take so many steps, in tens."""
        self.looks = steps // LOOK
        self.trial.run()


class Bare:
    """The loop one would write by hand round the library's model."""

    def __init__(self, shape: Shape, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.device, self.rows, self.dtype = options.device, options.rows, options.dtype
        self.model = LlamaForCausalLM(library_config(shape, attention="sdpa")).to(self.device)
        if options.compile:
            self.model.compile()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, fused=True)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, 100, 10**7)
        self.pool, self.step = Pool(shape), 0

    def __call__(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            batch = torch.from_numpy(self.pool.sequences(self.step * self.rows, self.rows))
            batch = batch.to(self.device, non_blocking=True)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == "bfloat16"):
                loss = self.model(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
            self.step += 1
            if self.step % LOOK == 0 and not math.isfinite(loss.item()):
                raise RuntimeError("the bare loop diverged")


class Rows(torch.utils.data.Dataset):
    """The pool as a dataset that does not end."""

    def __init__(self, pool: Pool) -> None:
        self.tokens = torch.from_numpy(pool.tokens)

    def __len__(self) -> int:
        return 10**7

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.tokens[index % POOL]
        return {"input_ids": row, "labels": row}


class Turn(TrainerCallback):
    """Times rounds of Trainer's steps, and lets the others run between them."""

    def __init__(self, steps: int, rounds: int, others: Callable[[], None], clock: Any) -> None:
        self.steps, self.rounds, self.others, self.clock = steps, rounds, others, clock
        self.times: list[float] = []
        self.started = math.nan

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock at the first step."""
        if state.global_step == 0:
            self.started = self.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop the clock at the end of a round, and give the others their turn."""
        if state.global_step % self.steps == 0:
            self.times.append(self.clock() - self.started)
            self.others()
            control.should_training_stop = len(self.times) == self.rounds
            self.started = self.clock()
        return control


def trainer_times(
    shape: Shape, options: argparse.Namespace, others: Callable[[], None], clock: Any
) -> list[float]:
    """Seconds of each of Trainer's rounds; the others take their turns between them."""
    from transformers import Trainer

    torch.manual_seed(0)
    model = LlamaForCausalLM(library_config(shape, attention="sdpa"))
    turn = Turn(options.steps, options.rounds + WARM_UP, others, clock)
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            directory,
            per_device_train_batch_size=options.rows,
            max_steps=10**7,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            warmup_steps=100,
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            bf16=options.dtype == "bfloat16",
            torch_compile=options.compile,
            use_cpu=options.device == "cpu",
            dataloader_pin_memory=options.device != "cpu",
            logging_steps=LOOK,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=Rows(Pool(shape)), callbacks=[turn])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return turn.times


def make_clock(device: str) -> Callable[[], float]:
    """CPU seconds of this process, or wall seconds once a GPU has done what it was given."""

    def gpu() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return time.process_time if device == "cpu" else gpu


def compare(shape: Shape, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every counted round by contestant."""
    clock = make_clock(options.device)
    contestants: dict[str, Callable[[int], None]]
    contestants = {"ours": Ours(shape, options), "bare": Bare(shape, options)}
    times: dict[str, list[float]] = {name: [] for name in contestants}

    def take_turns() -> None:
        # In turns of either order: the one that follows Trainer finds the caches cold.
        for name in sorted(contestants, reverse=len(times["ours"]) % 2 == 1):
            started = clock()
            contestants[name](options.steps)
            times[name].append(clock() - started)

    if importlib.util.find_spec("accelerate"):
        times["Trainer"] = trainer_times(shape, options, take_turns, clock)
    else:
        print("transformers.Trainer is left out: `pip install accelerate` brings what it needs")
        for _ in range(options.rounds + WARM_UP):
            take_turns()
    return {name: seconds[WARM_UP:] for name, seconds in times.items()}


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Lines of the table."""
    names = ["ours", "bare"] + ["Trainer"] * bool(importlib.util.find_spec("accelerate"))
    head = ["params", "context", "batch", *(f"{n}, tokens/s" for n in names)]
    head += [f"ours / {n}" for n in names[1:]] + ["MFU"] * (options.device == "cuda")
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for params in options.params:
        model = Model(vocabulary=options.vocabulary, context=options.context, tied=False)
        shape = solve(params, model)
        times, tokens = compare(shape, options), options.rows * shape.context
        speed = {n: options.steps * tokens / statistics.median(s) for n, s in times.items()}
        cells = [f"{shape.params_total:,}", f"{shape.context}", f"{tokens}"]
        cells += [f"{speed[name]:,.0f}" for name in names]
        for name in names[1:]:
            ratios = [b / a for a, b in zip(times["ours"], times[name], strict=True)]
            low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            cells.append(f"{middle:.3f} ({low:.2f}-{high:.2f})")
        if options.device == "cuda":
            mfu = speed["ours"] * shape.flops_per_token("exact") / options.peak_flops
            cells.append(f"{mfu:.1%}")
        yield f"| {' | '.join(cells)} |"


def packing(options: argparse.Namespace) -> Iterator[str]:
    """Lines on what trials reach together on one device."""
    yield "\n| trials at once | tokens/s together | over one alone |"
    yield "|---|---|---|"
    alone = math.nan
    for count in options.packed:
        start_at = time.time() + options.start_s
        command = [sys.executable, __file__, *sys.argv[1:], "--alone-at", str(start_at)]
        copies = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        together = sum(float(copy.communicate()[0].split()[-1]) for copy in copies)
        alone = together if math.isnan(alone) else alone
        yield f"| {count} | {together:,.0f} | {together / alone:.2f} |"


def run_alone(options: argparse.Namespace) -> None:
    """One of several packed trials: print its tokens/s over the same seconds as the others."""
    model = Model(vocabulary=options.vocabulary, context=options.context, tied=False)
    ours = Ours(solve(options.params[0], model), options)
    ours(LOOK)
    if time.time() > options.alone_at:
        raise RuntimeError("not ready in time: raise --start-s")
    time.sleep(options.alone_at - time.time())
    started, steps = time.time(), 0
    while time.time() - started < options.seconds:
        ours(LOOK)
        steps += LOOK
    print(steps * options.rows * options.context / (time.time() - started))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--params", type=float, nargs="+", default=[2e4, 1e5, 1e6])
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--context", type=int, default=60)
    parser.add_argument("--rows", type=int, default=8, help="sequences per step")
    parser.add_argument("--steps", type=int, default=20, help="steps per round, in tens")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--peak-flops", type=float, default=PEAK_FLOPS)
    parser.add_argument("--packed", type=int, nargs="*", default=[])
    parser.add_argument("--start-s", type=float, default=60.0, help="seconds to get ready in")
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds packed trials run")
    parser.add_argument("--alone-at", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    options.dtype = options.dtype or ("bfloat16" if options.device == "cuda" else "float32")
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if options.alone_at:
        run_alone(options)
        return
    kind = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} cores"
    said = (
        f"{datetime.date.today()}, torch {torch.__version__}, {kind}, "
        f"{torch.get_num_threads()} thread(s), {options.dtype}, seed 0, medians of "
        f"{options.rounds} rounds of {options.steps} steps (quartiles of the ratios in brackets); "
        f"`python benchmarks/train_throughput.py {' '.join(sys.argv[1:])}`\n"
    )
    lines = [said]
    print(said)
    for source in (rows(options), packing(options) if options.packed else iter(())):
        for line in source:
            print(line, flush=True)
            lines.append(line)
    if options.write:
        before = RESULTS.read_text() if RESULTS.exists() else "# Speed of the training loop\n"
        RESULTS.write_text(before + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
