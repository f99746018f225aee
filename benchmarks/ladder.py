"""How far losses on one budget scatter round a smooth curve of size: old ladder against new.

    python benchmarks/ladder.py --flops 2e10 > ladder.csv

Trains one model of each size on both ladders, same seed, data and recipe; one process. The old
ladder took the largest divisor of the width for the number of heads, and put widths on a grid of
two; its shapes are listed as it built them. Scatter is the root mean square distance from a cubic
in ln(params), with its degrees of freedom taken off.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from typing import Any

import numpy as np

from trainables.config import TrialConfig
from trainables.engine.loop import LocalContext, train
from trainables.families import Model, Shape
from trainables.progress import counted
from trainables.shapes import solve
from trainables.training import Train

SKILLS = ("knowledge", "knowledge-qa", "code", "validation")

OLD = (
    (14, 1, 14, 33), (14, 1, 14, 46), (16, 1, 16, 43), (18, 1, 18, 42), (18, 1, 18, 57),
    (20, 1, 20, 58), (22, 1, 22, 60), (24, 1, 24, 63), (26, 1, 26, 67), (28, 1, 28, 73),
    (30, 1, 30, 80), (32, 2, 16, 88), (32, 2, 16, 113), (40, 2, 20, 84), (40, 2, 20, 110),
    (40, 2, 20, 138), (48, 3, 16, 116), (48, 3, 16, 146), (56, 2, 28, 130), (56, 2, 28, 164),

)  # fmt: skip
"""Width, heads, width of a head and feed-forward width of two layers, from 8 k to 95 k params."""


def old(width: int, heads: int, head_dim: int, ffn_width: int) -> Shape:
    """One shape of the old ladder."""
    return Shape(2, width, heads, heads, head_dim, ffn_width, 256, 60, True)


def measure(ladder: str, shape: Shape, flops: float, seed: int) -> dict[str, Any]:
    """Train one model; returns its row."""
    tokens = round(flops / shape.flops_per_token())
    settings = Train(checkpoint_every_s=0, keep_questions=False)
    config = TrialConfig(shape, tokens, seed=seed, train=settings, skills=SKILLS)
    start = time.process_time()
    record = train(config, LocalContext(device="cpu"))
    losses = {name: s["nll"] / s["tokens"] for name, s in record["losses"].items()}
    return {
        "ladder": ladder, "params": shape.params_with_head, "width": shape.width,
        "heads": shape.heads, "head_dim": shape.head_dim, "ffn_width": shape.ffn_width,
        "seed": seed, "cpu_s": round(time.process_time() - start, 2),
        **{name: round(losses[name], 4) for name in SKILLS},
    }  # fmt: skip


def scatter(params: np.ndarray, losses: np.ndarray) -> float:
    """Root mean square distance from a cubic in ln(params), nats."""
    x = np.log(params / params.mean())
    rest = losses - np.polyval(np.polyfit(x, losses, 3), x)
    return float(np.sqrt((rest**2).sum() / (len(x) - 4)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flops", type=float, default=2e10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pairs = [
        (name, shape)
        for shape in (old(*numbers) for numbers in OLD)
        for name, shape in (("old", shape), ("new", solve(shape.params_with_head, Model())))
    ]
    rows = []
    writer = None
    for name, shape in counted(pairs, "trainings"):
        rows.append(measure(name, shape, options.flops, options.seed))
        writer = writer or csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
        if len(rows) == 1:
            writer.writeheader()
        writer.writerow(rows[-1])
        sys.stdout.flush()
    for name in ("old", "new"):
        mine = [row for row in rows if row["ladder"] == name]
        params = np.array([row["params"] for row in mine], dtype=float)
        found = ", ".join(
            f"{skill} {scatter(params, np.array([row[skill] for row in mine])):.4f}"
            for skill in SKILLS
        )
        print(f"{name}: scatter in nats {found}; {sum(r['cpu_s'] for r in mine):.0f} CPU-s",
              file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    main()
