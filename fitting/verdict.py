"""Whether the plain surface foretells the largest trained budget, before it has seen it.

A robust fit explains a few contrary trials at the top away as outliers, so letting them enter the
fit shows nothing; predicting them from the cheaper budgets does (adaptive study, section 5.4).

Legend: z = (measured - predicted loss) / predicted standard deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fitting.optima import Guarded, fit_guarded
from fitting.values import FloatArray

__all__ = ["CHECK_TRIALS", "Verdict", "guarded_by", "verdict"]

CHECK_TRIALS = 3
"""Trials on the largest budget that are foretold (adaptive study, section 5.4)."""

ALARM = 1.6
"""Statistic above which the law is given up; 1 is what chance gives (adaptive study, 5.4)."""

_LEAST_TRIALS = 8  # below the checked budget: a surface has five parameters
_NORMAL_MEDIAN = 0.6745  # of |z|
_LEAST_SCALE = 1.0  # of the components that an alarm leaves


@dataclass(frozen=True)
class Verdict:
    """Outcome of the predictive check.

    Attributes:
        flops: the budget that was foretold, NaN if there is none to check yet.
        statistic: median |z| / .6745 over its trials and all skills; NaN without a check.
        trials: number of trials foretold.
    """

    flops: float = math.nan
    statistic: float = math.nan
    trials: int = 0

    @property
    def checked(self) -> bool:
        """Whether there was anything to check."""
        return self.trials > 0

    @property
    def alarm(self) -> bool:
        """Whether the law failed: withhold what is extrapolated, report fitted budgets only."""
        return self.statistic > ALARM


def verdict(frame: pd.DataFrame) -> Verdict:
    """Foretell the largest budget with enough trials from all cheaper ones.

    Args:
        frame: long table with finite losses: trial_id, flops, params, tokens, skill, loss.
    """
    trials = frame.drop_duplicates("trial_id")
    budget = np.round(np.log(trials["flops"].to_numpy(float)), 2)
    budgets, counts = np.unique(budget, return_counts=True)
    enough = budgets[counts >= CHECK_TRIALS]
    if not len(enough):
        return Verdict()
    top = enough.max()
    if (budgets < top).sum() < 2 or counts[budgets < top].sum() < _LEAST_TRIALS:
        return Verdict()
    ln_flops = np.round(np.log(frame["flops"].to_numpy(float)), 2)
    z = _surprise(frame[ln_flops < top], frame[ln_flops == top])
    statistic = float(np.median(np.abs(z)) / _NORMAL_MEDIAN)
    return Verdict(math.exp(top), statistic, int(counts[budgets == top][0]))


def guarded_by(checked: Verdict, fit: Guarded) -> Guarded:
    """The fit to act on: after an alarm, without the members that trust the law closely."""
    if not checked.alarm:
        return fit
    kept = fit.weights * np.array([c.h >= _LEAST_SCALE for c in fit.components])
    if kept.sum() <= 0:
        kept = np.array([float(c.h == _LEAST_SCALE) for c in fit.components])
    return replace(fit, weights=kept / kept.sum())


def _surprise(below: pd.DataFrame, above: pd.DataFrame) -> FloatArray:
    """z of every row of ``above`` under the plain surface of ``below``."""
    fit = fit_guarded(below, components=(0.0,))
    plain = fit.components[0]
    above = above[above["skill"].isin(fit.skills)]
    places = above.drop_duplicates("trial_id")
    predicted, se = plain.loss(
        np.log(places["params"].to_numpy(float)), places["flops"].to_numpy(float)
    )
    skill = above["skill"].map({s: i for i, s in enumerate(fit.skills)}).to_numpy(int)
    place = above["trial_id"].map({t: i for i, t in enumerate(places["trial_id"])}).to_numpy(int)
    spread = np.sqrt(fit.noise[skill] ** 2 + se[skill, place] ** 2)
    return np.asarray((above["loss"].to_numpy(float) - predicted[skill, place]) / spread)
