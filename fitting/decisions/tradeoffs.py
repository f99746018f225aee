"""From fits to decisions: weighted skills, fronts between two, one run's loss, serving, sampling.

Legend: p = params, t = tokens, C = flops = 6 p t; losses in nats, logarithms natural.

Plain functions on what `fitting.fit_skills` returns; every one serves any skill, and any weighting
of skills through `weighted`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from fitting.datamix.composition import compose
from fitting.decisions.nll_law import NllLaw, fit_nll_law
from fitting.decisions.pass_law import PassLaw, fit_pass_law
from fitting.decisions.passk import SAMPLES, pass_curves
from fitting.decisions.serving import Demand, Prices, ServingOptimum, serving_optimum
from fitting.errors import FitError, FittingError, Status, TableError
from fitting.fits import Fits, SkillFit, fit_skills
from fitting.laws.surface import Surface, fit_surface
from fitting.values import CONVENTION_ROUNDS, Prediction, number

_MAD = 1.4826  # standard deviation over median absolute deviation, normal noise
_CONSTANTS = 5  # of the law whose residuals are looked at


def weighted(fits: Fits, weights: Mapping[str, float], *, name: str = "weighted") -> SkillFit:
    """Fit the weighted mean of several skills' losses, as a skill of its own.

    Args:
        weights: skill to weight, normalised to sum 1.

    Raises:
        FittingError: a skill is not in the table, or the weights are negative or all zero.
    """
    unknown = [skill for skill in weights if skill not in fits]
    if unknown:
        known = ", ".join(fits)
        raise FittingError(f"weights: {unknown[0]!r} is no skill of this table; it has {known}")
    table = compose(fits.observations, weights, name=name)
    return fit_skills(table, method=fits.method)[name]


def pareto_front(
    fits: Mapping[str, SkillFit], first: str, second: str, flops: float, *, points: int = 9
) -> pd.DataFrame:
    """What two skills' losses are traded at on one budget: from one's optimum to the other's.

    Below both optima and above both, either loss can be had lower at no cost to the other.

    Returns:
        One row per size: params, tokens, and for either skill NAME, NAME_low, NAME_high: expected
        loss and its 90 % interval, nats.

    Raises:
        FitError: a skill has no optimum there, or its method predicts no losses.
    """
    start, end = (_least(fits[name], flops) for name in (first, second))
    rows = []
    for params in np.geomspace(start, end, points):
        tokens = float(fits[first].convention.tokens(flops, params))
        row = {"params": float(params), "tokens": tokens}
        for name in (first, second):
            found = fits[name].loss(float(params), tokens)
            row |= {name: found.value}
            row |= {f"{name}_low": found.interval[0], f"{name}_high": found.interval[1]}
        rows.append(row)
    return pd.DataFrame(rows)


def one_run(fit: SkillFit, params: float, tokens: float) -> Prediction:
    """Loss of one training still to be run, with the noise between trainings in its interval.

    Raises:
        FitError: the method predicts no losses, or gives no interval of them.
    """
    expected = fit.loss(params, tokens)
    if not math.isfinite(expected.interval[1]):
        raise FitError(
            Status.NOT_IDENTIFIED, f"{fit.method} gives losses no interval: use method='guarded'"
        )
    return expected


def trial_noise(fit: SkillFit) -> float:
    """Standard deviation of one training's loss round the expected one, nats."""
    rows = fit.observations
    places = (rows[name].to_numpy(float) for name in ("params", "tokens"))
    off = rows["loss"].to_numpy(float) - fit.losses(*places)
    few = len(off) / max(len(off) - _CONSTANTS, 1)
    return float(_MAD * np.median(np.abs(off)) * math.sqrt(few))


def skill_surface(fit: SkillFit) -> Surface:
    """E + A p^-alpha + B t^-beta through one skill's observations."""
    rows = fit.observations
    return fit_surface(rows["params"], rows["tokens"], rows["loss"])


def serve(
    fit: SkillFit,
    demand: Demand | float,
    *,
    flops: float | None = None,
    loss: float | None = None,
    prices: Prices | None = None,
) -> ServingOptimum:
    """Least lifetime cost of a skill at a loss, or at the best loss that a budget can train.

    It is that of the plain surface, whose own interval of params knows nothing of its misfit: it
    is made as wide as the fit's for the optimum of as many training FLOPs.

    Args:
        flops: training budget whose compute-optimal loss is to be reached.
        loss: wanted instead, nats.
        prices: cost in money; in FLOPs if None.

    Raises:
        FittingError: neither or both of flops and loss are given.
        FitError: the skill's surface has no optima, or the training lies beyond the largest
            trained budget and the fit's own check failed.
    """
    if (flops is None) == (loss is None):
        raise FittingError("serve: give the training budget (flops) or the loss wanted, not both")
    surface = skill_surface(fit)
    if flops is not None:
        best = surface.optimum(flops, per_param_token=_factor(fit, flops))
        if not best.ok:
            raise FitError(best.status, f"{fit.skill}: {best.reason}")
        loss = best.loss
    assert loss is not None
    count, factor = fit.convention, fit.convention.factor
    for _ in range(CONVENTION_ROUNDS):
        found = serving_optimum(surface, demand, loss=loss, prices=prices, per_param_token=factor)
        if not found.ok or not count.varies:
            return _as_sure_as(fit, found)
        factor = float(count.at(found.params))
    usual = float(count.at(found.compute_optimal_params)) / found.per_param_token
    cost = usual * found.compute_optimal_cost
    return _as_sure_as(fit, replace(found, compute_optimal_cost=cost))


