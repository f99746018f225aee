"""How far a foreign trainer is: ``progress.jsonl``, or lines of its output."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRESS = "progress.jsonl"
"""Lines such as {"tokens": 1048576, "loss": 3.21}, appended by the trainer as it goes on."""

READ_BYTES = 2**20
"""Most of the file that is read at a time; of more, the end."""


@dataclass(frozen=True)
class Whole:
    """What a share of the training is a share of.

    Attributes:
        tokens: of the whole trial.
        batch_tokens: of one step; 0 if that is not known.
        steps: of the whole trial; 0 if that is not known. Progress of another number of steps is
            that of something else, such as an evaluation.
    """

    tokens: int
    batch_tokens: int = 0
    steps: int = 0


class Heartbeat:
    """Follows one attempt.

    Args:
        pattern: of lines of the output, or "" for `PROGRESS`.

    Attributes:
        at: monotonic seconds of the last sign of progress, or of the start.
    """

    def __init__(self, directory: Path, whole: Whole, pattern: str = "") -> None:
        self.at = time.monotonic()
        self.tokens, self.loss, self.seen = 0.0, math.nan, False
        self._path, self._whole = directory / PROGRESS, whole
        self._pattern = re.compile(pattern) if pattern else None
        self._place = _size(self._path)  # what earlier attempts have written is no news
        self._resumed_at = 0.0
        self._began = (self.at, 0.0)

    def look(self, tail: str) -> dict[str, Any] | None:
        """Metrics to report where there is progress since the last look at the output's end."""
        signs = self._in_output(tail) if self._pattern else self._in_file()
        told = [(tokens, s) for s in signs if (tokens := _tokens(s, self._whole)) is not None]
        if not told or (self.seen and told[-1][0] == self.tokens):
            return None
        tokens, found = told[-1]
        now = time.monotonic()
        if not self.seen:
            stated = _number(found.get("resumed_at_tokens"))
            self._resumed_at = stated if math.isfinite(stated) else tokens
            self._began = (now, tokens)
        self.at, self.tokens, self.seen = now, tokens, True
        self.loss = _number(found.get("loss"))
        said = {"tokens": tokens, "tokens_per_s": self.tokens_per_s}
        if math.isfinite(self.loss):
            said["train_loss"] = self.loss
        return {**said, "resumed_at_tokens": self._resumed_at}

    @property
    def tokens_per_s(self) -> float:
        """Speed since the first sign; 0 before the second."""
        first_at, first = self._began
        return max(self.tokens - first, 0.0) / (self.at - first_at) if self.at > first_at else 0.0

    def _in_output(self, tail: str) -> list[dict[str, Any]]:
        assert self._pattern is not None
        return [match.groupdict() for match in self._pattern.finditer(tail)]

    def _in_file(self) -> list[dict[str, Any]]:
        size = _size(self._path)
        if size < self._place:
            self._place = 0  # rewritten
        if size == self._place:
            return []
        with self._path.open("rb") as file:
            file.seek(max(self._place, size - READ_BYTES))
            block = file.read(READ_BYTES)
            end = block.rfind(b"\n") + 1
            self._place = file.tell() - len(block) + end
        return [found for line in block[:end].splitlines()[-50:] if (found := _object(line))]


def _object(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else None
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tokens(found: Mapping[str, Any], whole: Whole) -> float | None:
    """Tokens that a sign of progress stands for; None where it says nothing of them."""
    tokens = _number(found.get("tokens"))
    if math.isfinite(tokens):
        return tokens
    step, steps = (_number(found.get(name)) for name in ("step", "steps"))
    if whole.steps and steps > 0 and steps != whole.steps:
        return None
    if step >= 0 and steps > 0:
        return whole.tokens * min(step / steps, 1.0)
    if step >= 0 and whole.batch_tokens:
        return min(step * whole.batch_tokens, float(whole.tokens))
    return None


def _number(value: Any) -> float:
    try:
        return float(str(value).replace(",", "").replace("_", ""))
    except ValueError:
        return math.nan
