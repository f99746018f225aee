"""What a wrong choice costs: loss, and the FLOPs that a right choice would have needed.

Legend: p = params, t = tokens, C = flops = 6 p t; losses in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from fitting.errors import FitError, FittingError
from fitting.fits import SkillFit
from fitting.laws.surface import Surface
from fitting.values import SIX, Convention, Optimum, Prediction, check_positive, number

FACTORS = (0.5, 0.7, 1.4, 2.0)
"""Factors off p* that are looked at by default."""

_LEAST_FRACTION = 1e-6
"""Equivalent FLOPs are looked for down to this fraction of the budget (assumption)."""


Model = Surface | SkillFit
"""What predicts a loss and knows its optima."""


def cost_of_choice(
    model: Model, flops: float, *, factors: Sequence[float] = FACTORS
) -> pd.DataFrame:
    """Loss and equivalent FLOPs of params off the optimum by given factors, on one budget.

    Args:
        flops: the budget, spent whole by every choice.
        factors: params / p*.

    Returns:
        One row per factor: factor, params, tokens, loss; excess, nats above the optimum's loss;
        equivalent_flops, the budget at which the right choice has the same loss; wasted, the
        fraction 1 - equivalent_flops / flops.

    Raises:
        FitError: the model has no optimum on this budget.
        FittingError: the model is none, or flops or a factor is not positive and finite.
    """
    check_positive(flops=flops)
    best = _optimum(model, flops)
    for factor in factors:
        check_positive(factors=factor)
    least = least_losses(model, flops)
    return pd.DataFrame([_row(model, best, least, factor * best.params) for factor in factors])


def cost_of_overtraining(
    model: Model, flops: float, *, tokens_per_param: Sequence[float]
) -> pd.DataFrame:
    """The same columns for allocations of given tokens per parameter on one budget.

    Raises:
        FitError: the model has no optimum on this budget.
        FittingError: the model is none, or flops or a ratio is not positive and finite.
    """
    check_positive(flops=flops)
    best, least = _optimum(model, flops), least_losses(model, flops)
    rows = []
    for ratio in tokens_per_param:
        check_positive(tokens_per_param=ratio)
        params = _balanced(_convention(model), flops, ratio)
        rows.append({"tokens_per_param": ratio, **_row(model, best, least, params)})
    return pd.DataFrame(rows)


def least_losses(model: Model, flops: float) -> Callable[[float], float]:
    """Loss of the best allocation over ln of a share of a budget, each worked out once."""

    @cache
    def least(log_share: float) -> float:
        best = _optimum(model, flops * math.exp(log_share))
        return _loss(model, best.params, best.tokens)

    return least


def equivalent_share(least: Callable[[float], float], loss: float) -> float:
    """The share of a budget whose optimum has this loss.

    Args:
        least: see `least_losses`.
        loss: nats.

    Returns:
        1 where the whole budget's optimum is not better than ``loss``; a millionth where even
        that share's optimum is better.
    """
    from scipy.optimize import brentq

    if least(0.0) >= loss:
        return 1.0
    low = high = 0.0
    while least(low) < loss:
        if low <= math.log(_LEAST_FRACTION):
            return math.exp(low)
        low, high = max(2 * low - 0.5, math.log(_LEAST_FRACTION)), low
    return math.exp(brentq(lambda share: least(share) - loss, low, high, xtol=1e-7))


def _convention(model: Model) -> Convention:
    """How the model's table counts FLOPs; 6 per parameter and token for a surface alone."""
    return getattr(model, "convention", SIX)


def _balanced(convention: Convention, flops: float, ratio: float) -> float:
    """The size that trains on ``ratio`` tokens per parameter: found by its own factor."""
    params = math.sqrt(flops / (convention.factor * ratio))
    for _ in range(4):
        params = math.sqrt(flops / (float(convention.at(params)) * ratio))
    return params


def _row(
    model: Model, best: Optimum, least: Callable[[float], float], params: float
) -> dict[str, float]:
    tokens = float(_convention(model).tokens(best.flops, params))
    loss = _loss(model, params, tokens)
    share = equivalent_share(least, loss)
    return {
        "factor": params / best.params, "params": params, "tokens": tokens, "loss": loss,
        "excess": loss - least(0.0), "equivalent_flops": share * best.flops, "wasted": 1.0 - share,
    }  # fmt: skip


def _optimum(model: Model, flops: float) -> Optimum:
    """The optimum on a budget, which must have numbers."""
    if not isinstance(model, Model):
        raise FittingError("model: give one skill's fit, such as fits['code'], or a surface")
    best = model.at(flops) if isinstance(model, SkillFit) else model.optimum(flops)
    if not math.isfinite(best.params):
        raise FitError(best.status, f"no optimum at {number(flops)} FLOPs: {best.reason}")
    return best


def _loss(model: Model, params: float, tokens: float) -> float:
    """The expected loss as a plain number."""
    found = model.loss(params, tokens)
    return found.value if isinstance(found, Prediction) else float(np.asarray(found))
