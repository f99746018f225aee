"""One joint fit of a skill's losses over data mixes, with partial pooling between mixes.

`fitting.datamix.curves` has the model; how far mixes deviate from their common line is estimated:
members of several scales are averaged by evidence, as in `fitting.mixture.fit`.

Legend: p = params, C = flops, M = mixes, B = budgets, P = parameters, k = functions asked for;
losses in nats, logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.datamix.curves import (
    EXPONENT,
    LEAST_SHARE,
    LEVEL,
    SHARE_SQUARED,
    SLOPE,
    SLOPE_C,
    V0,
    DesignPoints,
    Grid,
    Member,
    maximise,
    start,
)
from fitting.datamix.shares import Shares, of_known_mixes
from fitting.errors import FittingError
from fitting.reading.observations import Table
from fitting.regression import Estimate
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

SCALES = (0.3, 1.0, 3.0)
"""Members: multiples of the deviations in `fitting.datamix.curves`."""

_RATIO = 20.0
"""Tokens per param that the prior of p* is centred on (Hoffmann et al. 2022)."""


def satterthwaite(parts: Iterable[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each given with its own (Welch 1947)."""
    known = [(max(variance, 0.0), dof) for variance, dof in parts]
    total = sum(variance for variance, _ in known)
    return total**2 / max(sum(v**2 / dof for v, dof in known), 1e-300)


