"""How far apart two skills' optima are, by the guarded mixture of both.

The losses of two skills come from the same trainings, so that part of their errors is common, and
what is common drops out of a difference. How much it is, the residuals tell.

Legend: p* = optimum in params, C = flops; n = budgets, T = trials, P = parameters; losses in nats,
logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fitting.mixture.fit import Guarded
from fitting.mixture.laplace import INFORMATION, robust_weights
from fitting.mixture.member import Component, t90
from fitting.values import FloatArray

DOUBT = 4.0
"""Trials' worth of doubt that errors are correlated at all (assumption)."""

_FAR = 3.0  # error scales from which a residual counts no more


class SkillGap(NamedTuple):
    """Log ratios of two skills' optima.

    Attributes:
        value: (n,) ln p* of the first less that of the second.
        covariance: (n, n) of the values; budgets of one fit share much of their error.
    """

    value: FloatArray
    covariance: FloatArray


def skill_gap(fit: Guarded, skill: str, other: str, flops: Sequence[float]) -> SkillGap:
    """Log ratio of two skills' optima on some budgets, with what their errors have in common."""
    pair = [fit.skills.index(skill), fit.skills.index(other)]
    correlation = residual_correlation(fit, skill, other)
    parts = [_of_component(fit, c, pair, flops, correlation) for c in fit.components]
    values = np.stack([part.value for part in parts])
    roots = np.sqrt(fit.shares(flops)[:, pair].mean(1))
    vertices = fit.vertex(flops)[pair]
    mean = vertices[0] - vertices[1]
    away = values - mean
    spread = np.stack([part.covariance for part in parts]) + away[:, :, None] * away[:, None, :]
    return SkillGap(mean, (roots[:, :, None] * roots[:, None, :] * spread).sum(0))


def residual_correlation(fit: Guarded, skill: str, other: str) -> float:
    """Correlation of two skills' errors in one trial, held back towards none; 0 if unknown."""
    pair = [fit.skills.index(skill), fit.skills.index(other)]
    best = fit.components[int(fit.weights[:, pair].sum(1).argmax())]
    seen = fit.measured
    own = best.scale[:, None] * best.blur(seen.log_params, np.exp(seen.log_flops))
    z = (_residual(fit, best) / own)[pair]
    z = np.clip(z[:, np.isfinite(z).all(axis=0)], -_FAR, _FAR)
    if z.shape[1] < 3:
        return 0.0
    z = z - z.mean(axis=1, keepdims=True)
    dof = float(best.dof[pair].min())
    size = math.sqrt((z[0] @ z[0]) * (z[1] @ z[1])) + 1e-300
    return float(z[0] @ z[1]) / size * dof / (dof + DOUBT)


def _residual(fit: Guarded, component: Component) -> FloatArray:
    """Measured less fitted losses (S, T), NaN where a skill was not measured."""
    seen = fit.measured
    return np.asarray(seen.loss - component.loss_hat(seen.log_params, np.exp(seen.log_flops)))


def _of_component(
    fit: Guarded, component: Component, pair: list[int], flops: Sequence[float], correlation: float
) -> SkillGap:
    """The log ratios if one component were the truth."""
    aims = component.target(flops)[pair]
    doubt = component.doubt[pair]
    spread = aims @ (component.covariance[pair] - doubt @ np.swapaxes(doubt, 1, 2))
    own = spread @ np.swapaxes(aims, 1, 2)
    # The vertex is the third parameter: what a budget off the nodes may add moves it alone.
    unseen = aims[:, :, 2] ** 2 * component.unseen_variance(flops)
    own = own + unseen[:, :, None] * np.eye(unseen.shape[1])
    gained = spread @ np.swapaxes(_evidence_rows(fit, component)[pair], 1, 2)
    cross = correlation * (gained[0] @ gained[1].T)
    wide = t90(component.dof[pair])
    covariance = own[0] * wide[0] ** 2 + own[1] * wide[1] ** 2
    covariance = covariance - (cross + cross.T) * wide.prod()
    # What all skills follow alike drops out as far as both follow it.
    apart = aims[0] @ doubt[0] * wide[0] - aims[1] @ doubt[1] * wide[1]
    covariance = covariance + apart @ apart.T
    mean = component.vertex(flops)[pair]
    return SkillGap(np.asarray(mean[0] - mean[1]), np.asarray(covariance))


def _evidence_rows(fit: Guarded, component: Component) -> FloatArray:
    """Gradients (S, T, P) of the losses in their own errors: their squares sum to the data's
    part of the component's precision."""
    seen = fit.measured
    present = np.isfinite(seen.loss) * fit.counts
    residual = np.nan_to_num(_residual(fit, component))
    own = component.scale[:, None] * component.blur(seen.log_params, np.exp(seen.log_flops))
    weights = robust_weights(residual / own, present)
    share = INFORMATION * present.sum() / weights.sum()
    rows = component.jacobian(seen.log_params, np.exp(seen.log_flops))
    return np.asarray(rows * (np.sqrt(share * weights) / own)[:, :, None])
