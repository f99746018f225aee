"""T^2's second law: pass@k of questions whose success probabilities are Beta distributed.

Legend: as in `fitting.decisions.testtime`.

Method: T^2 (arXiv 2604.01411), approach 2. First a surface through the loss of one sample, then
five constants that turn a loss into pass@k, by least squares from a lattice of starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fitting.decisions.passk import PassCurves, check_samples
from fitting.decisions.testtime import (
    Quantity,
    Ranges,
    SamplingLaw,
    log_samples,
    log_tokens,
    ranges_of,
)
from fitting.errors import Status
from fitting.laws.surface import Surface, fit_surface, no_surface
from fitting.values import FloatArray

SMALLEST = math.log(1e3)
"""ln of the least params an optimum is looked for at (no language model is smaller)."""

GRID = 800
"""Points in ln p: pass@k along two budgets need not have one maximum only (assumption)."""

_LOG_SPREAD_BOUNDS = (-10.0, 15.0)  # of ln nu at the mean loss; beyond, questions are 0/1 or alike
_LEAST_MEAN, _MOST_LOG = 1e-200, 60.0  # success and ln nu beyond which nothing changes any more
_RARE = 1e-8  # a below which the difference of Beta functions drowns in rounding
_MOST = 8  # ln of slope and logit of ceiling are kept within this


@dataclass(frozen=True)
class PassLaw(SamplingLaw):
    """Mean pass@k of questions whose success probabilities are Beta(mu nu, (1 - mu) nu).

    With L the loss of one sample, mu = ceiling / (1 + exp(slope (L - middle))) is the mean
    success probability and nu = exp(log_spread + spread_slope L) how alike the questions are.

    Attributes:
        surface: L(p, t), nats.
        middle: loss at which half the ceiling is reached, nats.
        slope: per nat.
        ceiling: pass@1 of a perfect loss, in (0, 1].
        log_spread: ln nu at a loss of zero.
        spread_slope: per nat.
        rmse: root mean squared residual of pass@k.
        ranges: what it was fitted on; None for a law given by its constants.
    """

    surface: Surface
    middle: float
    slope: float
    ceiling: float
    log_spread: float
    spread_slope: float
    rmse: float = math.nan
    ranges: Ranges | None = None
    status: Status = Status.OK
    reason: str = ""
    quantity: ClassVar[Quantity] = "pass@k"

    @property
    def one_sample(self) -> Surface:
        """L(p, t)."""
        return self.surface

    def value(
        self, params: npt.ArrayLike, tokens: npt.ArrayLike, k: npt.ArrayLike = 1.0
    ) -> FloatArray:
        """Predicted mean pass@k; arguments broadcast."""
        return self.pass_rate(self.surface.loss(params, tokens), k)

    def pass_rate(self, loss: npt.ArrayLike, k: npt.ArrayLike) -> FloatArray:
        """Mean pass@k at a loss of one sample (nats): 1 - B(a, b + k) / B(a, b)."""
        return np.asarray(-np.expm1(self._log_fail(np.asarray(loss, dtype=float), k)))

    def _best(
        self, bound: float, train_flops: float, inference_flops: float
    ) -> tuple[float, float]:
        """Best point of a grid in ln p, refined between its neighbours."""
        from scipy.optimize import minimize_scalar

        def cost(x: FloatArray | float) -> FloatArray:
            loss = self.surface.loss(np.exp(x), np.exp(log_tokens(x, train_flops)))
            k = np.maximum(np.exp(log_samples(x, inference_flops)), 1.0)
            return self._log_fail(loss, k)

        grid = np.linspace(min(SMALLEST, bound), bound, GRID)
        best = int(np.argmin(cost(grid)))
        ends = (grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)])
        found = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-10})
        return bound if cost(bound) <= found.fun else float(found.x), math.nan

    def _log_fail(self, loss: FloatArray, k: npt.ArrayLike) -> FloatArray:
        """ln of the mean probability that all k samples fail."""
        from scipy.special import betaln, digamma

        a, b = self.shape(loss)
        samples = check_samples(k)
        exact = betaln(a, b + samples) - betaln(a, b)
        rare = -a * (digamma(b + samples) - digamma(b))  # the same to first order in a
        return np.asarray(np.minimum(np.where(a < _RARE * np.minimum(b, 1.0), rare, exact), 0.0))

    def shape(self, loss: FloatArray) -> tuple[FloatArray, FloatArray]:
        """a = mu nu and b = (1 - mu) nu."""
        from scipy.special import expit

        mean = np.maximum(self.ceiling * expit(self.slope * (self.middle - loss)), _LEAST_MEAN)
        spread = np.exp(np.clip(self.log_spread + self.spread_slope * loss, -_MOST_LOG, _MOST_LOG))
        return mean * spread, (1.0 - mean) * spread


def fit_pass_law(curves: PassCurves, *, throw: bool = False) -> PassLaw:
    """Fit the surface to the loss of one sample, then five constants to pass@k.

    Raises:
        FitError: with ``throw``, the status is not OK.
    """
    return _fit(curves).required(throw)


def _fit(curves: PassCurves) -> PassLaw:
    if len(curves.k) < 2:
        return _nothing("one number of samples; how alike questions are needs 2 or more.")
    surface = fit_surface(curves.params, curves.tokens, curves.nll)
    if not surface.ok:
        return _nothing(f"loss of one sample: {surface.reason}")
    loss = surface.loss(curves.params, curves.tokens)
    best = _constants(loss, curves)
    law = _law(surface, best, float(loss.mean()))
    residual = law.pass_rate(loss[:, None], curves.k) - curves.pass_rate
    return replace(
        law,
        rmse=float(np.sqrt((residual**2).mean())),
        ranges=ranges_of(curves),
        reason=f"Through {len(loss)} checkpoints at {len(curves.k)} numbers of samples.",
    )


def _law(surface: Surface, v: FloatArray, centre: float) -> PassLaw:
    """The law of one vector (middle, ln slope, logit ceiling, ln nu at centre, spread slope)."""
    middle, log_slope, logit, spread, spread_slope = (float(x) for x in v)
    return PassLaw(
        surface=surface, middle=middle, slope=math.exp(log_slope),
        ceiling=1.0 / (1.0 + math.exp(-logit)), log_spread=spread - spread_slope * centre,
        spread_slope=spread_slope,
    )  # fmt: skip


def _constants(loss: FloatArray, curves: PassCurves) -> FloatArray:
    """The vector of least squared error of pass@k, from the best four starts of a lattice."""
    from scipy.optimize import least_squares

    centre = float(loss.mean())
    none = Surface(0.0, 0.0, 0.0, 1.0, 1.0)

    def residual(v: FloatArray) -> FloatArray:
        law = _law(none, v, centre)
        return np.asarray(law.pass_rate(loss[:, None], curves.k) - curves.pass_rate).ravel()

    low = np.array([loss.min() - 50, -_MOST, -_MOST, _LOG_SPREAD_BOUNDS[0], -5.0])
    high = np.array([loss.max() + 50, _MOST, _MOST, _LOG_SPREAD_BOUNDS[1], 5.0])
    starts = [np.clip(v, low + 1e-6, high - 1e-6) for v in _starts(loss, curves)]
    starts.sort(key=lambda v: float((residual(v) ** 2).sum()))
    found = [
        least_squares(residual, v, bounds=(low, high), x_scale="jac", xtol=1e-12, ftol=1e-12)
        for v in starts[:4]
    ]
    return np.asarray(min(found, key=lambda f: float(f.cost)).x)


def _starts(loss: FloatArray, curves: PassCurves) -> list[FloatArray]:
    """Sigmoids through the fewest samples, by how high they end and how alike questions are."""
    rate = curves.pass_rate[:, int(np.argmin(curves.k))]
    starts = []
    for logit in (-1.0, 1.0, 4.0):
        ceiling = max(1.0 / (1.0 + math.exp(-logit)), 1.05 * float(rate.max()))
        odds = np.clip(rate / min(ceiling, 0.9999), 1e-9, 1 - 1e-9)
        slope, height = np.polyfit(loss, np.log(odds / (1 - odds)), 1)
        slope = max(-float(slope), 1e-3)
        middle = float(height) / slope
        for spread in (-2.0, 0.0, 2.0):
            for tilt in (-0.3, 0.0, 0.3):
                starts.append(np.array([middle, math.log(slope), logit, spread, tilt]))
    return starts


def _nothing(reason: str) -> PassLaw:
    """A law without numbers."""
    return PassLaw(
        no_surface(reason), *(math.nan,) * 5, status=Status.NOT_IDENTIFIED, reason=reason
    )