def _as_sure_as(fit: SkillFit, found: ServingOptimum) -> ServingOptimum:
    """With the interval of the optimum of its training FLOPs, if any, where that is wider."""
    if not found.ok:
        return found
    known = fit.at(found.training_flops)
    if known.status is Status.NO_COMMON_LAW:
        raise FitError(known.status, known.reason)
    error = np.maximum(found.log_params_se, known.log_params_se)  # NaN where either is
    return replace(found, log_params_se=float(error))


def flops_reaching(fit: SkillFit, loss: float, near: float) -> tuple[float, float]:
    """90 % interval of the FLOPs whose best training measures a loss.

    Its ends are where those of that training's own interval pass the loss. Where the fit does not
    reach so far they are 0 or infinite, and the other end is as far as it reaches; NaN where its
    losses have no interval.

    Args:
        loss: nats.
        near: FLOPs that are enough by the plain surface; the interval holds them.
    """

    @cache
    def span(log_flops: float) -> tuple[float, float]:
        best = fit.at(math.exp(log_flops))
        return one_run(fit, best.params, best.tokens).interval

    top = math.log(fit.observations["flops"].max())
    try:
        low = _falls_through(lambda x: span(x)[0] - loss, top, beyond=0.0)
        high = _falls_through(lambda x: span(x)[1] - loss, top, beyond=math.inf)
    except FittingError:
        return math.nan, math.nan
    return min(low, near), max(high, near)


def _falls_through(over: Callable[[float], float], start: float, beyond: float) -> float:
    """FLOPs where a falling function of their logarithm is 0; see `flops_reaching`."""
    from scipy.optimize import brentq

    step = math.copysign(math.log(2), over(start))
    try:
        while over(start + step) * step > 0:
            start += step
        return math.exp(brentq(over, *sorted((start, start + step)), xtol=1e-3))
    except FittingError:
        return beyond if (step > 0) == (beyond > 0) else math.exp(start)


def _factor(fit: SkillFit, flops: float) -> float:
    """The table's FLOPs per parameter and token, at the optimum of a budget."""
    best = fit.at(flops)
    known = math.isfinite(best.params)
    return float(fit.convention.at(best.params)) if known else fit.convention.factor


@dataclass(frozen=True)
class SamplingLaws:
    """Both laws of one skill's answers when each may be sampled several times.

    Attributes:
        nll: approach 1, of the mean loss of the best of k samples.
        rate: approach 2, of the mean pass@k.
    """

    nll: NllLaw
    rate: PassLaw


def sampling_laws(questions: pd.DataFrame | Mapping[str, Any]) -> dict[str, SamplingLaws]:
    """Fit both test-time laws of every skill from results per question.

    Args:
        questions: one row per trial and question: params, tokens, skill (one skill if absent),
            trial_id where known, and nll (summed over the answer's tokens, nats), probability,
            or passes and samples.

    Raises:
        TableError: columns are missing or hold impossible values.
    """
    frame = pd.DataFrame(questions)
    if frame.empty:
        raise TableError("the table of questions has no rows")
    if "skill" not in frame:
        frame = frame.assign(skill="all")
    return {str(name): _sampling(rows) for name, rows in frame.groupby("skill", sort=False)}


def _sampling(rows: pd.DataFrame) -> SamplingLaws:
    drawn = float(rows["samples"].min()) if "samples" in rows else math.inf
    curves = pass_curves(rows, k=[k for k in SAMPLES if k <= drawn])
    return SamplingLaws(fit_nll_law(curves), fit_pass_law(curves))


def _least(fit: SkillFit, flops: float) -> float:
    """Params of least expected loss on a budget.

    A mixture's own p* is the mean of its members'; the least of its mean loss lies close by.
    """
    from scipy.optimize import minimize_scalar

    best = fit.at(flops)
    if not math.isfinite(best.params):
        raise FitError(
            best.status, f"{fit.skill}: no optimum at {number(flops)} FLOPs: {best.reason}"
        )
    centre = math.log(best.params)

    def loss(x: float) -> float:
        params = math.exp(x)
        return fit.loss(params, float(fit.convention.tokens(flops, params))).value

    found = minimize_scalar(
        loss, bounds=(centre - 1, centre + 1), method="bounded", options={"xatol": 1e-3}
    )
    return math.exp(float(found.x))
