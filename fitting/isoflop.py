"""One skill on one budget: the model size of least loss, or the reason why there is none.

Legend: p = params; c2 = half the curvature of the loss in ln p.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fitting.errors import Status
from fitting.regression import Parabola, fit_parabola, parabola_bias, t_quantile
from fitting.values import (
    FLOPS_PER_PARAM_TOKEN,
    FloatArray,
    Optimum,
    bounded_exp,
    check_positive,
    equal_columns,
    size,
)

LARGEST = 1e30
"""Losses beyond count as infinite: their powers would overflow."""


def fit_isoflop(
    params: npt.ArrayLike, loss: npt.ArrayLike, *, flops: float = math.nan, throw: bool = False
) -> Optimum:
    """Fit the loss of one skill on one budget and return its optimum.

    Args:
        params: model sizes, shape (n,).
        loss: losses in nats, shape (n,).
        flops: the budget; gives the optimum its tokens.
        throw: raise `FitError` instead of returning an optimum without a number.

    Raises:
        FittingError: arrays of different shape or without numbers, or a budget that is none.
        FitError: with ``throw``, the status is not OK.
    """
    if np.ndim(flops) or flops == flops:  # NaN, the default, is no budget
        check_positive(flops=flops)
    ln_p, y, note = _checked(params, loss)
    optimum = _parabola_optimum(ln_p, y, flops)
    if note:
        optimum = replace(optimum, reason=f"{optimum.reason} {note}".strip())
    return optimum.required(throw)


def _checked(params: npt.ArrayLike, loss: npt.ArrayLike) -> tuple[FloatArray, FloatArray, str]:
    """Logarithms of sizes, and losses, sorted, and a note on what was left out."""
    p, y = equal_columns(params=params, loss=loss)
    good = np.isfinite(p) & (p > 0) & (np.abs(y) < LARGEST)
    left = len(p) - int(good.sum())
    note = f"{left} of {len(p)} points left out (a number is missing, infinite or not positive)."
    order = np.argsort(p[good], kind="stable")
    return np.log(p[good][order]), y[good][order], note if left else ""


def _parabola_optimum(ln_p: FloatArray, y: FloatArray, flops: float) -> Optimum:
    """Vertex of the parabola with its status."""
    sizes = np.unique(ln_p)
    if len(sizes) < 3:
        return Optimum.missing(
            Status.TOO_FEW_SIZES, f"{len(sizes)} distinct sizes.", flops, "parabola"
        )
    fit = fit_parabola(ln_p, y)
    status, reason = _status(fit, sizes, ln_p, y)
    if status not in (Status.OK, Status.EDGE):
        return Optimum.missing(
            status, reason, flops, "parabola", curvature=2 * fit.coefficients[2]
        )
    params = math.exp(fit.vertex)
    low, high = fit.interval() if fit.dof > 0 else (math.nan, math.nan)
    return Optimum(
        params=params,
        log_params_se=fit.vertex_se,
        status=status,
        curvature=float(2 * fit.coefficients[2]),
        flops=flops,
        tokens=flops / (FLOPS_PER_PARAM_TOKEN * params),
        interval=(bounded_exp(low), bounded_exp(high)),
        method="parabola",
        loss=float(fit.loss(fit.vertex)),
        reason=reason,
        bias=parabola_bias(ln_p, fit.vertex),
    )


def _status(
    fit: Parabola, sizes: FloatArray, ln_p: FloatArray, y: FloatArray
) -> tuple[Status, str]:
    """Whether the parabola has a usable minimum, and the reason."""
    _, c1, c2 = fit.coefficients
    curved = _distinct_from_zero(fit, sizes, y)
    if not curved and not _distinct_from_zero(fit, sizes, y, order=1):
        return Status.FLAT, f"Curvature {2 * c2:.2g} nats is within noise, and so is the slope."
    slope = "falls" if c1 < 0 else "rises"
    if not curved:
        reason = f"Loss {slope} with size and its curvature {2 * c2:.2g} nats is within noise."
        return Status.NO_INTERIOR_MINIMUM, reason
    if c2 < 0:
        return Status.CONCAVE, f"Curvature {2 * c2:.2g} nats is negative."
    vertex, shown = fit.vertex, size(bounded_exp(fit.vertex))
    if not sizes[0] < vertex < sizes[-1]:
        reason = f"Loss {slope} over the sizes; the vertex {shown} lies outside."
        return Status.NO_INTERIOR_MINIMUM, reason
    if _at_edge(vertex, sizes, ln_p, y):
        return Status.EDGE, f"The vertex {shown} lies in the outermost interval."
    if fit.dof == 0:
        return Status.OK, "Three points fix the parabola: no standard error."
    return Status.OK, f"Interior minimum of {len(sizes)} sizes, {fit.dof:.0f} degrees of freedom."


def _distinct_from_zero(
    fit: Parabola, sizes: FloatArray, y: FloatArray, *, order: int = 2
) -> bool:
    """Whether a coefficient (2: curvature, 1: slope) differs from zero at 90 % and in rounding."""
    value, error = fit.coefficients[order], math.sqrt(max(fit.covariance[order, order], 0.0))
    span = float(sizes[-1] - sizes[0])
    if abs(value) * span**order <= 1e-11 * float(np.max(np.abs(y))):
        return False
    return fit.dof == 0 or abs(float(value)) > t_quantile(0.9, fit.dof) * error


def _at_edge(vertex: float, sizes: FloatArray, ln_p: FloatArray, y: FloatArray) -> bool:
    """Whether the minimum is not bracketed by the sizes."""
    if len(sizes) > 4:
        return not sizes[1] <= vertex <= sizes[-2]
    # Three or four sizes have hardly any inner interval: ask for a lower size in the middle.
    mean = [float(np.mean(y[ln_p == s])) for s in sizes]
    return min(mean[1:-1]) >= min(mean[0], mean[-1])
