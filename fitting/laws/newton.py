"""Many fits of the loss surface at once: damped Newton on whole batches, in numpy.

Legend: p = params, t = tokens, x = ln p and y = ln t, both centred; f = predicted loss;
theta = (ln E, ln A', alpha, ln B', beta), where A' and B' belong to the centred x and y;
m = number of fits, n = number of points.

One fit differs from another by its weights (a bootstrap counts some points twice, others not at
all) or by its start. The residual is ln f - ln loss under a Huber function, or f - loss squared.
The Hessian is exact, so that a fit started nearby needs a handful of steps; the Huber function is
piecewise quadratic, hence the last step lands on the minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitting.values import FloatArray

EXPONENT_BOUNDS = (0.01, 3.0)
"""alpha and beta are kept inside; published ones lie in .07 to .7 (assumption)."""

LOG_E_FLOOR = math.log(1e-6)
"""Least ln E relative to ln of the smallest loss: below, E is zero for all purposes."""

CELLS = 16_000
"""Points times fits per pass, so that temporaries stay in the cache (benchmarks/fit_speed.py)."""

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

WINDOW_FRACTION = 0.6
"""Fraction of the residuals in the window of `sandwich` (measured against the bootstrap)."""

_MAX_STEPS = 200
_ROUNDING = 1e-14  # relative rise of the objective that counts as none
_EXACT = 1e-11  # relative residual at which a surface goes through its points
_TOLERANCE = 1e-11  # relative to the objective, predicted decrease of the last step


@dataclass(frozen=True)
class Points:
    """The data of a fit.

    Attributes:
        x: ln params, centred, shape (n,).
        y: ln tokens, centred, shape (n,).
        loss: nats, shape (n,).
        centre: what was subtracted from ln params and ln tokens.
        delta: width of the Huber function of log residuals; None for squared plain residuals.
    """

    x: FloatArray
    y: FloatArray
    loss: FloatArray
    centre: tuple[float, float]
    delta: float | None

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of theta."""
        low, high = EXPONENT_BOUNDS
        floor = LOG_E_FLOOR + math.log(float(self.loss.min()))
        return (
            np.array([floor, -60.0, low, -60.0, low]),
            np.array([math.log(float(self.loss.max())), 60.0, high, 60.0, high]),
        )


@dataclass(frozen=True)
class Local:
    """Objective with derivatives for m fits."""

    objective: FloatArray  # (m,)
    gradient: FloatArray  # (m, 5)
    hessian: FloatArray  # (m, 5, 5)


def predict(points: Points, theta: FloatArray) -> FloatArray:
    """Losses of m surfaces at n points, shape (m, n)."""
    return np.asarray(
        np.exp(theta[:, :1])
        + np.exp(theta[:, 1:2] - theta[:, 2:3] * points.x)
        + np.exp(theta[:, 3:4] - theta[:, 4:5] * points.y)
    )


