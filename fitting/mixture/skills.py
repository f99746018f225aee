"""Each skill's view of the guarded mixture.

Legend: p = params, t = tokens, C = flops; S = skills, n = budgets; losses in nats, logarithms
natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import Status
from fitting.laws.bracket import check_bracket, check_curves, check_near
from fitting.laws.powerlaw import PowerLaw, no_law
from fitting.laws.skill_models import SkillModel, Unusable
from fitting.laws.surface import confounded
from fitting.mixture.data import read_trials
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.mixture.held_out import Score, examine
from fitting.mixture.lack_of_fit import LackOfFit, lack_of_fit
from fitting.reading.observations import BUDGET_TOLERANCE, Observations
from fitting.values import Z90, Convention, FloatArray, Optimum, Prediction, number

UNKNOWN = 1.2
"""Standard error of ln p* (a factor 7 either way at 90 %) from which no number is given;
assumption: wider than any grid one would train."""

FARTHEST = 1e5
"""FLOPs beyond the trained ones, as a ratio, at which no number is given (assumption)."""

LEAST_BEND = 0.03
"""Scatter of ln p* round its line from which a bend is worth a word: real ladders have .02
(benchmarks/real_runs.py)."""


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
class Extent:
    """What a skill was measured on: (least, greatest) of each amount."""

    flops: tuple[float, float]
    params: tuple[float, float]
    tokens: tuple[float, float]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Extent:
        """That of a skill's rows."""
        columns = (rows[name].to_numpy(float) for name in ("budget", "params", "tokens"))
        return cls(*((float(v.min()), float(v.max())) for v in columns))

    def beyond(self, flops: float, params: float, tokens: float) -> float:
        """Greatest factor by which an allocation lies outside, up or down; 1 inside."""
        pairs = zip((flops, params, tokens), (self.flops, self.params, self.tokens), strict=True)
        return max(1.0, *(max(value / high, low / value) for value, (low, high) in pairs))


