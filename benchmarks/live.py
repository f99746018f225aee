"""The search on our own trainings, with sizes free and repeats allowed: a live judge.

    OMP_NUM_THREADS=1 python benchmarks/live.py [--replicates 6] [--dense 24] [--write]

Sweeps are drawn from trainings of this project, in two sets of worlds:

* dense: the 660 trainings of benchmarks/dense.py (three worlds, two of the built-in corpora, one
  of Python source; 12 to 101 sizes on each of four budgets), and skills whose optima they tell to
  `KNOWN`;
* sparse: the 192 trainings of examples/07_confirm (twelve worlds, in each 11 trainings on 1e11
  FLOPs and 5 on 4e11; 2e11 lies half way).

A skill's curve is a polynomial of u = ln p - m, each budget with a level, an m and in the dense
worlds a depth of its own, its shape common to all (`CURVES`). A trial's losses are the curves' and
what the world's trainings leave over, of all skills together: one draw for the allocation, which
its repeats share, and one for the trial, as `ALIKE` says. The truth is m. Each policy has the same
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
from typing import Any

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
SPARSE, DENSE = (
    HERE.parent / "examples/07_confirm/observations.parquet",
    HERE / "results/dense.parquet",
)
PAGE = HERE / "results/live.md"
SKILLS = {
    "sparse": ("knowledge", "knowledge-qa", "code", "python-source", "validation"),
    "dense": ("knowledge", "knowledge-qa", "code", "function-bodies", "first-sentences",
              "validation/knowledge", "validation/code", "validation/other", "validation/docs",
              "validation"),
}  # fmt: skip
SIZES = {"sparse": (7.1e3, 2.5e5), "dense": (5.7e3, 2.6e5)}
ALLOWANCES = (0.3, 0.5, 1.0)
POLICIES = ("adaptive", "zoom", "grid")
ALIKE = 0.3
"""Correlation of what repeats of an allocation leave over: medians of .29 to .37 over the skills
of three sweeps on own text (benchmarks/results/own_text.md)."""

COLUMNS = ["set", "W", "policy", "world", "replicate", "skill", "square", "trials", "within",
           "repeats"]  # fmt: skip

KNOWN = 0.3
"""Standard error of ln p* up to which dense trainings tell an optimum: knowledge-qa of world 0 is
the only one beyond; knowledge of world 0 is known to +-.3 on the cheapest budget, all others to
+-.14 and better. Not asked of sparse worlds, whose curves are each through 16 trainings: what they
draw is taken as it is."""

LEAST_BEND = 0.02
"""k2 in nats from which a curve has an optimum to look for: code is nearly flat in some worlds."""

CURVES: dict[str, Any] = {
    "sparse": {"degree": 4, "own": False},
    "dense": {"degree": 5, "own": True},
}
"""Polynomials of the curves. 292 trainings tell each budget's depth: with it and u^5 AIC is lower
by 83 to 91 for knowledge, by 15 to 57 for the other skills of the built-in worlds, by 2 to 25 for
Python's (76). Of one depth, quartic, knowledge's optima lay up to .44 lower on the largest budget
and .45 higher on the cheapest. 16 trainings (sparse) do not tell it."""


@dataclass(frozen=True)
class Valley:
    """A skill's loss: levels, ln p* and its standard errors by budget, and the common shape.

    Beyond the distances u that were trained (``ends``) it goes on as straight lines.
    """

    log_flops: np.ndarray
    levels: np.ndarray
    optima: np.ndarray
    errors: np.ndarray
    depths: np.ndarray
    shape: np.ndarray
    ends: tuple[float, float]

    @classmethod
    def of(
        cls, log_params: np.ndarray, flops: np.ndarray, loss: np.ndarray, *, degree: int, own: bool
    ) -> Valley:
        """Fit one skill's trainings by a polynomial; ``own``: each budget has its own depth."""
        budgets, at = np.unique(flops, return_inverse=True)
        n = len(budgets)
        least = [log_params[at == i][loss[at == i].argmin()] for i in range(n)]
        depths = [0.1] * (n if own else 1)
        levels = (loss[at == i].min() for i in range(n))
        start = [*levels, *least, *depths, *[0.0] * (degree - 2)]
        shape = 2 * n + len(depths)

        def rest(x: np.ndarray) -> np.ndarray:
            u = log_params - x[n + at]
            depth = x[2 * n + at] if own else x[2 * n]
            return np.asarray(x[at] + depth * cls._bend(x[shape:])(u) - loss)

        found = least_squares(rest, start, loss="soft_l1", f_scale=0.2)
        noise = float(found.fun @ found.fun) / max(len(loss) - len(start), 1)
        errors = np.sqrt(noise * np.diag(np.linalg.pinv(found.jac.T @ found.jac)))[n : 2 * n]
        x = found.x
        u = log_params - x[n + at]
        ends = float(u.min()), float(u.max())
        deep = np.broadcast_to(x[2 * n : shape], n)
        return cls(np.log(budgets), x[:n], x[n : 2 * n], errors, deep, x[shape:], ends)

    @staticmethod
    def _bend(shape: np.ndarray) -> np.polynomial.Polynomial:
        return np.polynomial.Polynomial([0.0, 0.0, 1.0, *shape])

    def log_optimum(self, flops: float) -> float:
        """ln p*."""
        return float(np.interp(math.log(flops), self.log_flops, self.optima))

    def loss(self, log_params: float, flops: float) -> float:
        """Without noise, nats."""
        level, depth = (
            float(np.interp(math.log(flops), self.log_flops, v))
            for v in (self.levels, self.depths)
        )
        u = log_params - self.log_optimum(flops)
        at = float(np.clip(u, *self.ends))
        bend = self._bend(self.shape)
        return level + depth * float(bend(at) + bend.deriv()(at) * (u - at))

    def sound(self, space: Space) -> bool:
        """Whether m is the least within the sizes, and far enough inside them."""
        x = np.log(space.params)
        inside = all(x[0] + 0.2 < m < x[-1] - 0.2 for m in self.optima)
        least = [x[np.argmin([self.loss(v, c) for v in x])] for c in space.budgets]
        near = [
            abs(v - self.log_optimum(c)) < 0.1 for v, c in zip(least, space.budgets, strict=True)
        ]
        return bool(self.depths.min() > LEAST_BEND and inside and all(near))


