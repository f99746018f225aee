"""How long a sweep will still take: the speed of its trials, and what the search would start."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sweeper.budget import Allocation
from sweeper.record.live import Live, Progress
from sweeper.search.adaptive import AdaptiveSearch
from sweeper.search.protocol import Finished, Search

AHEAD = 24
"""Trials that the search is asked for, to tell how long the rest will take (assumption)."""

NEAR, RECENT = 0.3, 8.0
"""Ended trials tell the speed of others by their distance in ln params and by their age in trials:
weights fall by e over these. Chosen on real sweeps of 16 to 49 trials, from half-way on: 78 % of
108 estimates in 12 of them were within a factor 1.5 (50 % with one speed for all sizes and without
asking the search)."""


def ahead_of(
    search: Search, allowance: float, trials: pd.DataFrame, observations: pd.DataFrame
) -> list[Allocation]:
    """The trials, `AHEAD` at most, that a search would start now if all found room.

    Args:
        allowance: FLOPs the sweep may spend.
        trials: `Ledger.trials`.
        observations: `Ledger.observations`.
    """
    running = trials[trials["state"] == "running"]
    rows = running[["flops", "params", "tokens", "seed", "mix"]].itertuples(index=False)
    taken = trials["spent_flops"].sum() + trials["reserved_flops"].sum()
    free = allowance - float(taken + running["wasted_flops"].sum())
    if isinstance(search, AdaptiveSearch):  # what waits for room now is trained later
        search = replace(search, ahead=math.inf)
    asked = search.propose(observations, [Allocation(*row) for row in rows], free, AHEAD)
    return [] if isinstance(asked, Finished) else asked


def left_s(
    trials: pd.DataFrame, live: Live, allowance: float, ahead: Sequence[Allocation] | None
) -> float | None:
    """Seconds until the sweep ends, about: a search stops earlier where it learns quicker.

    Running trials go on at their own measured speed; then come those that the search would start
    next as things stand, as many at a time as now train, at the speed of ended trials of their
    size. Where they are not known, the whole allowance is spent at the recent trials' speed.

    Args:
        trials: `Ledger.trials`.
        allowance: FLOPs the sweep may spend.
        ahead: what the search would start next (`ahead_of`); None where that is not known.

    Returns:
        Seconds, or None before any trial has ended.
    """
    ended = trials.dropna(subset=["wall_s"])
    ended = ended[(ended["wall_s"] > 0) & (ended["spent_flops"] > 0)].sort_values("ended_at")
    if ended.empty:
        return None
    pace, slots = pace_of(ended), []
    free = allowance - float(trials["spent_flops"].sum() + trials["reserved_flops"].sum())
    for trial in trials[trials["state"] == "running"].itertuples():
        own = trial_left_s(live.trials.get(str(trial.trial_id)), float(trial.tokens))
        slots.append(float(trial.flops * pace(float(trial.params)) if own is None else own))
    slots = slots or [0.0]
    if ahead is None:
        recent = ended.tail((len(ended) + 1) // 2)
        per_flop = float(recent["wall_s"].sum() / recent["spent_flops"].sum())
        return max(each + per_flop * max(free, 0.0) / len(slots) for each in slots)
    heapq.heapify(slots)
    # A list that was cut short goes on as it began; some may have started since it was asked for.
    for each in itertools.cycle(ahead) if len(ahead) >= AHEAD else ahead:
        if each.flops > free * (1 + 1e-6):
            break
        free -= each.flops
        heapq.heapreplace(slots, slots[0] + each.flops * pace(each.params))
    return max(slots)


def pace_of(ended: pd.DataFrame) -> Callable[[float], float]:
    """Seconds per FLOP by params, from trials' params, wall_s and spent_flops, oldest first."""
    sizes = np.log(ended["params"].to_numpy(float))
    paces = np.log((ended["wall_s"] / ended["spent_flops"]).to_numpy(float))
    age = np.arange(len(ended))[::-1]

    def pace(params: float) -> float:
        distance = np.abs(sizes - math.log(params)) / NEAR + age / RECENT
        weights = np.exp(distance.min() - distance)
        return math.exp(float(np.average(paces, weights=weights)))

    return pace


def trial_left_s(progress: Progress | None, tokens: float) -> float | None:
    """Seconds a running trial still needs, or None before it has reported a speed."""
    if progress is None or progress.tokens_per_s <= 0:
        return None
    return max(tokens - progress.tokens, 0.0) / progress.tokens_per_s
