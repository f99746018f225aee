"""Whether a tuning finds the rate that a grid finds, for how much less; real trainings on the CPU.

    OMP_NUM_THREADS=1 python benchmarks/tuning.py --out sweeps/tuning

Trains nine rates at three sizes (``grid.csv``), then `Sweep.tune` at the same allocations and at
two longer ones (``tuning.sqlite``), and compares. What is already in the folder is not repeated.
"""

from __future__ import annotations

import argparse
import datetime
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sweeper import Cluster, Sizes, Sweep
from sweeper.spec.sections import Tuning
from sweeper.tuning.points import base_trial, points_of, with_hyperparameters
from sweeper.tuning.studies import Studies
from sweeper.tuning.tuned import Tuned, conclude

RATES = np.geomspace(2e-3, 6.4e-2, 9)
COMPARED = ((1e4, 5e5), (3e4, 5e5), (9e4, 5e5))
LONGER = ((1e4, 1.5e6), (3e4, 1.5e6))


def spec() -> Sweep:
    return Sweep(
        name="tuning",
        budgets=(1e11, 2e11, 4e11),
        allowance=6e12,
        sizes=Sizes(7e3, 2.5e5),
        cluster=Cluster(cpus=1, dashboard=False),
        tuning=Tuning(points=COMPARED + LONGER),
    )


def grid(sweep: Sweep) -> pd.DataFrame:
    """Nine rates at three sizes, the same seed and data everywhere."""
    from trainables.context import LocalContext
    from trainables.engine.loop import train

    rows = []
    for point in points_of(replace(sweep, tuning=Tuning(points=COMPARED))):
        for rate in RATES:
            config = with_hyperparameters(base_trial(sweep, point), {"learning_rate": float(rate)})
            record = train(config, LocalContext(device="cpu"))
            loss = record["losses"]["validation"]
            rows.append((*point, rate, loss["nll"] / loss["tokens"]))
            print(rows[-1], flush=True)
    return pd.DataFrame(rows, columns=["params", "tokens", "learning_rate", "validation"])


def compare(grid: pd.DataFrame, found: Tuned) -> None:
    """Best rates of grid and tuning, trials and FLOPs, and the rule that was set by hand."""
    print("   params   tokens  grid's best  tuned   ratio  by hand  trials (grid 9)")
    spent = whole = 0.0
    for point in found.points["learning_rate"]:
        here = grid[(grid["params"] == point.params) & (grid["tokens"] == point.tokens)]
        if here.empty:
            continue
        best = float(here.loc[here["validation"].idxmin(), "learning_rate"])
        rows = found.table[
            (found.table["params"] == point.params) & (found.table["tokens"] == point.tokens)
        ]
        hand = found.compared.set_index(["params", "tokens"])["spec"]
        flops = 6 * point.params * point.tokens
        spent, whole = spent + flops * len(rows), whole + flops * len(here)
        print(
            f"{point.params:9.0f}{point.tokens:9.0f}{best:13.4f}{point.value:9.4f}"
            f"{point.value / best:7.2f}{hand[point.params, point.tokens]:9.4f}{len(rows):6}"
        )
    print(
        f"FLOPs at these three: {spent:.3g} against the grid's {whole:.3g} ({spent / whole:.0%}); "
        f"with the two longer points {found.flops:.3g} ({found.flops / whole:.0%})"
    )
    print(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("sweeps/tuning"))
    out, sweep = parser.parse_args().out, spec()
    out.mkdir(parents=True, exist_ok=True)
    print(f"# {datetime.date.today()}, {os.cpu_count()} CPU cores, seed 0, one slot")
    if not (out / "grid.csv").exists():
        grid(sweep).to_csv(out / "grid.csv", index=False)
    if Studies(sweep, out / "tuning.sqlite").next():
        sweep.tune(out)
    compare(pd.read_csv(out / "grid.csv"), conclude(Studies(sweep, out / "tuning.sqlite")))


if __name__ == "__main__":
    main()
