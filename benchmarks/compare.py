"""Compute multipliers of variants in worlds where they are known: intervals, and when to stop.

    OMP_NUM_THREADS=1 python benchmarks/compare.py coverage [--replicates 20]
    OMP_NUM_THREADS=1 python benchmarks/compare.py sequential [--replicates 40] [--times 1 1.2]

Worlds: `fitting.synthetic`, of which the variant is the same world at m(C) times the compute, its
optima moved by a factor; m = 1, 1.2, or 1.2 at 1e19 FLOPs and growing or falling as C^.03 (a
factor 1.23 in three decades). Coverage: how often 90 % intervals of the multiplier hold it, on the
trained budgets and at ten times the largest, for three designs on the five cheapest budgets of the
ladder: the same grid of six sizes for both, grids that share no size, and a variant that has four
sizes on the three cheapest budgets only.

Sequential: `sweeper.search.compare.CompareSearch` on the seven budgets, one skill, four trials at
a time, a look after every one; the verdict is of the largest budget, 1e21 FLOPs, or of --target.
How often it is right, wrong or undecided, and what it cost against eight sizes on every budget for
both variants.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from worlds import LADDER, World, world

from fitting.compare.multipliers import compare_runs
from fitting.values import FloatArray
from sweeper.budget import Allocation, Space
from sweeper.search.compare import CompareSearch
from sweeper.search.simulation import LossFunction, run
from sweeper.spec.search import SearchSettings
from trainables.progress import counted

CONDITIONS = ("fail", "asym", "interact", "sigmoid", "bend", "lrbump", "noisy")
BUDGETS = np.array(LADDER[:5])
FAR = 10 * BUDGETS[-1]
MIDDLE = 1e19
SHIFT = 0.15
"""The variant's optima lie this far above the reference's, ln p."""


@dataclass(frozen=True)
class Variant:
    """A world at m(C) = times (C / 1e19)^slope times the compute."""

    times: float = 1.0
    slope: float = 0.0
    shift: float = SHIFT

    def at(self, flops: FloatArray | float) -> FloatArray:
        """m(C)."""
        return np.asarray(self.times * (np.asarray(flops) / MIDDLE) ** self.slope)

    def measure(
        self, place: World, params: FloatArray, tokens: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """Losses (S, n) of the variant."""
        root = np.sqrt(self.at(6 * params * tokens))
        return place.sample(params * root * math.exp(-self.shift),
                            tokens * root * math.exp(self.shift), rng)  # fmt: skip


REFERENCE = Variant(shift=0.0)
VARIANTS = (Variant(), Variant(1.2), Variant(1.2, 0.03), Variant(1.2, -0.03))


def table(
    place: World, variant: Variant, flops: FloatArray, params: FloatArray, rng: np.random.Generator
) -> pd.DataFrame:
    """Finished trials of one variant, long."""
    tokens = flops / 6 / params
    losses = variant.measure(place, params, tokens, rng)
    trials = pd.DataFrame(
        {"trial_id": np.arange(len(flops)), "flops": flops, "params": params, "tokens": tokens}
    )
    long = pd.concat([trials.assign(skill=s, loss=row)
                      for s, row in zip(place.skills, losses, strict=True)])  # fmt: skip
    return long[np.isfinite(long["loss"])].reset_index(drop=True)


Design = Callable[
    [FloatArray], tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
]


def _grid(centre: FloatArray, offsets: FloatArray, budgets: int) -> tuple[FloatArray, FloatArray]:
    sizes = np.exp((centre[:budgets, None] + offsets).ravel())
    return np.repeat(BUDGETS[:budgets], len(offsets)), sizes


WIDE = np.linspace(-1.25, 1.25, 6)
DESIGNS: dict[str, Design] = {
    "paired": lambda c: (_grid(c, WIDE, 5), _grid(c, WIDE, 5)),
    "apart": lambda c: (_grid(c, WIDE, 5), _grid(c, WIDE + 0.21, 5)),
    "lopsided": lambda c: (_grid(c, WIDE, 5), _grid(c, np.linspace(-1.0, 1.0, 4), 3)),
}


def coverage(args: argparse.Namespace) -> pd.DataFrame:
    cases = [(c, d, v) for c in args.worlds for d in DESIGNS for v in VARIANTS]
    rows = []
    for name, design, variant in counted(cases, "cases"):
        place = world(name)
        centre = np.array([place.log_optimum("aggregate", c) for c in BUDGETS])
        for replicate in range(args.replicates):
            rng = np.random.default_rng([args.seed, replicate])
            ours, theirs = DESIGNS[design](centre + 0.2 * rng.standard_normal())
            tables = {"ref": table(place, REFERENCE, *ours, rng),
                      "new": table(place, variant, *theirs, rng)}  # fmt: skip
            found = compare_runs(tables, flops=[*BUDGETS, FAR]).frame
            true = variant.at(found["flops"].to_numpy())
            rows.append(found.assign(
                world=name, design=design, times=variant.times, slope=variant.slope,
                replicate=replicate, true=true,
                inside=(found["low"] <= true) & (true <= found["high"]),
                width=np.log(found["high"] / found["low"]) / 2,
                far=found["flops"] > 5 * BUDGETS[-1],
            ))  # fmt: skip
    return pd.concat(rows)


PARAMS = tuple(int(v) for v in np.geomspace(2e7, 2e10, 60))
SKILL = "aggregate"


def outcome(place: World, variant: Variant) -> LossFunction:
    """One trial of the reference, or of the variant."""
    at = place.skills.index(SKILL)

    def loss(a: Allocation, rng: np.random.Generator) -> dict[str, float]:
        who = variant if a.mix == "new" else REFERENCE
        sizes = np.array([float(a.params)]), np.array([float(a.tokens)])
        return {SKILL: float(who.measure(place, *sizes, rng)[at, 0])}

    return loss


def sequential(args: argparse.Namespace) -> pd.DataFrame:
    """One row per simulated comparison."""
    grids = 2 * 8 * sum(LADDER)
    cases = [(c, m, r) for c in args.worlds for m in args.times for r in range(args.replicates)]
    rows = []
    for name, times, replicate in counted(cases, "comparisons"):
        spaces = {n: Space(LADDER, PARAMS, tuple(6.0 * p for p in PARAMS), mix=n)
                  for n in ("base", "new")}  # fmt: skip
        search = CompareSearch(SearchSettings(target_flops=args.target), spaces)
        loss, seed = outcome(world(name), Variant(times)), args.seed * 1000 + replicate
        asked = {"skills": [SKILL], "allowance": grids / 3, "slots": 4, "seed": seed}
        table = run(search, spaces["base"], loss, **asked)
        ended, trials = table.attrs["finished"], table.drop_duplicates("trial_id")
        said = ended.detail.rsplit(", ", 1)[-1]
        share = grids / float(trials["spent_flops"].sum())
        rows.append((name, args.target, times, said, len(trials), share))
    names = ["world", "target", "times", "verdict", "trials", "share"]
    return pd.DataFrame(rows, columns=names)


def verdicts(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Shares of verdicts, median trials, and the grids' FLOPs over those spent."""
    groups = rows.groupby(by)
    shares = groups["verdict"].value_counts(normalize=True).unstack(fill_value=0.0)
    cost = groups.agg(n=("share", "size"), trials=("trials", "median"))
    cheaper = groups["share"].quantile([0.1, 0.5]).unstack()
    cost = cost.join(cheaper.set_axis(["tenth", "median"], axis=1))
    return cost.join(shares)


