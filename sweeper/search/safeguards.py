"""Trials the score would not ask for: they test the law instead of sharpening it."""

from __future__ import annotations

import math

import numpy as np

from fitting.laws.bracket import NEAR
from fitting.mixture.lack_of_fit import CHECK_TRIALS
from sweeper.budget import same_budget
from sweeper.search.fit_state import FitState
from sweeper.search.selection import Selection

SHARE = 0.4
"""Share of the allowance after which the law is checked, so that an alarm finds FLOPs left; and
that a new budget may take for it."""

WHOLE = 5
"""Trials that a new budget takes in the end: those of the check, and what its optima need near
them (`closing.gaps`), the proof among these. Counted as three, they took .6 of the allowance in
benchmarks/search_efficiency.py; on the ladder's largest, wanted for itself, three are paid all the
same (benchmarks/live.py: error .319 at half of the grid's FLOPs, .338 without). So they are where
no budget has room for five: without a third budget nothing tells an exponent from the expected
one. With that and `opening.SHARE` the worst skill's squared error is .69 [.63, .75] at .3 of a
grid's FLOPs on four budgets (benchmarks/live.py, 144 sweeps)."""

ASIDE, CLOSER = 1.0, 0.65
"""Ln p from the optima to the check's outer sizes: a factor e aside a size tells most of an
optimum; closer where no budget has room for `WHOLE`, so that these three are nearly all that will
tell the optimum there. Squared error of the worst skill, dense worlds, W = .3: .79 with .65, .87
with .5, .88 with .8 of that with 1 (48 sweeps); at W = .5, where budgets get more, .75 for all is
1.11 (benchmarks/live.py)."""

WORTH = 0.2
"""Share of what was spent that a check must have cost to let a search end that has reached its
tolerance: else each end on a larger budget would call for a check on the next one."""


def check(state: FitState, selection: Selection, *, converged: bool) -> list[tuple[float, int]]:
    """Points still missing for the predictive check.

    It is due when the intervals are narrow or a share of the allowance is gone, on the largest
    budget where it costs no more than what was spent below it and where one of its trials can
    be repeated: a trial that alone speaks against the law is. Without room for that, one spoiled
    trial in the check was the end of two in 52 simulated sweeps (errors .24 and .27, not .04).
    A new budget below the ladder's largest must have room for `WHOLE` of them, in `SHARE`; where
    none has, for the check's own.

    Args:
        selection: trials and FLOPs.
        converged: whether the intervals are as narrow as wanted.
    """
    if math.isfinite(state.checked.outlier) and not state.checked.alarm:
        return _repeat_influential(state, selection)
    spent = sum(a.flops for a in selection.known)
    if converged and CHECK_TRIALS * state.checked.flops >= WORTH * spent:
        return []
    budgets = [c for c in selection.space.budgets[2:] if selection.space.allowed(c)]
    most = SHARE * selection.allowance
    whole = WHOLE if budgets and WHOLE * budgets[0] <= most else CHECK_TRIALS
    for flops in reversed(budgets):
        below = sum(a.flops for a in selection.known if a.flops < 0.99 * flops)
        missing = CHECK_TRIALS - _sound(state, selection, flops)
        due = converged or below >= most
        room = missing + (missing > 1)  # a check that lacks one trial is completed all the same
        if flops < selection.space.budgets[-1] and not selection.on(flops):
            room = whole
            due &= whole * flops <= most
        if due and CHECK_TRIALS * flops <= below and room * flops <= selection.remaining:
            aside = ASIDE if whole == WHOLE else CLOSER
            return _across(state, selection, flops, aside)[CHECK_TRIALS - max(missing, 0) :]
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
    place = selection.space.nearest(checked.outlier)
    size = selection.space.params[place]
    budget = next((c for c in selection.budgets() if same_budget(c, checked.flops)), None)
    if budget is None or place not in selection.space.allowed(budget):
        return []
    if any(a.params == size for a in selection.on(budget) if a in selection.training):
        return []
    return [(budget, size)]


def _across(
    state: FitState, selection: Selection, flops: float, aside: float
) -> list[tuple[float, int]]:
    """A size below all optima, one amid them, and one above: near each of them, if that is so."""
    optima = state.fit.vertex([flops])
    low, high = float(optima.min()), float(optima.max())
    aside = aside if high - low <= 2 * NEAR else NEAR  # a report asks for a size near each
    wanted = np.linspace(low - aside, high + aside, CHECK_TRIALS)
    return [(flops, selection.nearest(flops, x)) for x in wanted]
