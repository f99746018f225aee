"""How far a long task is and how long the rest will take, in lines that read well in a log.

Plain Python: whatever takes minutes uses it (`prepare`, the benchmarks).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

EVERY_S = 5.0
"""Seconds between lines (assumption)."""

TELLING = 0.02
"""Share of the work below which no time left is said (assumption)."""

Item = TypeVar("Item")


def to_stderr(line: str) -> None:
    """Say a line beside a program's output, which may be on its way into a file."""
    print(line, file=sys.stderr, flush=True)


class Countdown:
    """Says now and then how far a task is; silent where it ends before the first line is due.

    Args:
        started: whether the work begins now; else with the first word of it.
    """

    def __init__(self, say: Callable[[str], None] = to_stderr, *, started: bool = True) -> None:
        self._say = say
        self._began = self._said = time.monotonic() if started else None

    def tell(self, share: float | None, text: str | Callable[[float], str]) -> None:
        """Take how much is done, and say so where a line is due.

        Args:
            share: of the work; None while it cannot be told.
            text: what to say before the time left; may be made from the seconds so far.
        """
        now = time.monotonic()
        if self._began is None or self._said is None:
            self._began = self._said = now
        if now - self._said >= EVERY_S:
            self._said = now
            elapsed_s = now - self._began
            said = text if isinstance(text, str) else text(elapsed_s)
            self._say(f"  {said}, {left(share, elapsed_s)}")


def counted(
    items: Collection[Item], what: str, *, say: Callable[[str], None] = to_stderr
) -> Iterator[Item]:
    """The items, one after another, with a word now and then of how long the rest will take.

    Args:
        items: pieces of about equal work.
        what: they are, such as "replicates".
    """
    countdown = Countdown(say)
    for done, item in enumerate(items):
        if done:
            countdown.tell(done / len(items), f"{done} of {len(items)} {what}")
        yield item


def left(share: float | None, elapsed_s: float) -> str:
    """Time left in words, if the rest goes as the share that is done has gone."""
    if share is None or share < TELLING:
        return "time left not known yet"
    return f"about {duration(elapsed_s * (1 - share) / share, digits=2)} left"


def duration(seconds: float, *, digits: int = 3) -> str:
    """Seconds in the largest unit that they are 1.5 of: 40 s, 12.5 min, 3.5 h, 2.1 d."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            count = seconds / length
            return f"{count:,.0f} {unit}" if count >= 1000 else f"{count:.{digits}g} {unit}"
    return f"{seconds:.{digits}g} s"
