"""IsoFLOP curves of the built-in corpora without search: one row per training, as CSV.

    python benchmarks/calibrate.py --budgets 1e11 2e11 4e11 --sizes 7e3 1.2e4 2e4 --seeds 0 1

Single-process and sequential; speeds are in CPU time, so that other load matters little.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from itertools import product

from trainables.config import TrialConfig
from trainables.data import Data
from trainables.engine.loop import LocalContext, train
from trainables.families import Model
from trainables.progress import counted
from trainables.shapes import solve
from trainables.skills import catalog
from trainables.training import Train

NAMES = tuple(skill.name for skill in catalog())
COLUMNS = ("flops", "params", "width", "seed", "steps", "rate", "cpu_s", "gflops_per_s", "status")


def measure(flops: float, params: float, seed: int, rate: float, world: int) -> dict[str, object]:
    """Train one allocation and return its row."""
    shape = solve(params, Model())
    config = TrialConfig(
        shape,
        tokens=round(flops / shape.flops_per_token()),
        seed=seed,
        data=Data(world_seed=world),
        train=Train(learning_rate=rate, checkpoint_every_s=0),
        skills=NAMES,
    )
    start = time.process_time()
    record = train(config, LocalContext(device="cpu"))
    cpu_s = time.process_time() - start
    values = (flops, shape.params_total, shape.width, seed, record["steps"], rate)
    speed = (round(cpu_s, 1), round(record["flops_6p"] / cpu_s / 1e9, 1), record["status"])
    losses = {name: round(s["nll"] / s["tokens"], 4) for name, s in record["losses"].items()}
    return dict(zip(COLUMNS, values + speed, strict=True)) | losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=float, nargs="+", default=[1e11, 2e11, 4e11])
    parser.add_argument("--sizes", type=float, nargs="+", default=[7e3, 1.2e4, 2e4, 4e4, 8e4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[Train().learning_rate])
    parser.add_argument("--world", type=int, default=0)
    options = parser.parse_args()
    writer = csv.DictWriter(sys.stdout, (*COLUMNS, *NAMES), lineterminator="\n")
    writer.writeheader()
    every = product(options.seeds, options.budgets, options.sizes, options.rates)
    for seed, flops, params, rate in counted(list(every), "trainings"):
        writer.writerow(measure(flops, params, seed, rate, options.world))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
