"""What the observations say about trials, whatever the skill: shared by all policies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pandas as pd

from sweeper.budget import Allocation, Space, same_budget

GOLDEN = 0.6180339887498949
"""Shifts by multiples of it, modulo 1, never fall on the same place twice."""


Fit = TypeVar("Fit")

_READ = ["flops", "params", "seed", "mix", "skill", "loss", "status", "spent_flops"]


@dataclass
class FitCache(Generic[Fit]):
    """The last fit and what it was made of: spares a refit, never changes an answer."""

    key: bytes = b""
    fit: Fit | None = None

    def get(self, observations: pd.DataFrame, fit: Callable[[], Fit]) -> Fit:
        """The fit of a table, whatever the order of its rows."""
        rows = pd.util.hash_pandas_object(observations[_READ], index=False).to_numpy()
        key = hashlib.blake2b(np.sort(rows).tobytes()).digest()
        if key != self.key:
            self.fit, self.key = fit(), key
        return self.fit  # type: ignore[return-value] # set with its key


def allocations(observations: pd.DataFrame) -> list[Allocation]:
    """Allocations of the ended trials, sorted: the order of results must not matter."""
    trials = observations.drop_duplicates("trial_id")
    columns = (trials[name] for name in ("flops", "params", "tokens", "seed", "mix"))
    rows = sorted(zip(*(column.tolist() for column in columns), strict=True))
    return [
        Allocation(float(c), int(p), int(t), int(seed), str(mix)) for c, p, t, seed, mix in rows
    ]


def finished(observations: pd.DataFrame) -> pd.DataFrame:
    """The rows with a usable loss, sorted so that the order of results does not matter."""
    usable = (observations["status"] == "finished") & observations["loss"].notna()
    by = ["flops", "params", "seed", "skill"]
    once = observations[usable].drop_duplicates(["trial_id", "skill"])
    return once.sort_values(by, ignore_index=True)


def guess(flops: float, tokens_per_param: float) -> float:
    """Ln p* guessed before any trial, from C = 6 p t."""
    return 0.5 * math.log(flops / (6.0 * tokens_per_param))


def near(trials: Sequence[Allocation], flops: float) -> list[Allocation]:
    """The trials on one budget."""
    return [a for a in trials if same_budget(a.flops, flops)]


def mean_centre(
    found: Sequence[tuple[float, float]],
    flops: float,
    tokens_per_param: float,
    *,
    own: bool = False,
) -> float:
    """Centre of the sizes on one budget, ln params.

    The law through what was found on all cheaper budgets, as practice does by eye; with nothing,
    the guess.

    Args:
        found: `vertices`.
        tokens_per_param: of the guess.
        own: whether this and larger budgets count, too.
    """
    points = [
        (math.log(budget / flops), vertex)
        for budget, vertex in found
        if own or (budget < flops and not same_budget(budget, flops))
    ]
    if not points:
        return guess(flops, tokens_per_param)
    x, y = np.array(points).T
    if np.ptp(x) == 0:
        return float(np.median(y - 0.5 * x))
    return float(np.polyfit(x, y, 1)[1])


def vertices(observations: pd.DataFrame, space: Space) -> list[tuple[float, float]]:
    """Budget and ln p* of every skill and budget where a parabola has its minimum inside."""
    table = finished(observations)
    flops = np.log(table["flops"].to_numpy(float))
    return [
        (budget, vertex)
        for budget in space.budgets
        for vertex in _vertices(table[np.abs(flops - math.log(budget)) < 0.01])
    ]


def _vertices(table: pd.DataFrame) -> list[float]:
    """Ln p of each skill's least loss on one budget, where a parabola has it inside."""
    found = []
    for _, rows in table.groupby("skill"):
        x = np.log(rows["params"].to_numpy(float))
        if len(np.unique(x)) < 4:
            continue
        curvature, slope, _ = np.polyfit(x - x.mean(), rows["loss"].to_numpy(float), 2)
        vertex = x.mean() - slope / (2 * curvature) if curvature > 0 else math.nan
        if x.min() <= vertex <= x.max():
            found.append(float(vertex))
    return found
