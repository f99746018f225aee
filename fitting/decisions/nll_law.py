"""T^2's first law: the loss of the best of k samples, and its fit.

Legend: as in `fitting.decisions.testtime`; of a misfit y = ln t, n = checkpoints, m = numbers of
samples.

Method: T^2 (arXiv 2604.01411), approach 1. On a full table of checkpoints by k the least squares
of an additive law separate: the mean over k of each checkpoint is a surface in (p, t), the mean
over checkpoints at each k is a power law in k. Both have one best answer, found without random
starts; only where that puts E below zero are all constants refined together under E >= 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
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
from fitting.laws.newton import EXPONENT_BOUNDS
from fitting.laws.surface import Surface, fit_surface
from fitting.regression import falling_root, grid_minimum
from fitting.values import FloatArray, as_tuples

GAMMA_BOUNDS = EXPONENT_BOUNDS
"""gamma is kept inside, as the exponents of a surface are (assumption)."""

_REACH = 20.0  # how far logarithms of coefficients may move while E is held at zero
_LEAST_FRACTION = 1e-6  # a samples term below this fraction of the loss is none


_TERMS = 6
"""Of a quadratic in x and y, which stands for all that a smooth surface may have missed."""

_LEAST_DOF = 3
"""Fewest checkpoints beyond the terms, needed to estimate noise (assumption)."""

_CHANCE = 1e-3
"""Greatest chance of noise alone at which a law is refused (assumption)."""

_LEAST_MISFIT = 0.05
"""A misfit below this fraction of the data's standard deviation is accepted: no law of a few
constants is exact, and with little noise any would be refused (assumption)."""


@dataclass(frozen=True)
class Misfit:
    """Residuals in two parts, in the unit of the data.

    Attributes:
        systematic: root mean square of the part that a quadratic in x and y explains; NaN with
            too few checkpoints.
        noise: of the rest.
        chance: that noise alone would explain as much.
    """

    systematic: float
    noise: float
    sd: float
    chance: float

    @property
    def large(self) -> bool:
        """Whether the law is of the wrong form."""
        return self.chance < _CHANCE and self.systematic > _LEAST_MISFIT * self.sd

    @classmethod
    def of(
        cls, residual: FloatArray, params: FloatArray, tokens: FloatArray, data: FloatArray
    ) -> Misfit:
        """Split residuals.

        The m values of one checkpoint count as one, as they come from the same answers: the F
        test is exact where they move together, and on the safe side elsewhere.

        Args:
            residual, data: shape (n, m); the latter is what was fitted.
            params, tokens: shape (n,).
        """
        from scipy.stats import f

        n, sd = len(params), float(data.std())
        if n < _TERMS + _LEAST_DOF:
            return cls(math.nan, math.nan, sd, math.nan)
        x, y = (np.log(v / v.mean()) for v in (params, tokens))
        basis, _ = np.linalg.qr(np.stack([np.ones(n), x, y, x * x, x * y, y * y], axis=1))
        explained = basis @ (basis.T @ residual)
        rest = residual - explained
        ratio = (explained**2).sum() / _TERMS / max((rest**2).sum() / (n - _TERMS), 1e-300)
        return cls(
            systematic=math.sqrt((explained**2).mean()),
            noise=math.sqrt((rest**2).sum() / (n - _TERMS) / residual.shape[1]),
            sd=sd,
            chance=float(f.sf(ratio, _TERMS, n - _TERMS)),
        )


@dataclass(frozen=True)
class NllLaw(SamplingLaw):
    """Mean -ln pass@k = E + A p^-alpha + B t^-beta + G k^-gamma, nats.

    Attributes:
        E: irreducible, nats.
        A, B, G: coefficients of the terms in params, tokens and samples (G in nats).
        alpha, beta, gamma: their exponents.
        covariance: of (ln A, alpha, ln B, beta, ln G, gamma), (6, 6).
        rmse: root mean squared residual, nats.
        ranges: what it was fitted on; None for a law given by its constants.
        status: OK, NOT_IDENTIFIED, or MISFIT where noise cannot make the residuals.
    """

    E: float
    A: float
    B: float
    G: float
    alpha: float
    beta: float
    gamma: float
    covariance: tuple[tuple[float, ...], ...] = ((math.nan,) * 6,) * 6
    rmse: float = math.nan
    ranges: Ranges | None = None
    status: Status = Status.OK
    reason: str = ""
    quantity: ClassVar[Quantity] = "-ln pass@k"

    @property
    def one_sample(self) -> Surface:
        """The law at k = 1: a surface whose floor is E + G."""
        return Surface(
            self.E + self.G, self.A, self.B, self.alpha, self.beta, status=self.status,
            reason=self.reason,
        )  # fmt: skip

    def value(
        self, params: npt.ArrayLike, tokens: npt.ArrayLike, k: npt.ArrayLike = 1.0
    ) -> FloatArray:
        """Predicted mean -ln pass@k, nats; arguments broadcast."""
        p, t = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
        terms = self.A * p**-self.alpha + self.B * t**-self.beta
        return np.asarray(self.E + terms + self.G * check_samples(k) ** -self.gamma)

    def _best(
        self, bound: float, train_flops: float, inference_flops: float
    ) -> tuple[float, float]:
        """Root of alpha A p^-alpha = beta B t^-beta + gamma G k^-gamma; the left side falls."""

        def slope(x: float) -> float:
            log_k, log_t = log_samples(x, inference_flops), log_tokens(x, train_flops)
            gain = math.log(self.alpha * self.A) - self.alpha * x
            data = math.log(self.beta * self.B) - self.beta * log_t
            samples = math.log(self.gamma * self.G) - self.gamma * log_k
            return gain - float(np.logaddexp(data, samples))

        log_params = falling_root(slope, -bound - 1e3, bound)
        held = log_params == bound
        se = 0.0 if held else self._log_params_se(log_params, train_flops, inference_flops)
        return log_params, se

    def _log_params_se(self, x: float, train_flops: float, inference_flops: float) -> float:
        """Standard error of ln p* by the delta method on the stationarity equation."""
        log_k, log_t = log_samples(x, inference_flops), log_tokens(x, train_flops)
        data = self.beta * self.B * math.exp(-self.beta * log_t)
        fraction = data / (data + self.gamma * self.G * math.exp(-self.gamma * log_k))
        slope = self.alpha + fraction * self.beta + (1 - fraction) * self.gamma
        gradient = np.array(
            [
                1.0,
                1 / self.alpha - x,
                -fraction,
                -fraction * (1 / self.beta - log_t),
                fraction - 1,
                (fraction - 1) * (1 / self.gamma - log_k),
            ]
        )
        return math.sqrt(max(float(gradient @ np.array(self.covariance) @ gradient), 0.0)) / slope


def fit_nll_law(curves: PassCurves, *, throw: bool = False) -> NllLaw:
    """Fit the seven constants to mean -ln pass@k by least squares.

    Returns:
        The law; its covariance counts the k of one checkpoint as one observation, as they come
        from the same answers.

    Raises:
        FitError: with ``throw``, the status is not OK.
    """
    return _fit(curves).required(throw)


def _fit(curves: PassCurves) -> NllLaw:
    nothing = partial(NllLaw, *(math.nan,) * 7, status=Status.NOT_IDENTIFIED)
    if len(curves.k) < 3:
        few = f"{len(curves.k)} numbers of samples; the term in k needs 3 or more."
        return nothing(reason=few)
    y = curves.neg_log_pass
    surface = fit_surface(
        curves.params, curves.tokens, y.mean(axis=1), loss_function="least-squares"
    )
    if not surface.ok:
        few = f"{surface.reason} Checkpoints must differ in params and in tokens."
        return nothing(reason=few)
    g, gamma = _samples_term(curves.k, y.mean(axis=0))
    mean = float((curves.k**-gamma).mean())
    law = NllLaw(
        E=surface.E - g * mean, A=surface.A, B=surface.B, G=g, alpha=surface.alpha,
        beta=surface.beta, gamma=gamma,
    )  # fmt: skip
    if law.E < 0:
        law = _refined(curves, law, surface.E)
    return _described(curves, law)


def _samples_term(k: FloatArray, means: FloatArray) -> tuple[float, float]:
    """(G, gamma) of the mean over checkpoints at each k, around its own mean."""
    around = means - means.mean()

    def coefficient(gamma: float) -> tuple[float, float]:
        term = k**-gamma
        term = term - term.mean()
        g = max(float(term @ around / (term @ term)), 0.0)
        return g, float(((around - g * term) ** 2).sum())

    gamma = grid_minimum(lambda v: coefficient(v)[1], np.geomspace(*GAMMA_BOUNDS, 60))
    return coefficient(gamma)[0], gamma


def _refined(curves: PassCurves, law: NllLaw, floor: float) -> NllLaw:
    """All constants together with E at zero, from starts along gamma."""
    from scipy.optimize import least_squares

    n, m = curves.neg_log_pass.shape
    rows, columns = curves.neg_log_pass.mean(axis=1), curves.neg_log_pass.mean(axis=0)
    x0, y0 = np.log(curves.params).mean(), np.log(curves.tokens).mean()
    x, y = np.log(curves.params) - x0, np.log(curves.tokens) - y0

    def residual(v: FloatArray) -> FloatArray:
        shape = np.exp(v[0] - v[1] * x) + np.exp(v[2] - v[3] * y)
        term = np.exp(v[4] - v[5] * np.log(curves.k))
        off = columns - columns.mean() - (term - term.mean())
        return np.concatenate([math.sqrt(m) * (rows - shape - term.mean()), math.sqrt(n) * off])

    a, b = math.log(law.A) - law.alpha * x0, math.log(law.B) - law.beta * y0
    best = None
    for gamma in (law.gamma, *np.geomspace(0.03, 1.0, 6)):
        g = math.log(max(floor, 1e-6) / float((curves.k**-gamma).mean()))
        start = np.array([a, law.alpha, b, law.beta, g, gamma])
        reach = np.array([_REACH, 0.0, _REACH, 0.0, _REACH, 0.0])
        low = np.where(reach > 0, start - reach, GAMMA_BOUNDS[0] * 0.99)
        high = np.where(reach > 0, start + reach, GAMMA_BOUNDS[1] * 1.01)
        found = least_squares(residual, start, bounds=(low, high), x_scale="jac", xtol=1e-15)
        best = found if best is None or found.cost < best.cost else best
    assert best is not None
    a, alpha, b, beta, g, gamma = (float(v) for v in best.x)
    return NllLaw(
        E=0.0, A=math.exp(a + alpha * x0), B=math.exp(b + beta * y0), G=math.exp(g), alpha=alpha,
        beta=beta, gamma=gamma,
    )  # fmt: skip


def _described(curves: PassCurves, law: NllLaw) -> NllLaw:
    """Add ranges, residuals, errors and a status."""
    fitted = law.value(curves.params[:, None], curves.tokens[:, None], curves.k)
    residual = curves.neg_log_pass - fitted
    status, reason = _status(curves, law, residual)
    stuck = status is Status.NOT_IDENTIFIED
    covariance = np.full((6, 6), math.nan) if stuck else _covariance(curves, law, residual)
    return replace(
        law, covariance=as_tuples(covariance), rmse=float(np.sqrt((residual**2).mean())),
        ranges=ranges_of(curves), status=status, reason=reason,
    )  # fmt: skip


def _status(curves: PassCurves, law: NllLaw, residual: FloatArray) -> tuple[Status, str]:
    """Whether the data fix the term in k, and have the law's form."""
    low, high = GAMMA_BOUNDS
    absent = law.G <= _LEAST_FRACTION * float(curves.neg_log_pass.min())
    if absent or not low * 1.01 < law.gamma < high * 0.99:
        found = f"G {law.G:.3g}, gamma {law.gamma:.3g}"
        return Status.NOT_IDENTIFIED, f"The term in k is not fixed by the data: {found}."
    found = f"Through {len(curves.params)} checkpoints at {len(curves.k)} numbers of samples."
    if law.E == 0:
        found += " E is at its bound of zero."
    misfit = Misfit.of(residual, curves.params, curves.tokens, curves.neg_log_pass)
    if misfit.large:
        return Status.MISFIT, (
            f"{found} The law is off by {misfit.systematic:.2g} nats, more than noise of "
            f"{misfit.noise:.2g} between checkpoints explains: use the law of pass@k "
            "(fit_pass_law), or fewer k."
        )
    if math.isnan(misfit.chance):
        found += " Too few checkpoints to tell misfit from noise."
    return Status.OK, found


