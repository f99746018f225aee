"""The values every fit returns: plain, frozen, and printable; and what all fits check.

Legend: p = params, t = tokens, C = flops (6 p t); logarithms are natural.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import FitError, FittingError, Status

FLOPS_PER_PARAM_TOKEN = 6.0
"""C = 6 p t: 2 forward, 4 backward per parameter and token (Kaplan et al. 2020)."""

Z90 = 1.6448536269514722
"""Half-width of a central 90 % normal interval, in standard deviations."""


FloatArray = npt.NDArray[np.float64]


def number(value: float) -> str:
    """Three digits as people type them: 1e18, 0.024."""
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")


def size(value: float) -> str:
    """Params or tokens as people say them: 1.3B, 14.7k."""
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if 0.9995 * scale <= value < math.inf:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"


def p_words(value: float) -> str:
    """A p-value as papers write it: p = 0.045, and p < 0.0001 where tails are no longer known."""
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


class Result:
    """What every result carries: a status, and the reason it rests on."""

    status: Status
    reason: str

    @property
    def ok(self) -> bool:
        """Whether the numbers may be planned with."""
        return self.status is Status.OK

    def required(self, throw: bool = True) -> Self:
        """This result, if it is usable or ``throw`` is False.

        Raises:
            FitError: the status is not OK.
        """
        if throw and not self.ok:
            raise FitError(self.status, f"{self.reason} {self.status.advice}".strip())
        return self


@dataclass(frozen=True)
class Optimum(Result):
    """The model size of least loss on one budget.

    Attributes:
        params: p*; NaN unless ``status`` is OK, or EDGE, where it is a lead and not a plan.
        log_params_se: standard error of ln p*.
        status: see `fitting.errors.Status`.
        curvature: d2 loss / d(ln p)2 at the optimum, nats.
        flops: the budget, NaN if the caller gave none.
        tokens: C / (6 p*), NaN without a budget.
        interval: 90 % interval of p*, (low, high).
        method: "parabola", "surface" or "guarded".
        loss: fitted loss at the optimum, nats.
        reason: what the status rests on.
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

    @classmethod
    def missing(
        cls, status: Status, reason: str, flops: float, method: str, *, curvature: float = math.nan
    ) -> Self:
        """An optimum without a number."""
        nan = math.nan
        return cls(nan, nan, status, float(curvature), flops, method=method, reason=reason)


@dataclass(frozen=True)
class Prediction:
    """A predicted loss with its 90 % interval, nats."""

    value: float
    interval: tuple[float, float]
    extrapolates: float = 1.0


def bounded_exp(value: float) -> float:
    """Exponential that returns infinity instead of overflowing."""
    return math.inf if value > 700 else math.exp(value)


def log_interval(middle: float, half: float) -> tuple[float, float]:
    """Interval of a quantity from the half-width of the interval of its logarithm."""
    return middle * bounded_exp(-half), middle * bounded_exp(half)


