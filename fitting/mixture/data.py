"""From the long table, one row per trial and skill, to one matrix of losses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import TableError
from fitting.mixture.laplace import IntArray
from fitting.values import SIX, Convention, FloatArray

IDENTITY = ("flops", "params", "tokens", "seed", "trial_id")
"""Columns that tell trials apart, where known."""

MAX_TRIALS = 5000
"""Trials above which neighbours are merged: bounds memory (300 MB) and time (measured)."""

FINEST = 0.01
"""First width of the cells that neighbours share, ln p and ln C; assumption."""


@dataclass(frozen=True)
class Trials:
    """Losses of all skills on all trials.

    Attributes:
        skills: names in order of first appearance.
        log_params: (n,) ln p.
        log_flops: (n,) ln C.
        loss: (S, n) nats, NaN where a skill was not measured.
        convention: how the table counts FLOPs.
    """

    skills: tuple[str, ...]
    log_params: FloatArray
    log_flops: FloatArray
    loss: FloatArray
    convention: Convention = SIX

    def __len__(self) -> int:
        return len(self.log_flops)

    @cached_property
    def allocation(self) -> IntArray:
        """(n,) number of each trial's allocation; repeats share one."""
        keys = np.round(np.stack([self.log_params, self.log_flops]), 5)
        return np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)

    def repeats(self) -> FloatArray:
        """(n,) how many trials each one's allocation has."""
        return np.bincount(self.allocation)[self.allocation].astype(float)

    def take(self, trials: npt.NDArray[np.bool_]) -> Trials:
        """Some of the trials, and the skills that were measured there."""
        measured = np.asarray(np.isfinite(self.loss[:, trials]).any(axis=1))
        return replace(
            self,
            skills=tuple(self.skills[i] for i in np.flatnonzero(measured)),
            log_params=self.log_params[trials],
            log_flops=self.log_flops[trials],
            loss=self.loss[:, trials][measured],
        )


def read_trials(frame: pd.DataFrame) -> Trials:
    """Arrange a long table by trial.

    Rows of one allocation (and seed and trial_id where known) belong to one trial; a skill that
    occurs twice there is a repeat, and the k-th rows of each skill are taken together.

    Args:
        frame: columns flops, params, tokens, skill, loss; optional trial_id and seed.

    Raises:
        ValueError: no rows.
        TableError: a column is missing.
    """
    if lost := [c for c in ("flops", "params", "tokens", "skill", "loss") if c not in frame]:
        raise TableError(f"missing columns {', '.join(lost)}: give fitting.prepare(table).frame")
    if not len(frame):
        raise ValueError("frame has no rows: nothing to fit")
    skill, skills = pd.factorize(frame["skill"])
    flops, params, tokens = (frame[c].to_numpy(float) for c in ("flops", "params", "tokens"))
    trial = _trial_of(frame, skill)
    first = np.unique(trial, return_index=True)[1]
    loss = np.full((len(skills), len(first)), np.nan)
    loss[skill, trial] = frame["loss"].to_numpy(float)
    return Trials(
        skills=tuple(str(name) for name in skills),
        log_params=np.log(params[first]),
        log_flops=np.log(flops[first]),
        loss=loss,
        convention=Convention.of(flops[first], params[first], tokens[first]),
    )


def thinned(trials: Trials) -> Trials:
    """At most `MAX_TRIALS` trials: the medians of cells of neighbours, each counted once.

    Counting a cell of many trials once makes intervals wider than they need be, never narrower.
    """
    width = FINEST
    cell = np.arange(len(trials.log_params))
    while int(cell.max()) >= MAX_TRIALS:
        places = [np.round(v / width).astype(int) for v in (trials.log_flops, trials.log_params)]
        places = [np.unique(place, return_inverse=True)[1].reshape(-1) for place in places]
        cell = _crossed(places[0], places[1])
        width *= 1.5
    if len(cell) <= MAX_TRIALS:
        return trials
    values = np.vstack([trials.log_params, trials.log_flops, trials.loss])
    middle = pd.DataFrame(values.T).groupby(cell).median().to_numpy().T
    return replace(trials, log_params=middle[0], log_flops=middle[1], loss=middle[2:])


def _trial_of(frame: pd.DataFrame, skill: IntArray) -> IntArray:
    """Number of the trial of each row, in order of appearance."""
    trial = np.zeros(len(frame), dtype=int)
    for name in IDENTITY:
        if name in frame:
            trial = _crossed(trial, pd.factorize(frame[name])[0])
    cell = pd.Series(_crossed(trial, skill))
    return (
        _crossed(trial, cell.groupby(cell).cumcount().to_numpy())
        if cell.duplicated().any()
        else trial
    )


def _crossed(one: IntArray, other: IntArray) -> IntArray:
    """Codes of pairs of codes; -1 stands for an unknown value."""
    return np.asarray(pd.factorize(one * (int(other.max()) + 2) + other + 1)[0])
