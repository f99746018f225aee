"""A simulated cluster: the search and the accounting of a sweep without Ray or training."""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sweeper.budget import Allocation, Space
from sweeper.errors import SpecError, TrialFailed
from sweeper.search.protocol import COLUMNS, Finished, Search
from sweeper.text import number

LossFunction = Callable[[Allocation, np.random.Generator], Mapping[str, float]]
"""Measured loss of every skill from one trial; raises `TrialFailed` or returns NaN to fail."""


_Row = tuple[object, ...]

_AT_ONCE = 1e-6
"""Relative difference of the times at which trials end together: less than a token's worth."""

_BROKEN_SHARE = 0.5
"""Share of its FLOPs that a failed or diverged trial spends: it may break at any time."""


@dataclass(frozen=True, order=True)
class _Ending:
    """A trial in training, ordered by the time at which it will end."""

    time: float
    trial_id: int
    allocation: Allocation = field(compare=False)
    losses: Mapping[str, float] = field(compare=False)
    status: str = field(compare=False)
    spent_flops: float = field(compare=False)


def run(
    search: Search,
    space: Space,
    loss_fn: LossFunction,
    *,
    skills: Sequence[str],
    allowance: float,
    slots: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Run a whole search on a cluster of ``slots`` where a trial lasts as long as it costs.

    Args:
        skills: what it measures; a trial without one of them is an error.
        allowance: FLOPs the whole sweep may spend.
        seed: of the generators given to ``loss_fn``.

    A trial reserves its budget when it starts and settles what it spent when it ends, as in a
    real sweep. Its randomness depends on ``seed`` and its allocation only, so the same trial has
    the same outcome whenever it is run.

    Returns:
        The ledger's long table (columns `sweeper.search.protocol.COLUMNS`), in order of ending;
        ``attrs["finished"]`` holds the `Finished` that ended it.

    Raises:
        RuntimeError: the search asked for more than the allowance, or for nothing at all while
            nothing was in training.
    """
    ended: list[_Row] = []
    training: list[_Ending] = []
    spent, now, started = 0.0, 0.0, 0
    while True:
        table = pd.DataFrame(ended, columns=COLUMNS)
        pending = [e.allocation for e in training]
        remaining = allowance - spent - sum(e.allocation.flops for e in training)
        asked = search.propose(table, pending, remaining, slots - len(training))
        if isinstance(asked, Finished):
            break
        _check(sum(a.flops for a in asked), remaining, idle=not (training or asked))
        for allocation in asked:
            cost = space.cost(allocation)
            ending = _train(allocation, cost, loss_fn, now=now, trial_id=started, seed=seed)
            heapq.heappush(training, ending)
            started += 1
        now = training[0].time
        while training and training[0].time <= now * (1 + _AT_ONCE):
            ending = heapq.heappop(training)
            spent += ending.spent_flops
            ended += _rows(ending, skills)
    for ending in sorted(training):
        ended += _rows(ending, skills)
    table = pd.DataFrame(ended, columns=COLUMNS)
    table.attrs["finished"] = asked
    return table


def _check(reserved: float, remaining: float, *, idle: bool) -> None:
    if idle:
        raise RuntimeError("the search asks for no trial while none is in training")
    if reserved > remaining:
        raise RuntimeError(
            f"the search asks for more than the {number(remaining)} FLOPs that remain"
        )


def _train(
    allocation: Allocation,
    cost: float,
    loss_fn: LossFunction,
    *,
    now: float,
    trial_id: int,
    seed: int,
) -> _Ending:
    """Start a trial: its outcome is known at once, its end comes later."""
    losses: dict[str, float] = {}
    try:
        losses = dict(loss_fn(allocation, _rng(allocation, seed)))
        sound = all(math.isfinite(value) for value in losses.values())
        status = "finished" if sound else "diverged"
    except TrialFailed:
        status = "failed"
    cost *= 1.0 if status == "finished" else _BROKEN_SHARE
    return _Ending(now + cost, trial_id, allocation, losses, status, cost)


def _rng(allocation: Allocation, seed: int) -> np.random.Generator:
    name = zlib.crc32(allocation.mix.encode())
    flops = round(math.log(allocation.flops) * 1e9)
    return np.random.default_rng([seed, allocation.seed, allocation.params, flops, name])


def _rows(ending: _Ending, skills: Sequence[str]) -> list[_Row]:
    """The observations of one ended trial; losses of an unsound one are NaN."""
    a, sound = ending.allocation, ending.status == "finished"
    head = (ending.trial_id, a.flops, a.params, a.tokens, a.seed, a.mix)
    tail = (ending.status, ending.spent_flops)
    losses = [float(ending.losses[s]) if sound else math.nan for s in skills]
    return [(*head, s, loss, *tail) for s, loss in zip(skills, losses, strict=True)]


def probe(loss_fn: LossFunction, space: Space, *, seed: int) -> tuple[str, ...]:
    """Names of the skills that a loss function measures, from a few trial calls.

    Raises:
        TrialFailed: every call failed.
        SpecError: it returned something else than losses by skill.
    """
    for params in space.params:
        allocation = space.allocation(space.budgets[0], params)
        try:
            found = loss_fn(allocation, _rng(allocation, seed))
        except TrialFailed:
            continue
        if not (isinstance(found, Mapping) and found):
            raise SpecError(f'loss_fn: returned {found!r:.80}; return losses, {{"code": 2.31}}')
        return tuple(found)
    raise TrialFailed("the loss function fails at every size on the cheapest budget")
