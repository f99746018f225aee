"""The values every fit returns: plain, frozen, and printable.

Legend: p = params, t = tokens, C = flops (6 p t); logarithms are natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitting.errors import Status

FLOPS_PER_PARAM_TOKEN = 6.0
"""C = 6 p t: 2 forward, 4 backward per parameter and token (Kaplan et al. 2020)."""

Z90 = 1.6448536269514722
"""Half-width of a central 90 % normal interval, in standard deviations."""


@dataclass(frozen=True)
class Optimum:
    """The model size of least loss on one budget.

    Attributes:
        params: p*; NaN unless ``status`` is OK, or EDGE, where it is a lead and not a plan.
        log_params_se: standard error of ln p*.
        status: verdict; see `fitting.errors.Status`.
        curvature: d2 loss / d(ln p)2 at the optimum, nats.
        flops: the budget, NaN if the caller gave none.
        tokens: C / (6 p*), NaN without a budget.
        interval: 90 % interval of p*, (low, high).
        method: "parabola", "akima", "surface" or "guarded".
        loss: fitted loss at the optimum, nats.
        reason: what the verdict rests on, for a reader.
        bias: estimated systematic error of ln p* of the method (parabolas), NaN if unknown.
        extrapolates: flops / largest fitted budget when above 1, else 1.
    """

    params: float
    log_params_se: float
    status: Status
    curvature: float
    flops: float = math.nan
    tokens: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    method: str = ""
    loss: float = math.nan
    reason: str = ""
    bias: float = math.nan
    extrapolates: float = 1.0

    @property
    def ok(self) -> bool:
        """Whether the number may be planned with."""
        return self.status is Status.OK


@dataclass(frozen=True)
class Prediction:
    """A predicted loss with its 90 % interval, nats."""

    value: float
    interval: tuple[float, float]
    extrapolates: float = 1.0


FloatArray = npt.NDArray[np.float64]


def bounded_exp(value: float) -> float:
    """Exponential that returns infinity instead of overflowing."""
    return math.inf if value > 700 else math.exp(value)
