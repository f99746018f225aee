"""Trials the score would not ask for: they test the law instead of sharpening it."""

from __future__ import annotations

import math

import numpy as np

from fitting.mixture.lack_of_fit import CHECK_TRIALS
from sweeper.budget import same_budget
from sweeper.search.fit_state import Beliefs
from sweeper.search.selection import Turn

__all__ = ["bracket", "check", "reserve"]

SHARE = 0.4
"""Share of the allowance after which the law is checked, so that an alarm finds FLOPs left."""

BRACKET_TRIALS = 2
BRACKET_BUDGETS = 3
"""Every optimum has two trials on both sides on three budgets (adaptive study, section 6)."""


def check(beliefs: Beliefs, turn: Turn, *, content: bool) -> list[tuple[float, int]]:
    """Points still missing for the predictive check.

    It is due when the intervals are narrow or a share of the allowance is gone, on the largest
    budget where it costs no more than what was spent below it and where one of its trials can
    be repeated: a trial that alone speaks against the law is. Without room for that, one spoiled
    trial in the check was the end of two in 52 simulated sweeps (errors .24 and .27, not .04).

    Args:
        beliefs: the fit.
        turn: trials and FLOPs.
        content: whether the intervals are as narrow as wanted.
    """
    if math.isfinite(beliefs.checked.suspect) and not beliefs.checked.alarm:
        return _again(beliefs, turn)
    for flops in reversed([c for c in turn.space.budgets[2:] if turn.space.allowed(c)]):
        below = sum(a.flops for a in turn.known if a.flops < 0.99 * flops)
        missing = CHECK_TRIALS - _sound(beliefs, turn, flops)
        total = sum(a.flops for a in turn.known) + turn.remaining
        due = content or below >= SHARE * total
        room = missing + (missing > 1)  # a check that lacks one trial is completed all the same
        if due and CHECK_TRIALS * flops <= below and room * flops <= turn.remaining:
            return _across(beliefs, turn, flops)[CHECK_TRIALS - max(missing, 0) :]
    return []


def _sound(beliefs: Beliefs, turn: Turn, flops: float) -> int:
    """Trials that count for the check of a budget: failed ones only when there are many."""
    above = beliefs.failed[:, 1] > math.log(0.99 * flops)
    failures = int(beliefs.failed[above, 2].sum())
    count = sum(a.flops > 0.99 * flops for a in turn.known)
    return count if failures >= CHECK_TRIALS else count - failures


def reserve(turn: Turn) -> float:
    """FLOPs kept for repeating a check that is in training, should one trial alone decide it.

    Cheap trials end sooner than the dear ones of the check, and would spend all meanwhile.
    """
    dear = [
        c for c in turn.space.budgets[2:] if any(same_budget(a.flops, c) for a in turn.training)
    ]
    ended = [sum(same_budget(a.flops, c) for a in turn.ended) for c in dear]
    return max((c for c, n in zip(dear, ended, strict=True) if n < CHECK_TRIALS), default=0.0)


def _again(beliefs: Beliefs, turn: Turn) -> list[tuple[float, int]]:
    """The trial that alone decides for an alarm, unless its repeat is in training."""
    checked = beliefs.checked
    place = turn.space.nearest(checked.suspect)
    size = turn.space.params[place]
    budget = next((c for c in turn.budgets() if same_budget(c, checked.flops)), None)
    if budget is None or place not in turn.space.allowed(budget):
        return []
    if any(a.params == size for a in turn.on(budget) if a in turn.training):
        return []
    return [(budget, size)]


def _across(beliefs: Beliefs, turn: Turn, flops: float) -> list[tuple[float, int]]:
    """Sizes from a factor e below the least optimum to a factor e above the greatest."""
    optima = beliefs.fit.vertex([flops])
    wanted = np.linspace(optima.min() - 1, optima.max() + 1, CHECK_TRIALS)
    return [(flops, _nearest(turn, flops, x)) for x in wanted]


def bracket(beliefs: Beliefs, turn: Turn, reach: float) -> list[tuple[float, int]]:
    """Points missing so that every skill's optimum lies between trials on enough budgets.

    Args:
        beliefs: the fit.
        turn: trials and FLOPs.
        reach: greatest distance in ln p at which a trial supports an optimum.
    """
    budgets = [c for c in turn.space.budgets if turn.space.allowed(c)]
    optima = beliefs.fit.vertex(budgets)
    points = []
    for skill in optima:
        gaps = [_gaps(turn, c, x, reach) for c, x in zip(budgets, skill, strict=True)]
        lacking = min(BRACKET_BUDGETS, len(budgets)) - sum(not gap for gap in gaps)
        if lacking > 0:
            points += next(gap for gap in gaps if gap)
    return list(dict.fromkeys(points))


def _gaps(turn: Turn, flops: float, optimum: float, reach: float) -> list[tuple[float, int]]:
    """Points missing on either side of one optimum on one budget."""
    points = []
    distances = [math.log(a.params) - optimum for a in turn.on(flops)]
    for side in (-1.0, 1.0):
        found = sum(0 < side * d <= reach for d in distances)
        for missing in range(found, BRACKET_TRIALS):
            distance = reach * (missing + 1) / (BRACKET_TRIALS + 1)
            size = _nearest(turn, flops, optimum + side * distance)
            # Nothing can be built on this side: the optimum is at the edge of what can be.
            if side * (math.log(size) - optimum) > 0:
                points.append((flops, size))
    return points


def _nearest(turn: Turn, flops: float, log_params: float) -> int:
    """The realisable size nearest to one on a budget."""
    allowed = [turn.space.params[i] for i in turn.space.allowed(flops)]
    return min(allowed, key=lambda p: abs(math.log(p) - log_params))
