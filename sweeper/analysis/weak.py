"""Skills that say nothing: too few targets, no better than chance, not learned, lost in noise.

Their optima would be numbers all the same, so they are named wherever a sweep is shown, each with
what would do.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fitting import Fits, SkillFit
from fitting.errors import Status
from fitting.laws.bracket import LEAST_SIZES, without_spoiled
from fitting.regression import least_squares
from fitting.values import Z90
from sweeper.record.record import Outcome
from sweeper.spec.scoring import few_targets
from sweeper.text import percent, si

NEAR_UNIFORM = 0.98
"""Share of ln(vocabulary) from which a loss is no better than guessing among all tokens alike
(assumption: the first steps of a training, which learn how often tokens are, fall below)."""

BEST = 3
"""Least losses of a budget whose mean stands for it (assumption)."""

LEARNED = 0.01
"""Share of its loss by which a skill must fall over the ladder to be learned (assumption)."""

SEEN = 0.04
"""Share by which another skill must have fallen for the ladder to show learning (assumption)."""

TOLD_APART = 0.05
"""Chance below which the sizes of a budget are told apart (the usual level)."""

LEAST_FREE = 3
"""Residual degrees of freedom from which the noise is judged (assumption)."""

HIDDEN = math.log(3.0)
"""Half-width of a 90 % interval of ln p* from which noise hides the optimum (assumption: the sizes
of an isoFLOP profile span a factor of ten either way)."""


def weak_in(outcome: Outcome, fits: Fits) -> dict[str, str]:
    """What `weak_skills` says of a sweep."""
    spec = outcome.sweep
    known = spec.trainer is None and spec.data.source != "simulated" and not outcome.read
    rows = outcome.table[outcome.table["mix"] == spec.space.mix]
    return weak_skills(fits, rows, vocabulary=spec.model.vocabulary if known else None)


def weak_skills(
    fits: Fits, table: pd.DataFrame | None = None, *, vocabulary: int | None = None
) -> dict[str, str]:
    """Skills whose losses say nothing of an optimum, each with the reason and the remedy.

    Args:
        table: the runs, where ``target_tokens`` are known; by default those of the fits.
        vocabulary: tokens to guess among, where losses are per token of a known tokenizer.
    """
    table = fits.observations.frame if table is None else table
    falls = {skill: _fall(fit.observations) for skill, fit in fits.items()}
    learning = max((fall for fall, _ in falls.values()), default=0.0) > SEEN
    said = {}
    for skill, fit in fits.items():
        losses = fit.observations["loss"].to_numpy(float)
        found = (
            _few(table[table["skill"] == skill])
            or _uniform(losses, vocabulary)
            or (_unlearned(*falls[skill]) if learning else "")
            or _hidden(fit)
        )
        if found:
            said[skill] = f"{skill} says nothing yet: {found}"
    return said


def _few(rows: pd.DataFrame) -> str:
    """Why a skill's examples are too few."""
    counted = rows["target_tokens"].dropna() if "target_tokens" in rows else pd.Series(dtype=float)
    told = int(counted.iloc[0]) if len(counted) else 0
    return few_targets(told) if told > 1 else ""  # 1: a mean, of nobody knows how many


def _uniform(losses: np.ndarray, vocabulary: int | None) -> str:
    best = float(np.mean(np.sort(losses)[:BEST]))
    if vocabulary is None or best < NEAR_UNIFORM * math.log(vocabulary):
        return ""
    return (
        f"its best loss, {best:.3g} nats, is no better than guessing among the {si(vocabulary)} "
        f"tokens ({math.log(vocabulary):.3g}); train on text like it, or on larger budgets"
    )


def _fall(rows: pd.DataFrame) -> tuple[float, float]:
    """Share of its loss by which a skill falls from the least budget to the best, and by how much
    a budget's best losses scatter, as a share too; 0 with a single budget.

    The largest budget need not be the best: its sizes may be far from its optimum.
    """
    parts = rows.sort_values("budget").groupby("budget")["loss"]
    best = [np.sort(losses.to_numpy(float))[:BEST] for _, losses in parts]
    first, last = best[0], min(best[1:] or best, key=lambda losses: float(losses.mean()))
    level = abs(float(first.mean())) or 1.0
    noise = math.hypot(float(np.std(first)), float(np.std(last))) / math.sqrt(BEST)
    return float(first.mean() - last.mean()) / level, noise / level


def _unlearned(fall: float, noise: float) -> str:
    if fall > max(LEARNED, noise) or noise > SEEN:  # what scatters more is judged by its noise
        return ""
    how = f"falls by only {percent(fall, 1)}" if fall >= 0.001 else "does not fall"
    return (
        f"its loss {how} from the least budget to any larger one, while others fall: nothing of "
        "it is learned at these budgets; leave it out, check its targets, or train on larger "
        "budgets"
    )


def _hidden(fit: SkillFit) -> str:
    """Why noise hides a skill's optimum: its losses do not tell sizes of one budget apart."""
    top, chance = fit.optima[-1], _chance_alike(fit.observations)
    flat = sum(best.status in (Status.FLAT, Status.NOT_IDENTIFIED) for best in fit.optima)
    vague = math.isfinite(top.log_params_se) and Z90 * top.log_params_se > HIDDEN
    sizes = fit.observations.groupby("budget")["params"].nunique().max()
    designed = sizes < LEAST_SIZES  # no budget has a valley to see: noise is not what hides it
    apart = chance < TOLD_APART if math.isfinite(chance) else flat < len(fit.optima) or designed
    if apart and not vague:
        return ""
    return (
        "noise hides its optimum: the sizes of a budget cannot be told apart by its losses; "
        "measure it on more examples, or raise the allowance or the budgets"
    )


def _chance_alike(rows: pd.DataFrame) -> float:
    """Chance of losses that differ this much between sizes if size had no effect on a budget.

    An F test of one parabola in ln p / C^.5 under a level for each budget, without spoiled trials;
    NaN with too few.
    """
    from scipy.special import fdtrc

    parts = [(float(str(budget)), curve) for budget, curve in rows.groupby("budget")]
    sound = without_spoiled([curve for _, curve in parts])
    budgets = np.concatenate([[c] * len(x) for (c, _), (x, _) in zip(parts, sound, strict=True)])
    levels = (budgets[:, None] == np.unique(budgets)).astype(float)
    x = np.concatenate([x for x, _ in sound]) - 0.5 * np.log(budgets)
    x -= x.mean()
    if len(x) < levels.shape[1] + 2 + LEAST_FREE or len(np.unique(x.round(3))) < 3:
        return math.nan
    y = np.concatenate([y for _, y in sound])
    curved = least_squares(np.column_stack([levels, x, x**2]), y)
    level = least_squares(levels, y)
    gained = (level.squares - curved.squares) / 2
    return float(fdtrc(2, curved.dof, gained * curved.dof / max(curved.squares, 1e-300)))
