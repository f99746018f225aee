"""Resampling: refit on whole batches of bootstrap draws.

Legend: m = draws, n = points or trials.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting import newton, surface
from fitting.errors import FitError, Status
from fitting.values import FloatArray


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

    Returns:
        One row per draw: E, A, B, alpha, beta. The standard deviation of a column is the
        standard error of Besiroglu et al. 2024.

    Raises:
        FittingError: arrays that cannot be fitted.
        FitError: too few points for a surface.
    """
    points, weights, distinct = surface.prepare_points(
        params, tokens, loss, loss_function, delta, None
    )
    if distinct < surface.MIN_POINTS:
        raise FitError(Status.NOT_IDENTIFIED, f"only {distinct} distinct allocations")
    start = surface.solve(points, weights)
    draws = bootstrap_weights(len(points.loss), n, seed=seed)
    theta, _ = newton.minimise(points, np.broadcast_to(start, (n, 5)).copy(), draws)
    values = surface.constants(points, theta)
    return pd.DataFrame(values, columns=["E", "A", "B", "alpha", "beta"])
