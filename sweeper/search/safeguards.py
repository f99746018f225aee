"""Trials the score would not ask for: they test the law instead of sharpening it."""

from __future__ import annotations

import math

import numpy as np

from fitting.mixture.lack_of_fit import CHECK_TRIALS
from sweeper.budget import same_budget
from sweeper.search.fit_state import FitState
from sweeper.search.selection import Selection

__all__ = ["bracket", "check", "reserve"]

SHARE = 0.4
"""Share of the allowance after which the law is checked, so that an alarm finds FLOPs left."""

BRACKET_TRIALS = 2
BRACKET_BUDGETS = 3
"""Every optimum has two trials on both sides on three budgets (adaptive study, section 6)."""


def check(state: FitState, selection: Selection, *, converged: bool) -> list[tuple[float, int]]:
    """Points still missing for the predictive check.

    It is due when the intervals are narrow or a share of the allowance is gone, on the largest
    budget where it costs no more than what was spent below it and where one of its trials can
    be repeated: a trial that alone speaks against the law is. Without room for that, one spoiled
    trial in the check was the end of two in 52 simulated sweeps (errors .24 and .27, not .04).

    Args:
        state: the fit.
        selection: trials and FLOPs.
        converged: whether the intervals are as narrow as wanted.
    """
    if math.isfinite(state.checked.suspect) and not state.checked.alarm:
        return _repeat_influential(state, selection)
    for flops in reversed([c for c in selection.space.budgets[2:] if selection.space.allowed(c)]):
        below = sum(a.flops for a in selection.known if a.flops < 0.99 * flops)
        missing = CHECK_TRIALS - _sound(state, selection, flops)
        total = sum(a.flops for a in selection.known) + selection.remaining
        due = converged or below >= SHARE * total
        room = missing + (missing > 1)  # a check that lacks one trial is completed all the same
        if due and CHECK_TRIALS * flops <= below and room * flops <= selection.remaining:
            return _across(state, selection, flops)[CHECK_TRIALS - max(missing, 0) :]
    return []


def _sound(state: FitState, selection: Selection, flops: float) -> int:
    """Trials that count for the check of a budget: failed ones only when there are many."""
    above = state.failed[:, 1] > math.log(0.99 * flops)
    failures = int(state.failed[above, 2].sum())
    count = sum(a.flops > 0.99 * flops for a in selection.known)
    return count if failures >= CHECK_TRIALS else count - failures


def reserve(selection: Selection) -> float:
    """FLOPs kept for repeating a check that is in training, should one trial alone decide it.

    Cheap trials end sooner than the expensive ones of the check, and would spend all meanwhile.
    """
    expensive = [
        c
        for c in selection.space.budgets[2:]
        if any(same_budget(a.flops, c) for a in selection.training)
    ]
    ended = [sum(same_budget(a.flops, c) for a in selection.ended) for c in expensive]
    return max((c for c, n in zip(expensive, ended, strict=True) if n < CHECK_TRIALS), default=0.0)


def _repeat_influential(state: FitState, selection: Selection) -> list[tuple[float, int]]:
    """The trial that alone decides for an alarm, unless its repeat is in training."""
    checked = state.checked
    place = selection.space.nearest(checked.suspect)
    size = selection.space.params[place]
    budget = next((c for c in selection.budgets() if same_budget(c, checked.flops)), None)
    if budget is None or place not in selection.space.allowed(budget):
        return []
    if any(a.params == size for a in selection.on(budget) if a in selection.training):
        return []
    return [(budget, size)]


def _across(state: FitState, selection: Selection, flops: float) -> list[tuple[float, int]]:
    """Sizes from a factor e below the least optimum to a factor e above the greatest."""
    optima = state.fit.vertex([flops])
    wanted = np.linspace(optima.min() - 1, optima.max() + 1, CHECK_TRIALS)
    return [(flops, _nearest(selection, flops, x)) for x in wanted]


def bracket(state: FitState, selection: Selection, reach: float) -> list[tuple[float, int]]:
    """Points missing so that every skill's optimum lies between trials on enough budgets.

    Args:
        state: the fit.
        selection: trials and FLOPs.
        reach: greatest distance in ln p at which a trial supports an optimum.
    """
    budgets = [c for c in selection.space.budgets if selection.space.allowed(c)]
    optima = state.fit.vertex(budgets)
    points = []
    for skill in optima:
        gaps = [_gaps(selection, c, x, reach) for c, x in zip(budgets, skill, strict=True)]
        lacking = min(BRACKET_BUDGETS, len(budgets)) - sum(not gap for gap in gaps)
        if lacking > 0:
            points += next(gap for gap in gaps if gap)
    return list(dict.fromkeys(points))


def _gaps(
    selection: Selection, flops: float, optimum: float, reach: float
) -> list[tuple[float, int]]:
    """Points missing on either side of one optimum on one budget."""
    points = []
    distances = [math.log(a.params) - optimum for a in selection.on(flops)]
    for side in (-1.0, 1.0):
        found = sum(0 < side * d <= reach for d in distances)
        for missing in range(found, BRACKET_TRIALS):
            distance = reach * (missing + 1) / (BRACKET_TRIALS + 1)
            size = _nearest(selection, flops, optimum + side * distance)
            # Nothing can be built on this side: the optimum is at the edge of what can be.
            if side * (math.log(size) - optimum) > 0:
                points.append((flops, size))
    return points


def _nearest(selection: Selection, flops: float, log_params: float) -> int:
    """The realisable size nearest to one on a budget."""
    allowed = [selection.space.params[i] for i in selection.space.allowed(flops)]
    return min(allowed, key=lambda p: abs(math.log(p) - log_params))
