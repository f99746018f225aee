"""Ctrl-C, SIGTERM and SIGHUP: the first asks a sweep to stop in order, the next ends it at once.

SIGHUP comes when a terminal is closed or a connection is lost, often twice, and so never ends a
sweep at once. What is ignored (by `nohup`, or in the background of a script) stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


LOOKS_S = 0.5
"""Seconds between looks whether Ray has ended, too."""


class Interrupts:
    """Listens to the signals while it is entered; only a main thread can.

    A signal to the whole process group (`timeout`, systemd) ends Ray's own processes, too: nothing
    is left to stop in order, and Ray would look for them for a minute, also in shutting down.

    Args:
        gone: whether they have ended.

    Attributes:
        asked: the first signal's number, 0 while there was none.
    """

    def __init__(self, gone: Callable[[], bool] | None = None) -> None:
        self.asked = 0
        self._before: dict[int, Any] = {}
        self._gone = gone

    def __enter__(self) -> Interrupts:
        """Take the signals."""
        if threading.current_thread() is threading.main_thread():
            handled = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._handle) for s in handled}
        return self

    def __exit__(self, *error: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGHUP:
            return
        if self.asked:
            _end(number)
        self.asked = number
        _say(b"stopping: trials in training write a checkpoint; once more stops at once\n")
        if self._gone is not None:
            threading.Thread(target=_look, args=(self._gone, number), daemon=True).start()


def _look(gone: Callable[[], bool], number: int) -> None:
    """End at once when there is no Ray any more to stop trials by."""
    while not gone():
        time.sleep(LOOKS_S)
    _say(b"Ray's own processes were ended, too: ")
    _end(number)


def _end(number: int) -> None:
    """All that was recorded is on the disk, and Ray's processes end with this one."""
    _say(b"stopped at once; the same command goes on\n")
    os._exit(128 + number)


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
