"""The three ways to a skill's optima behind one face: parabola, surface, guarded mixture.

Legend: p = params, t = tokens, C = flops; losses in nats, logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from fitting.bracket import check_bracket, check_curves
from fitting.errors import FitError, Status
from fitting.isoflop import fit_isoflop
from fitting.observations import BUDGET_TOLERANCE, Observations
from fitting.optima import Guarded, fit_guarded
from fitting.powerlaw import PowerLaw, fit_power_law
from fitting.surface import Surface, fit_surface
from fitting.values import FLOPS_PER_PARAM_TOKEN, Z90, FloatArray, Optimum, Prediction

Method = Literal["guarded", "parabola", "surface"]
METHODS: tuple[Method, ...] = ("guarded", "parabola", "surface")

UNKNOWN = 1.2
"""Standard error of ln p* (a factor 7 either way at 90 %) from which no number is given;
assumption: wider than any grid one would train."""

MAX_LADDER = 16
"""Budgets up to which each is a rung of its own; more are strewn and get grouped."""


class SkillModel(Protocol):
    """One skill's fit by one method."""

    @property
    def status(self) -> Status:
        """Verdict on the skill."""
        ...

    @property
    def reason(self) -> str:
        """What the verdict rests on."""
        ...

    def at(self, flops: float) -> Optimum:
        """Optimum of any budget."""
        ...

    def law(self) -> PowerLaw:
        """p* as a power of flops."""
        ...

    def loss(self, params: float, tokens: float) -> Prediction:
        """Expected loss of any allocation."""
        ...


def fit_models(seen: Observations, method: Method) -> dict[str, SkillModel]:
    """Fit every skill by one method; a skill without minima becomes an `Unusable`."""
    if method == "guarded":
        return _guarded_models(seen)
    single = _parabola_model if method == "parabola" else _surface_model
    return {skill: single(seen.of_skill(skill)) for skill in seen.skills}


def _missing(status: Status, reason: str, flops: float, method: str) -> Optimum:
    """An optimum without a number."""
    nan = math.nan
    return Optimum(nan, nan, status, nan, flops=flops, method=method, reason=reason)


def _no_law(status: Status, reason: str, method: str) -> PowerLaw:
    return PowerLaw(math.nan, math.nan, status=status, reason=reason, method=method)


@dataclass(frozen=True)
class Unusable:
    """A skill whose losses support no fit."""

    status: Status
    reason: str
    method: Method

    def at(self, flops: float) -> Optimum:
        """No number, the reason instead."""
        return _missing(self.status, self.reason, flops, self.method)

    def law(self) -> PowerLaw:
        """No law, the reason instead."""
        return _no_law(self.status, self.reason, self.method)

    def loss(self, params: float, tokens: float) -> Prediction:
        """Always raises: there is nothing to predict with.

        Raises:
            FitError: with the skill's status.
        """
        raise FitError(self.status, self.reason)


@dataclass(frozen=True)
class ParabolaModel:
    """A parabola per budget, and the power law through their vertices (the paper's way)."""

    optima: tuple[Optimum, ...]
    through: PowerLaw
    top: float

    @property
    def status(self) -> Status:
        """OK if any budget has a vertex."""
        return Status.OK if any(o.ok for o in self.optima) else self.optima[0].status

    @property
    def reason(self) -> str:
        """How many budgets have a vertex, or why the first has none."""
        good = sum(o.ok for o in self.optima)
        return f"{good} budgets have a vertex." if good else self.optima[0].reason

    def at(self, flops: float) -> Optimum:
        """The budget's own vertex where it was trained, else the law."""
        for own in self.optima:
            if abs(math.log(flops / own.flops)) < BUDGET_TOLERANCE:
                return own
        if not self.through.ok:
            return _missing(self.through.status, self.through.reason, flops, "parabola")
        params = float(self.through(flops))
        low, high = (float(v) for v in self.through.interval(flops))
        return Optimum(
            params=params,
            log_params_se=float(self.through.log_se(flops)),
            status=Status.OK,
            curvature=math.nan,
            flops=flops,
            tokens=flops / (FLOPS_PER_PARAM_TOKEN * params),
            interval=(low, high),
            method="parabola",
            reason="Power law through the vertices.",
            extrapolates=max(1.0, flops / self.top),
        )

    def law(self) -> PowerLaw:
        """Power law through the usable vertices."""
        return self.through

    def loss(self, params: float, tokens: float) -> Prediction:
        """Always raises: parabolas know no loss between budgets.

        Raises:
            FitError: NOT_IDENTIFIED.
        """
        raise FitError(
            Status.NOT_IDENTIFIED,
            "parabolas predict no loss off their budgets: use method='guarded' or 'surface'",
        )


