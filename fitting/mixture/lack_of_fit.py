"""Whether one law holds on all trained budgets: whether the optima lie on one line.

The odds weigh all trials: the evidence of the members whose optima may leave the line over that
of those in line. Nearly all members leave levels and curvatures free, so that what bends there
(and on real runs it does) speaks against no line.

Legend: S = skills; logarithms natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.mixture.data import Trials, read_trials
from fitting.mixture.fit import Guarded
from fitting.values import FloatArray

ODDS = 30.0
"""Odds against one line from which it is said to bend: "very strong" evidence, 10^1.5 (Jeffreys
1961)."""

SURFACE_ODDS = 0.08
"""Odds against the plain surface from which it is said to fail (a warning): of 1,500 tables of
worlds that are surfaces 60 had more; of 900 of worlds that are not 80 had less, 70 of them of
world lrbump, whose few trials above 1e9 params show little (benchmarks/coverage.py; with .1 they
are 48 and 91)."""

MOST = 5.0
"""Greatest log odds that one skill of several may have a say with: one odd skill condemns none."""

TESTED_TRIALS = 25
TESTED_BUDGETS = 3
"""Fewest trials and budgets that a report tests a law by. After a fiftieth of the usual grid's
FLOPs, with two budgets or about twenty trials, chance alone gave odds above `ODDS` in 16 of 76
sweeps whose law held (benchmarks/search_efficiency.py)."""


@dataclass(frozen=True)
class LackOfFit:
    """Whether the law holds.

    Attributes:
        odds: that the optima leave one line, see `odds_against`.
        surface_odds: that losses or optima leave the plain surface.
        tested: whether there were trials and budgets enough for the odds to mean something.
    """

    odds: float = 0.0
    surface_odds: float = 0.0
    tested: bool = False

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


def lack_of_fit(frame: pd.DataFrame | Trials, fit: Guarded) -> LackOfFit:
    """Whether one law holds, for a report: no answer from few trials or budgets."""
    trials = frame if isinstance(frame, Trials) else read_trials(frame)
    budgets = np.unique(np.round(trials.log_flops, 1))
    if len(trials.log_flops) < TESTED_TRIALS or len(budgets) < TESTED_BUDGETS:
        return LackOfFit()
    odds, surface = odds_against(fit), odds_against_surface(fit)
    return LackOfFit(odds=odds, surface_odds=surface, tested=True)