@dataclass(frozen=True)
class GuardedModel:
    """One skill's view of the mixture."""

    skill: str
    trained: _Ladder
    reason: str
    extent: Extent
    verdicts: dict[float, tuple[Status, str]] = field(default_factory=dict)
    status: Status = Status.OK

    @property
    def _index(self) -> int:
        return self.trained.fit.skills.index(self.skill)

    @property
    def convention(self) -> Convention:
        """How the table counts FLOPs."""
        return self.trained.fit.convention

    def _beyond(self, flops: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether budgets lie beyond the skill's trials, where losses are told with floors."""
        return np.asarray(flops) > (1 + BUDGET_TOLERANCE) * self.extent.flops[1]

    def at(self, flops: float) -> Optimum:
        """Mean and 90 % interval of the mixture."""
        budgets = self.trained.budgets
        own = min(budgets, key=lambda b: abs(math.log(flops / b)))
        if math.isclose(flops, own, rel_tol=1e-9):
            return self._optimum(self.trained, budgets.index(own))
        if not 1 / FARTHEST < flops / own < FARTHEST:
            reason = f"More than {number(FARTHEST)} times beyond what was trained."
            return Optimum.missing(Status.NOT_IDENTIFIED, reason, flops, "guarded")
        if len(budgets) < 2 and abs(math.log(flops / own)) > BUDGET_TOLERANCE:
            return Optimum.missing(Status.NOT_IDENTIFIED, _ONE_BUDGET, flops, "guarded")
        return self._optimum(_Ladder(self.trained.fit, (flops,)), 0)

    def _optimum(self, ladder: _Ladder, rung: int) -> Optimum:
        flops = ladder.budgets[rung]
        mean, error, curvature, loss = (float(v[self._index, rung]) for v in ladder.optima)
        if not error < UNKNOWN:
            reason = f"The interval of p* spans more than a factor {_WIDEST:.0f}."
            return Optimum.missing(Status.NOT_IDENTIFIED, reason, flops, "guarded")
        params = math.exp(mean)
        tokens = float(self.convention.tokens(flops, params))
        if self._beyond(flops):
            place = np.array([mean]), np.array([flops])
            loss = float(self.trained.fit.with_floors.expected(*place)[self._index, 0])
        status, reason = self._verdict(flops)
        return Optimum(
            params=params,
            log_params_se=error,
            status=status,
            curvature=curvature,
            flops=flops,
            tokens=tokens,
            interval=(math.exp(mean - Z90 * error), math.exp(mean + Z90 * error)),
            method="guarded",
            loss=loss,
            reason=reason,
            extrapolates=self.extent.beyond(flops, params, tokens),
        )

    def _verdict(self, flops: float) -> tuple[Status, str]:
        """What the sizes trained on a budget say of its optimum, or on both that lie round it."""
        near = [
            b for b in self.trained.budgets if abs(math.log(flops / b)) < BUDGET_TOLERANCE
        ] or neighbours(self.trained.budgets, flops)
        found = [self.verdicts.get(b, (Status.OK, "")) for b in near]
        if len(found) == 1 and abs(math.log(flops / near[0])) < BUDGET_TOLERANCE:
            status, reason = found[0]
            return (status, reason) if reason else (self.status, self.reason)
        bad = [(status, reason) for status, reason in found if status is not Status.OK]
        if not bad:
            return self.status, self.reason
        status, reason = bad[-1]
        between = len(bad) == 2  # else it is said, not marked: a law may well reach so far
        return status if between else self.status, f"{_NEXT_TO_IT} {reason}"

    def law(self) -> PowerLaw:
        """The line through the mixture's ln p* at the trained budgets."""
        budgets = self.trained.budgets
        if len(budgets) < 2:
            return no_law(Status.NOT_IDENTIFIED, _ONE_BUDGET, "guarded")
        if not (self.trained.optima[1][self._index] < UNKNOWN).any():
            return no_law(Status.NOT_IDENTIFIED, _NO_OPTIMUM, "guarded")
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

    def losses(self, params: FloatArray, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss of a further trial at allocations (n,), and its standard error.

        Beyond the trials the level at p* is that of the fit with floors, and the valley round it
        that of `Guarded.farther`, so that a size off p* costs something there, too.
        """
        fit, size = self.trained.fit, np.log(params)
        flops = np.asarray(self.convention.flops(params, tokens))
        beyond = self._beyond(flops)
        mean, error = np.empty(size.shape), np.empty(size.shape)
        if not beyond.all():
            mean[~beyond], error[~beyond] = fit.measured_loss(
                self.skill, size[~beyond], flops[~beyond]
            )
        if beyond.any():
            floors, off, far = fit.with_floors, size[beyond], flops[beyond]
            best = fit.farther.vertex(far)[self._index]
            error[beyond] = floors.measured_loss(self.skill, off, far)[1]
            valley = fit.farther.expected(off, far) - fit.farther.expected(best, far)
            mean[beyond] = (floors.expected(best, far) + valley)[self._index]
        return mean, error

    def loss(self, params: float, tokens: float) -> Prediction:
        """Expected loss, and the 90 % interval of what one more trial would measure."""
        value, error = (float(v[0]) for v in self.losses(np.array([params]), np.array([tokens])))
        flops = float(self.convention.flops(params, tokens))
        interval = (value - Z90 * error, value + Z90 * error)
        return Prediction(value, interval, self.extent.beyond(flops, params, tokens))


_WIDEST = math.exp(2 * Z90 * UNKNOWN)
_NEXT_TO_IT = "On the trained budget next to it:"
_NO_OPTIMUM = "No trained budget has an optimum whose interval says where it is."
_ONE_BUDGET = "Only one budget was trained: other budgets and the law are not determined."


@dataclass(frozen=True)
class Examined:
    """All skills' models, and how far they are believed.

    Attributes:
        models: one per skill.
        checked: whether the optima lie on one line, by all skills.
        odds: of each skill alone that they do not.
        scores: what a fit without the top budget predicted, where there is enough to ask.
        unsettled: skills whose fit did not reach its maximum.
    """

    models: dict[str, SkillModel]
    checked: LackOfFit = field(default_factory=LackOfFit)
    scores: dict[str, Score] = field(default_factory=dict)
    unsettled: frozenset[str] = frozenset()

    def grade(self, skill: str) -> str:
        """How far a skill's law is believed, in words."""
        model, score = self.models[skill], self.scores.get(skill)
        if not isinstance(model, GuardedModel) or len(model.trained.budgets) < 2:
            return "no law"
        if score is not None and not score.held:
            return "its own check fails: not extrapolated"
        law = model.law()
        if self.checked.alarm and law.scatter > LEAST_BEND:
            return f"it bends: intervals are widened by what it bends ({law.scatter:.2f} in ln p*)"
        if self.checked.off_surface:
            return (
                "one law holds for the optima; losses leave the plain surface, as intervals allow"
            )
        return "one law holds" if self.checked.tested else "too few trials to judge the law"

    def withheld(self, skill: str) -> str:
        """Why nothing is predicted beyond the trained budgets; empty if it is."""
        score = self.scores.get(skill)
        return "" if score is None or score.held else f"Its own check fails: {score}."


def guarded_models(seen: Observations) -> Examined:
    """All usable skills in one fit, the others with their reasons, and what to make of them."""
    found = {skill: check_curves(seen.of_skill(skill)) for skill in seen.skills}
    usable = [skill for skill, (status, _) in found.items() if status is Status.OK]
    models: dict[str, SkillModel] = {
        skill: Unusable(*found[skill], "guarded") for skill in seen.skills if skill not in usable
    }
    if not usable:
        return Examined(models)
    trials = read_trials(_columns(seen.frame, usable))
    fit = fit_guarded(trials, ladder=seen.budgets)
    ladders: dict[tuple[float, ...], _Ladder] = {}
    for skill in usable:
        rows = seen.of_skill(skill)
        budgets = tuple(float(b) for b in np.sort(rows["budget"].unique()))
        trained = ladders.setdefault(budgets, _Ladder(fit, budgets))
        models[skill] = _guarded_model(trained, rows, skill, found[skill][1])
    ordered = {skill: models[skill] for skill in seen.skills}
    unsettled = frozenset(s for s, done in zip(fit.skills, fit.converged, strict=True) if not done)
    return Examined(ordered, lack_of_fit(trials, fit), examine(fit), unsettled)


def _columns(frame: pd.DataFrame, skills: list[str]) -> pd.DataFrame:
    """What the mixture reads; an identity that is not known everywhere is left out."""
    names = ["flops", "params", "tokens", "skill", "loss"]
    names += [n for n in ("trial_id", "seed") if n in frame and frame[n].notna().all()]
    return frame.loc[frame["skill"].isin(skills), names]


def _guarded_model(trained: _Ladder, rows: pd.DataFrame, skill: str, reason: str) -> SkillModel:
    """Check that the sizes bracket the optima that were found, each budget by itself."""
    at = trained.optima[0][trained.fit.skills.index(skill)]
    optimum = rows["budget"].map(dict(zip(trained.budgets, at, strict=True)))
    distance = np.log(rows["params"].to_numpy(float)) - optimum.to_numpy(float)
    status, side = check_bracket(distance)
    if status is not Status.OK:
        # Where terms could change places chance alone puts the optimum on either side.
        if mixed := confounded(*(np.log(rows[n].to_numpy(float)) for n in ("params", "tokens"))):
            status, side = Status.NOT_IDENTIFIED, mixed
        return Unusable(status, side, "guarded")
    verdicts = {}
    near = np.log(rows["budget"].to_numpy(float))
    for budget in trained.budgets:
        here = np.abs(near - math.log(budget)) < NEIGHBOURS
        verdicts[budget] = check_near(distance[here], rows["params"].to_numpy(float)[here])
    bad = {b: v for b, v in verdicts.items() if v[0] is not Status.OK}
    return GuardedModel(skill, trained, reason, Extent.of(rows), bad)


def neighbours(budgets: tuple[float, ...], flops: float) -> list[float]:
    """The trained budgets next to another one: one below and one above, as far as there are."""
    below, above = [b for b in budgets if b < flops], [b for b in budgets if b > flops]
    return below[-1:] + above[:1]


NEIGHBOURS = math.log(1.3)
"""Trials on budgets within this factor speak for each other's sizes: rungs lie farther apart."""
