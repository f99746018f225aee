"""Search policies: pure functions of what the ledger holds.

A policy has no memory of its own, so resuming is re-reading, and the whole search is tested
without a cluster. Observations are the long table of the ledger, one row per (trial, skill),
with columns ``trial_id, flops, params, tokens, seed, mix, skill, loss, status, spent_flops``;
``status`` is "finished", "diverged" or "failed", and the loss of the latter two is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from sweeper.budget import Allocation, Space
from sweeper.spec.search import SearchSettings

__all__ = ["COLUMNS", "Finished", "Search", "SearchSettings", "build", "build_for_mixes"]

COLUMNS = (
    "trial_id", "flops", "params", "tokens", "seed", "mix", "skill", "loss", "status",
    "spent_flops",
)  # fmt: skip
"""Columns of the observations a search reads; it ignores all others."""


@dataclass(frozen=True)
class Finished:
    """The search asks for no more trials.

    Attributes:
        reason: "tolerance", "allowance", "complete" or "nothing-helps".
        detail: a sentence for the reader: what was reached, and what more would buy.
    """

    reason: str
    detail: str = ""


class Search(Protocol):
    """Chooses the next trials."""

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return up to ``n`` allocations to start now.

        Args:
            observations: every ended trial's losses, long form (see the module's docstring).
            pending: allocations now in training; they are not proposed again.
            remaining_flops: allowance less what is spent and reserved.
            n: free slots.

        Returns:
            Allocations whose budgets sum to at most ``remaining_flops``; an empty list to wait
            for pending trials; or `Finished`, only when nothing is pending or no outcome of the
            pending trials could change the decision.
        """
        ...


def build(settings: SearchSettings, space: Space, skills: Sequence[str]) -> Search:
    """The policy that ``settings`` names, over a space of allocations."""
    if settings.policy == "grid":
        from sweeper.search.grid import GridSearch

        return GridSearch(settings, space)
    if settings.policy == "optuna":
        from sweeper.search.optuna import OptunaSearch

        return OptunaSearch(settings, space, tuple(skills))
    from sweeper.search.adaptive import AdaptiveSearch

    return AdaptiveSearch(settings, space)


def build_for_mixes(
    settings: SearchSettings,
    space: Space,
    mixes: Mapping[str, Mapping[str, float]],
    classes: Mapping[str, str],
) -> Search:
    """The policy that ``settings`` names, over allocations and data mixes.

    Args:
        settings: "adaptive" or "grid".
        space: what can be trained under each mix.
        mixes: mix -> class -> share of documents, the reference first.
        classes: skill -> class whose share it follows.
    """
    from sweeper.search.mixes import MixGrid, MixSearch

    if settings.policy == "grid":
        return MixGrid(settings, space, mixes)
    return MixSearch(settings, space, mixes, classes)
