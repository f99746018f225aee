"""Where two skills' optima meet as the data mix changes: the aligning ratio of two classes.

Legend: p* = optimum in params; ratio = share of one class over share of another; all logarithms
natural. Source: Figure 5a of arXiv 2503.10061.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from fitting.errors import FittingError, Status
from fitting.regression import fieller, least_squares, t_quantile
from fitting.values import FloatArray, Result, bounded_exp, equal_columns

Curve = Literal["line", "quadratic", "monotone"]


@dataclass(frozen=True)
class Alignment(Result):
    """The ratio of two classes at which two skills' optima meet.

    Attributes:
        ratio: share of one class over share of the other; NaN without a crossing.
        interval: 90 % interval; may be unbounded, (0, inf).
        status: NOT_IDENTIFIED where the difference of the optima has no significant slope.
    """

    ratio: float
    interval: tuple[float, float]
    params: float
    within: bool
    status: Status
    reason: str


def aligning_ratio(
    ratio: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, *, curve: Curve = "line"
) -> Alignment:
    """The ratio at which two skills' optima are equal (Figure 5a of arXiv 2503.10061).

    On the paper's own thirteen mixes the three curves give 3.1, 1.9 and 2.0, the paper prints 2.1:
    a single mix, code×20 at ratio 6.8, lies beyond the crossing and none between 1.7 and it, so
    the curve decides. The intervals all hold 2.1.

    Args:
        ratio: share of one class over share of the other per mix, e.g. code over knowledge.
        first: p* of the skill that rises with the ratio, per mix.
        curve: "line", the difference ln p*_first - ln p*_second as a line in ln ratio, mix by mix,
            so that what both optima of a mix have in common drops out, with Fieller's interval;
            "quadratic", each p* a parabola in the ratio itself, the paper's second-order fits; or
            "monotone", each p* the nearest curve that rises (falls) in ln ratio. The latter two
            resample the mixes for their interval.

    Raises:
        FittingError: arrays of different length, or an unknown curve.
    """
    if curve not in get_args(Curve):
        raise FittingError(f"curve={curve!r}: choose one of {', '.join(get_args(Curve))}")
    r, p, q = equal_columns(ratio=ratio, first=first, second=second)
    good = np.isfinite(r) & np.isfinite(p) & np.isfinite(q) & (r > 0)
    r, p, q = r[good], p[good], q[good]
    if len(np.unique(r)) < (4 if curve == "quadratic" else 3):
        return no_alignment(f"{len(np.unique(r))} different ratios are too few for a crossing.")
    return _line_alignment(r, p, q) if curve == "line" else _curve_alignment(r, p, q, curve)


def _line_alignment(r: FloatArray, p: FloatArray, q: FloatArray) -> Alignment:
    """The zero of the gap's line in ln ratio."""
    x, gap, level = np.log(r), np.log(p / q), np.log(p * q) / 2
    design = np.stack([np.ones_like(x), x], axis=1)
    fit = least_squares(design, gap)
    line, t = fit.coefficients, t_quantile(0.9, fit.dof)
    if not abs(line[1]) > t * math.sqrt(fit.covariance[1, 1]):
        return no_alignment(f"The optima's gap has slope {line[1]:.2g}, within noise.")
    crossing = float(-line[0] / line[1])
    common = least_squares(design, level).coefficients
    low, high = fieller(line, fit.covariance, t)
    return Alignment(
        ratio=math.exp(crossing),
        interval=(bounded_exp(low), bounded_exp(high)),
        params=math.exp(float(common[0] + common[1] * crossing)),
        within=bool(x.min() <= crossing <= x.max()),
        status=Status.OK,
        reason=f"Crossing of two lines through {len(x)} mixes.",
    )


_CROSSING_DRAWS = 500
"""Resamplings of the mixes behind the interval of a crossing of curves."""


def _curve_alignment(r: FloatArray, p: FloatArray, q: FloatArray, curve: Curve) -> Alignment:
    """The first crossing of two curves inside the ratios tried."""
    ratio, params = _crossing(r, p, q, curve)
    if not math.isfinite(ratio):
        return no_alignment(f"The {curve} curves do not cross within the ratios tried.")
    rng = np.random.default_rng(0)
    drawn = [
        _crossing(r[i], p[i], q[i], curve)[0]
        for i in rng.integers(0, len(r), size=(_CROSSING_DRAWS, len(r)))
        if len(np.unique(r[i])) > 3
    ]
    # A resampling without a crossing has it beyond what was tried.
    low, high = np.quantile(np.nan_to_num(drawn, nan=np.inf), [0.05, 0.95], method="nearest")
    return Alignment(
        ratio=ratio, interval=(float(low), float(high)), params=params, within=True,
        status=Status.OK, reason=f"Crossing of two {curve} curves through {len(r)} mixes.",
    )  # fmt: skip


def _crossing(r: FloatArray, p: FloatArray, q: FloatArray, curve: Curve) -> tuple[float, float]:
    """Ratio and params of the first crossing; NaN without one."""
    from scipy.optimize import isotonic_regression

    grid = np.geomspace(r.min(), r.max(), 2000)
    if curve == "quadratic":
        one, other = (np.polyval(np.polyfit(r, y, 2), grid) for y in (p, q))
    else:
        order = np.argsort(r, kind="stable")
        at = np.log(r[order])
        rises = isotonic_regression(p[order], increasing=True).x
        falls = isotonic_regression(q[order], increasing=False).x
        one, other = (np.interp(np.log(grid), at, y) for y in (rises, falls))
    gap = one - other
    sign = np.flatnonzero(np.sign(gap[1:]) != np.sign(gap[:-1]))
    if not len(sign):
        return math.nan, math.nan
    return float(grid[sign[0]]), float(one[sign[0]])


def no_alignment(reason: str) -> Alignment:
    """An alignment without a number."""
    return Alignment(math.nan, (0.0, math.inf), math.nan, False, Status.NOT_IDENTIFIED, reason)