def _parabola_model(rows: pd.DataFrame) -> SkillModel:
    curves = [(float(budget), curve) for budget, curve in rows.groupby("budget")]
    optima = tuple(
        fit_isoflop(curve["params"].to_numpy(float), curve["loss"].to_numpy(float), flops=budget)
        for budget, curve in curves
    )
    good = [o for o in optima if o.ok]
    law = fit_power_law([o.flops for o in good], [o.params for o in good], method="parabola")
    return ParabolaModel(optima, law, max(budget for budget, _ in curves))


@dataclass(frozen=True)
class SurfaceModel:
    """E + A p^-alpha + B t^-beta and nothing else (Approach 3)."""

    surface: Surface
    found: tuple[Status, str]

    @property
    def status(self) -> Status:
        """Of the curves, then of the surface."""
        return self.found[0] if self.found[0] is not Status.OK else self.surface.status

    @property
    def reason(self) -> str:
        """What the verdict rests on."""
        return self.surface.reason or self.found[1]

    def at(self, flops: float) -> Optimum:
        """In closed form."""
        return self.surface.optimum(flops)

    def law(self) -> PowerLaw:
        """Exact for the surface."""
        return self.surface.law()

    def loss(self, params: float, tokens: float) -> Prediction:
        """From the constants alone; without an interval, as the fit carries none for losses."""
        value = float(self.surface.loss(params, tokens))
        flops = FLOPS_PER_PARAM_TOKEN * params * tokens
        return Prediction(
            value, (math.nan, math.nan), max(1.0, flops / self.surface.flops_range[1])
        )


def _surface_model(rows: pd.DataFrame) -> SkillModel:
    found = check_curves(rows)
    if found[0] is not Status.OK:
        return Unusable(*found, "surface")
    surface = fit_surface(*(rows[name].to_numpy(float) for name in ("params", "tokens", "loss")))
    found = found if surface.ok else (surface.status, surface.reason)
    if surface.ok:
        optimum = np.log(surface.law()(rows["budget"].to_numpy(float)))
        bracket = check_bracket(np.log(rows["params"].to_numpy(float)) - optimum)
        found = found if bracket[0] is Status.OK else bracket
    if found[0] is not Status.OK:
        return Unusable(*found, "surface")
    return SurfaceModel(surface, found)


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
            return _missing(Status.NOT_IDENTIFIED, _ONE_BUDGET, flops, "guarded")
        return self._optimum(_Ladder(self.trained.fit, (flops,)), 0)

    def _optimum(self, ladder: _Ladder, rung: int) -> Optimum:
        flops = ladder.budgets[rung]
        mean, error, curvature, loss = (float(v[self._index, rung]) for v in ladder.optima)
        if not error < UNKNOWN:
            reason = f"The interval of p* spans more than a factor {_WIDEST:.0f}."
            return _missing(Status.NOT_IDENTIFIED, reason, flops, "guarded")
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
            return _no_law(Status.NOT_IDENTIFIED, _ONE_BUDGET, "guarded")
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


def _guarded_models(seen: Observations) -> dict[str, SkillModel]:
    """All usable skills in one fit, the others with their reasons."""
    found = {skill: check_curves(seen.of_skill(skill)) for skill in seen.skills}
    usable = [skill for skill, (status, _) in found.items() if status is Status.OK]
    models: dict[str, SkillModel] = {
        skill: Unusable(*found[skill], "guarded") for skill in seen.skills if skill not in usable
    }
    if usable:
        fit = fit_guarded(_columns(seen.frame, usable), ladder=_rungs(seen.budgets))
        ladders: dict[tuple[float, ...], _Ladder] = {}
        for skill in usable:
            rows = seen.of_skill(skill)
            budgets = tuple(float(b) for b in np.sort(rows["budget"].unique()))
            trained = ladders.setdefault(budgets, _Ladder(fit, budgets))
            models[skill] = _guarded_model(trained, rows, skill, found[skill][1])
    return {skill: models[skill] for skill in seen.skills}


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


def on_ladder(model: SkillModel, budgets: Sequence[float]) -> tuple[Optimum, ...]:
    """One optimum per budget."""
    return tuple(model.at(budget) for budget in budgets)
