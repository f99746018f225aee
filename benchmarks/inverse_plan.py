"""Whether the allowance that an inverted plan proposes gives the tolerance asked for.

    OMP_NUM_THREADS=1 python benchmarks/inverse_plan.py --sweeps 50

For every case the plan's allowance is spent by the adaptive search in simulated sweeps of fresh
seeds; "reached" is the share whose widest 90 % interval is as narrow as asked, "held" the share
of skills and sweeps whose interval holds the true optimum.
"""

from __future__ import annotations

import argparse
import datetime
import os
import time
from dataclasses import replace

import numpy as np

from fitting.mixture.fit import fit_guarded
from fitting.values import Z90
from sweeper import Sweep
from sweeper.plan.expected import needed, world_of
from sweeper.search.build import build
from sweeper.search.history import finished
from sweeper.search.simulation import run
from trainables.progress import counted

LADDER = (1e11, 2e11, 4e11)
CASES = ((0.2, None), (0.25, 8e11))
"""Tolerance, and the budget it is wanted on (None: every budget of the ladder)."""


def one_sweep(sweep: Sweep, seed: int, at: float | None) -> tuple[float, float]:
    """Widest half-width at the targets of one simulated sweep, and the share of optima held."""
    world = world_of(sweep)
    table = run(
        build(sweep.search, sweep.space, world.skills),
        sweep.space,
        lambda allocation, rng: world.loss(allocation.params, allocation.tokens, rng),
        skills=world.skills,
        allowance=sweep.allowance,
        seed=seed,
    )
    targets = LADDER if at is None else (at,)
    fit = fit_guarded(finished(table), ladder=LADDER)
    mean, error = fit.log_optimum(targets)
    truth = np.array([[world.log_optimum(s, c) for c in targets] for s in fit.skills])
    return float(Z90 * error.max()), float((np.abs(mean - truth) <= Z90 * error).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=50)
    options = parser.parse_args()
    today, cores = datetime.date.today(), os.cpu_count()
    print(f"# {today}, {cores} CPU cores, {options.sweeps} sweeps per case, seeds 1000 and up")
    print(
        "tolerance  at      allowance  trials  reached  held  widest (median)  plan s", flush=True
    )
    for tolerance, at in CASES:
        sweep = Sweep(budgets=LADDER, allowance=6e12, skills=("code",))
        started = time.monotonic()
        need = needed(sweep, world_of(sweep), tolerance=tolerance, at=at)
        took = time.monotonic() - started
        search = replace(sweep.search, tolerance=tolerance, target_flops=at)
        spent = replace(sweep, allowance=need.allowance, search=search)
        seeds = counted(range(1000, 1000 + options.sweeps), f"sweeps at {tolerance}")
        found = [one_sweep(spent, seed, at) for seed in seeds]
        widths = np.array([width for width, _ in found])
        where = "ladder" if at is None else f"{at:.2g}"
        print(
            f"{tolerance:<10} {where:<7} {need.allowance:<10.3g} {need.trials:<7} "
            f"{(widths <= tolerance + 1e-9).mean():<8.2f} "
            f"{np.mean([held for _, held in found]):<5.2f} "
            f"{np.median(widths):<16.3f} {took:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