def summary(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Coverage and median half-width, on the ladder and beyond."""
    near = np.abs(np.log(rows["multiplier"] / rows["true"]))
    cells = rows.assign(error=near).groupby([*by, "far"])
    found = cells.agg(
        inside=("inside", "mean"), width=("width", "median"), error=("error", "median")
    )
    return found.unstack("far")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["coverage", "sequential"])
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--worlds", nargs="+", default=list(CONDITIONS))
    parser.add_argument("--times", nargs="+", type=float, default=[1.0, 1.05, 1.2])
    parser.add_argument("--target", type=float, default=LADDER[-1], help="budget judged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, help="add the rows to this CSV; show all of it")
    args = parser.parse_args()
    started = time.process_time()
    rows = coverage(args) if args.part == "coverage" else sequential(args)
    if args.rows is not None:
        rows = pd.concat([pd.read_csv(args.rows), rows]) if args.rows.exists() else rows
        rows.to_csv(args.rows, index=False)
    if args.part == "coverage":
        tables = [summary(rows, by) for by in (["world"], ["design"], ["times", "slope"])]
    else:
        tables = [verdicts(rows, ["world", "target", "times"])]
    print("\n\n".join(t.round(3).to_string() for t in tables))
    print(f"\n{time.process_time() - started:.0f} CPU s, {date.today()}")


if __name__ == "__main__":
    main()
