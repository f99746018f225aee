"""One joint fit of a skill's losses over data mixes: strength is shared, and doubt is kept.

`fitting.mix_curves` says what is common to all mixes and what each may have of its own; how far a
mix departs from the common line is left to the data: members of several scales are averaged by
evidence, as in `fitting.optima`.

Legend: p = params, C = flops, M = mixes, B = budgets, P = parameters, k = functions asked for;
losses in nats, logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.alignment import Alignment, fieller, no_alignment
from fitting.errors import FittingError, Status
from fitting.mix_curves import (
    EXPONENT,
    LEAST_SHARE,
    LEVEL,
    SLOPE,
    SLOPE_C,
    V0,
    Grid,
    Member,
    Spots,
    maximise,
    start,
)
from fitting.observations import Observations, prepare
from fitting.parabola import t_quantile
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

SCALES = (0.3, 1.0, 3.0)
"""Members: multiples of the departures in `fitting.mix_curves`."""

_RATIO = 20.0
"""Tokens per param that the prior of p* is centred on (Hoffmann et al. 2022)."""


@dataclass(frozen=True)
class MixFit:
    """One skill's losses over mixes and budgets.

    Attributes:
        skill: its name.
        grid: mixes and budgets.
        members: one per scale.
        weights: their shares by evidence.
        trained: mixes with observations.
    """

    skill: str
    grid: Grid
    members: tuple[Member, ...]
    weights: FloatArray
    trained: frozenset[str]

    @property
    def mix_dof(self) -> float:
        """Degrees of freedom of what is read off a line through the mixes."""
        return float(max(len(self.trained) - 2, 1))

    @property
    def noise(self) -> float:
        """Standard deviation of one loss, nats."""
        return float(self.weights @ [m.noise for m in self.members])

    def functional(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean (k,) and covariance (k, k) of linear functions (k, P) of the parameters."""
        means = np.stack([rows @ m.theta for m in self.members])
        mean = self.weights @ means
        away = means - mean
        within = [rows @ m.covariance @ rows.T for m in self.members]
        spread = np.tensordot(self.weights, np.stack(within), 1)
        return mean, spread + np.einsum("j,ja,jb->ab", self.weights, away, away)

    def slope(self, flops: float) -> tuple[float, float]:
        """Change of ln p* per unit of the class's share on a budget, and its standard error."""
        mean, spread = self.functional(self.slope_rows([flops]))
        return float(mean[0]), math.sqrt(float(spread[0, 0]))

    def slope_rows(self, flops: Sequence[float]) -> FloatArray:
        """The slope on budgets as linear functions, (k, P)."""
        rows = np.zeros((len(flops), self.grid.width))
        rows[:, SLOPE], rows[:, SLOPE_C] = 1.0, np.log(flops) - self.grid.origin[1]
        return rows

    def line(self, flops: float, share: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """ln p* on the line at shares of the class: mean and covariance."""
        mean, spread = self.functional(self.line_rows(flops, np.atleast_1d(share)))
        return mean + self.grid.origin[0], spread

    def line_rows(self, flops: float, share: npt.ArrayLike) -> FloatArray:
        """ln p* on the line less its origin, as linear functions of the parameters, (k, P)."""
        s = np.asarray(share, float) - self.grid.origin[2]
        c = math.log(flops) - self.grid.origin[1]
        rows = np.zeros((len(s), self.grid.width))
        rows[:, V0], rows[:, EXPONENT], rows[:, SLOPE], rows[:, SLOPE_C] = 1.0, c, s, c * s
        at = self.grid.budget_of(np.array([flops]))[0]
        rows[:, self.grid.slices()[1].start + at] = 1.0
        return rows

    def level(self, flops: float, share: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Least loss at shares of the class, smooth part: mean and covariance, nats."""
        rows = self.level_rows(flops, np.atleast_1d(np.asarray(share, float)))
        return self.functional(rows)

    def level_rows(self, flops: float, share: FloatArray) -> FloatArray:
        """Least loss as linear functions of the parameters, (k, P)."""
        log_s = np.log(np.maximum(share, LEAST_SHARE)) - self.grid.origin[3]
        rows = np.zeros((len(share), self.grid.width))
        rows[:, LEVEL : LEVEL + 3] = np.stack(
            [
                log_s,
                share - self.grid.origin[2],
                log_s * (math.log(flops) - self.grid.origin[1]),
            ],
            axis=1,
        )
        at = self.grid.budget_of(np.array([flops]))[0]
        rows[:, self.grid.slices()[0].start + at] = 1.0
        return rows

    def log_optimum(self, flops: float) -> tuple[FloatArray, FloatArray]:
        """ln p* of every mix on a budget, with its own departure: mean and error, (M,)."""
        mean, spread = self.functional(self.optimum_rows(flops))
        return mean + self.grid.origin[0], np.sqrt(np.diag(spread))

    def optimum_rows(self, flops: float) -> FloatArray:
        """ln p* of every mix as linear functions, (M, P)."""
        rows = self.line_rows(flops, self.grid.share)
        rows[:, self.grid.slices()[2]] = np.eye(len(self.grid.mixes))
        return rows

    def least(self, flops: float) -> tuple[FloatArray, FloatArray]:
        """Least loss of every mix on a budget, with its own departure: mean and error, (M,)."""
        rows = self.level_rows(flops, self.grid.share)
        rows[:, self.grid.slices()[3]] = np.eye(len(self.grid.mixes))
        mean, spread = self.functional(rows)
        return mean, np.sqrt(np.diag(spread))


def fit_mixes(
    table: pd.DataFrame | Mapping[str, object] | Observations,
    shares: Mapping[str, Mapping[str, float]],
    classes: Mapping[str, str],
    *,
    budgets: Sequence[float] | None = None,
) -> dict[str, MixFit]:
    """Fit every skill over all mixes and budgets at once.

    Args:
        table: observations with a column mix.
        shares: mix -> class -> share of documents, e.g. `fitting.datamix.paper_mixes()`.
        classes: skill -> the class whose share it follows; skills left out have a level and an
            optimum per mix and no slope.
        budgets: those wanted, trained or not; by default those of the table.

    Raises:
        FittingError: a mix of the table has no shares, or a class is unknown.
    """
    seen = table if isinstance(table, Observations) else prepare(table)
    unknown = sorted(set(seen.frame["mix"].astype(str)) - set(shares))
    if unknown:
        raise FittingError(f"no shares given for mix {unknown[0]!r}; given: {', '.join(shares)}")
    ladder = seen.budgets if budgets is None else budgets
    fits = {}
    for skill in seen.skills:
        rows = seen.of_skill(skill)
        fits[skill] = _fit_skill(skill, rows, ladder, shares, classes)
    return fits


def _fit_skill(
    skill: str,
    rows: pd.DataFrame,
    budgets: Sequence[float],
    shares: Mapping[str, Mapping[str, float]],
    classes: Mapping[str, str],
) -> MixFit:
    """One skill, all scales; each scale starts where the one before ended."""
    grid = _grid(skill, budgets, shares, classes)
    places = {name: i for i, name in enumerate(grid.mixes)}
    spots = Spots(
        np.log(rows["params"].to_numpy(float)),
        rows["budget"].to_numpy(float),
        np.array([places[str(m)] for m in rows["mix"]]),
    )
    loss = rows["loss"].to_numpy(float)
    theta = start(grid, spots, loss)
    members: list[Member] = []
    for scale in SCALES:
        member = maximise(grid, spots, loss, scale, theta)
        theta = member.theta
        members.append(member)
    evidence = np.array([m.log_evidence for m in members])
    weights = np.exp(evidence - evidence.max())
    trained = frozenset(rows["mix"].astype(str))
    return MixFit(skill, grid, tuple(members), weights / weights.sum(), trained)


def _grid(
    skill: str,
    budgets: Sequence[float],
    shares: Mapping[str, Mapping[str, float]],
    classes: Mapping[str, str],
) -> Grid:
    own = classes.get(skill)
    if own is not None and any(own not in mix for mix in shares.values()):
        raise FittingError(f"skill {skill!r} follows class {own!r}, which a mix does not name")
    share = np.array([mix[own] if own else 1.0 for mix in shares.values()])
    log_flops = float(np.log(np.asarray(budgets)).mean())
    origin = (
        0.5 * (log_flops - math.log(FLOPS_PER_PARAM_TOKEN * _RATIO)),
        log_flops,
        float(share.mean()),
        float(np.log(np.maximum(share, LEAST_SHARE)).mean()),
    )
    return Grid(tuple(shares), tuple(budgets), tuple(share.tolist()), origin, own is not None)


def align(first: MixFit, second: MixFit, flops: float, *, rest: float) -> Alignment:
    """The ratio of two classes at which two skills' optima meet on a budget.

    Both optima are lines in the share of their own class, and the two shares sum to what the
    others leave: the gap is a line in the first class's share, whose zero has Fieller's interval.
    An end of it that no mix of the two classes reaches is 0 or infinite. The skills' errors are
    taken as independent, which is on the safe side for losses of the same trials.

    Args:
        first: the skill whose class is above the line of the ratio.
        second: the other skill.
        flops: the budget.
        rest: share of all other classes, held fixed.
    """
    ends = np.array([0.0, 1.0 - rest])
    (one, spread_one), (other, spread_other) = first.line(flops, ends), second.line(flops, ends)
    to_line = np.array([[1.0, 0.0], [-1.0 / ends[1], 1.0 / ends[1]]])
    line = to_line @ (one - other[::-1])
    covariance = to_line @ (spread_one + spread_other[::-1, ::-1]) @ to_line.T
    low, high = fieller(line, covariance, t_quantile(0.9, first.mix_dof))
    if not math.isfinite(low):
        slope = f"{line[1]:+.2g} \u00b1 {math.sqrt(covariance[1, 1]):.2g}"
        return no_alignment(f"The gap of the optima cannot be told to depend on the mix: {slope}.")
    share = -float(line[0] / line[1])
    if not 0 < share < ends[1]:
        return no_alignment("The optima meet under no mix of the two classes.")
    tried = first.grid.share / np.maximum(second.grid.share, LEAST_SHARE)
    ratio = _ratio(share, ends[1])
    return Alignment(
        ratio=ratio,
        interval=(_ratio(low, ends[1]), _ratio(high, ends[1])),
        params=math.exp(float(first.line(flops, share)[0][0])),
        within=bool(tried.min() <= ratio <= tried.max()),
        status=Status.OK,
        reason=f"Two lines in the own class's share, other classes at {rest:.0%}.",
    )


def _ratio(share: float, total: float) -> float:
    """Share of one class over what it leaves of the total."""
    if share <= 0:
        return 0.0
    return share / (total - share) if share < total else math.inf
