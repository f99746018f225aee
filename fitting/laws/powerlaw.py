"""Power laws through optima: p*(C) = a C^b and t*(C), with intervals.

Legend: C = flops, p = params, t = tokens, a = coefficient, b = exponent; logarithms are natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fitting.errors import Status
from fitting.regression import least_squares, scattered_fit, t_quantile
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray, Result, as_tuples, equal_columns

LEAST_SE = 1e-6
"""Smallest standard error of ln p* believed: smaller ones would be a weight without bound."""


@dataclass(frozen=True)
class PowerLaw(Result):
    """quantity = coefficient * flops ** exponent.

    Attributes:
        coefficient: a; in params or tokens at one FLOP.
        exponent: b.
        covariance: of (ln a, b), two rows; NaN where the scatter is unknown.
        dof: degrees of freedom behind the covariance; infinite if errors were given as known.
        scatter: standard deviation of ln quantity round the law beyond the errors given.
        flops_range: smallest and largest budget fitted.
        quantity: "params" or "tokens".
        status: OK, or NOT_IDENTIFIED with NaN for numbers.
        reason: what the status rests on.
        method: where the optima came from.
    """

    coefficient: float
    exponent: float
    covariance: tuple[tuple[float, float], tuple[float, float]] = ((math.nan,) * 2,) * 2
    dof: float = math.inf
    scatter: float = math.nan
    flops_range: tuple[float, float] = (math.nan, math.nan)
    quantity: str = "params"
    status: Status = Status.OK
    reason: str = ""
    method: str = ""

    @property
    def exponent_se(self) -> float:
        """Standard error of the exponent."""
        return math.sqrt(self.covariance[1][1])

    @property
    def coefficient_se(self) -> float:
        """Standard error of a, by the delta method."""
        return self.coefficient * math.sqrt(self.covariance[0][0])

    def __call__(self, flops: npt.ArrayLike) -> FloatArray:
        """The quantity at these budgets; same shape as ``flops``."""
        ln_value = math.log(self.coefficient) + self.exponent * np.log(
            np.asarray(flops, dtype=float)
        )
        return np.asarray(np.exp(np.minimum(ln_value, 700.0)))

    def log_se(self, flops: npt.ArrayLike) -> FloatArray:
        """Standard error of ln quantity at these budgets."""
        ln_c = np.log(np.asarray(flops, dtype=float))
        (v00, v01), (_, v11) = self.covariance
        return np.asarray(np.sqrt(np.maximum(v00 + 2 * v01 * ln_c + v11 * ln_c**2, 0.0)))

    def interval(
        self, flops: npt.ArrayLike, *, level: float = 0.9
    ) -> tuple[FloatArray, FloatArray]:
        """Central interval of the law (not of a single optimum scattered round it)."""
        half = np.minimum(t_quantile(level, self.dof) * self.log_se(flops), 300.0)
        middle = self(flops)
        return middle * np.exp(-half), middle * np.exp(half)

    def tokens_law(self, *, per_param_token: float = FLOPS_PER_PARAM_TOKEN) -> PowerLaw:
        """t*(C) = C / (6 p*(C)); of a law of tokens, the law of params.

        Args:
            per_param_token: flops / (params tokens), as the table counts them: of fits
                ``fit.convention.factor``.
        """
        other = {"params": "tokens", "tokens": "params"}[self.quantity]
        (v00, v01), (_, v11) = self.covariance
        return replace(
            self,
            coefficient=1 / (per_param_token * self.coefficient),
            exponent=1 - self.exponent,
            covariance=((v00, v01), (v01, v11)),
            quantity=other,
        )

    def __str__(self) -> str:
        """One line for a terminal."""
        if not self.ok:
            return f"no law of {self.quantity}: {self.status} ({self.reason})"
        return (
            f"{self.quantity} = {self.coefficient:.4g} * flops^{self.exponent:.4f}"
            f" (se of exponent {self.exponent_se:.4f})"
        )

    __repr__ = __str__


def fit_power_law(
    flops: npt.ArrayLike,
    params: npt.ArrayLike,
    *,
    se: npt.ArrayLike | None = None,
    method: str = "",
    throw: bool = False,
) -> PowerLaw:
    """Fit a straight line to ln params on ln flops.

    Without ``se`` every optimum counts the same and the noise is estimated from the residuals.
    With ``se`` the weights are 1 / (se^2 + scatter^2), the scatter estimated (Paule and Mandel
    1982): optima scatter round their law by more than their own errors (digitised optima of arXiv
    2503.10061 do), and weights of 1 / se^2 alone would let one budget decide.

    Args:
        flops: budgets, shape (n,).
        params: optima, shape (n,); rows that are NaN are left out and counted.
        se: standard errors of ln params, shape (n,).
        method: recorded with the law.
        throw: raise `FitError` where the law is not identified.

    Raises:
        FittingError: arrays of different shape or without numbers.
        FitError: with ``throw``, fewer than two budgets are usable.
    """
    ln_c, ln_p, errors, note = _checked(flops, params, se)
    if len(ln_c) < 2 or np.ptp(ln_c) < 1e-6:
        reason = f"{len(np.unique(ln_c))} usable budget(s); a law needs two or more. {note}"
        return no_law(Status.NOT_IDENTIFIED, reason.strip(), method).required(throw)
    centre = float(ln_c.mean())
    line, covariance, spread, dof = _line(ln_c - centre, ln_p, errors)
    shift = np.array([[1.0, -centre], [0.0, 1.0]])  # from the centred intercept to ln a
    ln_a, b = shift @ line
    if abs(ln_a) > 690:
        reason = f"The budgets lie too close to each other: exponent {b:.3g}."
        return no_law(Status.NOT_IDENTIFIED, reason, method).required(throw)
    return PowerLaw(
        coefficient=math.exp(ln_a),
        exponent=float(b),
        covariance=as_tuples(shift @ covariance @ shift.T),  # type: ignore[arg-type]
        dof=dof,
        scatter=spread,
        flops_range=(math.exp(ln_c.min()), math.exp(ln_c.max())),
        reason=note,
        method=method,
    )


def no_law(status: Status, reason: str, method: str) -> PowerLaw:
    """A law without numbers."""
    return PowerLaw(math.nan, math.nan, dof=0.0, status=status, reason=reason, method=method)


def _checked(
    flops: npt.ArrayLike, params: npt.ArrayLike, se: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None, str]:
    """Logarithms of the usable rows, their errors, and a note on the others."""
    c, p, e = equal_columns(
        flops=flops, params=params, se=np.zeros(np.size(params)) if se is None else se
    )
    good = np.isfinite(c) & np.isfinite(p) & (c > 0) & (p > 0) & np.isfinite(e) & (e >= 0)
    left = len(c) - int(good.sum())
    note = f"{left} of {len(c)} budgets have no usable optimum." if left else ""
    errors = None if se is None else np.maximum(e[good], LEAST_SE)
    return np.log(c[good]), np.log(p[good]), errors, note


def _line(
    x: FloatArray, y: FloatArray, se: FloatArray | None
) -> tuple[FloatArray, FloatArray, float, float]:
    """Line, covariance, scatter round it, degrees of freedom of the covariance."""
    design = np.stack([np.ones_like(x), x], axis=1)
    if se is None:
        fit = least_squares(design, y)
        return fit.coefficients, fit.covariance, math.sqrt(fit.variance), float(fit.dof)
    fit, scatter = scattered_fit(design, y, se)
    # Student's t always: scatter estimated as none may still be there (Hartung and Knapp 2001).
    dof = float(fit.dof) if fit.dof > 0 else math.inf
    return fit.coefficients, fit.inverse, scatter, dof
