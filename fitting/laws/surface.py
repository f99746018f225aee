"""The loss surface L(p, t) = E + A p^-alpha + B t^-beta, fitted without random starts.

Legend: p = params, t = tokens, C = flops = 6 p t; losses in nats.

Method: variable projection on a fixed lattice of exponents gives the starts (for given exponents
E, A, B are a linear problem), Newton on all five finishes; same data, same answer, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from fitting.errors import FittingError, Status
from fitting.laws import newton
from fitting.laws.powerlaw import PowerLaw, no_law
from fitting.regression import t_quantile
from fitting.values import (
    FLOPS_PER_PARAM_TOKEN,
    FloatArray,
    Optimum,
    Result,
    as_tuples,
    check_all_positive,
    check_positive,
    equal_columns,
    log_interval,
)

HUBER_DELTA = 1e-3
"""Width of the Huber function of log residuals (Hoffmann et al. 2022, section 3.3)."""

MIN_POINTS, MIN_EACH = 6, 3
"""Distinct allocations, one more than the constants; and sizes and token counts among them, as a
coefficient and an exponent of each rest on differences to a third."""

IN_STEP = 0.05
"""Scatter of ln tokens round a rising line in ln params below which their terms could change
places (assumption: tables of one ratio of tokens to params are rounded by less)."""

LossFunction = Literal["log-huber", "least-squares"]


@dataclass(frozen=True)
class Surface(Result):
    """L(p, t) = E + A p^-alpha + B t^-beta.

    Attributes:
        E: irreducible loss, nats.
        A: coefficient of the params term, nats * params^alpha.
        B: coefficient of the tokens term, nats * tokens^beta.
        alpha: exponent of params.
        beta: exponent of tokens.
        objective: sum of log-Huber values, or of squared residuals, at the minimum.
        covariance: of (ln E, ln A', alpha, ln B', beta), (5, 5), where A' and B' belong to
            ``centre``; from the sandwich formula, NaN at a bound.
        centre: mean ln params and mean ln tokens of the data.
        flops_range: smallest and largest 6 p t of the data.
        points: number of points fitted.
        status: OK or NOT_IDENTIFIED.
        reason: what the status rests on.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    objective: float = math.nan
    covariance: tuple[tuple[float, ...], ...] = ((math.nan,) * 5,) * 5
    centre: tuple[float, float] = (0.0, 0.0)
    flops_range: tuple[float, float] = (math.nan, math.nan)
    points: int = 0
    status: Status = Status.OK
    reason: str = ""

    @property
    def exponent(self) -> float:
        """b of p*(C) = a C^b: beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, params: npt.ArrayLike, tokens: npt.ArrayLike) -> FloatArray:
        """Predicted loss, nats; arguments broadcast."""
        p, t = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
        return np.asarray(self.E + self.A * p**-self.alpha + self.B * t**-self.beta)

    def optimum(self, flops: float, *, per_param_token: float = FLOPS_PER_PARAM_TOKEN) -> Optimum:
        """The allocation of least loss on a budget, in closed form.

        Args:
            flops: the budget.
            per_param_token: flops / (params tokens), as the budget counts them.

        Raises:
            FittingError: flops is not positive and finite.
        """
        check_positive(flops=flops)
        if not self.ok:
            return Optimum.missing(self.status, self.reason, flops, "surface")
        law = self.law(per_param_token=per_param_token)
        params = float(law(flops))
        tokens = flops / (per_param_token * params)
        first, second = self.A * params**-self.alpha, self.B * tokens**-self.beta
        se = float(law.log_se(flops))
        return Optimum(
            params=params,
            log_params_se=se,
            status=Status.OK,
            curvature=self.alpha**2 * first + self.beta**2 * second,
            flops=flops,
            tokens=tokens,
            interval=log_interval(params, t_quantile(0.9, law.dof) * se),
            method="surface",
            loss=self.E + first + second,
            reason=self.reason or f"Surface through {self.points} points.",
            extrapolates=max(1.0, flops / self.flops_range[1]) if self.points else 1.0,
        )

    def law(self, *, per_param_token: float = FLOPS_PER_PARAM_TOKEN) -> PowerLaw:
        """p*(C) = a C^b, exact for this surface; errors by the delta method."""
        total = self.alpha + self.beta
        if not self.ok:
            return no_law(self.status, self.reason, "surface")
        ratio = math.log(self.alpha * self.A / (self.beta * self.B))
        ln_six = math.log(per_param_token)
        ln_a = (ratio - self.beta * ln_six) / total
        jacobian = self._law_jacobian(ln_a, per_param_token)
        return PowerLaw(
            coefficient=math.exp(ln_a),
            exponent=self.exponent,
            covariance=as_tuples(jacobian @ np.array(self.covariance) @ jacobian.T),  # type: ignore[arg-type]
            dof=float(max(self.points - 5, 1)) if self.points else math.inf,
            flops_range=self.flops_range,
            scatter=0.0,
            method="surface",
        )

    def _law_jacobian(self, ln_a: float, per_param_token: float) -> FloatArray:
        """d(ln a, b) / d(ln E, ln A', alpha, ln B', beta), shape (2, 5)."""
        total = self.alpha + self.beta
        ln_six = math.log(per_param_token)
        x, y = self.centre
        d_alpha = (1 / self.alpha + x - ln_a) / total
        d_beta = (-1 / self.beta - y - ln_six - ln_a) / total
        return np.array(
            [
                [0.0, 1 / total, d_alpha, -1 / total, d_beta],
                [0.0, 0.0, -self.beta / total**2, 0.0, self.alpha / total**2],
            ]
        )


def fit_surface(
    params: npt.ArrayLike,
    tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    *,
    loss_function: LossFunction = "log-huber",
    delta: float = HUBER_DELTA,
    weights: npt.ArrayLike | None = None,
    throw: bool = False,
) -> Surface:
    """Fit the five constants of the surface.

    Args:
        params: model sizes, shape (n,).
        tokens: training tokens, shape (n,).
        loss: nats, shape (n,).
        loss_function: "log-huber", the sum of Huber values of ln predicted - ln observed
            (Hoffmann et al. 2022), or "least-squares", the sum of squared plain residuals.
        delta: width of the Huber function.
        weights: weight of each point in the sum, shape (n,).
        throw: raise `FitError` instead of returning a surface without optima.

    Raises:
        FittingError: arrays of different shape, or values not finite and positive.
        FitError: with ``throw``, the status is not OK.
    """
    points, w, used = prepare_points(params, tokens, loss, loss_function, delta, weights)
    if used < MIN_POINTS:
        reason = f"{used} distinct allocations; five constants need {MIN_POINTS} or more."
        return no_surface(reason).required(throw)
    return _fit(points, w).required(throw)


def prepare_points(
    params: npt.ArrayLike,
    tokens: npt.ArrayLike,
    loss: npt.ArrayLike,
    loss_function: LossFunction,
    delta: float,
    weights: npt.ArrayLike | None,
) -> tuple[newton.Points, FloatArray, int]:
    """Check the arrays of a surface fit; also the number of distinct allocations that count."""
    ones = np.ones(np.size(loss)) if weights is None else weights
    p, t, y, w = equal_columns(params=params, tokens=tokens, loss=loss, weights=ones)
    check_all_positive(params=p, tokens=t, loss=y)
    check_positive(delta=delta)
    if not (np.isfinite(w) & (w >= 0)).all():
        raise FittingError("weights must be finite and not negative")
    if loss_function not in ("log-huber", "least-squares"):
        raise FittingError(
            f"loss_function is 'log-huber' or 'least-squares', not {loss_function!r}"
        )
    if not len(p):
        raise FittingError("params, tokens and loss are empty")
    width = delta if loss_function == "log-huber" else None
    x, z = np.log(p), np.log(t)
    centre = (float(x.mean()), float(z.mean()))
    distinct = len(np.unique(np.stack([x, z])[:, w > 0], axis=1).T)
    return newton.Points(x - centre[0], z - centre[1], y, centre, width), w, distinct


def confounded(x: FloatArray, z: FloatArray) -> str:
    """Why allocations (ln params, ln tokens) tell losses only, and no optimum; or nothing."""
    sizes, counts = len(np.unique(x)), len(np.unique(z))
    if min(sizes, counts) < MIN_EACH:
        return f"{sizes} sizes and {counts} token counts; an optimum needs {MIN_EACH} of each."
    slope, level = np.polyfit(x, z, 1)
    if slope > 0 and np.std(z - slope * x - level) < IN_STEP:
        return "Tokens grow in step with params: what either gives cannot be told apart."
    return ""


def solve(points: newton.Points, weights: FloatArray) -> tuple[FloatArray, bool]:
    """theta (5,) of the best minimum reached from the lattice of starts; whether it converged."""
    starts = newton.grid_starts(points, weights)
    copies = np.broadcast_to(weights, (len(starts), len(weights)))
    if points.delta is not None:
        # A wide Huber function first: its minimum is easy to find and close by.
        for factor in (100.0, 10.0):
            wide = replace(points, delta=factor * points.delta)
            starts = newton.minimise(wide, starts, copies).theta
    found = newton.minimise(points, starts, copies)
    best = int(np.argmin(found.objective))
    return found.theta[best], bool(found.converged[best])


def _fit(points: newton.Points, weights: FloatArray) -> Surface:
    """Solve, and describe the solution."""
    theta, converged = solve(points, weights)
    value = newton.objective(points, theta[None], weights[None])[0]
    at_bound = _at_bound(points, theta)
    covariance = np.full((5, 5), math.nan)
    if not at_bound:
        covariance = newton.sandwich(points, theta, weights)
    ln_c = points.x + points.y + sum(points.centre) + math.log(FLOPS_PER_PARAM_TOKEN)
    broken = [name for name in at_bound if name != "E"]
    flag = f"At a bound, not fixed by the data: {', '.join(at_bound)}." if at_bound else ""
    if mixed := confounded(points.x[weights > 0], points.y[weights > 0]):
        flag = f"{mixed} {flag}".strip()
    if not converged:
        flag = f"{flag} The fit ran out of steps before its minimum.".strip()
    e, a, b, alpha, beta = constants(points, theta[None])[0]
    return Surface(
        E=float(e),
        A=float(a),
        B=float(b),
        alpha=float(alpha),
        beta=float(beta),
        objective=float(value),
        covariance=as_tuples(covariance),
        centre=points.centre,
        flops_range=(math.exp(ln_c.min()), math.exp(ln_c.max())),
        points=len(points.loss),
        status=Status.NOT_IDENTIFIED if broken or mixed else Status.OK,
        reason=flag,
    )


def constants(points: newton.Points, theta: FloatArray) -> FloatArray:
    """E, A, B, alpha, beta of each row of theta, shape (m, 5)."""
    x, y = points.centre
    return np.stack(
        [
            np.exp(theta[:, 0]),
            np.exp(theta[:, 1] + theta[:, 2] * x),
            np.exp(theta[:, 3] + theta[:, 4] * y),
            theta[:, 2],
            theta[:, 4],
        ],
        axis=1,
    )


def _at_bound(points: newton.Points, theta: FloatArray) -> tuple[str, ...]:
    """Names of the constants that ended at a bound or have no effect on any point."""
    low, high = points.bounds
    names = ("E", "A", "alpha", "B", "beta")
    tight = (theta <= low + 1e-9) | (theta >= high - 1e-9)
    least = float(points.loss.min())
    tight[0] |= math.exp(theta[0]) < 1e-4 * least
    for i, axis in ((1, points.x), (3, points.y)):
        tight[i] |= math.exp(theta[i]) * float(np.exp(-theta[i + 1] * axis).max()) < 1e-6 * least
    return tuple(name for name, hit in zip(names, tight, strict=True) if hit)


def no_surface(reason: str) -> Surface:
    """A surface without numbers."""
    return Surface(*(math.nan,) * 5, status=Status.NOT_IDENTIFIED, reason=reason)
