"""Optima against the data mix: multiply a class, renormalise, and see which skill follows.

Legend: p* = optimum in params; share = fraction of training documents of a class; all logarithms
natural. Source of the experiment: arXiv 2503.10061, section on the data-mix ablation, Figures 2,
3, 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import FittingError, Status
from fitting.isoflop import fit_isoflop
from fitting.reading.observations import Observations, Table, prepare
from fitting.regression import Estimate, least_squares, t_interval, t_quantile
from fitting.values import FloatArray, Result, as_tuples, equal_columns

Shares = Mapping[str, Mapping[str, float]]
"""Mix -> class -> share of documents, as `paper_mixes` has them."""

PAPER_BASELINE = {"knowledge": 0.5844, "code": 0.1992, "other": 0.2164}
"""Shares of documents in arXiv 2503.10061 (legends of Figure 2; "other" is the rest)."""

_CODE_SOURCE = 0.2030
"""Share of the sources that the paper multiplied for code; .1992 / .2030 = 98.1 % of it is code.
Reconstructed: with it all legends of Figure 2 follow to .02 points, without it code x20 would be
83.3 % instead of 82.0 %."""

_PAPER_FACTORS = {
    "knowledge": (0.2, 2.0, 3.0, 4.0),
    "code": (0.5, 2.0, 3.0, 4.0, 20.0),
    "other": (2.0, 3.0, 4.0),
}


def multiply(shares: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, float]:
    """Multiply classes by factors, leave the others, renormalise to sum 1.

    Raises:
        FittingError: a factor names no class, or a share or factor is negative.
    """
    unknown = [name for name in factors if name not in shares]
    if unknown:
        raise FittingError(f"no class {unknown[0]!r}; the mix has {', '.join(shares)}")
    weights = {name: share * factors.get(name, 1.0) for name, share in shares.items()}
    total = math.fsum(weights.values())
    if not (total > 0 and all(w >= 0 and math.isfinite(w) for w in weights.values())):
        raise FittingError(f"shares and factors must not be negative, nor all zero: {weights}")
    return {name: w / total for name, w in weights.items()}


def paper_mixes() -> dict[str, dict[str, float]]:
    """The thirteen mixes of arXiv 2503.10061 by name: base, knowledge×0.2, ... other×4."""
    mixes = {"base": dict(PAPER_BASELINE)}
    for name, factors in _PAPER_FACTORS.items():
        for factor in factors:
            mixes[f"{name}×{factor:g}"] = _paper_mix(name, factor)
    return mixes


def _paper_mix(name: str, factor: float) -> dict[str, float]:
    """One multiplied source; the code source holds a little that is not code."""
    if name != "code":
        return multiply(PAPER_BASELINE, {name: factor})
    stray = _CODE_SOURCE - PAPER_BASELINE["code"]
    parts = PAPER_BASELINE | {"other": PAPER_BASELINE["other"] - stray, "stray": stray}
    mixed = multiply(parts, {"code": factor, "stray": factor})
    mixed["other"] += mixed.pop("stray")
    return mixed


@dataclass(frozen=True)
class ShareResponse(Result):
    """ln p* = intercept + slope * share.

    Attributes:
        intercept: ln p* at share 0.
        slope: change of ln p* from share 0 to 1.
        covariance: of (intercept, slope).
        scatter: standard deviation of ln p* round the line.
        share_range: least and greatest share fitted.
    """

    intercept: float
    slope: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    dof: float
    scatter: float
    share_range: tuple[float, float]
    status: Status = Status.OK
    reason: str = ""

    @property
    def slope_se(self) -> float:
        """Standard error of the slope."""
        return math.sqrt(self.covariance[1][1])

    def __call__(self, share: npt.ArrayLike) -> FloatArray:
        """p* at these shares."""
        return np.asarray(np.exp(self.intercept + self.slope * np.asarray(share, dtype=float)))

    def slope_interval(self) -> tuple[float, float]:
        """Central 90 % interval of the slope."""
        return t_interval(self.slope, self.slope_se, self.dof)

    def interval(self, share: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Central 90 % interval of p* on the line."""
        s = np.asarray(share, dtype=float)
        (v00, v01), (_, v11) = self.covariance
        half = t_quantile(0.9, self.dof) * np.sqrt(np.maximum(v00 + 2 * v01 * s + v11 * s**2, 0))
        return self(s) * np.exp(-half), self(s) * np.exp(half)


def optima_by_mix(table: Table, shares: Shares) -> pd.DataFrame:
    """Optimum of every skill on every budget for every mix.

    Returns:
        Columns mix, skill, flops, params (NaN unless OK), se, status, reason, and one share_
        column per class.
    """
    seen = of_known_mixes(table, shares)
    rows = []
    for (mix, skill, budget), curve in seen.frame.groupby(["mix", "skill", "budget"], sort=False):
        one = fit_isoflop(curve["params"], curve["loss"], flops=float(budget))
        rows.append(
            {
                "mix": mix,
                "skill": skill,
                "flops": float(budget),
                "params": one.params if one.ok else math.nan,
                "se": one.log_params_se if one.ok else math.nan,
                "status": one.status,
                "reason": one.reason,
            }
            | {f"share_{name}": share for name, share in shares[str(mix)].items()}
        )
    return pd.DataFrame(rows)


def of_known_mixes(table: Table, shares: Shares) -> Observations:
    """A checked table, each of whose mixes has shares.

    Raises:
        FittingError: a mix has none.
    """
    seen = prepare(table)
    unknown = sorted(set(seen.frame["mix"].astype(str)) - set(shares))
    if unknown:
        raise FittingError(f"no shares given for mix {unknown[0]!r}; given: {', '.join(shares)}")
    return seen


def fit_share_response(share: npt.ArrayLike, params: npt.ArrayLike) -> ShareResponse:
    """Fit a straight line to ln p* against a class's share, on one budget.

    Args:
        share: share of the class in each mix, shape (n,).
        params: p* of the skill, shape (n,); rows that are NaN are left out and counted.
    """
    s, y = equal_columns(share=share, params=params)
    good = np.isfinite(s) & np.isfinite(y) & (y > 0)
    left = f"{len(s) - good.sum()} of {len(s)} mixes have no usable optimum." * bool((~good).any())
    s, y = s[good], y[good]
    if len(np.unique(s)) < 3:
        reason = f"{len(np.unique(s))} different shares; a slope needs three. {left}".strip()
        nan = ((math.nan,) * 2,) * 2
        return ShareResponse(
            math.nan, math.nan, nan, 0.0, math.nan, (math.nan,) * 2, Status.NOT_IDENTIFIED, reason
        )
    fit = least_squares(np.stack([np.ones_like(s), s], axis=1), np.log(y))
    return ShareResponse(
        intercept=float(fit.coefficients[0]), slope=float(fit.coefficients[1]),
        covariance=as_tuples(fit.covariance),  # type: ignore[arg-type]
        dof=float(fit.dof), scatter=math.sqrt(fit.variance),
        share_range=(float(s.min()), float(s.max())), reason=left,
    )  # fmt: skip


def slope_difference(first: ShareResponse, second: ShareResponse) -> Estimate:
    """Test whether two skills respond to their own share with one slope (Welch's test)."""
    value = first.slope - second.slope
    one, two = first.slope_se**2, second.slope_se**2
    if not one + two > 0:
        return Estimate(value, 0.0, math.inf)
    dof = (one + two) ** 2 / (one**2 / first.dof + two**2 / second.dof)
    return Estimate(value, math.sqrt(one + two), dof)
