"""Rows that are checkpoints or log lines of the same trainings: the last of each counts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.reading.budgets import group_budgets
from fitting.reading.numbers import number
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

LOG_LINES = 5
"""Evenly spaced rows of one size from which they are one training's log (assumption: nobody
trains five runs at evenly spaced token counts; ladders are spaced by factors)."""

FILLED = math.log(1.2)
"""How well 6 params tokens must fill a budget (attention, rounding; assumption)."""

SHARES, RUNS, LADDER = 3, 5, 1.3
"""Rows of a run, and runs, from which equal shares of the last tokens tell a log; and how many
times these rows a ladder has distinct tokens, tokens per param or FLOPs at most (assumptions)."""

ROUNDED = 0.05
"""Counts that differ by no more may be one, rounded to two digits."""

MANY_LINES = 30
"""Rows of one size from which they are a log, however spaced (assumption)."""


@dataclass(frozen=True)
class Logs:
    """Which training each row of a table belongs to.

    Attributes:
        run: number of the training (and skill, where rows are of several).
        is_log: whether the training has several rows of different progress.
        progress: tokens, or steps where tokens do not move.
        named: whether runs are told apart by a column, or by size and order only.
    """

    run: IntArray
    is_log: BoolArray
    progress: FloatArray
    named: bool

    def last(self, usable: BoolArray) -> BoolArray:
        """Of the usable rows, those that count: the last of each log, and all that are none."""
        held = np.flatnonzero(usable & self.is_log)
        keep = usable & ~self.is_log
        if not len(held):
            return keep
        run, progress = self.run[held], self.progress[held]
        top = pd.Series(progress).groupby(run).transform("max").to_numpy()
        # Named rows at one count stay together: they are duplicates, to be named as such.
        keep[held[progress >= top]] = True
        return keep

    def dropped(self, usable: BoolArray, keep: BoolArray) -> tuple[IntArray, list[str]]:
        """The last dropped row of each training, and what to say of it."""
        gone = np.flatnonzero(usable & ~keep)
        count = pd.Series(gone).groupby(self.run[gone]).agg(["max", "size"])
        said = [
            f"{n} earlier checkpoint{'s' * (n > 1)} of the run whose last row is kept"
            for n in count["size"]
        ]
        return count["max"].to_numpy(), said


def find_logs(wide: pd.DataFrame, *, trusted: bool = False) -> Logs:
    """Recognise trainings that have several rows.

    A name that returns with other token counts is one training, unless it only says the size, or
    stands on budgets that all names share. Without names, rows of one size are one training where
    they share a budget that their last tokens fill, where their counts are evenly spaced, in the
    file's order or all of them, or where all have the same shares of last tokens that are no
    ladder's.

    Args:
        wide: params, tokens, flops, and skill, trial_id, step where known; in the file's order.
        trusted: whether the caller said which column names a run.
    """
    progress = _progress(wide)
    given = "trial_id" in wide and bool(wide["trial_id"].notna().all())
    named = given and (trusted or not _only_size(wide))
    skill = pd.factorize(wide["skill"])[0] if "skill" in wide else np.zeros(len(wide), dtype=int)
    size = wide["params"].to_numpy(float)
    if named:
        run = _numbered(wide["trial_id"], skill)
        logs = _varies(run, progress) & (trusted or not _on_budgets(wide, run))
        return Logs(run, logs[run], progress, named)
    run = _numbered(wide["flops"].round(-3).astype(str) + " " + wide["params"].astype(str), skill)
    found = _fill_a_budget(wide, run)
    if not found.any():
        run = _segments(size, progress, skill)
        found = _spaced_evenly(run, progress) | _at_equal_shares(wide, run)
    if not found.any():
        run = _numbered(wide["params"], skill)
        found = _spaced_evenly(run, progress, most=math.inf)
    return Logs(run, found[run], progress, named)


def _numbered(names: pd.Series, skill: IntArray) -> IntArray:
    """A number for each name and skill."""
    run = pd.factorize(names)[0] * (int(skill.max(initial=0)) + 1) + skill
    return np.asarray(pd.factorize(run)[0])


def _fill_a_budget(wide: pd.DataFrame, run: IntArray) -> BoolArray:
    """Per run: whether its tokens grow on one budget, which the last of them fill."""
    tokens = wide["tokens"].groupby(run).agg(["min", "max"])
    last = FLOPS_PER_PARAM_TOKEN * wide["params"].groupby(run).first() * tokens["max"]
    filled = np.abs(np.log(wide["flops"].groupby(run).first() / last)) < FILLED
    return np.asarray((tokens["max"] > 1.5 * tokens["min"]) & filled)


def _progress(wide: pd.DataFrame) -> FloatArray:
    """Tokens; steps where tokens are a plan that does not move within a run."""
    tokens: FloatArray = wide["tokens"].to_numpy(float)
    if "step" not in wide or "trial_id" not in wide:
        return tokens
    moves = pd.Series(tokens).groupby(wide["trial_id"].to_numpy()).nunique() > 1
    steps: FloatArray = wide["step"].fillna(0).to_numpy(float)
    return tokens if moves.any() else steps


def _segments(params: FloatArray, progress: FloatArray, skill: IntArray) -> IntArray:
    """Runs of rows without names: a new one where the size changes or the count falls back."""
    order = np.argsort(skill, kind="stable")
    grows = np.diff(progress[order])[np.diff(params[order]) == 0]
    if (grows < 0).sum() > (grows > 0).sum():  # the newest first, as logs are exported
        order = order[::-1]
    size, count, kind = np.log(params[order]), progress[order], skill[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.abs(np.diff(size)) > 1e-3) | (np.diff(count) <= 0) | (np.diff(kind) != 0)
    run = np.empty(len(order), dtype=np.intp)
    run[order] = np.cumsum(new) - 1
    return run


def _only_size(wide: pd.DataFrame) -> bool:
    """Whether names hold only the size (L-53M), so that one may stand for several trainings."""
    first = wide.drop_duplicates("trial_id").head(200)
    rest = []
    for name, params in zip(first["trial_id"], first["params"], strict=True):
        for told in re.findall(r"\d+(?:\.\d+)?\s*[kKmMbB]?", str(name)):
            if number(told) > 0 and abs(np.log(number(told) / params)) < 0.1:
                rest.append(str(name).replace(told, "", 1))
                break
    return len(rest) * 2 > len(first) and len(set(rest)) == 1


def _varies(run: IntArray, progress: FloatArray) -> BoolArray:
    """Per run: whether its rows have several counts."""
    spread = pd.Series(progress).groupby(run).agg(["min", "max"])
    return np.asarray(spread["max"] > 1.01 * spread["min"])


def _at_equal_shares(wide: pd.DataFrame, run: IntArray) -> bool:
    """Whether each run was looked at when the same shares of its own tokens were seen.

    A ladder has equal shares too, but on the same tokens, tokens per param or FLOPs for all.
    """
    rows = int(np.bincount(run).max())
    if rows < SHARES or run.max() + 1 < RUNS or len(run) < 0.9 * rows * (run.max() + 1):
        return False
    tokens, params = wide["tokens"], wide["params"]
    share = tokens / tokens.groupby(run).transform("max")
    ladder = min(map(distinct, (tokens, tokens / params, tokens * params)))
    return distinct(share) <= LADDER * rows < ladder


def _on_budgets(wide: pd.DataFrame, run: IntArray) -> bool:
    """Whether names stand once on each of a few budgets, at own tokens: a grid's sizes."""
    rows = int(np.bincount(run).max())
    if rows >= MANY_LINES:
        return False
    budget = pd.Series(group_budgets(wide["flops"], tolerance=ROUNDED))
    once = budget.groupby(run).nunique().sum() == len(run)
    return bool(once) and distinct(budget) <= LADDER * rows < distinct(wide["tokens"])


def distinct(values: pd.Series) -> int:
    """How many counts there are, rounded ones as one."""
    return len(np.unique(group_budgets(values, tolerance=ROUNDED)))


def _spaced_evenly(run: IntArray, progress: FloatArray, most: float = MANY_LINES) -> BoolArray:
    """Per run: whether it has at least `LOG_LINES` rows, evenly spaced, or very many."""
    order = np.lexsort((progress, run))
    step = np.diff(progress[order])
    inside = (np.diff(run[order]) == 0) & (step > 0)
    frame = pd.DataFrame({"run": run[order][1:][inside], "step": step[inside]})
    middle = frame.groupby("run")["step"].transform("median")
    frame["even"] = (frame["step"] / middle - 1).abs() < 0.02
    found = frame.groupby("run")["even"].agg(["mean", "size"])
    even = (found["mean"] >= 0.75) & (found["size"] >= LOG_LINES - 1)
    logs = np.zeros(int(run.max()) + 1, dtype=bool)
    logs[found.index[even | (found["size"] >= most)]] = True
    return logs
