"""Least squares, once for all fits: lines, quadratics and what follows from them.

Weighted fits with covariance, scatter beyond known errors, t intervals, Fieller's set, and the
quadratic in ln p with its vertex and known bias.

Legend: n = points, k = coefficients; x = ln p - mean(ln p); loss = c0 + c1 x + c2 x^2; vertex
x* = -c1 / (2 c2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fitting.values import FloatArray

NOMINAL_EXPONENTS = (0.3473, 0.3672)
"""alpha, beta of the surface assumed when a parabola's bias is estimated and no fitted surface
is at hand: Chinchilla's 240 points, log-Huber fit (tests/reference; Besiroglu et al. 2024)."""


class LinearFit(NamedTuple):
    """A weighted linear fit.

    Attributes:
        coefficients: (k,).
        inverse: (k, k) inverse of the normal matrix: the covariance at unit noise.
        squares: weighted sum of squared residuals.
        dof: points less coefficients.
    """

    coefficients: FloatArray
    inverse: FloatArray
    squares: float
    dof: int

    @property
    def variance(self) -> float:
        """Of one observation of unit weight; NaN without degrees of freedom."""
        return self.squares / self.dof if self.dof > 0 else math.nan

    @property
    def covariance(self) -> FloatArray:
        """Of the coefficients, (k, k)."""
        return self.inverse * self.variance


def least_squares(
    design: FloatArray, y: FloatArray, weights: FloatArray | None = None
) -> LinearFit:
    """Weighted least squares by QR; ``weights`` (n,) are relative inverse variances."""
    root = np.ones_like(y) if weights is None else np.sqrt(weights)
    q, r = np.linalg.qr(design * root[:, None])
    r_inverse = np.linalg.inv(r)
    coefficients = r_inverse @ (q.T @ (y * root))
    residual = (y - design @ coefficients) * root
    squares = float(residual @ residual)
    return LinearFit(coefficients, r_inverse @ r_inverse.T, squares, len(y) - design.shape[1])


def scattered_fit(design: FloatArray, y: FloatArray, se: FloatArray) -> tuple[LinearFit, float]:
    """Least squares with weights 1 / (se^2 + scatter^2); also the scatter.

    The scatter makes the weighted sum of squared residuals equal to its expectation (Paule and
    Mandel 1982).
    """

    def fit(variance: float) -> LinearFit:
        return least_squares(design, y, 1 / np.maximum(se**2 + variance, 1e-300))

    dof = len(y) - design.shape[1]
    # No residuals are larger than those of the mean.
    most = len(y) / dof * float(np.var(y)) + 1e-12 if dof > 0 else 0.0
    scatter = math.sqrt(falling_root(lambda v: fit(v).squares - dof, 0.0, most))
    return fit(scatter**2), scatter


def falling_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero, or the end of the range nearest to it."""
    from scipy.optimize import brentq

    if not (high > low and function(low) > 0):
        return low
    if function(high) >= 0:
        return high
    return float(brentq(function, low, high, xtol=1e-20, rtol=1e-14, maxiter=1000))


def grid_minimum(cost: Callable[[float], float], grid: FloatArray) -> float:
    """Best point of a grid, refined between its neighbours."""
    from scipy.optimize import minimize_scalar

    best = int(np.argmin([cost(float(v)) for v in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-12})
    return float(found.x)


def t_quantile(level: float, dof: float) -> float:
    """Half-width of a central Student-t interval, in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(min(max(dof, 1.0), 1e9), 0.5 + level / 2))


def t_interval(value: float, se: float, dof: float) -> tuple[float, float]:
    """Central 90 % Student-t interval."""
    half = t_quantile(0.9, dof) * se
    return value - half, value + half


def p_value(value: float, se: float, dof: float) -> float:
    """Two-sided p-value of value = 0 by Student's t; NaN without a standard error."""
    from scipy.special import stdtr

    return float(2 * stdtr(min(max(dof, 1.0), 1e9), -abs(value) / se)) if se > 0 else math.nan


class Estimate(NamedTuple):
    """A number with its standard error and the degrees of freedom behind that."""

    value: float
    error: float
    dof: float

    @property
    def interval(self) -> tuple[float, float]:
        """90 % interval."""
        return t_interval(self.value, self.error, self.dof)

    @property
    def p_value(self) -> float:
        """Of no difference from zero, two-sided."""
        return p_value(self.value, self.error, self.dof)