@dataclass(frozen=True)
class MixFit:
    """One skill's losses over mixes and budgets.

    Attributes:
        members: one per scale.
        weights: their shares by evidence.
        trials: their names, in the order of the members' residuals.
    """

    skill: str
    grid: Grid
    members: tuple[Member, ...]
    weights: FloatArray
    trained: frozenset[str]
    trials: tuple[str, ...]

    @property
    def influence(self) -> FloatArray:
        """(P, n) change of the parameters by one standard deviation of each trial's error."""
        return np.asarray(
            np.tensordot(self.weights, np.stack([m.influence for m in self.members]), 1)
        )

    @property
    def residual(self) -> FloatArray:
        """(n,) errors in standard deviations."""
        return np.asarray(self.weights @ [m.residual for m in self.members])

    @property
    def dof(self) -> float:
        """Degrees of freedom of the trials' noise."""
        return max(float(self.weights @ [m.dof for m in self.members]), 1.0)

    @property
    def mix_dof(self) -> float:
        """Degrees of freedom of the mixes' deviations from their line."""
        return float(max(len(self.trained) - 2, 1))

    def functional(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean (k,) and covariance (k, k) of linear functions (k, P) of the parameters."""
        means = np.stack([rows @ m.theta for m in self.members])
        mean = self.weights @ means
        away = means - mean
        within = [rows @ m.covariance @ rows.T for m in self.members]
        covariance = np.tensordot(self.weights, np.stack(within), 1)
        return mean, covariance + np.einsum("j,ja,jb->ab", self.weights, away, away)

    def slope(self, flops: float) -> Estimate:
        """Change of ln p* per unit of the class's share on a budget, on the line through all."""
        rows = self.slope_rows([flops])
        (value,), ((variance,),) = self.functional(rows)
        noise = float(((rows @ self.influence) ** 2).sum())
        parts = (noise, self.dof), (float(variance) - noise, self.mix_dof)
        return Estimate(float(value), math.sqrt(float(variance)), satterthwaite(parts))

    def slope_rows(self, flops: Sequence[float]) -> FloatArray:
        """The slope on budgets as linear functions, (k, P)."""
        rows = np.zeros((len(flops), self.grid.width))
        rows[:, SLOPE], rows[:, SLOPE_C] = 1.0, np.log(flops) - self.grid.origin[1]
        return rows

    def line(self, flops: float, share: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """ln p* on the line at shares of the class: mean and covariance."""
        mean, covariance = self.functional(self.line_rows(flops, np.atleast_1d(share)))
        return mean + self.grid.origin[0], covariance

    def line_rows(self, flops: float, share: npt.ArrayLike) -> FloatArray:
        """ln p* on the line less its origin, as linear functions of the parameters, (k, P)."""
        s = np.asarray(share, float) - self.grid.origin[2]
        c = math.log(flops) - self.grid.origin[1]
        rows = np.zeros((len(s), self.grid.width))
        rows[:, V0], rows[:, EXPONENT], rows[:, SLOPE], rows[:, SLOPE_C] = 1.0, c, s, c * s
        rows[:, SHARE_SQUARED] = self.grid.quadratic(np.asarray(share, float))
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
            [log_s, share - self.grid.origin[2], log_s * (math.log(flops) - self.grid.origin[1])],
            axis=1,
        )
        at = self.grid.budget_of(np.array([flops]))[0]
        rows[:, self.grid.slices()[0].start + at] = 1.0
        return rows

    def log_optimum(self, flops: float) -> tuple[FloatArray, FloatArray]:
        """ln p* of every mix on a budget, with its own deviation: mean and error, (M,)."""
        mean, covariance = self.functional(self.optimum_rows(flops))
        return mean + self.grid.origin[0], np.sqrt(np.diag(covariance))

    def optimum_rows(self, flops: float) -> FloatArray:
        """ln p* of every mix as linear functions, (M, P)."""
        rows = self.line_rows(flops, self.grid.share)
        rows[:, self.grid.slices()[2]] = np.eye(len(self.grid.mixes))
        return rows

    def least(self, flops: float) -> tuple[FloatArray, FloatArray]:
        """Least loss of every mix on a budget, with its own deviation: mean and error, (M,)."""
        rows = self.level_rows(flops, self.grid.share)
        rows[:, self.grid.slices()[3]] = np.eye(len(self.grid.mixes))
        mean, covariance = self.functional(rows)
        return mean, np.sqrt(np.diag(covariance))


def fit_mixes(
    table: Table,
    shares: Shares,
    classes: Mapping[str, str],
    *,
    budgets: Sequence[float] | None = None,
) -> dict[str, MixFit]:
    """Fit every skill over all mixes and budgets at once.

    Args:
        shares: mix -> class -> share of documents, e.g. `fitting.datamix.shares.paper_mixes()`.
        classes: skill -> the class whose share it follows; skills left out have a level and an
            optimum per mix and no slope.
        budgets: those wanted, trained or not; by default those of the table.

    Raises:
        FittingError: a mix of the table has no shares, or a class is unknown.
    """
    seen = of_known_mixes(table, shares)
    ladder = seen.budgets if budgets is None else budgets
    return {
        skill: _fit_skill(skill, seen.of_skill(skill), ladder, shares, classes)
        for skill in seen.skills
    }


def _fit_skill(
    skill: str,
    rows: pd.DataFrame,
    budgets: Sequence[float],
    shares: Shares,
    classes: Mapping[str, str],
) -> MixFit:
    """One skill, all scales; each scale starts where the one before ended."""
    grid = _grid(skill, budgets, shares, classes)
    places = {name: i for i, name in enumerate(grid.mixes)}
    points = DesignPoints(
        np.log(rows["params"].to_numpy(float)),
        rows["budget"].to_numpy(float),
        np.array([places[str(m)] for m in rows["mix"]]),
    )
    loss = rows["loss"].to_numpy(float)
    theta = start(grid, points, loss)
    members: list[Member] = []
    for scale in SCALES:
        member = maximise(grid, points, loss, scale, theta)
        theta = member.theta
        members.append(member)
    evidence = np.array([m.log_evidence for m in members])
    weights = np.exp(evidence - evidence.max())
    trained = frozenset(rows["mix"].astype(str))
    trials = tuple(rows["trial_id"].astype(str))
    return MixFit(skill, grid, tuple(members), weights / weights.sum(), trained, trials)


def _grid(
    skill: str, budgets: Sequence[float], shares: Shares, classes: Mapping[str, str]
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
