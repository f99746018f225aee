"""Whether one law holds on all trained budgets: whether the optima lie on one line.

Two looks at the same trials. The odds weigh all of them: the evidence of the members whose optima
may leave the line over that of those in line. Nearly all members leave levels and curvatures free,
so that what bends there (and on real runs it does) speaks against no line. Before that the search
predicts the largest budget from the cheaper ones: a robust fit explains a few contrary trials at
the top away as outliers, predicting them does not (adaptive study, section 5.4), and a trial that
alone contradicts the law is trained again before it may count.

Legend: S = skills, n = sizes predicted; losses in nats, logarithms natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.mixture.data import Trials, read_trials
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.mixture.kinds import SURFACE
from fitting.values import FloatArray

Indices = npt.NDArray[np.intp]

CHECK_TRIALS = 3
"""Trials on the largest budget that are predicted (adaptive study, section 5.4)."""

ODDS = 30.0
"""Odds against one line from which it is said to bend: "very strong" evidence, 10^1.5 (Jeffreys
1961)."""

SURFACE_ODDS = 0.1
"""Odds against the plain surface from which it is said to fail (a warning): of 1,500 tables of
worlds that are surfaces 56 had more; of 900 of worlds that are not 81 had less, 72 of them of
world lrbump, whose few trials above 1e9 params show little (benchmarks/coverage.py; with .08 they
were 76 and 64, a fit before)."""

MOST = 5.0
"""Greatest log odds that one skill of several may have a say with: one odd skill condemns none."""

TESTED_TRIALS = 25
TESTED_BUDGETS = 3
"""Fewest trials and budgets that a report tests a law by. After a fiftieth of the usual grid's
FLOPs, with two budgets or about twenty trials, chance alone gave odds above `ODDS` in 16 of 76
sweeps whose law held (benchmarks/search_efficiency.py)."""

REJECTED = 1.5
"""Mean squared error of prediction, in units of its expectation, from which a law is rejected. In
simulation right laws gave at most 1.25 and wrong ones at least 2.2."""

CHANCE = 0.02
"""And no more probable than this under the law."""

_LEAST_TRIALS = 8  # below the checked budget: a surface has five parameters
_CORRELATION = 0.5  # between skills of one trial; assumption on the safe side of the worlds' .4
_DRAWS = 2000  # of the statistic under the law
_SAME_SIZE = 0.02  # in ln p


@dataclass(frozen=True)
class LackOfFit:
    """Whether the law holds.

    Attributes:
        flops: the budget that was predicted, NaN if there is none to check yet.
        statistic: squared error of prediction over its expectation, jointly over the sizes,
            median over skills; 1 is what chance gives, NaN without a check.
        chance: probability of as large a statistic under the law.
        trials: number of trials predicted.
        outlier: the size whose trial alone rejects the law and was not repeated yet; NaN
            if no single trial does. One bad trial must not bring down a law: repeat it.
        odds: that the optima leave one line, see `odds_against`.
        surface_odds: that losses or optima leave the plain surface.
        tested: whether there were trials and budgets enough for the odds to mean something.
    """

    flops: float = math.nan
    statistic: float = math.nan
    chance: float = 1.0
    trials: int = 0
    outlier: float = math.nan
    odds: float = 0.0
    surface_odds: float = 0.0
    tested: bool = False

    @property
    def checked(self) -> bool:
        """Whether there was anything to check."""
        return self.trials > 0

    @property
    def rejected(self) -> bool:
        """Whether the largest budget was not as predicted."""
        return self.statistic > REJECTED and self.chance < CHANCE

    @property
    def alarm(self) -> bool:
        """Whether the optima leave the line."""
        return self.odds > ODDS

    @property
    def off_surface(self) -> bool:
        """Whether losses or optima leave the plain surface."""
        return self.odds > ODDS or self.surface_odds > SURFACE_ODDS


def odds_of_skills(fit: Guarded, in_line: npt.NDArray[np.bool_]) -> FloatArray:
    """Log odds (S,) by each skill alone against some members, before any belief."""
    often = np.log([c.discrepancy.kind.often for c in fit.components])[:, None]
    if in_line.all() or not in_line.any():
        return np.zeros(len(fit.skills))
    parts = []
    for members in (~in_line, in_line):
        part = (fit.evidence + often)[members]
        most = part.max(0)
        total = most + np.log(np.exp(part - most).sum(0))
        parts.append(total - np.log(np.exp(often[members]).sum()))
    return np.asarray(parts[0] - parts[1])


def odds_against(fit: Guarded) -> float:
    """Odds that optima leave one line; correlated skills count as the fewer that they are."""
    return _together(fit, np.array([c.discrepancy.kind.in_line for c in fit.components]))


def odds_against_surface(fit: Guarded) -> float:
    """Odds against the plain surface, of losses as well as of optima."""
    return _together(fit, np.array([c.discrepancy.kind.plain for c in fit.components]))


def _together(fit: Guarded, in_line: npt.NDArray[np.bool_]) -> float:
    own = odds_of_skills(fit, in_line)
    log_odds = fit.independence * np.clip(own, -MOST, MOST).sum() if len(own) > 1 else own.sum()
    return math.exp(float(np.clip(log_odds, -500, 500)))


def predict_top(frame: pd.DataFrame | Trials, *, warm: Guarded | None = None) -> LackOfFit:
    """Predict the largest budget with enough trials from all cheaper ones.

    Args:
        frame: finite losses, as for `fit_guarded`.
        warm: a fit of about the same trials to start from; the answer is the same, sooner.
    """
    trials = frame if isinstance(frame, Trials) else read_trials(frame)
    budget = np.round(trials.log_flops, 2)
    budgets, counts = np.unique(budget, return_counts=True)
    enough = budgets[counts >= CHECK_TRIALS]
    top = enough.max() if len(enough) else -math.inf
    if (budgets < top).sum() < 2 or counts[budgets < top].sum() < _LEAST_TRIALS:
        return LackOfFit()
    forecast = _Forecast.make(trials.take(budget < top), trials.take(budget == top), warm)
    statistic, chance = forecast.test(forecast.everywhere)
    flops = math.exp(float(np.median(trials.log_flops[budget == top])))
    found = LackOfFit(flops, statistic, chance, int((budget == top).sum()))
    return replace(found, outlier=forecast.outlier()) if found.rejected else found


def lack_of_fit(frame: pd.DataFrame | Trials, fit: Guarded) -> LackOfFit:
    """Whether one law holds, for a report: no answer from few trials or budgets."""
    trials = frame if isinstance(frame, Trials) else read_trials(frame)
    budgets = np.unique(np.round(trials.log_flops, 1))
    if len(trials.log_flops) < TESTED_TRIALS or len(budgets) < TESTED_BUDGETS:
        return LackOfFit()
    # Curves that may lean hide some of what speaks against the law: .23 of tables that leave it
    # are missed, .10 of the same by even ones (144 tables of worlds interact and lrbump).
    odds, surface = odds_against(fit.farther), odds_against_surface(fit.farther)
    return LackOfFit(odds=odds, surface_odds=surface, tested=True)


def guarded_by(checked: LackOfFit, fit: Guarded) -> Guarded:
    """The fit to act on: after an alarm, without the plain surface.

    Dropping more (all that stay near the law) made optima worse in every world it was tried in.
    """
    plain = np.array([c.discrepancy.kind.plain for c in fit.components])
    kept, beyond = (np.where(plain[:, None], 0.0, w) for w in (fit.weights, fit.beyond))
    if not checked.alarm or not kept.sum(0).all() or not beyond.sum(0).all():
        return fit
    return replace(fit, weights=kept / kept.sum(0), beyond=beyond / beyond.sum(0))


@dataclass(frozen=True)
class _Forecast:
    """Errors of prediction at the top budget, one column per distinct size.

    Attributes:
        log_params: (n,) sizes.
        repeated: (n,) whether a size was trained more than once.
        error: (S, n) measured less predicted loss, NaN where a skill was not measured.
        covariance: (S, n, n) of the errors under the law.
    """

    log_params: FloatArray
    repeated: npt.NDArray[np.bool_]
    error: FloatArray
    covariance: FloatArray

    @classmethod
    def make(cls, below: Trials, trials: Trials, warm: Guarded | None) -> _Forecast:
        """Fit the plain surface below and compare it with what was measured above."""
        fit = fit_guarded(below, components=(SURFACE,), warm=warm)
        plain = fit.components[0]
        rows = [trials.skills.index(s) for s in fit.skills if s in trials.skills]
        known = [i for i, s in enumerate(fit.skills) if s in trials.skills]
        flops = np.exp(trials.log_flops)
        jacobian = plain.jacobian(trials.log_params, flops)[known]
        doubt = jacobian @ plain.covariance[known] @ np.swapaxes(jacobian, 1, 2)
        error = trials.loss[rows] - plain.loss_hat(trials.log_params, flops)[known]
        noise = fit.noise[known, None] * plain.blur(trials.log_params, flops)[known]
        own = noise**2 + np.einsum("snn->sn", doubt)
        miss = np.nanmedian(np.abs(error) / np.sqrt(own), axis=0)
        kept, repeated = _nearest_prediction(trials.log_params, miss)
        covariance = doubt[:, kept][:, :, kept] + np.eye(len(kept)) * noise[:, kept, None] ** 2
        return cls(trials.log_params[kept], repeated, error[:, kept], covariance)

    @property
    def everywhere(self) -> Indices:
        """All sizes."""
        return np.arange(len(self.log_params))

    def test(self, sizes: Indices) -> tuple[float, float]:
        """Statistic over some of the sizes, and its probability under the law."""
        values, counts = [], []
        for error, covariance in zip(self.error, self.covariance, strict=True):
            at = sizes[np.isfinite(error[sizes])]
            if len(at):
                part = covariance[np.ix_(at, at)]
                values.append(error[at] @ np.linalg.solve(part, error[at]) / len(at))
                counts.append(len(at))
        if not values:
            return math.nan, 1.0
        statistic = float(np.median(values))
        drawn = _by_chance(len(values), max(counts))
        return statistic, float((drawn >= statistic).mean())

    def outlier(self) -> float:
        """The unrepeated size without which the law would stand, or NaN."""
        for i in self.everywhere[~self.repeated]:
            statistic, chance = self.test(np.delete(self.everywhere, i))
            if not (statistic > REJECTED and chance < CHANCE):
                return math.exp(self.log_params[i])
        return math.nan


@lru_cache(maxsize=256)
def _by_chance(skills: int, sizes: int) -> FloatArray:
    """Draws of the statistic under the law."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((_DRAWS, 1, sizes))
    own = rng.standard_normal((_DRAWS, skills, sizes))
    z = math.sqrt(_CORRELATION) * shared + math.sqrt(1 - _CORRELATION) * own
    return np.asarray(np.median((z**2).mean(axis=2), axis=1))


def _nearest_prediction(
    log_params: FloatArray, miss: FloatArray
) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Of each distinct size the trial nearest its prediction, and whether it was repeated."""
    kept, repeated = [], []
    for size in np.unique(np.round(log_params / _SAME_SIZE)):
        here = np.flatnonzero(np.round(log_params / _SAME_SIZE) == size)
        kept.append(here[np.argmin(miss[here])])
        repeated.append(len(here) > 1)
    return np.array(kept), np.array(repeated, dtype=bool)
