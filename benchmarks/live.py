"""The search on our own trainings, with sizes free and repeats allowed: a live judge.

    OMP_NUM_THREADS=1 python benchmarks/live.py [--write]

Sweeps are drawn from the 192 trainings of examples/07_confirm: twelve worlds (built-in corpora and
Python source), in each 11 trainings on 1e11 FLOPs and 5 on 4e11, all skills measured. A skill's
curve is a valley common to both budgets, k2 u^2 + k3 u^3 + k4 u^4 with u = ln p - m, each budget
with a level and an m of its own; 2e11 lies half way. A trial's losses are the curves' and what the
world's trainings leave over, of all skills together: one draw for the allocation, which its
repeats share, and one for the trial, as `ALIKE` says. The truth is m. Each policy has the same
allowance, in shares W of eight sizes on each budget, and the same fit judges.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from zoom import ZoomSearch

from fitting.mixture.fit import fit_guarded
from sweeper.budget import Allocation, Space
from sweeper.search.build import build
from sweeper.search.protocol import Search
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings
from trainables.progress import counted

HERE = Path(__file__).parent
TRAININGS = HERE.parent / "examples/07_confirm/observations.parquet"
PAGE = HERE / "results/live.md"
BUDGETS = (1e11, 2e11, 4e11)
SKILLS = ("knowledge", "knowledge-qa", "code", "python-source", "validation")
SIZES = tuple(int(p) for p in np.geomspace(7.1e3, 2.5e5, 60))
SPACE = Space(BUDGETS, SIZES, tuple(6.0 * p for p in SIZES))
GRID_FLOPS = 8 * sum(BUDGETS)
ALLOWANCES = (0.3, 0.5, 1.0)
POLICIES = ("adaptive", "zoom", "grid")
ALIKE = 0.3
"""Correlation of what repeats of an allocation leave over: medians of .29 to .37 over the skills
of three sweeps on own text (benchmarks/results/own_text.md)."""

COLUMNS = ["policy", "W", "world", "replicate", "skill", "square", "trials", "within", "repeats"]

LEAST_BEND = 0.02
"""k2 in nats from which a curve has an optimum to look for: code is nearly flat in some worlds."""


@dataclass(frozen=True)
class Valley:
    """A skill's loss: levels and ln p* at the ends of the ladder, and the common shape."""

    levels: tuple[float, float]
    optima: tuple[float, float]
    shape: tuple[float, float, float]

    @classmethod
    def of(cls, log_params: np.ndarray, top: np.ndarray, loss: np.ndarray) -> Valley:
        """Fit one skill's trainings; ``top`` says which lie on the largest budget."""
        start = [loss[~top].min(), loss[top].min(), *([log_params.mean()] * 2), 0.1, 0.0, 0.0]

        def rest(x: np.ndarray) -> np.ndarray:
            return cls._at(x, log_params, top) - loss

        x = least_squares(rest, start, loss="soft_l1", f_scale=0.2).x
        return cls((x[0], x[1]), (x[2], x[3]), (x[4], x[5], x[6]))

    @staticmethod
    def _at(x: np.ndarray, log_params: np.ndarray, top: np.ndarray) -> np.ndarray:
        u = log_params - np.where(top, x[3], x[2])
        return np.where(top, x[1], x[0]) + x[4] * u**2 + x[5] * u**3 + x[6] * u**4

    def log_optimum(self, flops: float) -> float:
        """ln p*."""
        return float(np.interp(math.log(flops), np.log(BUDGETS)[[0, -1]], self.optima))

    def loss(self, log_params: float, flops: float) -> float:
        """Without noise, nats."""
        u = log_params - self.log_optimum(flops)
        level = float(np.interp(math.log(flops), np.log(BUDGETS)[[0, -1]], self.levels))
        return level + sum(k * u**n for n, k in zip((2, 3, 4), self.shape, strict=True))

    @property
    def sound(self) -> bool:
        """Whether m is the least within the sizes, and far enough inside them."""
        x = np.log(SIZES)
        inside = all(x[0] + 0.2 < m < x[-1] - 0.2 for m in self.optima)
        least = [x[np.argmin([self.loss(v, c) for v in x])] for c in BUDGETS]
        near = [abs(v - self.log_optimum(c)) < 0.1 for v, c in zip(least, BUDGETS, strict=True)]
        return self.shape[0] > LEAST_BEND and inside and all(near)


@dataclass(frozen=True)
class Drawn:
    """One world's curves by skill, what its trainings leave over (trainings, skills), a seed."""

    valleys: Mapping[str, Valley]
    rests: np.ndarray
    seed: int = 0

    @classmethod
    def of(cls, table: pd.DataFrame) -> Drawn:
        """From the trainings of one world."""
        wide = table.pivot_table(index=["trial_id", "flops", "params"], columns="skill",
                                 values="loss").dropna(axis=1)  # fmt: skip
        flops, params = (wide.index.get_level_values(n).to_numpy() for n in ("flops", "params"))
        x, top = np.log(params), flops > BUDGETS[0] * 2
        found, rests = {}, []
        for skill in (s for s in SKILLS if s in wide):
            valley = Valley.of(x, top, wide[skill].to_numpy())
            if valley.sound:
                fitted = [valley.loss(v, c) for v, c in zip(x, flops, strict=True)]
                found[skill] = valley
                rests.append(wide[skill].to_numpy() - fitted)
        spare = math.sqrt(len(wide) / (len(wide) - 7))
        return cls(found, spare * np.array(rests).T)

    def loss(self, a: Allocation, rng: np.random.Generator) -> Mapping[str, float]:
        """What one trial measures."""
        shared = np.random.default_rng([self.seed, a.params, round(a.flops / BUDGETS[0])])
        own, common = (self.rests[r.integers(len(self.rests))] for r in (rng, shared))
        rest = math.sqrt(ALIKE) * common + math.sqrt(1 - ALIKE) * own
        mean = [v.loss(math.log(a.params), a.flops) for v in self.valleys.values()]
        return dict(zip(self.valleys, mean + rest, strict=True))


