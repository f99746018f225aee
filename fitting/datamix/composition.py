"""The optimum as a function of what a validation loss is made of, from stored losses alone.

Legend: p* = optimum in params; w = weights of skills or validation sets, normalised to sum 1.

For parabolas on the same trials p*(w) is monotone along any line between two weightings (a ratio
of linear functions of w), so the extremes over all weightings are those of single skills.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import FittingError
from fitting.isoflop import fit_isoflop
from fitting.laws.bootstrap import CurveDraws, draw_curves
from fitting.reading.observations import Table, prepare
from fitting.values import FloatArray, check_count, floats, names

_TWENTIETHS = tuple(np.linspace(0.0, 1.0, 21))


@dataclass(frozen=True)
class CompositionRange:
    """How far the optimum can be moved by choosing the composition, on one budget.

    Attributes:
        smallest: skill whose weight alone gives the least p*.
        largest: skill whose weight alone gives the greatest p*.
        log_ratio: ln of the greatest p* over the least.
        interval: 90 % interval of it, right for all pairs of skills at once, so that picking the
            extreme pair does not flatter it.
        excluded: skills without an optimum and the reason.
    """

    flops: float
    smallest: str
    largest: str
    log_ratio: float
    interval: tuple[float, float]
    optima: Mapping[str, float]
    excluded: Mapping[str, str]

    @property
    def percent(self) -> float:
        """By how many per cent the greatest p* exceeds the least."""
        return 100 * math.expm1(self.log_ratio)


def compose(
    table: Table, weights: Mapping[str, float], *, name: str = "composite"
) -> pd.DataFrame:
    """Observations of the weighted mean of several losses, as a skill of its own.

    For `fit_skills`, whose guarded mixture then gives p*(w) and a law of any composition.

    Args:
        table: observations; only trials that measured every weighted skill count.

    Returns:
        One row per trial: flops, params, tokens, skill, loss, trial_id, seed, mix.
    """
    shares = _normalised(weights)
    seen = prepare(table)
    for skill in shares:
        seen.of_skill(skill)
    rows = seen.frame[seen.frame["skill"].isin(list(shares))]
    wide = rows.pivot(index="trial_id", columns="skill", values="loss").dropna()
    loss = (wide[list(shares)] * pd.Series(shares)).sum(axis=1)
    trials = rows.drop_duplicates("trial_id").set_index("trial_id").loc[wide.index]
    return trials.assign(loss=loss, skill=name).drop(columns="budget").reset_index()


def share_sweep(
    table: Table,
    first: str,
    second: str,
    *,
    shares: npt.ArrayLike = _TWENTIETHS,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """p* of the loss share * first + (1 - share) * second, on every budget.

    Returns:
        Columns flops, share, params, low, high (90 %), status, log_ratio (to share 0),
        log_ratio_low, log_ratio_high. Intervals come from joint draws of both curves, so that
        errors common to a trial cancel in the log ratio.

    Raises:
        TableError: a skill is not in the table.
        FittingError: both names are the same, or a share lies outside 0 to 1.
    """
    grid = np.atleast_1d(floats("shares", shares))
    check_count(draws=draws)
    if first == second:
        raise FittingError(f"{first!r} is given twice: name two skills")
    if not ((grid >= 0) & (grid <= 1)).all():
        raise FittingError("shares must lie between 0 and 1")
    rows: list[dict[str, Any]] = []
    for budget, ln_p, losses in loss_matrix(table, [first, second]):
        drawn = draw_curves(ln_p, losses, n=draws, seed=seed)
        base = fit_isoflop(np.exp(ln_p), losses[:, 1], flops=budget)
        for share in grid:
            weights = np.array([share, 1 - share])
            one = fit_isoflop(np.exp(ln_p), losses @ weights, flops=budget)
            ratio = (math.nan,) * 3
            if one.ok and base.ok:
                ratio = (math.log(one.params / base.params), *_ratio_interval(drawn, weights))
            rows.append(
                {"flops": budget, "share": share, "params": one.params if one.ok else math.nan,
                 "low": one.interval[0], "high": one.interval[1], "status": one.status,
                 "log_ratio": ratio[0], "log_ratio_low": ratio[1], "log_ratio_high": ratio[2]}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _ratio_interval(drawn: CurveDraws | None, weights: FloatArray) -> tuple[float, float]:
    """90 % interval of ln p* of a weighting over that of the second loss alone."""
    if drawn is None:
        return math.nan, math.nan
    return quantiles(drawn.vertices(weights) - drawn.vertices(np.array([0.0, 1.0])))


def composition_range(
    table: Table, *, skills: Sequence[str] | None = None, draws: int = 2000, seed: int = 0
) -> list[CompositionRange]:
    """Per budget, how far p* moves over all weightings of the skills."""
    check_count(draws=draws)
    chosen = names(skills) if skills else prepare(table).skills
    return [
        _range_of(budget, ln_p, losses, chosen, draws, seed)
        for budget, ln_p, losses in loss_matrix(table, chosen)
    ]


def loss_matrix(
    table: Table, skills: Sequence[str]
) -> Iterator[tuple[float, FloatArray, FloatArray]]:
    """Per budget: its FLOPs, ln params (k,) and losses (k, skills) of the complete trials."""
    observations = prepare(table)
    for skill in skills:
        observations.of_skill(skill)  # says so when there is none
    frame = observations.frame
    frame = frame[frame["skill"].isin(skills)]
    wide = frame.pivot(index=["budget", "params", "trial_id"], columns="skill", values="loss")
    losses = wide.reindex(columns=list(dict.fromkeys(skills))).to_numpy(dtype=float)
    budgets, params = (wide.index.get_level_values(i).to_numpy(dtype=float) for i in (0, 1))
    complete = np.isfinite(losses).all(axis=1)
    for budget in np.unique(budgets):
        rows = complete & (budgets == budget)
        yield float(budget), np.log(params[rows]), losses[rows]


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Positive weights that sum to one."""
    if not isinstance(weights, Mapping):
        raise FittingError('weights: give each skill its own, {"code": 2, "knowledge": 1}')
    given = floats("weights", list(weights.values()))
    total = math.fsum(given)
    if not (0 < total < math.inf and (given >= 0).all()):
        raise FittingError(f"weights must be finite, not negative and not all zero: {weights}")
    return {name: w / total for name, w in zip(weights, given.tolist(), strict=True) if w > 0}


