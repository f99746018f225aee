"""A weighted quadratic in ln p: its vertex, how sure that is, and its known bias.

Legend: x = ln p - mean(ln p); loss = c0 + c1 x + c2 x^2; vertex x* = -c1 / (2 c2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitting.values import FloatArray

NOMINAL_EXPONENTS = (0.3473, 0.3672)
"""alpha, beta of the surface assumed when a parabola's bias is estimated and no fitted surface
is at hand: Chinchilla's 240 points, log-Huber fit (tests/reference; Besiroglu et al. 2024)."""

STUDENT_DOF = 4.0
"""Degrees of freedom of the robust fit: 5 % bad trials no longer show (assumption, as usual)."""


@dataclass(frozen=True)
class Parabola:
    """A weighted quadratic in x = ln p - centre.

    Attributes:
        centre: mean of ln p.
        coefficients: (c0, c1, c2), nats.
        covariance: their covariance (3, 3); NaN when nothing tells the noise.
        dof: degrees of freedom behind the noise; infinite when the noise was given.
        noise: standard deviation of one loss of unit weight, nats.
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
    def vertex_se(self) -> float:
        """Standard error of the vertex by the delta method."""
        _, c1, c2 = self.coefficients
        slope = np.array([0.0, -1 / (2 * c2), c1 / (2 * c2**2)])
        return math.sqrt(max(float(slope @ self.covariance @ slope), 0.0))

    def loss(self, ln_params: npt.ArrayLike) -> FloatArray:
        """Fitted loss at ln p, nats."""
        x = np.asarray(ln_params, dtype=float) - self.centre
        return np.asarray(np.polynomial.polynomial.polyval(x, self.coefficients), dtype=float)

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Fieller's interval of the vertex: all x where the slope may be zero.

        Unlike vertex +- t se it is right for weak curvature too; it is bounded exactly when
        the curvature differs from zero at this level.
        """
        t = t_quantile(level, self.dof)
        _, c1, c2 = self.coefficients
        v11, v12, v22 = (self.covariance[i] for i in ((1, 1), (1, 2), (2, 2)))
        a = 4 * (c2**2 - t**2 * v22)
        b = 4 * (c1 * c2 - t**2 * v12)
        c = c1**2 - t**2 * v11
        if not a > 0:
            return (-math.inf, math.inf)
        half = math.sqrt(max(b**2 - 4 * a * c, 0.0))  # the vertex itself is always inside
        return (self.centre + (-b - half) / (2 * a), self.centre + (-b + half) / (2 * a))


def fit_parabola(
    ln_params: FloatArray,
    loss: FloatArray,
    *,
    weights: FloatArray | None = None,
    robust: bool = False,
    noise: float | None = None,
) -> Parabola:
    """Least-squares quadratic in centred ln p; needs three distinct sizes."""
    w = np.ones_like(loss) if weights is None else weights
    centre = float(np.average(ln_params, weights=w))
    x = ln_params - centre
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    dof = len(loss) - 3
    if robust and dof > 0:
        coefficients, inverse, sigma = _student_fit(design, loss, w)
    else:
        coefficients, inverse, sigma = _normal_fit(design, loss, w)
    if noise is not None:
        sigma, dof = noise, 10**9
    spread = sigma if dof > 0 else math.nan
    return Parabola(centre, coefficients, inverse * spread**2, float(dof), spread)


def parabola_bias(
    ln_params: npt.ArrayLike,
    vertex: float,
    *,
    exponents: tuple[float, float] = NOMINAL_EXPONENTS,
    weights: npt.ArrayLike | None = None,
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
        weights: relative inverse variances used in the fit.
    """
    alpha, beta = exponents
    ln_p = np.asarray(ln_params, dtype=float)
    root = np.sqrt(np.ones_like(ln_p) if weights is None else np.asarray(weights, dtype=float))
    centre = float(ln_p.mean())
    design = np.vander(ln_p - centre, 3, increasing=True)
    # Coefficients are linear in the losses, so that one matrix serves every step.
    _, slope, bend = np.linalg.pinv(design * root[:, None]) * root
    bias = 0.0
    for _ in range(100):  # fixed point: the true optimum is vertex - bias
        u = ln_p - (vertex - bias)
        curve = beta * np.exp(-alpha * u) + alpha * np.exp(beta * u)
        c1, c2 = float(slope @ curve), float(bend @ curve)
        if c2 <= 0:
            return math.nan
        step = centre - c1 / (2 * c2) - (vertex - bias)
        if abs(step - bias) < 1e-6:
            return step
        bias = 0.5 * (bias + step)
    return math.nan


def t_quantile(level: float, dof: float) -> float:
    """Half-width of a central Student-t interval, in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(min(max(dof, 1.0), 1e9), 0.5 + level / 2))


def quartic_noise(ln_p: FloatArray, y: FloatArray, w: FloatArray) -> float:
    """Noise of one loss from the residuals of a quartic: a parabola's would hold its misfit."""
    design = np.vander((ln_p - ln_p.mean()) / np.ptp(ln_p), 5)
    return _normal_fit(design, y, w)[2]


def _normal_fit(
    design: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Weighted least squares: coefficients, inverse normal matrix, noise of unit weight."""
    root = np.sqrt(w)[:, None]
    q, r = np.linalg.qr(design * root)
    coefficients = np.linalg.solve(r, q.T @ (y * root[:, 0]))
    r_inverse = np.linalg.inv(r)
    residual = (y - design @ coefficients) * root[:, 0]
    dof = max(len(y) - design.shape[1], 1)
    return coefficients, r_inverse @ r_inverse.T, math.sqrt(float(residual @ residual) / dof)


def _student_fit(
    design: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Student-t regression by reweighting; the same three values as `_normal_fit`."""
    n, k = design.shape
    coefficients, inverse, sigma = _normal_fit(design, y, w)
    for _ in range(100):
        residual = (y - design @ coefficients) * np.sqrt(w)
        robust = (STUDENT_DOF + 1) / (STUDENT_DOF + (residual / max(sigma, 1e-300)) ** 2)
        new, _, _ = _normal_fit(design, y, w * robust)
        residual = (y - design @ new) * np.sqrt(w)
        sigma = math.sqrt(float(robust @ residual**2) / max(n - k, 1))
        done = np.max(np.abs(new - coefficients)) <= 1e-10 * np.max(np.abs(new))
        coefficients = new
        if done or sigma == 0:
            break
    # Fisher information of a t location is (nu + 1) / (nu + 3) of a normal one's.
    return coefficients, inverse, sigma * math.sqrt((STUDENT_DOF + 3) / (STUDENT_DOF + 1))
