"""A skill's optima against an aggregate's: log ratio per budget, pooled, with a test.

Legend: p* = optimum in params; log ratio = ln(p*_skill / p*_aggregate), natural.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fitting.datamix.composition import loss_matrix
from fitting.errors import FittingError, Status
from fitting.isoflop import fit_isoflop
from fitting.laws.powerlaw import PowerLaw
from fitting.laws.skill_models import SkillModel
from fitting.mixture.contrast import SkillGap, skill_gap
from fitting.mixture.skills import GuardedModel
from fitting.reading.observations import BUDGET_TOLERANCE, Table
from fitting.regression import (
    fit_parabola,
    p_value,
    quadratic_design,
    t_interval,
    t_quantile,
)
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray, Optimum, p_words

MANY = 60
"""Degrees of freedom from which intervals are taken for normal ones: within 2 %."""


@dataclass(frozen=True)
class Comparison:
    """Log ratios of optima.

    Attributes:
        frame: per budget: flops, skill_params, aggregate_params, log_ratio, se.
        pooled: log ratio over all budgets; NaN without a usable budget.
        se: its standard error.
        dof: degrees of freedom behind the standard error.
        p_value: two-sided test of pooled = 0.
        scatter: standard deviation of the log ratios between budgets beyond their own errors.
        excluded: budgets without a log ratio, columns flops and reason.
    """

    frame: pd.DataFrame
    pooled: float
    se: float
    dof: float
    p_value: float
    scatter: float
    excluded: pd.DataFrame

    @property
    def ratio(self) -> float:
        """Pooled p*_skill / p*_aggregate."""
        return math.exp(self.pooled)

    def interval(self) -> tuple[float, float]:
        """Central 90 % interval of the pooled log ratio."""
        return t_interval(self.pooled, self.se, self.dof)

    def __str__(self) -> str:
        """One line for a terminal."""
        low, high = self.interval()
        return (
            f"log ratio {self.pooled:+.3f} (90 % {low:+.3f} to {high:+.3f}, "
            f"{p_words(self.p_value)}, {len(self.frame)} budgets)"
        )


def compare_optima(
    skill: Sequence[Optimum], aggregate: Sequence[Optimum] | PowerLaw
) -> Comparison:
    """Compare optima budget by budget, taking their errors as independent.

    Pooled is the plain mean over budgets (Figure 1c of arXiv 2503.10061). Optima that one fit gave
    to all budgets (method "guarded" or "surface") have errors in common: pooled over eight guarded
    budgets, nominal 90 % intervals covered as little as half
    (benchmarks/results/ratio_intervals.md): `Fits.compare` knows what they share.

    Where both were measured on the same trials `compare_skills` is sharper.

    Args:
        skill: optima of the skill, each with its flops.
        aggregate: optima at the same budgets, or a law of params such as
            `fitting.reference.LLAMA3_PARAMS`, whose own error is common to all budgets and is
            added to the pooled one.

    Raises:
        FittingError: the law is of tokens.
    """
    if isinstance(aggregate, PowerLaw) and aggregate.quantity != "params":
        raise FittingError("aggregate: a law of tokens; give its tokens_law(), which is of params")
    rows, lost, single = [], [], math.inf
    for one in skill:
        other = _partner(one.flops, aggregate)
        bad = next((o for o in (one, other) if not o.ok), None)
        if bad is not None:
            lost.append((one.flops, f"{bad.status}: {bad.reason}"))
            continue
        shared = isinstance(aggregate, PowerLaw)
        se = one.log_params_se if shared else math.hypot(one.log_params_se, other.log_params_se)
        single = min(single, *(_freedom(o) for o in ((one,) if shared else (one, other))))
        rows.append((one.flops, one.params, other.params, math.log(one.params / other.params), se))
    common = 0.0
    if isinstance(aggregate, PowerLaw) and rows:
        middle = math.exp(float(np.mean([math.log(r[0]) for r in rows])))
        common = float(np.nan_to_num(aggregate.log_se(middle)))
    return _pool(rows, lost, common, single)


def compare_skills(table: Table, skill: str, aggregate: str) -> Comparison:
    """Compare two skills' parabolas on the trials that measured both.

    One trial's error shows in both losses; the residuals' covariance goes into the standard
    error of the log ratio, which is smaller than that of independent optima when it is positive.

    Args:
        table: observations of both skills.
        skill: name of the skill.
        aggregate: name of the skill that serves as aggregate, e.g. a validation loss.

    Raises:
        TableError: one of the names is not in the table.
        FittingError: both names are the same.
    """
    if skill == aggregate:
        raise FittingError(f"a skill cannot be its own aggregate: {skill!r}")
    rows, lost, single = [], [], math.inf
    for budget, ln_p, losses in loss_matrix(table, [skill, aggregate]):
        optima = [fit_isoflop(np.exp(ln_p), y, flops=budget) for y in losses.T]
        bad = next((o for o in optima if not o.ok), None)
        if bad is not None:
            lost.append((budget, f"{bad.status}: {bad.reason}"))
            continue
        one, other = optima
        se = _paired_se(ln_p, losses)
        rows.append((budget, one.params, other.params, math.log(one.params / other.params), se))
        single = float(len(ln_p) - 3)
    return _pool(rows, lost, 0.0, single)


def pool(
    found: Comparison, models: tuple[SkillModel, SkillModel], laws: tuple[PowerLaw, PowerLaw]
) -> Comparison:
    """The same comparison, with what the errors of one fit have in common counted once.

    By the guarded mixture that is two skills of one trial and the budgets of one fit. By other
    methods skills are taken as independent, and pooled by their laws where both have one.
    """
    skill, aggregate = models
    if isinstance(skill, GuardedModel) and isinstance(aggregate, GuardedModel):
        budgets = found.frame["flops"].tolist()
        fit = skill.trained.fit
        return pool_gap(found, skill_gap(fit, skill.skill, aggregate.skill, budgets))
    return pool_laws(found, *laws)


def pool_gap(found: Comparison, gap: SkillGap) -> Comparison:
    """The same comparison, with the errors of a gap that one fit gives for all its budgets."""
    n = len(found.frame)
    if not n:
        return found
    mean, variance = float(gap.value.mean()), float(gap.covariance.sum())
    # Of two all but equal skills rounding may leave less than nothing: then it is not known.
    error = math.sqrt(variance) / n if variance >= 0 else math.nan
    own = np.diag(gap.covariance)
    scatter = math.nan
    if n > 1:
        chance = (np.trace(gap.covariance) - gap.covariance.sum() / n) / (n - 1)
        scatter = math.sqrt(max(float(gap.value.var(ddof=1) - chance), 0.0))
    return replace(
        found,
        frame=found.frame.assign(se=np.sqrt(np.where(own >= 0, own, math.nan))),
        pooled=mean,
        se=error,
        dof=math.inf,
        p_value=p_value(mean, error, math.inf),
        scatter=scatter,
    )


def pool_laws(found: Comparison, skill: PowerLaw, aggregate: PowerLaw) -> Comparison:
    """The same comparison, pooled by two independent laws in the middle of its budgets.

    That is the mean log ratio over the budgets, with what a law's budgets share counted once.
    """
    if not (len(found.frame) and skill.ok and aggregate.ok):
        return found
    middle = math.exp(float(np.log(found.frame["flops"]).mean()))
    mean = math.log(float(skill(middle) / aggregate(middle)))
    error = math.hypot(float(skill.log_se(middle)), float(aggregate.log_se(middle)))
    dof = min(skill.dof, aggregate.dof)
    return replace(found, pooled=mean, se=error, dof=dof, p_value=p_value(mean, error, dof))


def law_optimum(law: PowerLaw, flops: float) -> Optimum:
    """A law of params read off at a budget, with its own interval."""
    params = float(law(flops))
    low, high = law.interval(flops)
    return Optimum(
        params=params,
        log_params_se=float(law.log_se(flops)),
        status=law.status,
        curvature=math.nan,
        flops=flops,
        tokens=flops / (FLOPS_PER_PARAM_TOKEN * params),
        interval=(float(low), float(high)),
        method=law.method,
        reason=law.reason,
        extrapolates=max(1.0, flops / law.flops_range[1]),
    )


def _freedom(optimum: Optimum) -> float:
    """Degrees of freedom that an optimum's interval was made with, by its nearer end."""
    low, high = optimum.interval
    ends = [abs(math.log(end / optimum.params)) for end in (low, high) if end > 0]
    if not (ends and optimum.log_params_se > 0):
        return math.inf
    wide = 1.001 * min(ends) / optimum.log_params_se
    return next((float(d) for d in range(1, MANY) if t_quantile(0.9, d) <= wide), math.inf)