def objective(points: Points, theta: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum of weighted Huber or squared residuals, shape (m,)."""
    f = predict(points, theta)
    if points.delta is None:
        return np.asarray(np.sum(weights * (f - points.loss) ** 2, axis=1))
    size = np.abs(np.log(f / points.loss))
    inner = np.minimum(size, points.delta)
    return np.asarray(np.sum(weights * inner * (size - inner / 2), axis=1))


@dataclass(frozen=True)
class Minima:
    """Where m fits ended."""

    theta: FloatArray  # (m, 5)
    objective: FloatArray  # (m,)
    converged: BoolArray  # (m,), False where the steps ran out


def minimise(points: Points, start: FloatArray, weights: FloatArray) -> Minima:
    """Local minima of m fits.

    Args:
        start: theta to start from, shape (m, 5).
        weights: weight of every point in every fit, shape (m, n).
    """
    low, high = points.bounds
    theta = np.clip(start, low, high)
    state = _State.at(theta)
    candidate = theta.copy()
    converged = np.zeros(len(theta), dtype=bool)
    queue = np.arange(len(theta))
    rows = max(1, CELLS // len(points.x))
    unit = 1.0 if points.delta is not None else float(np.mean(points.loss**2))
    exact = _EXACT**2 * unit * weights.sum(axis=1)
    while len(queue):
        now, queue = queue[:rows], queue[rows:]
        local = evaluate(points, candidate[now], weights[now])
        better = local.objective <= state.best[now] * (1 + _ROUNDING)
        won, lost = now[better], now[~better]
        theta[won] = candidate[won]
        state.accept(won, local, better)
        state.damping[lost] = np.maximum(state.damping[lost] * 10, 0.01)
        fresh = now[state.steps[now] == 0]
        if len(fresh):
            state.scale[fresh] = majorant(points, theta[fresh], weights[fresh])
        step, gain = _step(theta, state, now, (low, high))
        candidate[now] = theta[now] + step
        state.steps[now] += 1
        small = gain <= _TOLERANCE * state.best[now] + exact[now]
        converged[now] = small & (state.damping[now] <= 1.0)
        done = converged[now] | (state.steps[now] >= _MAX_STEPS)
        queue = np.concatenate([now[~done], queue])
    return Minima(theta, state.best, converged)


@dataclass
class _State:
    """State of every fit between two steps."""

    best: FloatArray  # (m,), objective at theta
    gradient: FloatArray  # (m, 5)
    hessian: FloatArray  # (m, 5, 5)
    scale: FloatArray  # (m, 5, 5), what damping is measured in
    damping: FloatArray  # (m,)
    steps: npt.NDArray[np.int64]  # (m,)

    @classmethod
    def at(cls, theta: FloatArray) -> _State:
        m = len(theta)
        return cls(
            best=np.full(m, np.inf),
            gradient=np.zeros((m, 5)),
            hessian=np.zeros((m, 5, 5)),
            scale=np.zeros((m, 5, 5)),
            damping=np.full(m, 1e-3),
            steps=np.zeros(m, dtype=np.int64),
        )

    def accept(self, rows: IntArray, local: Local, better: BoolArray) -> None:
        """Move to the candidates that were better."""
        self.best[rows] = local.objective[better]
        self.gradient[rows] = local.gradient[better]
        self.hessian[rows] = local.hessian[better]
        self.damping[rows] *= 0.1


def evaluate(points: Points, theta: FloatArray, weights: FloatArray) -> Local:
    """Objective, gradient and exact Hessian of m fits."""
    u, r = _residuals(points, theta)
    if points.delta is None:
        slope = 2 * weights * r
        second = 2 * weights
        value = np.einsum("mn,mn,mn->m", weights, r, r)
    else:
        inner = np.clip(r, -points.delta, points.delta)
        slope = weights * inner
        second = weights * (r == inner) - slope  # rho'' - rho', see the second derivative of ln f
        value = np.einsum("mn,mn->m", slope, r - inner / 2)
    gradient = np.matmul(u, slope[:, :, None])[:, :, 0]
    hessian = np.matmul(u * second[:, None, :], u.transpose(0, 2, 1))
    _add_curvature(hessian, gradient, u, slope, points)
    return Local(value, gradient, hessian)


def majorant(points: Points, theta: FloatArray, weights: FloatArray) -> FloatArray:
    """Gauss-Newton matrix of the reweighted least squares that bound the objective, (m, 5, 5)."""
    u, r = _residuals(points, theta)
    if points.delta is None:
        second = 2 * weights
    else:
        second = weights * points.delta / np.maximum(np.abs(r), points.delta)
    return np.asarray(np.matmul(u * second[:, None, :], u.transpose(0, 2, 1)))


def sandwich(points: Points, theta: FloatArray, weights: FloatArray) -> FloatArray:
    """Covariance of one theta (5,) by the sandwich formula, shape (5, 5).

    A Huber function as narrow as 1e-3 has its second derivative on few points; their fraction is
    estimated over a wider window, as for quantile regression (Powell 1991), which comes within
    20 % of the bootstrap on Chinchilla's points where the raw Hessian is 60 % off.
    """
    u, r = _residuals(points, theta[None])
    if points.delta is None:
        local = evaluate(points, theta[None], weights[None])
        bread, slope = local.hessian[0], 2 * r[0]
    else:
        slope = np.clip(r[0], -points.delta, points.delta)
        window = max(points.delta, float(np.quantile(np.abs(r[0]), WINDOW_FRACTION)))
        near = weights * (np.abs(r[0]) <= window) * (points.delta / window)
        bread = (u[0] * near) @ u[0].T
    scores = u[0] * slope * weights
    inverse = np.linalg.pinv(bread, hermitian=True)
    correction = len(r[0]) / max(len(r[0]) - 5, 1)
    return np.asarray(inverse @ (scores @ scores.T) @ inverse * correction)


def _residuals(points: Points, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradients of the residuals (m, 5, n) and residuals (m, n)."""
    m, n = len(theta), len(points.x)
    u = np.empty((m, 5, n))
    np.exp(theta[:, 1:2] - theta[:, 2:3] * points.x, out=u[:, 1])
    np.exp(theta[:, 3:4] - theta[:, 4:5] * points.y, out=u[:, 3])
    u[:, 0] = np.exp(theta[:, :1])
    f = u[:, 0] + u[:, 1] + u[:, 3]
    if points.delta is None:
        r = f - points.loss
    else:
        u[:, 0:4:3] /= f[:, None]
        u[:, 1] /= f
        r = np.log(f / points.loss)
    np.multiply(u[:, 1], -points.x, out=u[:, 2])
    np.multiply(u[:, 3], -points.y, out=u[:, 4])
    return u, r


def _add_curvature(
    hessian: FloatArray, gradient: FloatArray, u: FloatArray, slope: FloatArray, points: Points
) -> None:
    """Add the second derivatives of f: each term of f is an exponential of its own two thetas."""
    for i in (0, 1, 3):
        hessian[:, i, i] += gradient[:, i]
    for i, axis in ((1, points.x), (3, points.y)):
        hessian[:, i, i + 1] += gradient[:, i + 1]
        hessian[:, i + 1, i] += gradient[:, i + 1]
        hessian[:, i + 1, i + 1] -= (u[:, i + 1] * slope) @ axis


def _step(
    theta: FloatArray, state: _State, now: IntArray, bounds: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Damped Newton steps that go downhill and stay inside the bounds, and predicted gains."""
    low, high = bounds
    at, slope = theta[now], state.gradient[now]
    stuck = ((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0))
    right = np.where(stuck, 0.0, -slope)
    held = stuck[:, :, None] | stuck[:, None, :]
    hessian = np.where(held, np.eye(5) * stuck[:, :, None], state.hessian[now])
    scale = np.where(held, 0.0, state.scale[now])
    step = _solve(hessian + state.damping[now, None, None] * scale, right)
    uphill = np.einsum("mi,mi->m", step, right) < 0
    if uphill.any():  # the Hessian is indefinite here: use the majorant instead
        rows = now[uphill]
        state.damping[rows] = np.maximum(10 * state.damping[rows], 1.0)
        damped = state.damping[rows, None, None] * scale[uphill]
        step[uphill] = _solve(damped + np.eye(5) * stuck[uphill, :, None], right[uphill])
    step /= np.maximum(np.abs(step).max(axis=1, keepdims=True), 1.0)
    gain = np.einsum("mi,mi->m", step, right)
    return np.clip(at + step, low, high) - at, gain


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solve m systems; singular ones by pseudo-inverse."""
    try:
        return np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:
        return np.asarray((np.linalg.pinv(matrix) @ right[:, :, None])[:, :, 0])


def grid_starts(points: Points, weights: FloatArray) -> npt.NDArray[np.float64]:
    """Starts by variable projection: for each pair of exponents E, A', B' follow linearly.

    Least squares of relative residuals under E, A', B' >= 0 on a fixed lattice of exponents;
    returned are the eight best cells by the objective itself, the best first, shape (8, 5).
    """
    alpha = np.geomspace(0.04, 1.6, 28)
    a, b = (v.ravel() for v in np.meshgrid(alpha, alpha, indexing="ij"))
    linear = _linear_parts(points, alpha, weights)
    low, high = points.bounds
    ln = np.log(np.maximum(linear, 1e-300))
    theta = np.clip(np.stack([ln[:, 0], ln[:, 1], a, ln[:, 2], b], axis=1), low, high)
    value = objective(points, theta, weights[None])
    return np.asarray(theta[np.argsort(value, kind="stable")[:8]])


def _linear_parts(points: Points, grid: FloatArray, weights: FloatArray) -> FloatArray:
    """Non-negative least-squares E, A', B' for all pairs of exponents, shape (G * G, 3)."""
    w = weights / points.loss**2
    one = np.exp(-grid[:, None] * points.x)
    two = np.exp(-grid[:, None] * points.y)
    g = len(grid)
    gram = np.empty((g, g, 3, 3))
    right = np.empty((g, g, 3))
    gram[..., 0, 0] = w.sum()
    gram[..., 0, 1] = gram[..., 1, 0] = (one @ w)[:, None]
    gram[..., 0, 2] = gram[..., 2, 0] = two @ w
    gram[..., 1, 1] = (one**2 @ w)[:, None]
    gram[..., 2, 2] = two**2 @ w
    gram[..., 1, 2] = gram[..., 2, 1] = (one * w) @ two.T
    right[..., 0] = w @ points.loss
    right[..., 1] = (one @ (w * points.loss))[:, None]
    right[..., 2] = two @ (w * points.loss)
    return _nonnegative(gram.reshape(-1, 3, 3), right.reshape(-1, 3))


def _nonnegative(gram: FloatArray, right: FloatArray) -> FloatArray:
    """Exact non-negative least squares of three unknowns: try all seven faces."""
    best = np.zeros_like(right)
    least = np.zeros(len(right))
    for face in ([0, 1, 2], [0, 1], [0, 2], [1, 2], [0], [1], [2]):
        sub = gram[:, face][:, :, face]
        sub = sub + 1e-13 * np.einsum("mii->m", sub)[:, None, None] * np.eye(len(face))
        part = np.linalg.solve(sub, right[:, face][:, :, None])[:, :, 0]
        value = -np.einsum("mi,mi->m", part, right[:, face])
        value = np.where((part >= 0).all(axis=1), value, np.inf)
        better = value < least
        least = np.where(better, value, least)
        full = np.zeros_like(right)
        full[:, face] = part
        best = np.where(better[:, None], full, best)
    return best
