"""Resampling: refit on whole batches of bootstrap draws.

Legend: m = draws, n = points or trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import FitError, Status
from fitting.laws import newton, surface
from fitting.regression import quadratic_design
from fitting.values import FloatArray, check_count


def bootstrap_weights(size: int, n: int, *, seed: int = 0) -> FloatArray:
    """How often each of ``size`` points is drawn in each of ``n`` resamplings, (n, size)."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, size, size=(n, size)) + size * np.arange(n)[:, None]
    counts = np.bincount(rows.ravel(), minlength=n * size).reshape(n, size)
    return counts.astype(float)


def bootstrap_surface(
    params: npt.ArrayLike,
    tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    n: int = 4000,
    seed: int = 0,
    loss_function: surface.LossFunction = "log-huber",
    delta: float = surface.HUBER_DELTA,
) -> pd.DataFrame:
    """Refit the surface to ``n`` resamplings of the points, each from the full fit.

    Args:
        params: of each trial.
        tokens: of each trial.
        loss: of each trial, nats.
        n: number of draws.
        seed: of the draws.
        loss_function: as for `fit_surface`.
        delta: as for `fit_surface`.

    Returns:
        One row per draw: E, A, B, alpha, beta. The standard deviation of a column is the
        standard error of Besiroglu et al. 2024. ``attrs["unconverged"]`` counts the draws that
        ran out of steps, which are kept.

    Raises:
        FittingError: arrays that cannot be fitted, or a number of draws that is none.
        FitError: too few points for a surface.
    """
    check_count(n=n)
    points, weights, distinct = surface.prepare_points(
        params, tokens, loss, loss_function, delta, None
    )
    if distinct < surface.MIN_POINTS:
        raise FitError(Status.NOT_IDENTIFIED, f"only {distinct} distinct allocations")
    start, _ = surface.solve(points, weights)
    draws = bootstrap_weights(len(points.loss), n, seed=seed)
    minima = newton.minimise(points, np.broadcast_to(start, (n, 5)), draws)
    values = surface.constants(points, minima.theta)
    frame = pd.DataFrame(values, columns=["E", "A", "B", "alpha", "beta"])
    frame.attrs["unconverged"] = int((~minima.converged).sum())
    return frame


@dataclass(frozen=True)
class CurveDraws:
    """Joint draws of several skills' parabolas on one budget.

    Attributes:
        centre: mean of ln params.
        coefficients: fitted (c0, c1, c2) per skill, shape (3, skills).
        draws: the same drawn m times, shape (m, 3, skills).
    """

    centre: float
    coefficients: FloatArray
    draws: FloatArray

    def vertices(self, weights: FloatArray) -> FloatArray:
        """ln p* of the weighted loss in every draw, (m,); NaN where it is concave."""
        mixed = self.draws @ weights
        curvature = np.where(mixed[:, 2] > 0, 2 * mixed[:, 2], np.nan)
        return np.asarray(self.centre - mixed[:, 1] / curvature)


def draw_curves(
    ln_params: FloatArray, losses: FloatArray, *, n: int = 2000, seed: int = 0
) -> CurveDraws | None:
    """Draw the parabolas of several skills measured on the same trials.

    Coefficients are drawn from their multivariate Student-t distribution: the residuals'
    covariance between skills carries what a trial's skills have in common, and few trials give
    wide draws. (Resampling eight trials would often leave two sizes and no parabola.)

    Args:
        ln_params: shape (k,).
        losses: shape (k, skills).

    Returns:
        None where fewer than four trials leave no residuals.
    """
    dof = len(ln_params) - 3
    if dof < 1 or len(np.unique(ln_params)) < 3:
        return None
    centre = float(ln_params.mean())
    design = quadratic_design(ln_params - centre)
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ losses
    residuals = losses - design @ coefficients
    values, vectors = np.linalg.eigh(residuals.T @ residuals / dof)
    between = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((n, 3, losses.shape[1]))
    heavy = np.sqrt(dof / rng.chisquare(dof, n))[:, None, None]
    shift = np.linalg.cholesky(inverse) @ (heavy * normal) @ between.T
    return CurveDraws(centre, coefficients, coefficients + shift)
