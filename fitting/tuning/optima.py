"""Learning rate and batch size from trials: optima per allocation, a law through them, flatness.

Legend: p = params, t = tokens, C = flops = 6 p t; z = ln of a hyperparameter; losses in nats.

On each allocation ln loss near its minimum is a quadratic in the logarithms of the d
hyperparameters that were varied; its vertex is the optimum, its curvature tells how much a wrong
value costs. All allocations have one estimate of the noise. The optima then give a log-log law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from fitting.errors import FittingError, Status, TableError
from fitting.reading.observations import group_budgets
from fitting.regression import least_squares, scattered_fit
from fitting.tuning.published import HyperparameterLaw, Quantity
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray, Result, as_tuples, size

FLAT_FRACTION = 0.0025
"""Loss within .25 % of the best counts as no worse (DeepSeek LLM, arXiv 2401.02954)."""

WINDOW = 0.01
"""Fraction above the best loss within which the quadratic is fitted. Measured on the 1911 trials
of Step Law (arXiv 2503.04715): within 1 % all 17 allocations have an optimum, on average 6 % below
the published law; within 2 % rates come out a fifth too low, as the loss is steeper above."""

Predictor = Literal["params", "tokens"]

_QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
_ALIASES = {"lr": "learning_rate", "batch": "batch_tokens"}


@dataclass(frozen=True)
class TunedPoint(Result):
    """The best value of one hyperparameter at one allocation.

    Attributes:
        params, tokens: of the allocation.
        value: of least loss, NaN where ``status`` forbids a number.
        log_se: standard error of ln value.
        flat: values between which the loss stays within .25 % of the least.
        curvature: d2 ln loss / d(ln value)2, the other hyperparameters held at their best.
        loss: least loss by the quadratic, nats.
    """

    params: float
    tokens: float
    value: float
    log_se: float
    flat: tuple[float, float]
    curvature: float
    loss: float
    trials: int
    status: Status
    reason: str = ""


def tuned_points(
    trials: pd.DataFrame | Mapping[str, Any], quantity: Quantity, *, window: float = WINDOW
) -> tuple[TunedPoint, ...]:
    """Best value of a hyperparameter at every allocation of a table.

    Args:
        trials: columns params, tokens, loss, and learning_rate (or lr), batch_tokens or both;
            diverged trials are left out by the caller or carry a large finite loss.

    Raises:
        TableError: a column is missing, or values are not finite and positive.
    """
    frame = _checked(trials, quantity)
    # Tokens are whole batches, so that trials of one allocation differ by a part of a batch.
    keys = [group_budgets(frame[name].to_numpy()) for name in ("params", "tokens")]
    groups = [g for _, g in frame.groupby(keys, sort=True)]
    fits = [_fit_response(g, _QUANTITIES, window) for g in groups]
    dof = sum(f.dof for f in fits)
    variance = sum(f.squares for f in fits) / dof if dof else math.nan
    return tuple(_point(g, f, quantity, variance) for g, f in zip(groups, fits, strict=True))


def fit_points(
    points: Sequence[TunedPoint],
    quantity: Quantity,
    *,
    predictors: Sequence[Predictor] = ("params", "tokens"),
) -> HyperparameterLaw:
    """quantity = coefficient * params^a * tokens^b, by optima weighted by errors and a scatter.

    Args:
        points: of `tuned_points`.
        predictors: what it may depend on; ("tokens",) is usual for batches.

    Raises:
        FittingError: an unknown quantity or predictor.
    """
    _check_quantity(quantity)
    if not predictors or not set(predictors) <= set(get_args(Predictor)):
        raise FittingError(f"predictors={tuple(predictors)!r}: give params, tokens, or both")
    good = [p for p in points if p.ok]
    lost: dict[str, list[str]] = {}
    for p in points:
        if not p.ok:
            lost.setdefault(p.reason, []).append(size(p.params))
    told = [f"{', '.join(dict.fromkeys(at))} params ({why})" for why, at in lost.items()]
    note = f" Left out: {'; '.join(told)}" if lost else ""
    columns = [0, *(i for i, n in enumerate(get_args(Predictor), 1) if n in predictors)]
    rows = [[1.0, math.log(p.params), math.log(p.tokens)] for p in good]
    design = np.array(rows).reshape(-1, 3)[:, columns]
    if not _determined(design):
        reason = (
            f"{len(good)} usable optima do not tell {' and '.join(predictors)} apart: tune at "
            f"allocations that differ in each, or name fewer predictors.{note}"
        )
        return HyperparameterLaw(
            quantity, math.nan, math.nan, math.nan, status=Status.NOT_IDENTIFIED, reason=reason
        )
    z = np.log([p.value for p in good])
    fit, scatter = scattered_fit(design, z, np.nan_to_num([p.log_se for p in good]))
    whole, errors = np.zeros(3), np.zeros((3, 3))
    whole[columns], errors[np.ix_(columns, columns)] = fit.coefficients, fit.inverse
    return HyperparameterLaw(
        quantity, math.exp(whole[0]), float(whole[1]), float(whole[2]),
        covariance=as_tuples(errors), dof=float(fit.dof) if fit.dof > 0 else math.inf,
        scatter=scatter, params_range=_range([p.params for p in good]),
        tokens_range=_range([p.tokens for p in good]),
        flops_range=_range([FLOPS_PER_PARAM_TOKEN * p.params * p.tokens for p in good]),
        source=f"fitted through {len(good)} optima", reason=f"Through {len(good)} optima.{note}",
    )  # fmt: skip


def flat_factor(points: Sequence[TunedPoint]) -> float:
    """Factor off the optimum that costs .25 % of the loss, geometric mean over allocations.

    Raises:
        FittingError: no point has an optimum.
    """
    widths = [0.5 * math.log(p.flat[1] / p.flat[0]) for p in points if p.ok]
    if not widths:
        raise FittingError("no allocation has an optimum to tell the flat width from")
    return math.exp(float(np.mean(widths)))


def recipe_shift(
    loss: Callable[[float, float], float],
    flops: float,
    *,
    params: float,
    curvature: float,
    log_off: Callable[[float, float], float],
) -> float:
    """Factor by which p*(flops) moves where a rate is off its best by a known amount.

    Args:
        loss: of (params, tokens) with everything tuned, nats.
        curvature: d2 ln loss / d(ln rate)2, as `TunedPoint.curvature` has it.
        log_off: of (params, tokens): ln of the rate used over the best one.

    Returns:
        p* mistuned / p* tuned, looked for within a factor of e^2.
    """
    from scipy.optimize import minimize_scalar

    centre = math.log(params)

    def log_loss(shift: float) -> float:
        p = math.exp(centre + shift)
        t = flops / (FLOPS_PER_PARAM_TOKEN * p)
        return math.log(loss(p, t)) + curvature / 2 * log_off(p, t) ** 2

    found = minimize_scalar(log_loss, bounds=(-2.0, 2.0), method="bounded")
    return math.exp(float(found.x))


def _point(group: pd.DataFrame, fit: _Response, quantity: Quantity, variance: float) -> TunedPoint:
    """Read one hyperparameter's optimum off a quadratic response surface."""
    params, tokens = float(group["params"].median()), float(group["tokens"].median())

    def nothing(status: Status, reason: str) -> TunedPoint:
        nan = math.nan
        return TunedPoint(
            params, tokens, nan, nan, (nan, nan), nan, nan, fit.trials, status, reason
        )

    if quantity not in fit.names or not len(fit.constants):
        return nothing(
            Status.NOT_IDENTIFIED, f"too few trials for a minimum of {quantity}: {len(group)}"
        )
    d, i = len(fit.names), fit.names.index(quantity)
    lowest, hessian = _vertex(fit.constants, d)
    if np.linalg.eigvalsh(hessian).min() <= 0:
        return nothing(Status.CONCAVE, "ln loss does not curve upwards")
    z = lowest + fit.centre
    tried = np.log(group[list(fit.names)].to_numpy())
    if (z <= tried.min(axis=0)).any() or (z >= tried.max(axis=0)).any():
        at = ", ".join(f"{k} {math.exp(v):.3g}" for k, v in zip(fit.names, z, strict=True))
        return nothing(Status.EDGE, f"the minimum ({at}) lies outside the values tried")
    value, curvature = math.exp(z[i]), float(hessian[i, i])
    half = math.exp(math.sqrt(2 * math.log1p(FLAT_FRACTION) / curvature))
    least = float(fit.constants[0] + fit.constants[1 : 1 + d] @ lowest / 2)
    return TunedPoint(
        params=params, tokens=tokens, value=value, log_se=_vertex_se(fit, i, variance),
        flat=(value / half, value * half), curvature=curvature, loss=math.exp(least),
        trials=fit.trials, status=Status.OK,
    )  # fmt: skip


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _check_quantity(quantity: str) -> None:
    if quantity not in _QUANTITIES:
        raise FittingError(f"quantity={quantity!r}: choose one of {', '.join(_QUANTITIES)}")


