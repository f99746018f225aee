"""Loss over compute and over-training, after Gadre et al.

Legend: C = flops = 6 p t, M = t / p, p = params, t = tokens; losses in nats.

L(C, M) = E + (a M^eta + b M^-eta) C^-eta (arXiv 2403.08540, equation 4): the usual surface with
one exponent 2 eta for params and tokens, so that runs of any M fall on parallel lines in C. One
exponent less is what lets a few small runs fix it; the price is that p*(C) grows as C^.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitting.errors import Status
from fitting.laws.newton import EXPONENT_BOUNDS
from fitting.laws.surface import Surface
from fitting.values import (
    FLOPS_PER_PARAM_TOKEN,
    FloatArray,
    Optimum,
    Result,
    as_tuples,
    check_positive,
    equal_columns,
)

MIN_POINTS = 5
"""One more than the constants."""

_LATTICE = 200  # exponents looked at before the best is refined


@dataclass(frozen=True)
class OvertrainingLaw(Result):
    """L(C, M) = E + (a M^eta + b M^-eta) C^-eta.

    Attributes:
        E: irreducible loss, nats.
        a: coefficient of what too few params cost, nats * flops^eta.
        b: coefficient of what too few tokens cost, nats * flops^eta.
        eta: exponent.
        covariance: of (E, a, b, eta), (4, 4).
        rmse: root mean squared residual, nats.
        points: number of points fitted.
        flops_range: smallest and largest C of the data.
        ratio_range: smallest and largest M of the data.
        status: OK or NOT_IDENTIFIED.
        reason: what the status rests on.
    """

    E: float
    a: float
    b: float
    eta: float
    covariance: tuple[tuple[float, ...], ...] = ((math.nan,) * 4,) * 4
    rmse: float = math.nan
    points: int = 0
    flops_range: tuple[float, float] = (math.nan, math.nan)
    ratio_range: tuple[float, float] = (math.nan, math.nan)
    status: Status = Status.OK
    reason: str = ""

    @property
    def best_ratio(self) -> float:
        """Tokens per parameter of least loss, the same for every budget."""
        return float((self.b / self.a) ** (1 / (2 * self.eta)))

    def at(self, flops: npt.ArrayLike, tokens_per_param: npt.ArrayLike) -> FloatArray:
        """Predicted loss at C and M, nats; arguments broadcast."""
        c, m = np.asarray(flops, dtype=float), np.asarray(tokens_per_param, dtype=float)
        shape = self.a * m**self.eta + self.b * m**-self.eta
        return np.asarray(self.E + shape * c**-self.eta)

    def loss(self, params: npt.ArrayLike, tokens: npt.ArrayLike) -> FloatArray:
        """Predicted loss of an allocation, nats; arguments broadcast."""
        p, t = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
        return self.at(FLOPS_PER_PARAM_TOKEN * p * t, t / p)

    def surface(self) -> Surface:
        """The same law as a surface in params and tokens."""
        scale = FLOPS_PER_PARAM_TOKEN**-self.eta
        return Surface(
            E=self.E,
            A=self.a * scale,
            B=self.b * scale,
            alpha=2 * self.eta,
            beta=2 * self.eta,
            flops_range=self.flops_range,
            points=self.points,
            status=self.status,
            reason=self.reason,
        )

    def optimum(self, flops: float) -> Optimum:
        """The allocation of least loss on a budget."""
        return self.surface().optimum(flops)


def fit_overtraining(
    params: npt.ArrayLike, tokens: npt.ArrayLike, loss: npt.ArrayLike, *, throw: bool = False
) -> OvertrainingLaw:
    """Fit the four constants by least squares.

    For a given eta the others follow linearly, so the one best answer is found along eta.

    Args:
        params: model sizes, shape (n,).
        tokens: training tokens, shape (n,).
        loss: nats, shape (n,).
        throw: raise `FitError` instead of returning a law without numbers.

    Raises:
        FittingError: arrays of different shape, or values not finite and positive.
        FitError: with ``throw``, the status is not OK.
    """
    p, t, y = equal_columns(params=params, tokens=tokens, loss=loss)
    check_positive(params=p, tokens=t, loss=y)
    distinct = len(np.unique(np.stack([p, t]), axis=1).T)
    if distinct < MIN_POINTS:
        reason = f"{distinct} distinct allocations; four constants need {MIN_POINTS} or more."
        law = OvertrainingLaw(*(math.nan,) * 4, status=Status.NOT_IDENTIFIED, reason=reason)
        return law.required(throw)
    return _fit(p, t, y).required(throw)


def _fit(p: FloatArray, t: FloatArray, y: FloatArray) -> OvertrainingLaw:
    from scipy.optimize import minimize_scalar

    c, m = FLOPS_PER_PARAM_TOKEN * p * t, t / p
    low, high = EXPONENT_BOUNDS[0] / 2, EXPONENT_BOUNDS[1] / 2
    grid = np.geomspace(low, high, _LATTICE)
    costs = [_linear(float(eta), c, m, y)[1] for eta in grid]
    best = int(np.argmin(costs))
    found = minimize_scalar(
        lambda eta: _linear(float(eta), c, m, y)[1],
        bounds=(grid[max(best - 1, 0)], grid[min(best + 1, _LATTICE - 1)]),
        method="bounded",
        options={"xatol": 1e-12},
    )
    eta = float(found.x)
    (e, a, b), cost = _linear(eta, c, m, y)
    stuck = [name for name, hit in (("a", a <= 0), ("b", b <= 0)) if hit]
    stuck += ["eta"] if best in (0, _LATTICE - 1) else []
    reason = f"Through {len(y)} points."
    if stuck:
        reason = f"Not fixed by the data: {', '.join(stuck)}."
    covariance = np.full((4, 4), math.nan) if stuck else _covariance((e, a, b, eta), c, m, cost)
    return OvertrainingLaw(
        E=e,
        a=a,
        b=b,
        eta=eta,
        covariance=as_tuples(covariance),
        rmse=math.sqrt(cost / len(y)),
        points=len(y),
        flops_range=(float(c.min()), float(c.max())),
        ratio_range=(float(m.min()), float(m.max())),
        status=Status.NOT_IDENTIFIED if stuck else Status.OK,
        reason=reason,
    )


def _linear(
    eta: float, c: FloatArray, m: FloatArray, y: FloatArray
) -> tuple[tuple[float, float, float], float]:
    """Non-negative least-squares (E, a, b) at one exponent, and the squared error."""
    from scipy.optimize import nnls

    design = np.stack([np.ones_like(y), m**eta * c**-eta, m**-eta * c**-eta], axis=1)
    scale = np.linalg.norm(design, axis=0)
    found, norm = nnls(design / scale, y)
    e, a, b = (float(v) for v in found / scale)
    return (e, a, b), float(norm) ** 2


def _covariance(
    v: tuple[float, float, float, float], c: FloatArray, m: FloatArray, cost: float
) -> FloatArray:
    """Of (E, a, b, eta), from the Jacobian and the residuals' variance."""
    _, a, b, eta = v
    first, second = (m / c) ** eta, (m * c) ** -eta
    slope = a * first * np.log(m / c) - b * second * np.log(m * c)
    jacobian = np.stack([np.ones_like(c), first, second, slope], axis=1)
    scale = np.linalg.norm(jacobian, axis=0)
    jacobian = jacobian / scale
    inverse = np.linalg.pinv(jacobian.T @ jacobian, hermitian=True)
    return np.asarray(inverse * cost / max(len(c) - 4, 1) / np.outer(scale, scale))
