"""How far a preparation is, in lines that also read well in a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trainables.prepare.sources import Part
from trainables.progress import Countdown


@dataclass
class Progress:
    """Counts what processes tell, and says how long the rest will take, where that can be known.

    Attributes:
        parts: all parts that are not finished at the start.
        say: where lines go.
    """

    parts: list[Part]
    say: Callable[[str], None]
    done: set[int] = field(default_factory=set)
    text_bytes: dict[int, int] = field(default_factory=dict)
    tokens: int = 0
    _countdown: Countdown = field(init=False)

    def __post_init__(self) -> None:
        """The clock starts with the first batch: what comes before is starting processes."""
        self._countdown = Countdown(self.say, started=False)

    def told(self, part: int, text_bytes: int, tokens: int) -> None:
        """Take one batch of a part."""
        self.text_bytes[part] = self.text_bytes.get(part, 0) + text_bytes
        self.tokens += tokens
        self._countdown.tell(self.share(), self.line)

    def line(self, elapsed_s: float) -> str:
        """What is done: parts, tokens, speed."""
        return (
            f"{len(self.done)} of {len(self.parts)} parts, {self.tokens / 1e6:.1f}M tokens, "
            f"{self.tokens / 1e6 / elapsed_s:.2f}M a second"
        )

    def share(self) -> float | None:
        """Share of the work that is done; None while it cannot be told.

        Bytes of text per byte on disk are learned from finished parts; before there are any, they
        are taken as equal for plain files, and as unknown for compressed and remote ones.
        """
        weight = sum(part.weight for part in self.parts)
        finished = [i for i in self.done if self.text_bytes.get(i)]
        if finished:
            ratio = sum(self.text_bytes[i] for i in finished) / sum(
                self.parts[i].weight for i in finished
            )
        elif all(part.plain for part in self.parts):
            ratio = 1.0
        else:
            return None
        read = sum(
            part.weight
            if i in self.done
            else min(self.text_bytes.get(i, 0) / ratio, 0.99 * part.weight)
            for i, part in enumerate(self.parts)
        )
        return min(read / weight, 1.0)
