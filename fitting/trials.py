"""From the long table, one row per trial and skill, to one matrix of losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fitting.laplace import IntArray
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

IDENTITY = ("flops", "params", "tokens", "seed", "trial_id")
"""Columns that tell trials apart, where known."""


@dataclass(frozen=True)
class Trials:
    """Losses of all skills on all trials.

    Attributes:
        skills: names in order of first appearance.
        log_params: (n,) ln p.
        log_flops: (n,) ln C.
        loss: (S, n) nats, NaN where a skill was not measured.
        flops_per_param_token: median of C / (p t).
    """

    skills: tuple[str, ...]
    log_params: FloatArray
    log_flops: FloatArray
    loss: FloatArray
    flops_per_param_token: float = FLOPS_PER_PARAM_TOKEN


def read_trials(frame: pd.DataFrame) -> Trials:
    """Arrange a long table by trial.

    Rows of one allocation (and seed and trial_id where known) belong to one trial; a skill that
    occurs twice there is a repeat, and the k-th rows of each skill are taken together.

    Args:
        frame: columns flops, params, tokens, skill, loss; optional trial_id, seed.

    Raises:
        ValueError: no rows.
    """
    if not len(frame):
        raise ValueError("frame has no rows: nothing to fit")
    skill, skills = pd.factorize(frame["skill"])
    flops, params = frame["flops"].to_numpy(float), frame["params"].to_numpy(float)
    trial = _trial_of(frame, skill)
    first = np.unique(trial, return_index=True)[1]
    loss = np.full((len(skills), len(first)), np.nan)
    loss[skill, trial] = frame["loss"].to_numpy(float)
    ratio = flops[first] / (params[first] * frame["tokens"].to_numpy(float)[first])
    return Trials(
        skills=tuple(str(name) for name in skills),
        log_params=np.log(params[first]),
        log_flops=np.log(flops[first]),
        loss=loss,
        flops_per_param_token=float(np.median(ratio)),
    )


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