def fieller(line: FloatArray, covariance: FloatArray, t: float) -> tuple[float, float]:
    """Fieller's interval of the zero of a line: all x where its value may be zero.

    Unlike zero +- t se it is right for weak slopes too; it is bounded exactly when the slope
    differs from zero by more than t standard errors.

    Args:
        line: intercept and slope.
        covariance: of both.
        t: quantile of the interval.
    """
    a = line[1] ** 2 - t**2 * covariance[1, 1]
    if not a > 0:
        return -math.inf, math.inf
    b = 2 * (line[0] * line[1] - t**2 * covariance[0, 1])
    c = line[0] ** 2 - t**2 * covariance[0, 0]
    half = math.sqrt(max(b**2 - 4 * a * c, 0.0))  # the zero itself is always inside
    return float((-b - half) / (2 * a)), float((-b + half) / (2 * a))


@dataclass(frozen=True)
class Parabola:
    """A quadratic in x = ln p - centre.

    Attributes:
        centre: mean of ln p.
        coefficients: (c0, c1, c2), nats.
        covariance: their covariance (3, 3); NaN where the noise is unknown.
        dof: degrees of freedom behind the noise.
        noise: standard deviation of one loss, nats.
    """

    centre: float
    coefficients: FloatArray
    covariance: FloatArray
    dof: float
    noise: float

    @property
    def vertex(self) -> float:
        """ln p at the extremum."""
        _, c1, c2 = self.coefficients
        return float(self.centre - c1 / (2 * c2))

    @property
    def vertex_gradient(self) -> FloatArray:
        """Of the vertex by the coefficients, (3,)."""
        _, c1, c2 = self.coefficients
        return np.array([0.0, -1 / (2 * c2), c1 / (2 * c2**2)])

    @property
    def vertex_se(self) -> float:
        """Standard error of the vertex by the delta method."""
        slope = self.vertex_gradient
        return math.sqrt(max(float(slope @ self.covariance @ slope), 0.0))

    def loss(self, ln_params: npt.ArrayLike) -> FloatArray:
        """Fitted loss at ln p, nats."""
        x = np.asarray(ln_params, dtype=float) - self.centre
        return np.asarray(np.polynomial.polynomial.polyval(x, self.coefficients), dtype=float)

    def interval(self) -> tuple[float, float]:
        """Fieller's 90 % interval of the vertex: the zero of the slope c1 + 2 c2 x."""
        twice = np.array([1.0, 2.0])
        covariance = self.covariance[1:, 1:] * np.outer(twice, twice)
        low, high = fieller(self.coefficients[1:] * twice, covariance, t_quantile(0.9, self.dof))
        return self.centre + low, self.centre + high


def quadratic_design(x: FloatArray) -> FloatArray:
    """Columns 1, x, x^2, shape (n, 3)."""
    return np.vander(x, 3, increasing=True)


def fit_parabola(ln_params: FloatArray, loss: FloatArray) -> Parabola:
    """Least-squares quadratic in centred ln p; needs three distinct sizes."""
    centre = float(np.mean(ln_params))
    fit = least_squares(quadratic_design(ln_params - centre), loss)
    noise = math.sqrt(fit.variance)
    return Parabola(centre, fit.coefficients, fit.covariance, float(len(loss) - 3), noise)


def parabola_bias(
    ln_params: npt.ArrayLike, vertex: float, *, exponents: tuple[float, float] = NOMINAL_EXPONENTS
) -> float:
    """Systematic error of a parabola's ln p* on this grid, if the loss obeyed a surface.

    On one budget the surface is proportional to beta e^(-alpha u) + alpha e^(beta u), with
    u = ln(p / p*), whatever E, A and B are; a parabola through it misses u = 0 by an amount
    that grows with the width of the grid, its distance from the optimum, and the asymmetry
    (Czech et al. 2026, arXiv 2603.22339). Subtract the value to correct for it.

    Args:
        ln_params: the grid, shape (n,).
        vertex: ln p* found by the parabola.
        exponents: alpha, beta of the surface.
    """
    alpha, beta = exponents
    ln_p = np.asarray(ln_params, dtype=float)
    centre = float(ln_p.mean())
    # Coefficients are linear in the losses, so that one matrix serves every step.
    _, slope, curvature = np.linalg.pinv(quadratic_design(ln_p - centre))
    bias = 0.0
    for _ in range(100):  # fixed point: the true optimum is vertex - bias
        u = ln_p - (vertex - bias)
        curve = beta * np.exp(-alpha * u) + alpha * np.exp(beta * u)
        c1, c2 = float(slope @ curve), float(curvature @ curve)
        if c2 <= 0:
            return math.nan
        step = centre - c1 / (2 * c2) - (vertex - bias)
        if abs(step - bias) < 1e-6:
            return step
        bias = 0.5 * (bias + step)
    return math.nan
