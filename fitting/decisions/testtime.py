"""Test-time scaling: the allocation that is best when every answer may be sampled k times.

Legend: p = params, t = tokens, C = training flops = 6 p t, c = inference flops per token
served = 2 p k, k = samples; x = ln p; losses in nats, logarithms natural.

Method: T^2 (arXiv 2604.01411). Both of its laws put k = c / (2 p) and look for the best p on a
training budget: small models leave more samples. Here is what they share;
`fitting.decisions.nll_law` adds a term in k to the loss (approach 1),
`fitting.decisions.pass_law` takes each question's success probability as Beta distributed
(approach 2).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy.typing as npt
import pandas as pd

from fitting.decisions.passk import PassCurves
from fitting.errors import FitError, Status
from fitting.laws.surface import Surface
from fitting.values import (
    FLOPS_PER_PARAM_TOKEN,
    Z90,
    FloatArray,
    Result,
    check_positive,
    farthest,
    log_interval,
)

SAMPLING_FLOPS_PER_PARAM = 2.0
"""One sampled token: 2 FLOPs per parameter (Kaplan et al. 2020), as T^2 counts it."""

_ROUNDING = 1e-12  # of exp(ln p)

Quantity = Literal["-ln pass@k", "pass@k"]


Ranges = Mapping[str, tuple[float, float]]
"""What a law was fitted on: least and greatest of params, tokens, k and flops."""


def ranges_of(curves: PassCurves) -> Ranges:
    """Ranges of checkpoints and samples."""
    flops = FLOPS_PER_PARAM_TOKEN * curves.params * curves.tokens
    parts = {"params": curves.params, "tokens": curves.tokens, "k": curves.k, "flops": flops}
    return {name: (float(v.min()), float(v.max())) for name, v in parts.items()}


@dataclass(frozen=True)
class SamplingOptimum(Result):
    """The best allocation for a training budget and a budget per token served.

    Attributes:
        params: p*, NaN where ``status`` forbids a number.
        tokens: C / (6 p*).
        k: samples per answer, c / (2 p*), a real number from 1.
        value: mean -ln pass@k (nats) or mean pass@k, see ``quantity``.
        log_params_se: standard error of ln p*; NaN if unknown, 0 where k = 1 fixes p*.
        extrapolates: greatest factor by which params, tokens, k or flops leave the fitted range.
    """

    params: float
    tokens: float
    k: float
    value: float
    quantity: Quantity
    log_params_se: float = math.nan
    status: Status = Status.OK
    reason: str = ""
    extrapolates: float = 1.0

    @property
    def tokens_per_param(self) -> float:
        """t / p."""
        return self.tokens / self.params

    @property
    def interval(self) -> tuple[float, float]:
        """90 % interval of p*."""
        return log_interval(self.params, Z90 * self.log_params_se)


class SamplingLaw(Result):
    """What both laws share: the best allocation of two budgets."""

    ranges: Ranges | None
    """What it was fitted on."""
    quantity: ClassVar[Quantity]
    """What `value` is."""

    @property
    @abstractmethod
    def one_sample(self) -> Surface:
        """The loss of a single sample: what a law without k would be planned with."""

    @abstractmethod
    def value(
        self, params: npt.ArrayLike, tokens: npt.ArrayLike, k: npt.ArrayLike = 1.0
    ) -> FloatArray:
        """The predicted quantity; arguments broadcast."""

    @abstractmethod
    def _best(
        self, bound: float, train_flops: float, inference_flops: float
    ) -> tuple[float, float]:
        """ln p* up to the bound that leaves one sample and one token, and its standard error."""

    def optimum(self, train_flops: float, inference_flops: float) -> SamplingOptimum:
        """The best allocation of both budgets under k >= 1.

        Raises:
            FitError: the law is not identified.
            FittingError: a budget is not positive and finite.
        """
        self.required()
        check_positive(train_flops=train_flops, inference_flops=inference_flops)
        bound = min(log_samples(0.0, inference_flops), log_tokens(0.0, train_flops))
        log_params, se = self._best(bound, train_flops, inference_flops)
        params, tokens = math.exp(log_params), math.exp(log_tokens(log_params, train_flops))
        k = math.exp(log_samples(log_params, inference_flops))
        k = k if k > 1 + _ROUNDING else 1.0
        beyond, name = (1.0, "")
        if self.ranges is not None:
            flops = FLOPS_PER_PARAM_TOKEN * params * tokens
            values = {"params": params, "tokens": tokens, "k": k, "flops": flops}
            beyond, name = farthest(values, self.ranges)
        reason = "One sample is all that is left: k = 1 fixes params." if k == 1 else ""
        if beyond > 1:
            reason += f" {name} leaves the fitted range by a factor of {beyond:.3g}."
        return SamplingOptimum(
            params=params, tokens=tokens, k=k, value=float(self.value(params, tokens, k)),
            quantity=self.quantity, log_params_se=se,
            reason=reason.strip() or "Interior optimum.", extrapolates=beyond,
        )  # fmt: skip


def sampling_frontier(
    law: SamplingLaw, train_flops: Sequence[float], inference_flops: float
) -> pd.DataFrame:
    """Best allocations over training budgets, beside Chinchilla's served on the same budget.

    Returns:
        One row per budget: train_flops, params, tokens, k, tokens_per_param, value; and
        chinchilla_params, chinchilla_k, chinchilla_value of the allocation that is best for one
        sample. Where that one cannot answer even once (k < 1) its value is NaN, and
        chinchilla_status says so.

    Raises:
        FitError: the law has no optima.
        FittingError: a budget is not positive and finite.
    """
    return pd.DataFrame([_compared(law, float(c), inference_flops) for c in train_flops])


def _compared(law: SamplingLaw, train_flops: float, inference_flops: float) -> dict[str, object]:
    best = law.optimum(train_flops, inference_flops)
    usual = law.one_sample.optimum(train_flops)
    if not usual.ok:
        raise FitError(usual.status, f"no optimum for one sample: {usual.reason}")
    k = inference_flops / (SAMPLING_FLOPS_PER_PARAM * usual.params)
    value = float(law.value(usual.params, usual.tokens, k)) if k >= 1 else math.nan
    return {
        "train_flops": train_flops, "params": best.params, "tokens": best.tokens, "k": best.k,
        "tokens_per_param": best.tokens_per_param, "value": best.value,
        "chinchilla_params": usual.params, "chinchilla_k": k, "chinchilla_value": value,
        "chinchilla_status": "ok" if k >= 1 else "too large to answer once",
    }  # fmt: skip


def log_tokens(log_params: FloatArray | float, train_flops: float) -> Any:
    """ln t that spends the training budget; of the shape of ``log_params``."""
    return math.log(train_flops / FLOPS_PER_PARAM_TOKEN) - log_params


def log_samples(log_params: FloatArray | float, inference_flops: float) -> Any:
    """ln k that spends the budget per token served; of the shape of ``log_params``."""
    return math.log(inference_flops / SAMPLING_FLOPS_PER_PARAM) - log_params
