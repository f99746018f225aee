"""What a search policy is: a pure function of what the ledger holds.

A policy has no memory of its own, so resuming is re-reading, and the whole search is tested
without a cluster. Observations are the long table of the ledger, one row per (trial, skill),
with columns ``trial_id, flops, params, tokens, seed, mix, skill, loss, status, spent_flops``;
``status`` is "finished", "diverged" or "failed", and the loss of the latter two is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from sweeper.budget import Allocation

COLUMNS = (
    "trial_id", "flops", "params", "tokens", "seed", "mix", "skill", "loss", "status",
    "spent_flops",
)  # fmt: skip
"""Columns of the observations a search reads; it ignores all others."""


@dataclass(frozen=True)
class Finished:
    """The search asks for no more trials.

    Attributes:
        reason: "tolerance", "allowance", "complete", "nothing-helps", or "decided" where variants
            are compared.
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