def _range_of(
    budget: float,
    ln_p: FloatArray,
    losses: FloatArray,
    names: Sequence[str],
    draws: int,
    seed: int,
) -> CompositionRange:
    """The range on one budget."""
    fits = [fit_isoflop(np.exp(ln_p), y, flops=budget) for y in losses.T]
    good = [i for i, one in enumerate(fits) if one.ok]
    excluded = {n: o.reason for n, o in zip(names, fits, strict=True) if not o.ok}
    optima = {names[i]: fits[i].params for i in good}
    if len(good) < 2:
        none = (math.nan, math.nan)
        return CompositionRange(budget, "", "", math.nan, none, optima, excluded)
    smallest, largest = min(optima, key=optima.__getitem__), max(optima, key=optima.__getitem__)
    return CompositionRange(
        flops=budget, smallest=smallest, largest=largest,
        log_ratio=math.log(optima[largest] / optima[smallest]),
        interval=_simultaneous(draw_curves(ln_p, losses[:, good], n=draws, seed=seed)),
        optima=optima, excluded=excluded,
    )  # fmt: skip


def _simultaneous(drawn: CurveDraws | None) -> tuple[float, float]:
    """90 % interval of the greatest difference, valid for all differences together."""
    if drawn is None:
        return (math.nan, math.nan)
    _, slope, curvature = drawn.coefficients
    point = drawn.centre - slope / (2 * curvature)
    drawn_all = np.stack([drawn.vertices(w) for w in np.eye(len(point))], axis=1)
    difference = point[:, None] - point[None, :]
    error = drawn_all[:, :, None] - drawn_all[:, None, :] - difference
    finite = np.isfinite(error).all(axis=(1, 2))
    if finite.mean() < 0.95:
        return (0.0, math.inf)
    scale = np.quantile(np.abs(error[finite]), 0.683, axis=0)  # a standard error without tails
    safe = np.where(scale > 0, scale, 1.0)
    bound = np.quantile((np.abs(error[finite]) / safe).max(axis=(1, 2)), 0.9)
    return (
        max(float((difference - bound * scale).max()), 0.0),
        float((difference + bound * scale).max()),
    )


def quantiles(values: FloatArray) -> tuple[float, float]:
    """Central 90 % interval of draws; infinite when over 5 % of them have no value."""
    finite = values[np.isfinite(values)]
    if len(finite) < 0.95 * len(values):
        return (-math.inf, math.inf)
    low, high = np.quantile(finite, [0.05, 0.95])
    return float(low), float(high)
