"""Minimum of an Akima spline of ln loss on ln p, the estimator of Porian et al. 2024.

Beside the parabola in benchmarks/published.py and tests/reference/test_porian.py; nothing of the
packages uses it, as its interval is a guess (a third of a grid step) and it shares nothing
between budgets. Legend: p = params; losses in nats.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.interpolate import Akima1DInterpolator

from fitting.errors import Status
from fitting.regression import fit_parabola, least_squares, t_quantile
from fitting.values import FLOPS_PER_PARAM_TOKEN, Z90, FloatArray, Optimum

GRID_STEP_FLOOR = 1 / 3
"""Least standard error of ln p*, in grid steps (Porian et al. 2024, released code)."""

POINTS_PER_INTERVAL = 25
"""Points searched in each interval of sizes (Porian et al. 2024, released code)."""


def akima_optimum(
    params: npt.ArrayLike, loss: npt.ArrayLike, *, flops: float, draws: int = 1000, seed: int = 0
) -> Optimum:
    """Minimum with its error from noisy copies; parameters and losses must be positive.

    A parabola tells only whether the curve bends upwards, and the noise of the copies; with eight
    sizes or more a quartic does, as a parabola's residuals would hold its misfit.
    """
    order = np.argsort(np.asarray(params, dtype=float), kind="stable")
    ln_p, y = np.log(np.asarray(params, dtype=float))[order], np.asarray(loss, dtype=float)[order]
    sizes = np.unique(ln_p)
    if len(sizes) < 4:
        return _missing(Status.TOO_FEW_SIZES, f"{len(sizes)} distinct sizes; four needed.", flops)
    quartic = np.vander((ln_p - ln_p.mean()) / np.ptp(ln_p), 5)
    fit = fit_parabola(ln_p, y)
    if len(sizes) >= 8:
        noise = math.sqrt(least_squares(quartic, y).variance)
        covariance = fit.covariance * (noise / fit.noise) ** 2
        fit = replace(fit, covariance=covariance, dof=1e9, noise=noise)
    curvature = float(2 * fit.coefficients[2])
    if not curvature > 2 * t_quantile(0.9, fit.dof) * math.sqrt(fit.covariance[2, 2]):
        return _missing(Status.FLAT, f"Curvature {curvature:.2g} nats is not above 0.", flops)
    mean = np.array([y[ln_p == s].mean() for s in sizes])
    best, edge, height = _minima(sizes, mean[:, None])
    if edge[0]:
        reason = f"The least loss is at the outermost size, {math.exp(best[0]):.3g}."
        return _missing(Status.NO_INTERIOR_MINIMUM, reason, flops)
    sigma = fit.noise / np.sqrt([np.sum(ln_p == s) for s in sizes])
    copies = np.random.default_rng(seed).standard_normal((len(mean), draws))
    found, lost, _ = _minima(sizes, mean[:, None] + sigma[:, None] * copies)
    if lost.mean() > 0.5:
        reason = f"{lost.mean():.0%} of the noise draws have their minimum at an outermost size."
        return _missing(Status.EDGE, reason, flops)
    ln_best = float(best[0])
    se = max(float(found[~lost].std()), GRID_STEP_FLOOR * float(np.median(np.diff(sizes))))
    low, high = (float(v) for v in np.quantile(found[~lost], [0.05, 0.95]))
    return Optimum(
        params=math.exp(ln_best),
        log_params_se=se,
        status=Status.OK,
        curvature=curvature,
        flops=flops,
        tokens=flops / (FLOPS_PER_PARAM_TOKEN * math.exp(ln_best)),
        interval=(math.exp(min(low, ln_best - Z90 * se)), math.exp(max(high, ln_best + Z90 * se))),
        method="akima",
        loss=float(height[0]),
        reason=f"Akima minimum of {len(sizes)} sizes; {lost.mean():.0%} of draws at an edge.",
    )


def _missing(status: Status, reason: str, flops: float) -> Optimum:
    return Optimum.missing(status, reason, flops, "akima")


def _minima(
    sizes: FloatArray, losses: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """Argmin of ln p, whether it is an outermost size, and the loss there; one per column."""
    steps = np.linspace(0, len(sizes) - 1, POINTS_PER_INTERVAL * (len(sizes) - 1) + 1)
    fine = np.interp(steps, np.arange(len(sizes)), sizes)
    positive = np.maximum(losses, np.abs(losses).max() * 1e-12)  # draws may fall below zero
    values = Akima1DInterpolator(sizes, np.log(positive), axis=0)(fine)
    at = np.argmin(values, axis=0)
    edge = (at == 0) | (at == len(fine) - 1)
    return fine[at], edge, np.exp(np.take_along_axis(values, at[None], axis=0)[0])
