"""How often 90 % intervals of the ratio of two skills' optima hold the truth, four ways, one run.

    OMP_NUM_THREADS=1 python benchmarks/ratio_intervals.py [--sweeps 40] [--noise 0.1] [--write]

Simulated sweeps of nine sizes on 3 or 8 budgets draw three skills' losses from the surfaces of
`trainables.simulated`, a share of the noise's variance common to all skills of a trial. "joint":
`Fits.compare` by the guarded mixture, what reports and consoles say. "laws": the guarded laws in
the middle of the ladder, taken as independent. "averaged": the guarded optima of the budgets
averaged as if independent. "paired": parabolas of the same trials, budget by budget.

Then "joint" once more in the seven worlds of the search, most of which break the plain law, on the
usual grid of 8 sizes and 7 budgets, .4 of the noise in common (`fitting.synthetic`).
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from dataclasses import replace
from datetime import date
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from worlds import LADDER, WORLDS, world

from fitting import compare_optima, compare_skills, fit_skills
from fitting.compare.optima import Comparison, pool_laws
from fitting.values import Z90
from trainables.progress import counted
from trainables.simulated import SURFACES

SKILLS = ("knowledge", "code", "validation")
LADDERS = {3: (1e11, 2e11, 4e11), 8: tuple(np.geomspace(1e11, 1e13, 8).tolist())}
SHARES = (0.25, 0.75)  # of the noise's variance common to the skills of a trial


def loss(skill: str, params: float, flops: float) -> float:
    s = SURFACES[skill]
    tokens = flops / 6 / params
    return float(s["E"] + s["A"] / params ** s["alpha"] + s["B"] / tokens ** s["beta"])


def log_optimum(skill: str, flops: float) -> float:
    found = minimize_scalar(
        lambda u: loss(skill, math.exp(u), flops), bounds=(6, 16), method="bounded"
    )
    return float(found.x)


def sweep(budgets: tuple[float, ...], noise: float, shared: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, float, str, float, int]] = []
    for flops in budgets:
        for offset in np.linspace(-1.5, 1.5, 9) + rng.uniform(-0.1, 0.1, 9):
            params, common = math.sqrt(flops / 240) * math.exp(offset), rng.normal()
            for skill in SKILLS:
                error = math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal()
                value = loss(skill, params, flops) + noise * error
                rows.append((flops, params, skill, value, len(rows) // len(SKILLS)))
    return pd.DataFrame(rows, columns=["flops", "params", "skill", "loss", "trial_id"])


def intervals(table: pd.DataFrame, one: str, other: str) -> dict[str, tuple[float, float]]:
    """90 % intervals of ln ratio by way of getting them."""
    fits = fit_skills(table)
    averaged = by_precision(compare_optima(fits[one].optima, fits[other].optima))
    return {
        "joint": fits.compare(one, other).interval(),
        "laws": pool_laws(averaged, fits[one].law, fits[other].law).interval(),
        "averaged": averaged.interval(),
        "paired": by_precision(compare_skills(table, one, other)).interval(),
    }


def by_precision(found: Comparison) -> Comparison:
    """Pooled with weights 1 / (se^2 + scatter^2) instead of by the plain mean.

    The scatter is that of DerSimonian and Laird (1986); the spread of the residuals sets the scale
    of the error, at least that of se (Hartung and Knapp 2001).
    """
    value, se = (found.frame[name].to_numpy(float) for name in ("log_ratio", "se"))
    if len(value) < 2:
        return found
    w = 1 / se**2
    excess = float(w @ (value - w @ value / w.sum()) ** 2) - (len(value) - 1)
    w = 1 / (se**2 + max(excess / float(w.sum() - w @ w / w.sum()), 0.0))
    mean = float(w @ value / w.sum())
    scale = max(float(w @ (value - mean) ** 2) / (len(value) - 1), 1.0)
    return replace(found, pooled=mean, se=math.sqrt(scale / float(w.sum())))


def measure(sweeps: int, noise: float) -> pd.DataFrame:
    held, widths = defaultdict(list), defaultdict(list)
    for (count, budgets), shared in product(LADDERS.items(), SHARES):
        for seed in counted(range(sweeps), f"sweeps on {count} budgets, {shared:g} in common"):
            table = sweep(budgets, noise, shared, seed)
            for one, other in combinations(SKILLS, 2):
                truth = np.mean([log_optimum(one, c) - log_optimum(other, c) for c in budgets])
                for way, (low, high) in intervals(table, one, other).items():
                    key = (count, shared, f"{one}/{other}", way)
                    held[key].append(low <= truth <= high)
                    widths[key].append((high - low) / 2)
    rows = [(*key, np.mean(held[key]), np.nanmedian(widths[key])) for key in held]
    return pd.DataFrame(
        rows, columns=["budgets", "shared", "pair", "way", "coverage", "half_width"]
    )


def worlds(sweeps: int) -> pd.DataFrame:
    """Coverage over all pairs of six skills: the mean over the ladder, and each budget."""
    rows = []
    for name in WORLDS:
        place, alarms, found = world(name), 0, []
        centre = np.array([place.log_optimum(place.skills[0], c) for c in LADDER])
        sizes = np.exp((centre[:, None] + np.linspace(-1.5, 1.5, 8)).ravel())
        for seed in counted(range(sweeps), f"sweeps of world {name}"):
            table = place.table(np.repeat(LADDER, 8), sizes, np.random.default_rng(seed))
            fits = fit_skills(table[np.isfinite(table["loss"])])
            alarms += fits.alarm
            for one, other in combinations(place.skills, 2):
                got = fits.compare(one, other)
                truth = [place.log_optimum(one, c) - place.log_optimum(other, c)
                         for c in got.frame["flops"]]  # fmt: skip
                missed = np.abs(got.frame["log_ratio"] - truth) / got.frame["se"]
                pooled = abs(got.pooled - np.mean(truth)) / got.se
                found.append((pooled <= Z90, (missed <= Z90).mean(), Z90 * got.se))
        pooled, single, half = np.array(found, float).T
        rows.append((name, alarms / sweeps, pooled.mean(), single.mean(), np.median(half)))
    return pd.DataFrame(rows, columns=["world", "alarms", "mean", "budgets", "half_width"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=40)
    parser.add_argument("--worlds", type=int, default=16, help="sweeps of each world")
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--write", action="store_true", help="keep benchmarks/results")
    asked = parser.parse_args()
    found = measure(asked.sweeps, asked.noise)
    by_way = found.groupby(["budgets", "shared", "way"])[["coverage", "half_width"]]
    worst = by_way.agg({"coverage": ["min", "mean"], "half_width": "median"})
    text = (
        f"# Intervals of ratios of optima, {date.today()}\n\n"
        f"`python benchmarks/ratio_intervals.py --sweeps {asked.sweeps} --noise {asked.noise:g}`; "
        "nominal 90 %; three pairs of skills, seeds 0 and up.\n\n```\n"
        f"{found.round(3).to_string(index=False)}\n\n{worst.round(3).to_string()}\n```\n\n"
        'Worlds of the search: coverage of "joint" for the mean over the ladder and for single '
        f"budgets, {asked.worlds} sweeps of fifteen pairs each.\n\n```\n"
        f"{worlds(asked.worlds).round(3).to_string(index=False)}\n```\n"
    )
    print(text)
    if asked.write:
        Path(__file__).with_name("results").joinpath("ratio_intervals.md").write_text(text)


if __name__ == "__main__":
    main()
