"""One skill on one budget: the model size of least loss, or the reason why there is none.

Legend: x = ln p - mean(ln p); loss = c0 + c1 x + c2 x^2; vertex x* = -c1 / (2 c2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from fitting.errors import FitError, FittingError, Status
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray, Optimum, bounded_exp

NOMINAL_EXPONENTS = (0.3473, 0.3672)
"""alpha, beta of the surface assumed when a parabola's bias is estimated and no fitted surface
is at hand: Chinchilla's 240 points, log-Huber fit (tests/reference; Besiroglu et al. 2024)."""

STUDENT_DOF = 4.0
"""Degrees of freedom of the robust fit: 5 % bad trials no longer show (assumption, as usual)."""

GRID_STEP_FLOOR = 1 / 3
"""Akima: least standard error of ln p*, in grid steps (Porian et al. 2024, released code)."""

POINTS_PER_INTERVAL = 25
"""Akima: points searched in each interval of sizes (Porian et al. 2024, released code)."""

LARGEST = 1e30
"""Losses beyond count as infinite: their powers would overflow."""

Method = Literal["parabola", "akima"]


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
        noise = _wiggle(ln_p, y, w)
    fit = fit_parabola(ln_p, y, weights=w, noise=noise)
    status, reason = _verdict(fit, sizes, ln_p, y)
    # The spline finds its own place; the parabola only tells whether the curve bends upwards.
    if not (_bends(fit, sizes, y) and fit.coefficients[2] > 0):
        return _nothing(status, reason, flops, "akima", curvature=2 * fit.coefficients[2])
    total = np.array([w[ln_p == s].sum() for s in sizes])
    mean = np.array([np.average(y[ln_p == s], weights=w[ln_p == s]) for s in sizes])
    sigma = fit.noise / np.sqrt(total)
    best, edge, curve = _spline_minima(sizes, np.log(mean)[:, None])
    if edge[0]:
        reason = f"The least loss is at the outermost size, {math.exp(best[0]):.3g}."
        return _nothing(Status.NO_INTERIOR_MINIMUM, reason, flops, "akima")
    rng = np.random.default_rng(seed)
    noisy = np.maximum(
        mean[:, None] + sigma[:, None] * rng.standard_normal((len(mean), draws)), 1e-9
    )
    found, lost, _ = _spline_minima(sizes, np.log(noisy))
    if lost.mean() > 0.5:
        reason = f"{lost.mean():.0%} of the noise draws have their minimum at an outermost size."
        return _nothing(Status.EDGE, reason, flops, "akima")
    step = float(np.median(np.diff(sizes)))
    spread = [found[~lost].std(), *np.quantile(found[~lost], [0.05, 0.95])]
    se = max(float(spread[0]), GRID_STEP_FLOOR * step)
    low, high = spread[1:]
    params, half = math.exp(best[0]), t_quantile(0.9, 1e9) * se
    return Optimum(
        params=params,
        log_params_se=se,
        status=Status.OK,
        curvature=float(2 * fit.coefficients[2]),
        flops=flops,
        tokens=flops / (FLOPS_PER_PARAM_TOKEN * params),
        interval=(
            math.exp(min(float(low), best[0] - half)),
            math.exp(max(float(high), best[0] + half)),
        ),
        method="akima",
        loss=math.exp(curve[0]),
        reason=f"Akima minimum of {len(sizes)} sizes; {lost.mean():.0%} of draws at an edge.",
    )


def _wiggle(ln_p: FloatArray, y: FloatArray, w: FloatArray) -> float:
    """Noise of one loss from the residuals of a quartic: a parabola's would hold its misfit."""
    design = np.vander((ln_p - ln_p.mean()) / np.ptp(ln_p), 5)
    return _normal_fit(design, y, w)[2]


def _spline_minima(
    sizes: FloatArray, ln_loss: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """Argmin of ln p, whether it is an outermost size, and ln loss there; one per column."""
    from scipy.interpolate import Akima1DInterpolator

    fine = np.interp(
        np.linspace(0, len(sizes) - 1, POINTS_PER_INTERVAL * (len(sizes) - 1) + 1),
        np.arange(len(sizes)),
        sizes,
    )
    values = Akima1DInterpolator(sizes, ln_loss, axis=0)(fine)
    at = np.argmin(values, axis=0)
    edge = (at == 0) | (at == len(fine) - 1)
    return fine[at], edge, np.take_along_axis(values, at[None], axis=0)[0]


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