def _checked(trials: pd.DataFrame | Mapping[str, Any], quantity: Quantity) -> pd.DataFrame:
    """The columns needed, renamed and tested."""
    _check_quantity(quantity)
    frame = pd.DataFrame(trials).rename(columns=_ALIASES)
    missing = [c for c in ("params", "tokens", "loss", quantity) if c not in frame]
    if missing:
        has = ", ".join(map(str, frame.columns))
        raise TableError(f"missing columns {', '.join(missing)}; the table has {has}")
    kept = ["params", "tokens", "loss", *(q for q in _QUANTITIES if q in frame)]
    frame = frame[kept].astype(float)
    for name in kept:
        values = frame[name].to_numpy()
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise TableError(
                f"{name} must be finite and positive: row {bad[0]} is {values[bad[0]]:g}; "
                "leave diverged trials out"
            )
    if frame.empty:
        raise TableError("the table has no rows")
    return frame


_LEAST_DOF = 2
"""Trials beyond the constants; the window is widened until there are as many (assumption)."""


@dataclass(frozen=True)
class _Response:
    """A quadratic in the hyperparameters that vary: ln loss = row(z - centre) @ constants."""

    names: tuple[str, ...]
    centre: FloatArray  # (d,)
    constants: FloatArray  # 1, d linear, d (d + 1) / 2 quadratic; empty if not fitted
    inverse: FloatArray  # of the normal matrix
    squares: float
    dof: int
    trials: int


