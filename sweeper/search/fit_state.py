"""The state of the adaptive search's fit: optima, lack-of-fit tests, costs and failures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from fitting.mixture.data import Trials, read_trials
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.mixture.kinds import APART, FAR_REACH, LINE, LOOSE, NEAR, SURFACE
from fitting.mixture.lack_of_fit import ODDS, LackOfFit, guarded_by, odds_against, predict_top
from fitting.values import Z90, FloatArray
from sweeper.budget import Allocation, Space
from sweeper.search.history import allocations, finished

QUICK = tuple(
    replace(kind, often=1.0, reach=max(kind.reach, FAR_REACH), recipe=0.0, deepen=0.0)
    for kind in (SURFACE, LINE, NEAR, LOOSE, APART)
)
"""Members that decide where to train, alike beforehand (as in the adaptive study, section 6): a
search that hopes for a law soon learns whether it has one. That skills drift alike is left to the
whole mixture: a search that expects it asks for dearer trials, and errs by .055 instead of .038
where the law holds (world fail, W = .05, one slot, 16 seeds; benchmarks/search_efficiency.py), by
1.14, 1.20 and 1.04 of the squared error on our own trainings (W = .3, .5, 1, 18 sweeps;
benchmarks/live.py). With curves that grow deeper own trainings are no nearer (1.02, 1.09, .91; 24
sweeps). The whole mixture, several times as slow, decides when to stop."""

LEAST_TRIALS = 5
"""Finished trials before a surface of five parameters is fitted at all."""

Optima = dict[float, tuple[FloatArray, FloatArray]]
"""Budget of the ladder -> ln p* of every skill and its standard error, (S,) each."""

_NEARLY = 1.5  # times the tolerance: above, the whole mixture is not asked (assumption)
_RISK_LOG_PARAMS = 0.4  # a failure speaks against sizes within this (assumption)
_RISK_LOG_FLOPS = 1.0  # and budgets within this (assumption)
_TRIES = 2  # a place where this many trials failed and none succeeded is given up (assumption)
_SAME = (0.5, 0.01)  # of `_RISK_LOG_PARAMS`: a neighbour may work where a size itself never does
_RISK_PRIOR = 0.5  # trials' worth of belief that training succeeds (assumption)


@dataclass(frozen=True)
class FitState:
    """Everything a decision rests on besides what is in training.

    Attributes:
        measured: the finished trials' losses.
        ladder: budgets of the sweep.
        fit: the guarded fit of `QUICK`, after an alarm without the plain surface.
        checked: whether one law holds.
        ended: ended trials, sorted.
        failed: (ln params, ln flops, 1 if it failed else 0) of the ended trials, (n, 3).
        spent: FLOPs spent by ended trials, the same order as ``ended``.
    """

    measured: Trials = field(repr=False)
    ladder: tuple[float, ...]
    fit: Guarded
    checked: LackOfFit
    ended: tuple[Allocation, ...]
    failed: FloatArray
    spent: FloatArray

    @cached_property
    def whole(self) -> Guarded:
        """The whole mixture: what a report would say."""
        fit = fit_guarded(self.measured, ladder=self.ladder, warm=self.fit)
        return guarded_by(self.checked, fit)

    @cached_property
    def optima(self) -> Optima:
        """By the quick fit."""
        return _by_budget(self.fit, self.ladder)

    @cached_property
    def reported(self) -> Optima:
        """By the whole mixture, as a report has them: later, and off by as much as reports ask."""
        return _by_budget(self.whole, self.ladder)

    def converged(self, targets: Sequence[float], tolerance: float) -> bool:
        """Whether the 90 % interval of every skill and target is as narrow as wanted."""
        quick = half_widths(self.fit, targets).max()
        if quick > _NEARLY * tolerance:
            return False
        return bool(half_widths(self.whole, targets).max() <= tolerance)

    def chance(self, log_params: FloatArray, flops: float) -> FloatArray:
        """Probability that a trial ends with losses, from how its neighbours ended, (n,)."""
        if not self.failed[:, 2].any():
            return np.ones(len(log_params))
        size = (log_params[:, None] - self.failed[:, 0]) / _RISK_LOG_PARAMS
        budget = (math.log(flops) - self.failed[:, 1]) / _RISK_LOG_FLOPS
        near = np.exp(-0.5 * (size**2 + budget**2))
        lost = near @ self.failed[:, 2]
        chance = 1 - lost / (near.sum(axis=1) + _RISK_PRIOR)
        given_up = np.zeros(len(chance), bool)
        for reach in _SAME:
            same = (np.abs(size) < reach) & (np.abs(budget) < 0.01)
            failures = same @ self.failed[:, 2]
            given_up |= (failures >= _TRIES) & (failures == same.sum(axis=1))
        return np.asarray(np.where(given_up, 0.0, chance))

    def cost_ratio(self, space: Space, flops: float) -> float:
        """FLOPs that finished trials of a budget spent over what was planned; 1 if unknown."""
        here = np.abs(self.failed[:, 1] - math.log(flops)) < 0.01
        here &= (self.failed[:, 2] == 0) & (self.spent > 0)
        if not here.any():
            return 1.0
        ratios = [self.spent[i] / space.cost(self.ended[i]) for i in np.flatnonzero(here)[:50]]
        return float(np.median(ratios))


def _by_budget(fit: Guarded, ladder: tuple[float, ...]) -> Optima:
    mean, se = fit.log_optimum(ladder)
    return dict(zip(ladder, zip(mean.T, se.T, strict=True), strict=True))


def half_widths(fit: Guarded, targets: Sequence[float]) -> FloatArray:
    """Half-width of the 90 % interval of ln p* of every skill and target, (S, T)."""
    return np.asarray(Z90 * fit.log_optimum(targets)[1])


def fit_state(observations: pd.DataFrame, space: Space) -> FitState | None:
    """What the observations say, or None while they are too few.

    The fit starts from no earlier one: what a resumed driver proposes would then depend on where
    the one before was killed. It costs 4 % of the time of a decision.
    """
    table = finished(observations)
    if table["trial_id"].nunique() < LEAST_TRIALS or table["params"].nunique() < 3:
        return None
    measured = read_trials(table)
    fit = fit_guarded(measured, ladder=space.budgets, components=QUICK)
    checked = _checked(measured, space.budgets, fit)
    by = ["flops", "params", "tokens", "seed", "mix"]
    trials = observations.drop_duplicates("trial_id").sort_values(by)
    failed = np.column_stack(
        [
            np.log(trials["params"].to_numpy(float)),
            np.log(trials["flops"].to_numpy(float)),
            (trials["status"] != "finished").to_numpy(float),
        ]
    )
    return FitState(
        measured,
        space.budgets,
        guarded_by(checked, fit),
        checked,
        tuple(allocations(observations)),
        failed,
        trials["spent_flops"].to_numpy(float),
    )


def _checked(trials: Trials, ladder: tuple[float, ...], fit: Guarded) -> LackOfFit:
    """Whether one law holds: by the quick members, by the whole mixture where in doubt."""
    odds = odds_against(fit)
    if odds > ODDS:
        return LackOfFit(odds=odds)
    told = predict_top(trials, warm=fit)
    if told.rejected and math.isnan(told.outlier):
        odds = max(odds, odds_against(fit_guarded(trials, ladder=ladder, warm=fit)))
    return replace(told, odds=odds)