@dataclass(frozen=True)
class Drawn:
    """One world's curves by skill, what its trainings leave over (trainings, skills), a seed."""

    space: Space
    valleys: Mapping[str, Valley]
    rests: np.ndarray
    seed: int = 0

    @classmethod
    def of(cls, table: pd.DataFrame, kind: str) -> Drawn:
        """From the trainings of one world."""
        sizes = tuple(int(p) for p in np.geomspace(*SIZES[kind], 60))
        wide = table.pivot_table(index=["flops", "params", "seed"], columns="skill",
                                 values="loss").dropna(axis=1)  # fmt: skip
        flops, params = (wide.index.get_level_values(n).to_numpy() for n in ("flops", "params"))
        budgets = np.unique(flops)
        if kind == "sparse":
            budgets = np.geomspace(budgets[0], budgets[-1], 3)
        space = Space(tuple(budgets), sizes, tuple(6.0 * p for p in sizes))
        x, found, rests = np.log(params), {}, []
        for skill in (s for s in SKILLS[kind] if s in wide):
            valley = Valley.of(x, flops, wide[skill].to_numpy(), **CURVES[kind])
            known = kind == "sparse" or float(valley.errors.max()) <= KNOWN
            if known and valley.sound(space):
                fitted = [valley.loss(v, c) for v, c in zip(x, flops, strict=True)]
                found[skill] = valley
                rests.append(wide[skill].to_numpy() - fitted)
        n = len(np.unique(flops))
        spent = 2 * n + (n if CURVES[kind]["own"] else 1) + CURVES[kind]["degree"] - 2
        spare = math.sqrt(len(wide) / (len(wide) - spent))
        return cls(space, found, spare * np.array(rests).T)

    def loss(self, a: Allocation, rng: np.random.Generator) -> Mapping[str, float]:
        """What one trial measures."""
        shared = np.random.default_rng([self.seed, a.params, round(a.flops / 1e9)])
        own, common = (self.rests[r.integers(len(self.rests))] for r in (rng, shared))
        rest = math.sqrt(ALIKE) * common + math.sqrt(1 - ALIKE) * own
        mean = [v.loss(math.log(a.params), a.flops) for v in self.valleys.values()]
        return dict(zip(self.valleys, mean + rest, strict=True))


def worlds(kind: str) -> list[Drawn]:
    """All of a set that have skills with optima."""
    table = pd.read_parquet(DENSE if kind == "dense" else SPARSE)
    by = ["world"] if kind == "dense" else ["world", "arm"]
    found = [Drawn.of(rows, kind) for _, rows in table.groupby(by)]
    return [each for each in found if each.valleys]


