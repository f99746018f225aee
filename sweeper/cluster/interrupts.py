"""Ctrl-C and SIGTERM: the first asks a sweep to stop in order, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
            self._before = {s: signal.signal(s, self._handle) for s in SIGNALS}
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
        if self.asked:
            # All that was recorded is on the disk, and Ray's processes end with this one.
            os.write(sys.stderr.fileno(), b"stopped at once; the same command goes on\n")
            os._exit(128 + number)
        self.asked = number
        os.write(
            sys.stderr.fileno(),
            b"stopping: trials in training write a checkpoint; once more stops at once\n",
        )
