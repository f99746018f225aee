"""Rows that are checkpoints or log lines of the same trainings: the last of each counts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.reading.numbers import number
from fitting.values import FloatArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

LOG_LINES = 5
"""Evenly spaced rows of one size from which they are one training's log (assumption: nobody
trains five runs at evenly spaced token counts; ladders are spaced by factors)."""

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


def find_logs(wide: pd.DataFrame) -> Logs:
    """Recognise trainings that have several rows.

    A name that returns with other token counts is one training, unless it only says the size;
    without names, rows of one size in their order are one where their counts are evenly spaced.

    Args:
        wide: params, tokens, and skill, trial_id, step where known; in the order of the file.
    """
    progress = _progress(wide)
    named = "trial_id" in wide and bool(wide["trial_id"].notna().all())
    skill = pd.factorize(wide["skill"])[0] if "skill" in wide else np.zeros(len(wide), dtype=int)
    if named:
        run = pd.factorize(wide["trial_id"])[0] * (int(skill.max()) + 1) + skill
        run = pd.factorize(run)[0]
    else:
        run = _segments(wide["params"].to_numpy(float), progress, skill)
    if named and not _says_size(wide):
        found = _varies(run, progress)
    else:
        found = _spaced_evenly(run, progress)
    return Logs(run, found[run], progress, named)


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
    size, count, kind = np.log(params[order]), progress[order], skill[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.abs(np.diff(size)) > 1e-3) | (np.diff(count) <= 0) | (np.diff(kind) != 0)
    run = np.empty(len(order), dtype=np.intp)
    run[order] = np.cumsum(new) - 1
    return run


def _says_size(wide: pd.DataFrame) -> bool:
    """Whether names hold the size (L-53M), so that one may stand for several trainings."""
    first = wide.drop_duplicates("trial_id").head(200)
    said = []
    for name, params in zip(first["trial_id"], first["params"], strict=True):
        sizes = [number(m) for m in re.findall(r"\d+(?:\.\d+)?\s*[kKmMbB]?", str(name))]
        said.append(any(size > 0 and abs(np.log(size / params)) < 0.1 for size in sizes))
    return float(np.mean(said)) > 0.5


def _varies(run: IntArray, progress: FloatArray) -> BoolArray:
    """Per run: whether its rows have several counts."""
    spread = pd.Series(progress).groupby(run).agg(["min", "max"])
    return np.asarray(spread["max"] > 1.01 * spread["min"])


def _spaced_evenly(run: IntArray, progress: FloatArray) -> BoolArray:
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
    logs[found.index[even | (found["size"] >= MANY_LINES)]] = True
    return logs