def _covariance(curves: PassCurves, law: NllLaw, residual: FloatArray) -> FloatArray:
    """Sandwich of (ln A, alpha, ln B, beta, ln G, gamma) with one cluster per checkpoint."""
    n, m = residual.shape
    first = (law.A * curves.params**-law.alpha)[:, None] * np.ones(m)
    second = (law.B * curves.tokens**-law.beta)[:, None] * np.ones(m)
    third = law.G * curves.k**-law.gamma * np.ones((n, 1))
    log_p, log_t = np.log(curves.params)[:, None], np.log(curves.tokens)[:, None]
    columns = [first, -first * log_p, second, -second * log_t, third, -third * np.log(curves.k)]
    if law.E > 0:
        columns.append(np.ones((n, m)))
    jacobian = np.stack(columns, axis=2)
    scale = np.sqrt((jacobian**2).sum(axis=(0, 1)))
    jacobian = jacobian / scale
    bread = np.linalg.pinv(np.einsum("nmi,nmj->ij", jacobian, jacobian), hermitian=True)
    scores = np.einsum("nmi,nm->ni", jacobian, residual)
    correction = n / max(n - jacobian.shape[2], 1)
    meat = scores.T @ scores * correction
    whole = bread @ meat @ bread / np.outer(scale, scale)
    return np.asarray(whole[:6, :6])