def _partner(flops: float, aggregate: Sequence[Optimum] | PowerLaw) -> Optimum:
    """The aggregate's optimum on a budget."""
    if isinstance(aggregate, PowerLaw):
        return law_optimum(aggregate, flops)
    for one in aggregate:
        if abs(math.log(one.flops / flops)) < BUDGET_TOLERANCE:
            return one
    return Optimum.missing(Status.NOT_IDENTIFIED, "No aggregate here.", flops, "")


def _paired_se(ln_p: FloatArray, losses: FloatArray) -> float:
    """Standard error of the difference of two vertices fitted to the same trials."""
    dof = len(ln_p) - 3
    if dof < 1:
        return math.nan
    slopes, residuals = [], []
    for y in losses.T:
        fit = fit_parabola(ln_p, y)
        slopes.append(fit.vertex_gradient)
        residuals.append(y - fit.loss(ln_p))
    design = quadratic_design(ln_p - ln_p.mean())
    inverse = np.linalg.inv(design.T @ design)
    noise = np.array(residuals) @ np.array(residuals).T / dof
    spread = noise * (np.array(slopes) @ inverse @ np.array(slopes).T)
    return math.sqrt(max(float(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]), 0.0))


def _pool(
    rows: list[tuple[float, float, float, float, float]],
    lost: list[tuple[float, str]],
    common: float,
    single: float,
) -> Comparison:
    """Pool log ratios over budgets and test them against zero; ``single``: one budget's dof."""
    names = ["flops", "skill_params", "aggregate_params", "log_ratio", "se"]
    frame = pd.DataFrame(rows, columns=names)
    value, se = frame["log_ratio"].to_numpy(dtype=float), frame["se"].to_numpy(dtype=float)
    mean, error, dof, scatter = _mean(value, se, single)
    error = math.hypot(error, common)
    return Comparison(
        frame=frame,
        pooled=mean,
        se=error,
        dof=dof,
        p_value=p_value(mean, error, dof),
        scatter=scatter,
        excluded=pd.DataFrame(lost, columns=["flops", "reason"]),
    )


def _mean(value: FloatArray, se: FloatArray, single: float) -> tuple[float, float, float, float]:
    """Mean, its standard error, degrees of freedom, scatter between budgets."""
    n = len(value)
    if n == 0:
        return math.nan, math.nan, 0.0, math.nan
    if n == 1:
        return float(value[0]), float(se[0]), single, math.nan
    spread = float(value.std(ddof=1))
    scatter = math.sqrt(max(spread**2 - float(np.mean(np.nan_to_num(se) ** 2)), 0.0))
    return float(value.mean()), spread / math.sqrt(n), float(n - 1), scatter