def farthest(
    values: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> tuple[float, str]:
    """Greatest factor by which values leave their ranges, and which one does; at least 1.

    A range of NaN is one that is not known, which nothing leaves.
    """
    factors = {n: max(ranges[n][0] / v, v / ranges[n][1]) for n, v in values.items()}
    name = max(factors, key=lambda n: np.nan_to_num(factors[n]))
    return max(1.0, factors[name]), name


def floats(name: str, value: npt.ArrayLike) -> FloatArray:
    """An argument as an array of floats.

    Raises:
        FittingError: it holds something else; names the argument.
    """
    try:
        if np.asarray(value).dtype.kind in "Mmc":
            raise TypeError("dates, durations and complex numbers are none")
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise FittingError(f"{name}: give numbers ({error})") from None


def check_positive(**values: npt.ArrayLike) -> None:
    """Make sure that each is one finite and positive number.

    Raises:
        FittingError: names the argument.
    """
    for name, value in values.items():
        array = floats(name, value)
        if array.ndim:
            raise FittingError(f"{name}: an array; give one number, and ask again for each other")
        if isinstance(value, str) or not (np.isfinite(array) and array > 0):
            raise FittingError(f"{name}={value!r}: give a positive finite number")


def check_count(**values: int) -> None:
    """Make sure that each is a whole number from 1.

    Raises:
        FittingError: names the argument.
    """
    for name, value in values.items():
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise FittingError(f"{name}={value!r}: give a whole number, 1 or more")


def check_all_positive(**values: npt.ArrayLike) -> None:
    """Make sure that all numbers of arrays are finite and positive.

    Raises:
        FittingError: names the argument and the rows.
    """
    for name, value in values.items():
        array = floats(name, value)
        bad = ~(np.isfinite(array) & (array > 0))
        if bad.any():
            rows = ", ".join(map(str, np.flatnonzero(bad)[:3]))
            raise FittingError(
                f"{name} must be finite and positive: {bad.sum()} are not (rows {rows}...); "
                "leave them out, or call fitting.prepare, which lists them"
            )


def equal_columns(**values: npt.ArrayLike) -> list[FloatArray]:
    """The arguments as flat float arrays.

    Raises:
        FittingError: they differ in length, or one holds no numbers.
    """
    arrays = [floats(name, value).ravel() for name, value in values.items()]
    if len({len(a) for a in arrays}) > 1:
        lengths = ", ".join(str(len(a)) for a in arrays)
        raise FittingError(f"{', '.join(values)} must have one length, not {lengths}")
    return arrays


def names(of: str | Sequence[str]) -> list[str]:
    """One name, or several."""
    return [of] if isinstance(of, str) else list(of)


def as_tuples(matrix: FloatArray) -> tuple[tuple[float, ...], ...]:
    """A matrix as nested tuples, for frozen values."""
    return tuple(tuple(float(v) for v in row) for row in matrix)


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null, and the word."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else (None if math.isnan(value) else str(value))
    return value


def plain_frame(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Columns as lists, absent values as None."""
    objects = frame.astype(object).where(frame.notna(), None)
    return {str(name): objects[name].tolist() for name in objects}


CONVENTION_SPREAD = 0.02
"""Scatter of ln(flops / (params tokens)) below which it is one number (rounding of sizes)."""


CONVENTION_ROUNDS = 4
"""Times that the size is found again by the factor of the size before."""

CONVENTION_KNOTS = 12
"""Sizes at which a varying flops / (params tokens) is read off a table at most."""


@dataclass(frozen=True)
class Convention:
    """How a table counts FLOPs: flops / (params tokens), which may vary with the size.

    It is 6 where every parameter counts and nothing else does; with attention counted, or
    embeddings left out of params, it is more, and the more the smaller the model.

    Attributes:
        factor: at the middle size.
        knots: (ln params, ln factor) of some sizes, ascending, where it varies: linear between
            them, and beyond them as at the last.
    """

    factor: float = FLOPS_PER_PARAM_TOKEN
    knots: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, flops: FloatArray, params: FloatArray, tokens: FloatArray) -> Convention:
        """That of a table's trials, (n,) each."""
        x, ratio = np.log(params), np.log(flops) - np.log(params) - np.log(tokens)
        usual = math.exp(float(np.median(ratio)))
        if not np.std(ratio) > CONVENTION_SPREAD or not np.ptp(x) > 0:
            return cls(usual)
        ends = np.unique(np.quantile(x, np.linspace(0, 1, CONVENTION_KNOTS + 1)[1:-1]))
        group = np.searchsorted(ends, x)
        parts = [group == i for i in np.unique(group)]
        parts += [x == x.min(), x == x.max()]  # the ends are read off as they are
        knots = {float(np.median(x[own])): float(np.median(ratio[own])) for own in parts}
        return cls(usual, tuple(sorted(knots.items())))

    @property
    def varies(self) -> bool:
        """Whether it depends on the size."""
        return bool(self.knots)

    def at(self, params: npt.ArrayLike) -> FloatArray:
        """Flops / (params tokens) of these sizes."""
        x = np.log(np.asarray(params, float))
        if not self.knots:
            return np.asarray(self.factor + 0 * x)
        sizes, factors = np.array(self.knots).T
        return np.asarray(np.exp(np.interp(x, sizes, factors)))

    def flops(self, params: npt.ArrayLike, tokens: npt.ArrayLike) -> FloatArray:
        """What training costs."""
        return np.asarray(self.at(params) * np.asarray(params, float) * np.asarray(tokens, float))

    def tokens(self, flops: npt.ArrayLike, params: npt.ArrayLike) -> FloatArray:
        """What a budget buys."""
        return np.asarray(np.asarray(flops, float) / (self.at(params) * np.asarray(params, float)))

    def __str__(self) -> str:
        """For reports."""
        if not self.knots:
            return f"flops = {self.factor:.3g} params tokens"
        (_, small), (_, large) = self.knots[0], self.knots[-1]
        ends = f"{math.exp(small):.3g} to {math.exp(large):.3g}"
        return f"flops = {ends} params tokens, by size"


SIX = Convention()
"""C = 6 p t."""
