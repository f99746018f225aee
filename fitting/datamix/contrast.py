"""Two skills over data mixes: how their responses differ, and where their optima meet.

Two skills are measured on the same trainings, so that part of their errors is common and drops out
of a difference. The residuals of both joint fits estimate how much.

Legend: p* = optimum in params, k = functions asked for; logarithms natural.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fitting.datamix.alignment import Alignment, no_alignment
from fitting.datamix.curves import LEAST_SHARE
from fitting.datamix.joint import MixFit, satterthwaite
from fitting.errors import Status
from fitting.mixture.contrast import DOUBT
from fitting.regression import Estimate, t_quantile
from fitting.values import FloatArray

_STEPS = 401
"""Shares tried for the crossing; the interval's ends are as fine as their distance."""


class Gap(NamedTuple):
    """Differences of linear functions of two fits.

    Attributes:
        value: (k,) first less second.
        covariance: (k, k) of the values.
        dof: (k,) degrees of freedom of their variances.
    """

    value: FloatArray
    covariance: FloatArray
    dof: FloatArray

    @property
    def error(self) -> FloatArray:
        """Standard errors, (k,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def half(self) -> FloatArray:
        """Half-widths of the 90 % intervals, (k,)."""
        return np.array([t_quantile(0.9, dof) for dof in self.dof]) * self.error


def correlation(first: MixFit, second: MixFit) -> float:
    """Correlation of two skills' errors in one trial, shrunk towards zero."""
    one, other = _common(first, second)
    a, b = first.residual[one], second.residual[other]
    if len(a) < 3:
        return 0.0
    dof = min(first.dof, second.dof)
    return float(a @ b / math.sqrt((a @ a) * (b @ b)) * dof / (dof + DOUBT))


def _common(first: MixFit, second: MixFit) -> tuple[list[int], list[int]]:
    """Indices of the trials that measured both skills."""
    index = {trial: i for i, trial in enumerate(second.trials)}
    one = [i for i, trial in enumerate(first.trials) if trial in index]
    return one, [index[first.trials[i]] for i in one]


def gap(first: MixFit, second: MixFit, rows: FloatArray, others: FloatArray) -> Gap:
    """Linear functions of the first fit's parameters less others of the second's, both (k, P)."""
    one, covariance_one = first.functional(rows)
    other, covariance_other = second.functional(others)
    influence, influence_other = rows @ first.influence, others @ second.influence
    mine, theirs = _common(first, second)
    cross = correlation(first, second) * (influence[:, mine] @ influence_other[:, theirs].T)
    covariance = covariance_one + covariance_other - cross - cross.T
    noise = ((influence**2).sum(axis=1), (influence_other**2).sum(axis=1))
    common = 2 * np.diag(cross)
    # What both have in common is taken off both in proportion.
    kept = 1 - common / (noise[0] + noise[1])
    parts = (
        (noise[0] * kept, first.dof),
        (noise[1] * kept, second.dof),
        (np.diag(covariance_one) - noise[0], first.mix_dof),
        (np.diag(covariance_other) - noise[1], second.mix_dof),
    )
    dof = [satterthwaite((float(v[i]), d) for v, d in parts) for i in range(len(one))]
    return Gap(np.asarray(one - other), np.asarray(covariance), np.array(dof))


def slope_gap(first: MixFit, second: MixFit, flops: float) -> Estimate:
    """How much more the first skill's optimum follows its own share than the second's."""
    found = gap(first, second, first.slope_rows([flops]), second.slope_rows([flops]))
    return Estimate(float(found.value[0]), float(found.error[0]), float(found.dof[0]))


def align(first: MixFit, second: MixFit, flops: float, *, rest: float) -> Alignment:
    """The ratio of two classes at which two skills' optima meet on a budget.

    Both optima are curves in the share of their own class, and the two shares sum to what the
    others leave. The 90 % interval holds every ratio at which the gap of the optima is within its
    own 90 % interval of none (Fieller's set, of curves instead of lines); an end of it that no mix
    of the two classes reaches is 0 or infinite.

    Args:
        first: the skill whose class is above the line of the ratio.
        rest: share of all other classes, held fixed.
    """
    total = 1.0 - rest
    share = np.linspace(0.0, total, _STEPS)
    rows, others = first.line_rows(flops, share), second.line_rows(flops, total - share)
    found = gap(first, second, rows, others)
    value = found.value + first.grid.origin[0] - second.grid.origin[0]
    ends = gap(first, second, rows[-1:] - rows[:1], others[-1:] - others[:1])
    if not abs(ends.value[0]) > ends.half[0]:
        slope = f"{ends.value[0] / total:+.2g} ± {ends.error[0] / total:.2g}"
        return no_alignment(
            f"The gap of the optima does not depend on the mix significantly: {slope}."
        )
    signed = np.sign(ends.value[0]) * value
    crossed = np.flatnonzero((signed[:-1] <= 0) & (signed[1:] > 0))
    if not len(crossed):
        return no_alignment("The optima are equal under no mix of the two classes.")
    at = int(crossed[0])
    part = signed[at] / (signed[at] - signed[at + 1])
    crossing = float(share[at] + part * (share[at + 1] - share[at]))
    held = np.flatnonzero(np.abs(value) <= found.half)
    low, high = (int(held[0]), int(held[-1])) if len(held) else (at, at + 1)
    tried = first.grid.share / np.maximum(second.grid.share, LEAST_SHARE)
    ratio = _ratio(crossing, total)
    return Alignment(
        ratio=ratio,
        interval=(_ratio(float(share[low]), total), _ratio(float(share[high]), total)),
        params=math.exp(float(first.line(flops, crossing)[0][0])),
        within=bool(tried.min() <= ratio <= tried.max()),
        status=Status.OK,
        reason=f"Two curves in the own class's share, other classes at {100 * rest:.0f} %.",
    )


def _ratio(share: float, total: float) -> float:
    """Share of one class over what it leaves of the total."""
    if share <= 0:
        return 0.0
    return share / (total - share) if share < total else math.inf