def _fit_response(group: pd.DataFrame, names: Sequence[str], window: float) -> _Response:
    """Fit one allocation's trials near its best.

    Args:
        group: columns loss and those of ``names`` that were recorded.
        window: fraction above the best loss within which trials are fitted.
    """
    varied = tuple(k for k in names if k in group and group[k].nunique() > 1)
    y = np.log(group["loss"].to_numpy())
    z = np.log(group[list(varied)].to_numpy().reshape(len(group), -1))
    need = 1 + len(varied) * (len(varied) + 3) // 2
    order = np.argsort(y, kind="stable")
    inside = max(int((y <= y.min() + window).sum()), need + _LEAST_DOF)
    while True:
        rows = order[:inside]
        centre = z[rows].mean(axis=0)
        design = _quadratic(z[rows] - centre)
        if len(rows) >= need and _determined(design):
            break
        if inside >= len(y):
            return _Response(varied, centre, np.empty(0), np.empty(0), 0.0, 0, len(rows))
        inside += 1
    fit = least_squares(design, y[rows])
    return _Response(varied, centre, *fit, len(rows))


def _quadratic(z: FloatArray) -> FloatArray:
    """Constant, linear and quadratic terms, (n, 1 + d + d (d + 1) / 2)."""
    d = z.shape[1]
    pairs = [z[:, i] * z[:, j] for i in range(d) for j in range(i, d)]
    return np.column_stack([np.ones(len(z)), z, *pairs])


def _vertex(constants: FloatArray, d: int) -> tuple[FloatArray, FloatArray]:
    """Vertex (d,) and Hessian (d, d)."""
    hessian = np.zeros((d, d))
    hessian[np.triu_indices(d)] = constants[1 + d :]
    hessian = hessian + hessian.T
    return np.asarray(-np.linalg.solve(hessian, constants[1 : 1 + d])), hessian


def _vertex_se(fit: _Response, i: int, variance: float) -> float:
    """Standard error of one coordinate of the vertex, by the delta method."""
    d = len(fit.names)
    slope = np.empty(len(fit.constants))
    for j, value in enumerate(fit.constants):
        step = np.zeros(len(slope))
        step[j] = 1e-6 * max(abs(float(value)), 1e-6)
        high, low = (_vertex(fit.constants + s * step, d)[0][i] for s in (1, -1))
        slope[j] = (high - low) / (2 * step[j])
    return math.sqrt(max(float(slope @ fit.inverse @ slope) * variance, 0.0))


def _determined(design: FloatArray) -> bool:
    """Whether the columns are independent and the rows no fewer, to working precision."""
    if len(design) < design.shape[1]:
        return False
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    return float(np.linalg.svd(scaled, compute_uv=False)[-1]) > 1e-6