def policy(name: str, share: float, world: Drawn) -> Search:
    """By name; a grid has as many sizes as the allowance pays for."""
    if name == "zoom":
        return ZoomSearch(SearchSettings(), world.space)
    settings = SearchSettings(tolerance=0.02)
    if name == "grid":
        settings = SearchSettings("grid", sizes_per_budget=max(3, round(8 * share)))
    return build(settings, world.space, tuple(world.valleys))


def judge(replicates: Mapping[str, int]) -> pd.DataFrame:
    """Squared error of ln p* by set, policy, allowance, world, replicate and skill."""
    todo = [
        (kind, share, name, i, seed, world)
        for kind, count in replicates.items()
        for seed in range(count)
        for i, world in enumerate(worlds(kind))
        for share in ALLOWANCES
        for name in POLICIES
    ]
    rows = [row for job in counted(todo, "sweeps") for row in sweep(*job)]
    return pd.DataFrame(rows, columns=COLUMNS)


def sweep(
    kind: str, share: float, name: str, i: int, seed: int, world: Drawn
) -> Iterator[tuple[Any, ...]]:
    """One sweep: a row per skill."""
    skills, budgets = tuple(world.valleys), world.space.budgets
    drawn = replace(world, seed=seed)
    table = run(
        policy(name, share, world), world.space, drawn.loss, skills=skills,
        allowance=share * 8 * sum(budgets), seed=seed,
    )  # fmt: skip
    fit = fit_guarded(table, ladder=budgets)
    found = dict(zip(fit.skills, fit.log_optimum(budgets)[0], strict=True))
    trials = table.drop_duplicates("trial_id")[["flops", "params"]]
    away = [
        min(abs(v.log_optimum(c) - math.log(p)) for v in world.valleys.values())
        for c, p in trials.itertuples(index=False)
    ]
    repeats = 1 - len(trials.drop_duplicates()) / len(trials)
    within = float((np.array(away) <= 1).mean())
    for skill, valley in world.valleys.items():
        truth = np.array([valley.log_optimum(c) for c in budgets])
        square = float(((found[skill] - truth) ** 2).mean())
        yield kind, share, name, i, seed, skill, square, len(trials), within, repeats


def page(found: pd.DataFrame) -> Iterator[str]:
    """Errors with 90 % intervals, in Markdown."""
    yield "# The search on our own trainings\n"
    yield f"{date.today()}, `python benchmarks/{' '.join(sys.argv).rpartition('/')[2]}`, 2 shared"
    yield "CPU cores; seeds from 0. Intervals: 90 %.\n"
    for kind, some in found.groupby("set", sort=False):
        count = f"{some['replicate'].nunique()} sweeps a cell in each of {some['world'].nunique()}"
        # Three worlds tell nothing of others: there the sweeps are drawn anew, else the worlds.
        unit = ["world", "replicate"] if kind == "dense" else ["world"]
        yield f"## {str(kind).capitalize()} worlds: {count}, {unit[-1]}s drawn anew\n"
        yield from _table(some, unit)
        yield ""
    yield "## The dense worlds' curves\n"
    yield "| world | skill | p* by budget | standard error of ln p* | k2, nats | k3 / k2 | noise |"
    yield "|---|---|---|---|---|---|---|"
    for i, world in enumerate(worlds("dense")):
        for (skill, valley), rest in zip(world.valleys.items(), world.rests.T, strict=True):
            sizes = ", ".join(f"{math.exp(m) / 1e3:.3g} k" for m in valley.optima)
            errors = ", ".join(f"{se:.2f}" for se in valley.errors)
            depths = ", ".join(f"{k2:.2f}" for k2 in valley.depths)
            about = f"{depths} | {valley.shape[0]:.2f} | {rest.std():.3f}"
            yield f"| {i} | {skill} | {sizes} | {errors} | {about} |"
    yield ""


def _table(found: pd.DataFrame, unit: list[str]) -> Iterator[str]:
    cells = ["policy", "W", "world", "replicate"]
    by = ["policy", "W", *unit]
    every = found.groupby(cells)["square"].mean().groupby(by).mean()
    worst = found.groupby(cells)["square"].max().groupby(by).mean()
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
    parser.add_argument("--replicates", type=int, default=1, help="sweeps drawn per sparse world")
    parser.add_argument("--dense", type=int, default=4, help="sweeps drawn per dense world")
    parser.add_argument("--write", action="store_true", help="keep the page in results/")
    args = parser.parse_args()
    text = "\n".join(page(judge({"dense": args.dense, "sparse": args.replicates})))
    print(text)
    if args.write:
        reading = "".join(PAGE.read_text().partition("## Reading")[1:])  # written by hand
        PAGE.write_text(text + "\n" + reading)


if __name__ == "__main__":
    main()
