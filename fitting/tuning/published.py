"""Laws of learning rate and batch size: Step Law, and the form that ours take.

Legend: p = params, t = tokens, C = flops = 6 p t; logarithms natural; rates per step (AdamW),
batches in tokens.

Step Law holds for its own optimiser, schedule and count of params. Our own laws come from
`fitting.fit_points`; other published rules are in `trainables.recipe`, which trains by them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fitting.errors import Status
from fitting.regression import t_quantile
from fitting.values import (
    FLOPS_PER_PARAM_TOKEN,
    FloatArray,
    Result,
    check_positive,
    farthest,
    log_interval,
    number,
)

Quantity = Literal["learning_rate", "batch_tokens"]

_UNKNOWN = (math.nan, math.nan)
_NO_COVARIANCE = ((math.nan,) * 3,) * 3
_SLACK = 1e-9  # relative, for numbers that are the ends of a range


@dataclass(frozen=True)
class Recommendation:
    """A hyperparameter for one allocation.

    Attributes:
        interval: 90 %; NaN where the law has no errors.
        extrapolates: greatest factor by which params, tokens or flops leave the measured range.
    """

    value: float
    interval: tuple[float, float]
    extrapolates: float = 1.0
    warning: str = ""


@dataclass(frozen=True)
class HyperparameterLaw(Result):
    """quantity = coefficient * params^params_exponent * tokens^tokens_exponent.

    Attributes:
        quantity: "learning_rate" or "batch_tokens".
        coefficient: at one parameter and one token.
        covariance: of (ln coefficient, params_exponent, tokens_exponent), (3, 3).
        dof: degrees of freedom behind the covariance.
        scatter: standard deviation of ln quantity round the law beyond the points' own errors.
        params_range, tokens_range, flops_range: where it was measured.
        source: where it comes from and what its params count.
    """

    quantity: Quantity
    coefficient: float
    params_exponent: float = 0.0
    tokens_exponent: float = 0.0
    covariance: tuple[tuple[float, ...], ...] = _NO_COVARIANCE
    dof: float = math.inf
    scatter: float = math.nan
    params_range: tuple[float, float] = _UNKNOWN
    tokens_range: tuple[float, float] = _UNKNOWN
    flops_range: tuple[float, float] = _UNKNOWN
    source: str = ""
    status: Status = Status.OK
    reason: str = ""

    def __call__(self, params: npt.ArrayLike, tokens: npt.ArrayLike) -> FloatArray:
        """The quantity at these allocations; arguments broadcast."""
        p, t = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
        return np.asarray(self.coefficient * p**self.params_exponent * t**self.tokens_exponent)

    def log_se(self, params: float, tokens: float) -> float:
        """Standard error of ln quantity at one allocation."""
        row = np.array([1.0, math.log(params), math.log(tokens)])
        return math.sqrt(max(float(row @ np.array(self.covariance) @ row), 0.0))

    def half_width(self, index: int) -> float:
        """Of the 90 % interval of ln coefficient (0), params' (1) or tokens' exponent (2)."""
        variance = max(self.covariance[index][index], 0.0)
        return t_quantile(0.9, self.dof) * math.sqrt(variance)

    def at(self, params: float, tokens: float) -> Recommendation:
        """The quantity for one allocation, with interval and warning.

        Raises:
            FitError: the law is not identified.
            FittingError: params or tokens is not positive and finite.
        """
        self.required()
        check_positive(params=params, tokens=tokens)
        middle = float(self(params, tokens))
        half = t_quantile(0.9, self.dof) * self.log_se(params, tokens)
        beyond, warning = self._beyond(params, tokens)
        return Recommendation(middle, log_interval(middle, half), beyond, warning)

    def _beyond(self, params: float, tokens: float) -> tuple[float, str]:
        """Greatest factor out of the ranges, and a sentence on it."""
        values = {
            "params": params, "tokens": tokens, "flops": FLOPS_PER_PARAM_TOKEN * params * tokens,
        }  # fmt: skip
        ranges = {name: getattr(self, f"{name}_range") for name in values}
        factor, name = farthest(values, ranges)
        if factor <= 1 + _SLACK:
            return 1.0, ""
        low, high = ranges[name]
        return factor, (
            f"{self.quantity}: {name} {number(values[name])} lies a factor of {factor:.2g} "
            f"outside the measured {number(low)} to {number(high)}."
        )

    def __str__(self) -> str:
        """One line for a terminal."""
        if not self.ok:
            return f"no law of {self.quantity}: {self.status} ({self.reason})"
        parts = [f"{self.quantity} = {self.coefficient:.4g}"]
        for i, name in enumerate(("params", "tokens"), 1):
            exponent, variance = getattr(self, f"{name}_exponent"), self.covariance[i][i]
            if exponent:
                known = f" ± {math.sqrt(variance):.2g}" if variance > 0 else ""
                parts.append(f"{name}^({exponent:.4g}{known})")
        return " * ".join(parts)


@dataclass(frozen=True)
class Rule:
    """A learning rate and a batch size that belong together."""

    learning_rate: HyperparameterLaw
    batch_tokens: HyperparameterLaw


_STEP = (
    "Step Law (Li et al. 2025, arXiv 2503.04715): AdamW, cosine to a fixed final rate of 1e-5, "
    "sequences of 2048, dense models; params without embeddings. Constants: mean and covariance "
    "of the 1004 bootstraps they publish (printed rounded: 1.79, -.713, .307; .58, .571)"
)
_STEP_PLACE: dict[str, Any] = {
    "source": _STEP, "params_range": (2.14e8, 1.08e9), "tokens_range": (4e9, 1e11),
}  # fmt: skip
_STEP_RATE = (
    (0.389062, -0.0135589, -0.00513249),
    (-0.0135589, 0.000891486, -0.000174332),
    (-0.00513249, -0.000174332, 0.000366312),
)
_STEP_BATCH = ((0.191180, 0.0, -0.00815157), (0.0, 0.0, 0.0), (-0.00815157, 0.0, 0.000348518))
STEP_LAW = Rule(
    HyperparameterLaw(
        "learning_rate", math.exp(0.58631), -0.71292, 0.30749, _STEP_RATE, **_STEP_PLACE
    ),
    HyperparameterLaw(
        "batch_tokens", math.exp(-0.54354), 0.0, 0.57094, _STEP_BATCH, **_STEP_PLACE
    ),
)
"""Seventeen allocations of .21 to 1.07 B params on 4 to 100 B tokens, about 110 trials each."""
