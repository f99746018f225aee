"""The fixed grid of Hoffmann et al. 2022, Llama 3 and Roberts et al. 2025: n sizes per budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweeper.budget import Allocation, Space
from sweeper.search.history import allocations, mean_centre, near, vertices
from sweeper.search.protocol import Finished
from sweeper.search.selection import Selection
from sweeper.spec.search import SearchSettings


@dataclass(frozen=True)
class GridSearch:
    """Log-spaced sizes on every budget, cheapest first, each budget centred by the ones before."""

    settings: SearchSettings
    space: Space

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return the next sizes of the grid; see `sweeper.search.protocol.Search`."""
        selection = Selection(self.space, allocations(observations), pending, remaining_flops, n)
        known, found = selection.known, vertices(observations, self.space)
        points = [(c, p) for c in self.space.budgets for p in self._missing(found, known, c)]
        return selection.of(points, "the grid")

    def foreseen(self) -> dict[float, int]:
        """Trials of each budget as the first guess has them; a law may move the sizes later.

        Fewer than ``sizes_per_budget`` where the sizes end within the grid's range.
        """
        budgets = [flops for flops in self.space.budgets if self.space.allowed(flops)]
        return {flops: len(self._sizes([], flops)) for flops in budgets}

    def _missing(
        self, found: Sequence[tuple[float, float]], known: Sequence[Allocation], flops: float
    ) -> list[int]:
        """Sizes of the grid on one budget that no trial stands for yet.

        The grid may have moved since its first trials: each trial stands for the nearest size, so
        that a budget gets as many trials as the grid has sizes, not more.
        """
        here = near(known, flops)
        if len(here) >= self.settings.sizes_per_budget or not self.space.allowed(flops):
            return []
        sizes = self._sizes(found, flops)
        for trial in here:
            if not sizes:
                break
            sizes.remove(min(sizes, key=lambda p: abs(math.log(p / trial.params))))
        return sizes

    def _sizes(self, found: Sequence[tuple[float, float]], flops: float) -> list[int]:
        centre = mean_centre(found, flops, self.settings.tokens_per_param)
        half = self.settings.half_width
        wanted = np.exp(centre + np.linspace(-half, half, self.settings.sizes_per_budget))
        allowed = self.space.sizes(flops)
        return sorted({min(allowed, key=lambda p: abs(math.log(p / w))) for w in wanted})


@dataclass(frozen=True)
class GridOfEach:
    """The usual grid under one variant or mix after the other, in the order of the spec."""

    settings: SearchSettings
    spaces: Mapping[str, Space]

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return the next sizes of the grids; see `sweeper.search.protocol.Search`."""
        chosen: list[Allocation] = []
        unaffordable: list[str] = []
        for name, space in self.spaces.items():
            asked = GridSearch(self.settings, space).propose(
                observations[observations["mix"] == name],
                [a for a in pending if a.mix == name],
                remaining_flops - sum(a.flops for a in chosen),
                n - len(chosen),
            )
            if not isinstance(asked, Finished):
                chosen += asked
            elif asked.reason == "allowance":
                unaffordable.append(f"{name}: {asked.detail}")
            if len(chosen) >= n:
                break
        if chosen or pending:
            return chosen
        if unaffordable:
            return Finished("allowance", " ".join(unaffordable))
        return Finished(
            "complete", f"The grids of {len(self.spaces)} variants or mixes have ended."
        )
