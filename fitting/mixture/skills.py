"""Each skill's view of the guarded mixture.

Legend: p = params, t = tokens, C = flops; S = skills, n = budgets; losses in nats, logarithms
natural.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fitting.bracket import check_bracket, check_curves
from fitting.errors import Status
from fitting.laws.powerlaw import PowerLaw
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.mixture.lack_of_fit import Verdict, guarded_by, judge
from fitting.reading.observations import BUDGET_TOLERANCE, Observations
from fitting.skill_models import SkillModel, Unusable, missing, no_law
from fitting.values import Z90, FloatArray, Optimum, Prediction

UNKNOWN = 1.2
"""Standard error of ln p* (a factor 7 either way at 90 %) from which no number is given;
assumption: wider than any grid one would train."""

MAX_LADDER = 16
"""Budgets up to which each is a rung of its own; more are strewn and get grouped."""


@dataclass(frozen=True)
class _Ladder:
    """All skills of one mixture on some budgets, computed together: (S, n) arrays."""

    fit: Guarded
    budgets: tuple[float, ...]

    @cached_property
    def optima(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """ln p*, its standard error, curvature, and loss there."""
        mean, error = self.fit.log_optimum(self.budgets)
        loss = self.fit.least_loss(mean, self.budgets)
        return mean, error, self.fit.curvature(self.budgets), loss

    @cached_property
    def laws(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(ln a, b), covariance, scatter."""
        return self.fit.laws(self.budgets)


@dataclass(frozen=True)
class GuardedModel:
    """One skill's view of the mixture."""

    skill: str
    trained: _Ladder
    reason: str
    status: Status = Status.OK

    @property
    def _index(self) -> int:
        return self.trained.fit.skills.index(self.skill)

    def at(self, flops: float) -> Optimum:
        """Mean and 90 % interval of the mixture."""
        budgets = self.trained.budgets
        if flops in budgets:
            return self._optimum(self.trained, budgets.index(flops))
        if len(budgets) < 2 and abs(math.log(flops / budgets[0])) > BUDGET_TOLERANCE:
            return missing(Status.NOT_IDENTIFIED, _ONE_BUDGET, flops, "guarded")
        return self._optimum(_Ladder(self.trained.fit, (flops,)), 0)

    def _optimum(self, ladder: _Ladder, rung: int) -> Optimum:
        flops = ladder.budgets[rung]
        mean, error, curvature, loss = (float(v[self._index, rung]) for v in ladder.optima)
        if not error < UNKNOWN:
            reason = f"The interval of p* spans more than a factor {_WIDEST:.0f}."
            return missing(Status.NOT_IDENTIFIED, reason, flops, "guarded")
        params = math.exp(mean)
        return Optimum(
            params=params,
            log_params_se=error,
            status=self.status,
            curvature=curvature,
            flops=flops,
            tokens=flops / (ladder.fit.flops_per_param_token * params),
            interval=(math.exp(mean - Z90 * error), math.exp(mean + Z90 * error)),
            method="guarded",
            loss=loss,
            reason=self.reason,
            extrapolates=max(1.0, flops / self.trained.budgets[-1]),
        )

    def law(self) -> PowerLaw:
        """The line through the mixture's ln p* at the trained budgets."""
        budgets = self.trained.budgets
        if len(budgets) < 2:
            return no_law(Status.NOT_IDENTIFIED, _ONE_BUDGET, "guarded")
        line, covariance, scatter = (v[self._index] for v in self.trained.laws)
        (v00, v01), (_, v11) = covariance.tolist()
        return PowerLaw(
            coefficient=math.exp(line[0]),
            exponent=float(line[1]),
            covariance=((v00, v01), (v01, v11)),
            scatter=float(scatter),
            flops_range=(budgets[0], budgets[-1]),
            method="guarded",
        )

    def loss(self, params: float, tokens: float) -> Prediction:
        """Mean and 90 % interval of the expected loss, noise of a single trial not included."""
        fit = self.trained.fit
        value, error = (float(v[0]) for v in fit.loss(self.skill, params, tokens))
        flops = fit.flops_per_param_token * params * tokens
        interval = (value - Z90 * error, value + Z90 * error)
        return Prediction(value, interval, max(1.0, flops / self.trained.budgets[-1]))


_WIDEST = math.exp(2 * Z90 * UNKNOWN)
_ONE_BUDGET = "Only one budget was trained: other budgets and the law are not determined."


def guarded_models(seen: Observations) -> tuple[dict[str, SkillModel], Verdict]:
    """All usable skills in one fit, the others with their reasons, and whether a law holds.

    After an alarm the plain surface has no say in the mixture.
    """
    found = {skill: check_curves(seen.of_skill(skill)) for skill in seen.skills}
    usable = [skill for skill, (status, _) in found.items() if status is Status.OK]
    models: dict[str, SkillModel] = {
        skill: Unusable(*found[skill], "guarded") for skill in seen.skills if skill not in usable
    }
    checked = Verdict()
    if usable:
        columns = _columns(seen.frame, usable)
        fit = fit_guarded(columns, ladder=_rungs(seen.budgets))
        checked = judge(columns, fit)
        fit = guarded_by(checked, fit)
        ladders: dict[tuple[float, ...], _Ladder] = {}
        for skill in usable:
            rows = seen.of_skill(skill)
            budgets = tuple(float(b) for b in np.sort(rows["budget"].unique()))
            trained = ladders.setdefault(budgets, _Ladder(fit, budgets))
            models[skill] = _guarded_model(trained, rows, skill, found[skill][1])
    return {skill: models[skill] for skill in seen.skills}, checked


def _rungs(budgets: Sequence[float]) -> Sequence[float] | None:
    return budgets if len(budgets) <= MAX_LADDER else None


def _columns(frame: pd.DataFrame, skills: Sequence[str]) -> pd.DataFrame:
    """What the mixture reads; an identity that is not known everywhere is left out."""
    names = ["flops", "params", "tokens", "skill", "loss"]
    names += [n for n in ("trial_id", "seed") if n in frame and frame[n].notna().all()]
    return frame.loc[frame["skill"].isin(skills), names]


def _guarded_model(trained: _Ladder, rows: pd.DataFrame, skill: str, reason: str) -> SkillModel:
    """Check that the sizes bracket the optima that were found."""
    at = trained.optima[0][trained.fit.skills.index(skill)]
    optimum = rows["budget"].map(dict(zip(trained.budgets, at, strict=True)))
    distance = np.log(rows["params"].to_numpy(float)) - optimum.to_numpy(float)
    status, side = check_bracket(distance)
    if status is not Status.OK:
        return Unusable(status, side, "guarded")
    return GuardedModel(skill, trained, reason)
