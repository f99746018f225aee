"""What a trial costs when it may branch from a trunk the sweep has already trained.

With a learning rate that is constant and then cools down, one training of a size gives several
token counts: a branch needs what the trunk lacks, and its own cooldown. Trials of one size and
seed form a trunk; repeats have seeds, and hence trunks, of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sweeper.budget import Allocation, Space, next_seed

__all__ = ["price", "price_next", "with_trunks"]


def price(
    space: Space, held: Sequence[Allocation], allocation: Allocation, cooldown: float
) -> float:
    """FLOPs that a trial costs beyond what its trunk holds.

    Args:
        space: what can be trained.
        held: trials that have ended with losses; each leaves its trunk's checkpoints.
        allocation: the trial.
        cooldown: share of a training's tokens in which the learning rate falls.
    """
    same = [
        a.tokens
        for a in held
        if (a.params, a.seed, a.mix) == (allocation.params, allocation.seed, allocation.mix)
    ]
    stable = 1 - cooldown
    lacking = max(0.0, stable * (allocation.tokens - max(same, default=0)))
    per_token = space.flops_per_token[space.nearest(allocation.params)]
    return per_token * (lacking + cooldown * allocation.tokens)


def price_next(
    space: Space,
    held: Sequence[Allocation],
    known: Sequence[Allocation],
    flops: float,
    params: int,
    cooldown: float | None,
) -> float:
    """What the next trial of a size on a budget reserves: its budget, or a branch's price.

    Args:
        space: what can be trained.
        held: trials that have ended with losses.
        known: trials ended or in training, which take the seeds.
        flops: the budget.
        params: the size.
        cooldown: see `price`; None trains every trial from scratch.
    """
    if cooldown is None:
        return flops
    seed = next_seed(known, flops, params)
    return price(space, held, space.allocation(flops, params, seed), cooldown)


def with_trunks(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column that is equal for branches of one trunk, for `fit_guarded`."""
    trunk = table["params"].astype(str) + "/" + table["seed"].astype(str) + "/" + table["mix"]
    return table.assign(trunk=trunk)
