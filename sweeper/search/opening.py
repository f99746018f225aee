"""The first trials, chosen before any loss is known: wide and cheap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweeper.budget import Allocation, Space, same_budget
from sweeper.search.history import GOLDEN, guess
from sweeper.spec.search import SearchSettings

SIZES = 5
"""Sizes per budget: 4-6 show a wrong curve shape, 3 hide it (adaptive study, section 4)."""

BUDGETS = 2
"""Cheapest budgets used: a law needs two, and a trial's worth per FLOP falls as C^-1."""

HALF = 1.25
"""Sizes lie within this of the guess, ln p, or within the reach where that is less: curves of real
trainings flatten far out. With the usual reach, 1.6, the squared error of the worst skill was
1.36, 1.35 and 1.03 times as large at .3, .5 and 1 of a grid's FLOPs (benchmarks/live.py, 36
sweeps in three dense worlds); with 1.0, errors were .057 and .048 instead of .038 and .043 where
the guess of t/p is 25 times too large or small (benchmarks/search_efficiency.py, W = .05, 24
sweeps each). Where sizes end sooner the others come closer together: moved to the other side
they would lie farther out (1.17, 1.03 and .90 times the squared error, the last within chance)."""

REPEATS = 2
"""Repeats of the middle size on the cheapest budget: they tell noise from a wrong shape."""

SHARE = 0.45
"""Share of the allowance that the opening may take: where all of it is more, the cheapest budget
alone is opened, and what it says chooses the rest (benchmarks/live.py; with .5 the squared error
at .3 of a grid's FLOPs was 1.15 times as large, 48 sweeps)."""


def missing(
    space: Space,
    settings: SearchSettings,
    known: Sequence[Allocation],
    *,
    allowance: float = math.inf,
    more: int = 0,
) -> list[tuple[float, int]]:
    """Points (flops, size) of the opening that no trial stands for yet, cheapest budget first.

    Each trial on a budget stands for the nearest point, whoever asked for it.

    Args:
        settings: the guess of the first optimum and the reach.
        allowance: FLOPs of the whole sweep.
        more: further points wanted where slots are free before losses are known.
    """
    points: list[tuple[float, int]] = []
    budgets = [flops for flops in space.budgets if space.allowed(flops)][:BUDGETS]
    small = SIZES * sum(budgets) + REPEATS * sum(budgets[:1]) > SHARE * allowance
    budgets, repeats = (budgets[:1], 0) if small else (budgets, REPEATS)
    planned = len(budgets) * SIZES + repeats
    rounds = 1
    if more:
        rounds += math.ceil((len(known) + more) / planned)
    for round_ in range(rounds):
        for flops in budgets:
            sizes = _sizes(space, settings, flops, round_)
            points += [(flops, size) for size in sizes]
        if round_ == 0 and budgets:
            middle = _sizes(space, settings, budgets[0], 0)[SIZES // 2]
            points += [(budgets[0], middle)] * repeats
    return _unmatched(points, known)


def _unmatched(
    points: list[tuple[float, int]], known: Sequence[Allocation]
) -> list[tuple[float, int]]:
    """Strike out one point per trial: the earliest of the nearest on its budget."""
    left = list(points)
    for trial in known:
        here = [point for point in left if same_budget(point[0], trial.flops)]
        if here:
            left.remove(min(here, key=lambda point: abs(math.log(point[1] / trial.params))))
    return left


def _sizes(space: Space, settings: SearchSettings, flops: float, round_: int) -> list[int]:
    """Log-spaced realisable sizes round the guess, no farther from it where sizes end."""
    allowed = space.sizes(flops)
    low, high = math.log(allowed[0]), math.log(allowed[-1])
    half = min(HALF, settings.reach, high - low)
    centre = min(max(guess(flops, settings.tokens_per_param), low), high)
    ends = max(low, centre - half), min(high, centre + half)
    shift = (round_ * GOLDEN + 0.5) % 1.0 - 0.5
    wanted = np.linspace(*ends, SIZES) + shift * (ends[1] - ends[0]) / (SIZES - 1)
    nearest = np.abs(np.log(allowed)[:, None] - wanted).argmin(axis=0)
    return [allowed[i] for i in nearest]
