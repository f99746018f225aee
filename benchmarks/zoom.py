"""The local zoom: five sizes on the cheapest budget, each next budget centred by those below.

The simple rival of the adaptive search (results/replay.md, results/live.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweeper.budget import Allocation, Space
from sweeper.search.history import GOLDEN, allocations, mean_centre, near, vertices
from sweeper.search.protocol import Finished
from sweeper.search.selection import Selection
from sweeper.spec.search import SearchSettings

OFFSETS = np.linspace(-1.0, 1.0, 5)
"""Sizes of a budget round its expected optimum, ln p; the cheapest budget, whose optimum is a
guess, has them as far as ``half_width``."""

PASSES = 4
"""Rounds over the ladder; each round's sizes lie between those of the others (assumption)."""


@dataclass(frozen=True)
class ZoomSearch:
    """Five sizes a budget and round, cheapest first, centred by parabolas of cheaper budgets."""

    settings: SearchSettings
    space: Space

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return the next sizes; see `sweeper.search.protocol.Search`."""
        selection = Selection(self.space, allocations(observations), pending, remaining_flops, n)
        return selection.of(self._missing(observations, selection.known), "the zoom")

    def _missing(
        self, observations: pd.DataFrame, known: Sequence[Allocation]
    ) -> list[tuple[float, int]]:
        """Points (flops, size) that no trial stands for yet, round by round, cheapest first.

        The centres move with what is learnt, so each trial stands for the nearest size wanted.
        """
        points: list[tuple[float, int]] = []
        budgets = [flops for flops in self.space.budgets if self.space.allowed(flops)]
        left = {flops: near(known, flops) for flops in budgets}
        found = vertices(observations, self.space)
        for round_ in range(PASSES):
            for flops in budgets:
                wanted = self._sizes(found, flops, round_)
                while wanted and left[flops]:
                    trial = left[flops].pop(0)
                    wanted.remove(min(wanted, key=lambda p: abs(math.log(p / trial.params))))
                points += [(flops, size) for size in wanted]
        return points

    def _sizes(self, found: Sequence[tuple[float, float]], flops: float, round_: int) -> list[int]:
        centre = mean_centre(found, flops, self.settings.tokens_per_param, own=round_ > 0)
        first = not round_ and flops == self.space.budgets[0]
        wide = self.settings.half_width if first else 1.0
        shift = 0.5 * ((round_ * GOLDEN + 0.5) % 1.0 - 0.5)
        allowed = self.space.sizes(flops)
        wanted = np.exp(centre + wide * OFFSETS + shift)
        return [min(allowed, key=lambda p: abs(math.log(p / w))) for w in wanted]
