"""Output that cannot end a sweep: what cannot be printed is lost, and the training goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Calm:
    """A stream that drops what its own cannot take.

    A terminal that was closed, a pipe whose reader has gone, a log on a full disk: each would
    raise from the middle of a sweep, in whatever happens to print. Characters that the encoding
    does not have are written as "?". A disk that has room again is written to again.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream has."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError):  # ValueError: it was closed
            pass
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass


@contextmanager
def calm_output() -> Iterator[None]:
    """Make standard output and error calm, for all that prints meanwhile."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_calm(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _calm(stream: TextIO | None) -> Any:
    """None stays None, as where the process was started without the stream."""
    return stream if stream is None or isinstance(stream, Calm) else Calm(stream)


def forget_output() -> None:
    """Let what cannot be written go, or Python would end with a complaint of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except AttributeError:  # it was never opened
            pass
