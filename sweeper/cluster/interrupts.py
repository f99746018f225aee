"""Ctrl-C, SIGTERM and SIGHUP: the first asks a sweep to stop in order, the next ends it at once.

SIGHUP comes when a terminal is closed or a connection is lost, often twice, and so never ends a
sweep at once. What is ignored (by `nohup`, or in the background of a script) stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Listens to the signals while it is entered; only a main thread can.

    Attributes:
        asked: the first signal's number, 0 while there was none.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Take the signals."""
        if threading.current_thread() is threading.main_thread():
            handled = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._handle) for s in handled}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGHUP:
            return
        if self.asked:
            # All that was recorded is on the disk, and Ray's processes end with this one.
            _say(b"stopped at once; the same command goes on\n")
            os._exit(128 + number)
        self.asked = number
        _say(b"stopping: trials in training write a checkpoint; once more stops at once\n")


@contextmanager
def hangups_ignored() -> Iterator[None]:
    """Let processes that are started meanwhile outlive the terminal: a sweep stops them itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _say(line: bytes) -> None:
    """Write to standard error, if there still is one."""
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), line)
