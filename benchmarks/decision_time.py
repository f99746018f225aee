"""CPU seconds of one decision of the adaptive search.

    OMP_NUM_THREADS=1 python benchmarks/decision_time.py [--write]

A table of trials on the seven-budget ladder is made in world "fail", its skills repeated to 20;
then one more trial ends and the next is asked for. "First" is a decision without memory, as after
a restart; "next" starts from the fit before it, as in a running sweep.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from worlds import LADDER, World, world

from sweeper.budget import Space
from sweeper.search.build import build
from sweeper.spec.search import SearchSettings

RESULTS = Path(__file__).parent / "results"
SIZES = tuple(int(p) for p in np.exp(np.arange(math.log(5e6), math.log(4e10), 0.08)))
SPACE = Space(LADDER, SIZES, tuple(6.0 * p for p in SIZES))
GOALS = {(100, 20): 0.08, (3000, 20): 1.0}


def observations(trials: int, skills: int, seed: int = 0) -> pd.DataFrame:
    """A ledger as an adaptive sweep leaves it: most trials on cheap budgets."""
    base, rng = world("fail"), np.random.default_rng(seed)
    truths = [replace(base.truths[i % 6], name=f"skill-{i}") for i in range(skills)]
    flops = rng.choice(LADDER, trials, p=[0.38, 0.25, 0.15, 0.1, 0.07, 0.04, 0.01])
    centre = np.array([base.log_optimum("aggregate", c) for c in flops])
    wanted = centre + rng.uniform(-2, 2, trials)
    params = np.array([SIZES[SPACE.nearest(math.exp(x))] for x in wanted])
    table = World("fail", tuple(truths)).table(flops, params, rng)
    status = np.where(table["loss"].isna(), "diverged", "finished")
    return table.assign(
        params=table["params"].astype(int), tokens=table["tokens"].astype(int),
        seed=table["trial_id"], mix="base", status=status, spent_flops=table["flops"],
    )  # fmt: skip


def decide(search: object, table: pd.DataFrame) -> float:
    """CPU seconds until the next trial is known."""
    begin = time.process_time()
    asked = search.propose(table, [], 1e24, 1)  # type: ignore[attr-defined]
    seconds = time.process_time() - begin
    assert asked
    return seconds


def measure(trials: int, skills: int, repeats: int = 7) -> tuple[float, float]:
    """Seconds of a first decision, and the least of several next ones."""
    table = observations(trials, skills)
    ids = table["trial_id"].unique()
    search = build(SearchSettings(tolerance=1e-3), SPACE, ())
    first = decide(search, table[table["trial_id"].isin(ids[: -repeats - 1])])
    later = [
        decide(search, table[table["trial_id"].isin(ids[: trials - k])])
        for k in range(repeats, 0, -1)
    ]
    return first, min(later)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="keep the table in results/")
    args = parser.parse_args()
    measure(100, 20)  # imports, caches, and memory that a driver of hours has, too
    lines = [
        "# CPU seconds of one decision", "",
        f"Written {date.today()} by `OMP_NUM_THREADS=1 python benchmarks/decision_time.py`, one "
        f"thread of {platform.processor() or platform.machine()}; least of 7, others loading the "
        "machine, seed 0.", "",
        "| trials | skills | first | next | goal |", "|---|---|---|---|---|",
    ]  # fmt: skip
    print("\n".join(lines))
    for trials, skills in [(30, 6), (100, 6), (100, 20), (1000, 20), (3000, 20)]:
        first, later = measure(trials, skills)
        goal = GOALS.get((trials, skills))
        verdict = "" if goal is None else f"{goal:g}: {'met' if later <= goal else 'missed'}"
        lines.append(f"| {trials} | {skills} | {first:.3f} | {later:.3f} | {verdict} |")
        print(lines[-1], flush=True)
    if args.write:
        (RESULTS / "decision_time.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
