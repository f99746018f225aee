"""One value of a hyperparameter for all allocations: its best by a pooled parabola.

Legend: z = ln of a hyperparameter; losses in nats.

Beside learning rate and batch, whose optima follow laws, a recipe has numbers that are held for
all allocations (second moment, weight decay, warm-up). Their effect is small, so that the trials
of all allocations are taken together: ln loss is a level and a tilt per allocation, and one
parabola per hyperparameter common to them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fitting.errors import Status, TableError
from fitting.regression import least_squares
from fitting.tuning.optima import FLAT_SHARE
from fitting.tuning.quadratic import determined
from fitting.values import FloatArray, Result

WINDOW = 0.05
"""Share above an allocation's best loss within which trials count (assumption: wider than
`fitting.tuning.optima.WINDOW`, as all allocations share one parabola)."""


@dataclass(frozen=True)
class TunedConstant(Result):
    """The best value of one hyperparameter over all allocations.

    Attributes:
        name: of the hyperparameter.
        value: of least loss; NaN where ``status`` forbids a number.
        log_se: standard error of ln value.
        flat: values between which the loss stays within .25 % of the least.
        curvature: d2 ln loss / d(ln value)2.
        status: OK, EDGE, CONCAVE or NOT_IDENTIFIED.
        reason: what the status rests on.
    """

    name: str
    value: float
    log_se: float
    flat: tuple[float, float]
    curvature: float
    status: Status
    reason: str = ""


def tuned_constants(
    trials: pd.DataFrame | Mapping[str, Any], names: Sequence[str], *, with_laws: Sequence[str]
) -> dict[str, TunedConstant]:
    """Best values of hyperparameters that are the same for all allocations.

    Args:
        trials: columns params, tokens, loss, and every hyperparameter named; positive values.
        names: those wanted.
        with_laws: those that were varied too and have an optimum of their own per allocation.

    Raises:
        TableError: a column is missing, or a value is not finite and positive.
    """
    frame = pd.DataFrame(trials)
    for column in ("params", "tokens", "loss", *names, *with_laws):
        if column not in frame:
            raise TableError(f"missing column {column}; the table has {', '.join(frame)}")
        values = frame[column].to_numpy(float)
        if not (np.isfinite(values) & (values > 0)).all():
            raise TableError(f"{column} must be finite and positive")
    place = frame.groupby(["params", "tokens"]).ngroup().to_numpy()
    best = frame.groupby(place)["loss"].transform("min").to_numpy(float)
    near = frame["loss"].to_numpy(float) <= best * (1 + WINDOW)
    return _pooled(frame[near], place[near], names, with_laws)


def without(trials: pd.DataFrame, constants: Mapping[str, TunedConstant]) -> FloatArray:
    """Factors (n,) on the losses of trials that put every found constant at its best."""
    log_cost = np.zeros(len(trials))
    for name, one in constants.items():
        if one.ok:
            log_cost += one.curvature / 2 * np.log(trials[name].to_numpy(float) / one.value) ** 2
    return np.asarray(np.exp(-log_cost))


def _pooled(
    frame: pd.DataFrame, place: Any, names: Sequence[str], with_laws: Sequence[str]
) -> dict[str, TunedConstant]:
    levels = (place[:, None] == np.unique(place)).astype(float)
    columns = [levels]
    for name in with_laws:
        z = np.log(frame[name].to_numpy(float))
        columns += [levels * z[:, None], (z**2)[:, None]]
    centre = {name: float(np.log(frame[name]).mean()) for name in names}
    for name in names:
        z = np.log(frame[name].to_numpy(float)) - centre[name]
        columns.append(np.stack([z, z**2], axis=1))
    design = np.concatenate(columns, axis=1)
    y = np.log(frame["loss"].to_numpy(float))
    if len(y) <= design.shape[1] or not determined(design):
        reason = (
            f"{len(y)} trials near the best losses do not fix {design.shape[1]} constants: "
            "raise tuning.trials or tune fewer knobs at a time"
        )
        return {name: _nothing(name, Status.NOT_IDENTIFIED, reason) for name in names}
    fit = least_squares(design, y)
    first = design.shape[1] - 2 * len(names)
    return {
        name: _constant(
            name,
            fit.coefficients[i : i + 2],
            fit.covariance[i : i + 2, i : i + 2],
            centre[name],
            frame,
        )
        for name, i in zip(names, range(first, design.shape[1], 2), strict=True)
    }


def _constant(
    name: str, found: FloatArray, covariance: FloatArray, centre: float, frame: pd.DataFrame
) -> TunedConstant:
    """Read an optimum off slope and half curvature."""
    slope, half = (float(v) for v in found)
    if half <= 0:
        return _nothing(name, Status.CONCAVE, "ln loss does not curve upwards")
    z = -slope / (2 * half)
    value = math.exp(z + centre)
    if not frame[name].min() < value < frame[name].max():
        return _nothing(
            name, Status.EDGE, f"the minimum ({value:.3g}) lies outside the values tried"
        )
    gradient = np.array([-1 / (2 * half), slope / (2 * half**2)])
    width = math.exp(math.sqrt(math.log1p(FLAT_SHARE) / half))
    se = math.sqrt(max(float(gradient @ covariance @ gradient), 0.0))
    return TunedConstant(name, value, se, (value / width, value * width), 2 * half, Status.OK)


def _nothing(name: str, status: Status, reason: str) -> TunedConstant:
    nan = math.nan
    return TunedConstant(name, nan, nan, (nan, nan), nan, status, reason)
