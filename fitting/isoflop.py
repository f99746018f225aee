"""One skill on one budget: the model size of least loss, or the reason why there is none.

Legend: p = params; c2 = half the curvature of the loss in ln p.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from fitting.errors import FitError, FittingError, Status
from fitting.regression import (
    NOMINAL_EXPONENTS,
    Parabola,
    fit_parabola,
    parabola_bias,
    quartic_noise,
)
from fitting.regression import t_quantile as t_quantile
from fitting.values import FLOPS_PER_PARAM_TOKEN, Z90, FloatArray, Optimum, bounded_exp

GRID_STEP_FLOOR = 1 / 3
"""Akima: least standard error of ln p*, in grid steps (Porian et al. 2024, released code)."""

POINTS_PER_INTERVAL = 25
"""Akima: points searched in each interval of sizes (Porian et al. 2024, released code)."""

LARGEST = 1e30
"""Losses beyond count as infinite: their powers would overflow."""

Method = Literal["parabola", "akima"]


def fit_isoflop(
    params: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    flops: float = math.nan,
    weights: npt.ArrayLike | None = None,
    method: Method = "parabola",
    robust: bool = False,
    noise: float | None = None,
    exponents: tuple[float, float] = NOMINAL_EXPONENTS,
    draws: int = 1000,
    seed: int = 0,
    throw: bool = False,
) -> Optimum:
    """Fit the loss of one skill on one budget and return its optimum.

    Args:
        params: model sizes, shape (n,).
        loss: losses in nats, shape (n,).
        flops: the budget; gives the optimum its tokens.
        weights: relative inverse variances, shape (n,).
        method: "parabola", a quadratic in ln p (the usual Approach 2), or "akima", the
            minimum of an Akima spline of ln loss on ln p (Porian et al. 2024).
        robust: parabola only: Student-t errors instead of normal ones.
        noise: standard deviation of one loss in nats if known, else from the residuals.
        exponents: (alpha, beta) of the surface by which the parabola's bias is estimated.
        draws: akima only: perturbed copies behind the standard error.
        seed: akima only: seed of those draws.
        throw: raise `FitError` instead of returning an optimum without a number.

    Raises:
        FittingError: arrays of different shape, or nothing finite and positive in them.
        FitError: with ``throw``, the status is not OK.
    """
    least = 0.0 if method == "akima" else -LARGEST  # a spline of ln loss needs positive ones
    ln_p, y, w, note = _checked(params, loss, weights, least)
    if method == "parabola":
        optimum = _parabola_optimum(ln_p, y, w, flops, robust, noise, exponents)
    elif method == "akima":
        optimum = _akima_optimum(ln_p, y, w, flops, noise, draws, seed)
    else:
        raise FittingError(f"method must be 'parabola' or 'akima', not {method!r}")
    if note:
        optimum = _with_note(optimum, note)
    if throw and not optimum.ok:
        raise FitError(optimum.status, f"{optimum.reason} {optimum.status.advice}")
    return optimum


def _checked(
    params: npt.ArrayLike, loss: npt.ArrayLike, weights: npt.ArrayLike | None, least: float
) -> tuple[FloatArray, FloatArray, FloatArray, str]:
    """Finite, positive, sorted arrays, and a note on what was left out."""
    p = np.asarray(params, dtype=float).ravel()
    y = np.asarray(loss, dtype=float).ravel()
    w = np.ones_like(p) if weights is None else np.asarray(weights, dtype=float).ravel()
    if not len(p) == len(y) == len(w):
        raise FittingError(
            f"params, loss and weights must have one length, not {len(p)}, {len(y)}, {len(w)}"
        )
    good = np.isfinite(p) & (p > 0) & (y > least) & (y < LARGEST) & np.isfinite(w) & (w > 0)
    left = len(p) - int(good.sum())
    note = (
        f"{left} of {len(p)} points left out (a number is missing, infinite or not positive)."
        if left
        else ""
    )
    order = np.argsort(p[good], kind="stable")
    return np.log(p[good][order]), y[good][order], w[good][order], note


def _parabola_optimum(
    ln_p: FloatArray,
    y: FloatArray,
    w: FloatArray,
    flops: float,
    robust: bool,
    noise: float | None,
    exponents: tuple[float, float],
) -> Optimum:
    """Vertex of the parabola with its verdict."""
    sizes = np.unique(ln_p)
    if len(sizes) < 3:
        return _nothing(Status.TOO_FEW_SIZES, f"{len(sizes)} distinct sizes.", flops, "parabola")
    fit = fit_parabola(ln_p, y, weights=w, robust=robust, noise=noise)
    status, reason = _verdict(fit, sizes, ln_p, y)
    if status not in (Status.OK, Status.EDGE):
        return _nothing(status, reason, flops, "parabola", curvature=2 * fit.coefficients[2])
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
        bias=parabola_bias(ln_p, fit.vertex, exponents=exponents, weights=w),
    )


def _verdict(
    fit: Parabola, sizes: FloatArray, ln_p: FloatArray, y: FloatArray
) -> tuple[Status, str]:
    """Whether the parabola has a minimum one may plan with, and what says so."""
    _, c1, c2 = fit.coefficients
    bent = _bends(fit, sizes, y)
    if not bent and not _bends(fit, sizes, y, order=1):
        return Status.FLAT, f"Curvature {2 * c2:.2g} nats is within noise, and so is the slope."
    slope = "falls" if c1 < 0 else "rises"
    if not bent:
        reason = f"Loss {slope} with size and its curvature {2 * c2:.2g} nats is within noise."
        return Status.NO_INTERIOR_MINIMUM, reason
    if c2 < 0:
        return Status.CONCAVE, f"Curvature {2 * c2:.2g} nats is negative."
    vertex = fit.vertex
    if not sizes[0] < vertex < sizes[-1]:
        reason = f"Loss {slope} over the sizes; the vertex {bounded_exp(vertex):.3g} lies outside."
        return Status.NO_INTERIOR_MINIMUM, reason
    if _at_edge(vertex, sizes, ln_p, y):
        return Status.EDGE, f"The vertex {bounded_exp(vertex):.3g} lies in the outermost interval."
    if fit.dof == 0:
        return Status.OK, "Three points fix the parabola: no standard error."
    return Status.OK, f"Interior minimum of {len(sizes)} sizes, {fit.dof:.0f} degrees of freedom."


def _bends(fit: Parabola, sizes: FloatArray, y: FloatArray, *, order: int = 2) -> bool:
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


def _akima_optimum(
    ln_p: FloatArray,
    y: FloatArray,
    w: FloatArray,
    flops: float,
    noise: float | None,
    draws: int,
    seed: int,
) -> Optimum:
    """Minimum of an Akima spline in log-log, with noise-and-interpolate draws."""
    sizes = np.unique(ln_p)
    if len(sizes) < 4:
        reason = f"{len(sizes)} distinct sizes; an Akima spline needs four."
        return _nothing(Status.TOO_FEW_SIZES, reason, flops, "akima")
    if noise is None and len(sizes) >= 8:
        noise = quartic_noise(ln_p, y, w)
    fit = fit_parabola(ln_p, y, weights=w, noise=noise)
    status, reason = _verdict(fit, sizes, ln_p, y)
    # The spline finds its own place; the parabola only tells whether the curve bends upwards.
    if not (_bends(fit, sizes, y) and fit.coefficients[2] > 0):
        return _nothing(status, reason, flops, "akima", curvature=2 * fit.coefficients[2])
    total = np.array([w[ln_p == s].sum() for s in sizes])
    mean = np.array([np.average(y[ln_p == s], weights=w[ln_p == s]) for s in sizes])
    best, edge, height = _spline_minima(sizes, mean[:, None])
    if edge[0]:
        reason = f"The least loss is at the outermost size, {math.exp(best[0]):.3g}."
        return _nothing(Status.NO_INTERIOR_MINIMUM, reason, flops, "akima")
    rng = np.random.default_rng(seed)
    sigma = (fit.noise / np.sqrt(total))[:, None]
    found, lost, _ = _spline_minima(
        sizes, mean[:, None] + sigma * rng.standard_normal((len(mean), draws))
    )
    if lost.mean() > 0.5:
        reason = f"{lost.mean():.0%} of the noise draws have their minimum at an outermost size."
        return _nothing(Status.EDGE, reason, flops, "akima")
    se, interval = _akima_errors(float(best[0]), found[~lost], sizes)
    params = math.exp(best[0])
    return Optimum(
        params=params,
        log_params_se=se,
        status=Status.OK,
        curvature=float(2 * fit.coefficients[2]),
        flops=flops,
        tokens=flops / (FLOPS_PER_PARAM_TOKEN * params),
        interval=interval,
        method="akima",
        loss=float(height[0]),
        reason=f"Akima minimum of {len(sizes)} sizes; {lost.mean():.0%} of draws at an edge.",
    )


def _akima_errors(
    best: float, found: FloatArray, sizes: FloatArray
) -> tuple[float, tuple[float, float]]:
    """Standard error of ln p* and interval of p*: those of the draws, or a third of a step."""
    se = max(float(found.std()), GRID_STEP_FLOOR * float(np.median(np.diff(sizes))))
    low, high = np.quantile(found, [0.05, 0.95])
    return se, (
        math.exp(min(float(low), best - Z90 * se)),
        math.exp(max(float(high), best + Z90 * se)),
    )


def _spline_minima(
    sizes: FloatArray, losses: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """Argmin of ln p, whether it is an outermost size, and the loss there; one per column."""
    from scipy.interpolate import Akima1DInterpolator

    fine = np.interp(
        np.linspace(0, len(sizes) - 1, POINTS_PER_INTERVAL * (len(sizes) - 1) + 1),
        np.arange(len(sizes)),
        sizes,
    )
    positive = np.maximum(losses, np.abs(losses).max() * 1e-12)  # draws may fall below zero
    values = Akima1DInterpolator(sizes, np.log(positive), axis=0)(fine)
    at = np.argmin(values, axis=0)
    edge = (at == 0) | (at == len(fine) - 1)
    return fine[at], edge, np.exp(np.take_along_axis(values, at[None], axis=0)[0])


def _nothing(
    status: Status, reason: str, flops: float, method: str, *, curvature: float = math.nan
) -> Optimum:
    """An optimum without a number."""
    return Optimum(
        params=math.nan,
        log_params_se=math.nan,
        status=status,
        curvature=float(curvature),
        flops=flops,
        method=method,
        reason=reason,
    )


def _with_note(optimum: Optimum, note: str) -> Optimum:
    """The same optimum with a sentence added to its reason."""
    return replace(optimum, reason=f"{optimum.reason} {note}".strip())