def worlds() -> list[Drawn]:
    """All of them that have skills with optima."""
    table = pd.read_parquet(TRAININGS)
    found = [Drawn.of(rows) for _, rows in table.groupby(["world", "arm"])]
    return [each for each in found if each.valleys]


def policy(name: str, share: float, skills: tuple[str, ...]) -> Search:
    """By name; a grid has as many sizes as the allowance pays for."""
    if name == "zoom":
        return ZoomSearch(SearchSettings(), SPACE)
    settings = SearchSettings(tolerance=0.02)
    if name == "grid":
        settings = SearchSettings("grid", sizes_per_budget=max(3, round(8 * share)))
    return build(settings, SPACE, skills)


def judge(replicates: int) -> pd.DataFrame:
    """Squared error of ln p* by policy, allowance, world, replicate and skill."""
    rows = []
    todo = [
        (name, share, i, world, seed)
        for seed in range(replicates)
        for i, world in enumerate(worlds())
        for share in ALLOWANCES
        for name in POLICIES
    ]
    for name, share, i, world, seed in counted(todo, "sweeps"):
        skills = tuple(world.valleys)
        drawn = replace(world, seed=seed)
        table = run(
            policy(name, share, skills), SPACE, drawn.loss, skills=skills,
            allowance=share * GRID_FLOPS, seed=seed,
        )  # fmt: skip
        fit = fit_guarded(table, ladder=BUDGETS)
        found = dict(zip(fit.skills, fit.log_optimum(BUDGETS)[0], strict=True))
        trials = table.drop_duplicates("trial_id")[["flops", "params"]]
        away = [
            min(abs(v.log_optimum(c) - math.log(p)) for v in world.valleys.values())
            for c, p in trials.itertuples(index=False)
        ]
        repeats = 1 - len(trials.drop_duplicates()) / len(trials)
        for skill, valley in world.valleys.items():
            truth = np.array([valley.log_optimum(c) for c in BUDGETS])
            square = float(((found[skill] - truth) ** 2).mean())
            within = float((np.array(away) <= 1).mean())
            rows.append((name, share, i, seed, skill, square, len(trials), within, repeats))
    return pd.DataFrame(rows, columns=COLUMNS)


def page(found: pd.DataFrame) -> Iterator[str]:
    """Errors with 90 % intervals over worlds, in Markdown."""
    cells = ["policy", "W", "world", "replicate"]
    every = found.groupby(cells)["square"].mean().groupby(cells[:3]).mean()
    worst = found.groupby(cells)["square"].max().groupby(cells[:3]).mean()
    yield "# The search on our own trainings\n"
    yield f"{date.today()}, `python benchmarks/{' '.join(sys.argv).rpartition('/')[2]}`, 2 shared"
    yield f"CPU cores; {found['replicate'].nunique()} sweeps in each of {found['world'].nunique()}"
    yield "worlds per cell, seeds from 0. Intervals: 90 %, worlds drawn anew.\n"
    yield (
        "| W | policy | trials | repeats | rms of ln p* | worst skill of each sweep "
        "| its square over the adaptive search's | within 1 |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for (share, name), rows in found.groupby(["W", "policy"], sort=False):
        square = worst[name, share].to_numpy()
        ratio = _ratio(square, worst["adaptive", share].to_numpy())
        yield (
            f"| {share} | {name} | {rows['trials'].mean():.0f} | {rows['repeats'].mean():.2f} "
            f"| {_rms(every[name, share].to_numpy())} | {_rms(square)} "
            f"| {ratio} | {rows['within'].mean():.2f} |"
        )


def _drawn(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(count, size=(2000, count))


def _rms(square: np.ndarray) -> str:
    low, high = np.sqrt(np.quantile(square[_drawn(len(square))].mean(1), [0.05, 0.95]))
    return f"{math.sqrt(square.mean()):.3f} [{low:.3f}, {high:.3f}]"


def _ratio(square: np.ndarray, other: np.ndarray) -> str:
    draws = _drawn(len(square))
    ratios = square[draws].mean(1) / other[draws].mean(1)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return f"{square.mean() / other.mean():.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1, help="sweeps drawn per world")
    parser.add_argument("--write", action="store_true", help="keep the page in results/")
    args = parser.parse_args()
    text = "\n".join(page(judge(args.replicates)))
    print(text)
    if args.write:
        reading = "".join(PAGE.read_text().partition("## Reading")[1:])  # written by hand
        PAGE.write_text(text + "\n\n" + reading)


if __name__ == "__main__":
    main()
