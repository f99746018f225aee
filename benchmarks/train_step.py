"""CPU time of one training step by size: the library's own forward pass against ours.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py

Every variant has the same weights, batch of 480 tokens, optimiser and clipping; best of five
rounds of twenty steps, variants interleaved. Also prints the generator's share of a step.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.corpora import Stream
from trainables.data import BuiltIn
from trainables.engine.loss import Objective
from trainables.engine.model import Network, build
from trainables.engine.optim import make_optimizer
from trainables.families import Model
from trainables.recipe import recipe
from trainables.shapes import solve
from trainables.training import Train

SIZES = (7e3, 2e4, 3.3e4, 1.15e5, 2.46e5)
ROWS = 8
Step = Callable[[], None]


def library_nll(network: Network, documents: Tensor) -> Tensor:
    """Loss by the library's own forward pass, which builds mask and rotary tables anew."""
    logits = network.causal(documents, use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), documents.flatten(), reduction="sum")


def make_step(params: float, attention: str, *, library: bool) -> Step:
    """One training step as a closure."""
    shape = solve(params, Model())
    network = build(shape, seed=0, attention=attention)
    objective = Objective(network, begin=0)
    optimizer = make_optimizer(network, Train(), recipe(Train(), shape, tokens=10**6))
    documents = torch.randint(shape.vocabulary, (ROWS, shape.context))

    def step() -> None:
        loss = library_nll(network, documents) if library else objective(documents, ROWS)[0]
        (loss / documents.numel()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def best_ms(steps: dict[str, Step]) -> dict[str, float]:
    """Least mean time of a step over five rounds, ms of CPU."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(6):  # the first round warms up
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(20):
                step()
            best[name] = min(best[name], (time.process_time() - start) / 20 * 1e3)
    return best


def generator_ms() -> float:
    """CPU time of generating one batch, ms."""
    stream = Stream(BuiltIn(), context=60, seed=0)
    stream.sequences(0, ROWS)
    start = time.process_time()
    for first in range(ROWS, 20 * 512, ROWS):
        stream.sequences(first, ROWS)
    return (time.process_time() - start) / (20 * 512 / ROWS - 1) * 1e3


def main() -> None:
    torch.set_num_threads(1)
    print(f"{datetime.date.today()}, torch {torch.__version__}, 1 thread, ms of CPU per step")
    generator = generator_ms()
    print(
        "| params | width | library, sdpa | library, eager | ours, sdpa | ours, eager | "
        "6p GFLOP/s, ours, sdpa | generator % |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for params in SIZES:
        shape = solve(params, Model())
        ms = best_ms(
            {
                f"{who}, {attention}": make_step(params, attention, library=who == "library")
                for who in ("library", "ours")
                for attention in ("sdpa", "eager")
            }
        )
        flops = ROWS * shape.context * shape.flops_per_token()
        cells = (shape.params_total, shape.width, *(f"{value:.2f}" for value in ms.values()))
        rate = f"{flops / ms['ours, sdpa'] / 1e6:.1f}"
        share = f"{100 * generator / ms['ours, sdpa']:.1f}"
        print(f"| {' | '.join(map(str, (*cells, rate, share)))} |")


if __name__ == "__main__":
    main()
