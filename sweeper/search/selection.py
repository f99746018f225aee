"""One decision in the making: slots and FLOPs left, and what has been chosen so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sweeper.budget import Allocation, Space, next_seed, same_budget
from sweeper.search.protocol import Finished

__all__ = ["Turn"]


@dataclass
class Turn:
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

    def budgets(self) -> list[float]:
        """Budgets on which a trial can be afforded."""
        return [c for c in self.space.budgets if c <= self.remaining and self.space.allowed(c)]

    def on(self, flops: float) -> list[Allocation]:
        """Known trials on one budget."""
        return [a for a in self.known if same_budget(a.flops, flops)]

    def take(self, points: Iterable[tuple[float, int]]) -> None:
        """Start trials at (flops, size) as long as slots and FLOPs last."""
        for flops, size in points:
            if self.free > 0 and flops <= self.remaining:
                seed = next_seed(self.known, flops, size)
                self.chosen.append(self.space.allocation(flops, size, seed))
                self.remaining -= flops
                self.free -= 1

    def answer(self, reason: str, detail: Callable[[], str]) -> list[Allocation] | Finished:
        """What was chosen; nothing, to wait for trials in training; or the end and why."""
        if self.chosen or self.pending:
            return self.chosen
        return Finished(reason, detail())
