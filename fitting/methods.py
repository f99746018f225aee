"""Parabolas and the plain surface as models of a skill, and the choice between all methods.

Legend: p = params, t = tokens, C = flops; losses in nats, logarithms natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from fitting.errors import FitError, Status
from fitting.isoflop import fit_isoflop
from fitting.laws.bracket import check_bracket, check_curves
from fitting.laws.powerlaw import PowerLaw, fit_power_law, no_law
from fitting.laws.skill_models import SkillModel, Unusable
from fitting.laws.surface import Surface, fit_surface
from fitting.reading.observations import BUDGET_TOLERANCE, Observations
from fitting.values import CONVENTION_ROUNDS, Convention, FloatArray, Optimum, Prediction


def fit_single(
    seen: Observations, method: Literal["parabola", "surface"], convention: Convention
) -> dict[str, SkillModel]:
    """Fit every skill for itself; a skill without minima becomes an `Unusable`."""
    single = _parabola_model if method == "parabola" else _surface_model
    return {skill: single(seen.of_skill(skill), convention) for skill in seen.skills}


@dataclass(frozen=True)
class ParabolaModel:
    """A parabola per budget, and the power law through their vertices (the paper's way)."""

    optima: tuple[Optimum, ...]
    through: PowerLaw
    top: float
    convention: Convention

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
            return Optimum.missing(self.through.status, self.through.reason, flops, "parabola")
        params = float(self.through(flops))
        low, high = (float(v) for v in self.through.interval(flops))
        return Optimum(
            params=params,
            log_params_se=float(self.through.log_se(flops)),
            status=Status.OK,
            curvature=math.nan,
            flops=flops,
            tokens=float(self.convention.tokens(flops, params)),
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
        raise FitError(Status.NOT_IDENTIFIED, _NO_LOSSES)

    def losses(self, params: FloatArray, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Always raises, as `loss`."""
        raise FitError(Status.NOT_IDENTIFIED, _NO_LOSSES)


_NO_LOSSES = "parabolas predict no loss off their budgets: use method='guarded' or 'surface'"


def _parabola_model(rows: pd.DataFrame, convention: Convention) -> SkillModel:
    curves = [(float(budget), curve) for budget, curve in rows.groupby("budget")]
    found = [
        fit_isoflop(curve["params"].to_numpy(float), curve["loss"].to_numpy(float), flops=budget)
        for budget, curve in curves
    ]
    optima = tuple(replace(o, tokens=float(convention.tokens(o.flops, o.params))) for o in found)
    good = [o for o in optima if o.ok]
    law = fit_power_law([o.flops for o in good], [o.params for o in good], method="parabola")
    return ParabolaModel(optima, law, max(budget for budget, _ in curves), convention)


@dataclass(frozen=True)
class SurfaceModel:
    """E + A p^-alpha + B t^-beta and nothing else (Approach 3)."""

    surface: Surface
    reason: str
    convention: Convention
    budgets: int
    status: Status = Status.OK  # else there is an `Unusable` in its place

    def at(self, flops: float) -> Optimum:
        """In closed form, by what the table counts for the size found."""
        found = self.surface.optimum(flops, per_param_token=self.convention.factor)
        for _ in range(CONVENTION_ROUNDS if self.convention.varies and found.ok else 0):
            factor = float(self.convention.at(found.params))
            found = self.surface.optimum(flops, per_param_token=factor)
        return found

    def law(self) -> PowerLaw:
        """Exact for the surface."""
        if self.budgets < 2:
            reason = "Only one budget was trained: other budgets and the law are not determined."
            return no_law(Status.NOT_IDENTIFIED, reason, "surface")
        return self.surface.law(per_param_token=self.convention.factor)

    def loss(self, params: float, tokens: float) -> Prediction:
        """From the constants alone; without an interval, as the fit carries none for losses."""
        value = float(self.losses(np.array([params]), np.array([tokens]))[0][0])
        flops = float(self.convention.flops(params, tokens))
        return Prediction(
            value, (math.nan, math.nan), max(1.0, flops / self.surface.flops_range[1])
        )

    def losses(self, params: FloatArray, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """From the constants alone."""
        value = np.asarray(self.surface.loss(params, tokens), float)
        return value, np.full_like(value, math.nan)


def _surface_model(rows: pd.DataFrame, convention: Convention) -> SkillModel:
    status, said = check_curves(rows)
    if status is not Status.OK:
        return Unusable(status, said, "surface")
    surface = fit_surface(*(rows[name].to_numpy(float) for name in ("params", "tokens", "loss")))
    if not surface.ok:
        return Unusable(surface.status, surface.reason, "surface")
    law = surface.law(per_param_token=convention.factor)
    optimum = np.log(law(rows["budget"].to_numpy(float)))
    status, outside = check_bracket(np.log(rows["params"].to_numpy(float)) - optimum)
    if status is not Status.OK:
        return Unusable(status, outside, "surface")
    return SurfaceModel(surface, surface.reason or said, convention, rows["budget"].nunique())
