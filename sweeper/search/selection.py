"""The trials chosen in one decision, and the slots and FLOPs that are left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from sweeper.budget import Allocation, Space, next_seed, same_budget
from sweeper.search.protocol import Finished

Point = tuple[float, int] | tuple[float, int, str]
"""FLOPs and params of a trial, and its mix where there are several."""


@dataclass
class Selection:
    """Slots filled one after the other.

    Attributes:
        space: what can be trained.
        ended: ended trials.
        pending: trials in training.
        remaining: FLOPs neither spent nor reserved.
        free: slots to fill.
        chosen: trials to start now.
    """

    space: Space
    ended: Sequence[Allocation]
    pending: Sequence[Allocation]
    remaining: float
    free: int
    chosen: list[Allocation] = field(default_factory=list)

    @property
    def known(self) -> list[Allocation]:
        """Trials ended, in training and chosen."""
        return [*self.ended, *self.pending, *self.chosen]

    @property
    def training(self) -> list[Allocation]:
        """Trials whose outcome is to come."""
        return [*self.pending, *self.chosen]

    @property
    def allowance(self) -> float:
        """FLOPs of the whole sweep, as far as known: trials at their budgets, and what remains."""
        return sum(a.flops for a in self.known) + self.remaining

    def budgets(self) -> list[float]:
        """Budgets on which a trial can be afforded."""
        return [c for c in self.space.budgets if c <= self.remaining and self.space.allowed(c)]

    def on(self, flops: float) -> list[Allocation]:
        """Known trials on one budget."""
        return [a for a in self.known if same_budget(a.flops, flops)]

    def nearest(self, flops: float, log_params: float) -> int:
        """The size nearest to one that can be trained on a budget."""
        return min(self.space.sizes(flops), key=lambda p: abs(math.log(p) - log_params))

    def take(self, points: Iterable[Point], *, keep: float = 0.0) -> None:
        """Start trials at (flops, size), or (flops, size, mix), while slots and FLOPs last.

        Args:
            points: in order of preference; what cannot be afforded is passed over.
            keep: FLOPs that must be left.
        """
        for flops, size, *named in points:
            if self.free > 0 and flops <= self.remaining - keep:
                mix = str(named[0]) if named else self.space.mix
                same = [a for a in self.known if a.mix == mix]
                allocation = self.space.allocation(flops, size, next_seed(same, flops, size))
                self.start(replace(allocation, mix=mix))

    def of(self, points: Sequence[Point], whole: str) -> list[Allocation] | Finished:
        """The answer of a search that takes points in a fixed order, of which these are left."""
        self.take(points)
        if not points:
            return self.answer("complete", lambda: f"Every trial of {whole} has ended.")
        detail = f"{len(points)} trials of {whole} cannot be afforded."
        return self.answer("allowance", lambda: detail)

    def start(self, allocation: Allocation) -> None:
        """Start one trial; a slot and its FLOPs must be there."""
        self.chosen.append(allocation)
        self.remaining -= allocation.flops
        self.free -= 1

    def answer(self, reason: str, detail: Callable[[], str]) -> list[Allocation] | Finished:
        """What was chosen; nothing, to wait for trials in training; or the end and why."""
        if self.chosen or self.pending:
            return self.chosen
        return Finished(reason, detail())
