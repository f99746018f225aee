"""Keeps the live file of a running sweep true, and Prometheus' list of its nodes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeper.driver.driver import Driver, Start
from sweeper.record.live import AHEAD, Live, Progress, replace

WRITE_EVERY_S = 2.0
"""Seconds between rewrites (assumption: what a person watching wants)."""

AHEAD_EVERY_S, AHEAD_SHARE = 20.0, 0.02
"""Fewest seconds between such questions, and most of the driver's time they take (assumptions)."""


class Pulse:
    """Keeps the file up to date, at most once in `WRITE_EVERY_S`; a listener of the driver.

    Args:
        path: the file.
        dashboard: URL of Ray's dashboard, or "".
        targets: file for Prometheus to find the nodes by (its ``file_sd`` form); rewritten with
            ``nodes()``, host:port of each node's metrics, since nodes come and go.
    """

    def __init__(
        self, path: Path, *, dashboard: str, targets: Path, nodes: Callable[[], list[str]]
    ) -> None:
        self._path, self._trials = path, dict[str, Progress]()
        self._dashboard, self._targets, self._nodes = dashboard, targets, nodes
        self._written = self._ahead_after = 0.0
        self._driver: Driver | None = None
        self._ahead: tuple[tuple[float, float], ...] | None = None
        self.write()

    def follow(self, driver: Driver) -> None:
        """Ask this driver from now on what lies ahead."""
        self._driver = driver

    def __call__(self, event: str, start: Start, record: Mapping[str, Any]) -> None:
        """Take what became of a trial: its ``tokens`` and ``tokens_per_s`` while it trains."""
        if event == "progressed":
            self._trials[start.trial_id] = Progress(
                float(record["tokens"]), float(record.get("tokens_per_s", 0.0))
            )
        else:
            self._trials.pop(start.trial_id, None)
        if time.monotonic() - self._written >= WRITE_EVERY_S:
            self.write()

    @property
    def live(self) -> Live:
        """What the file says, or will say next."""
        return Live(
            time.time(), socket.gethostname(), os.getpid(),
            self._dashboard, dict(self._trials), self._ahead,
        )  # fmt: skip

    def write(self) -> None:
        """Replace the files, each in one step; a full disk must not stop a sweep for this."""
        self._look_ahead()
        try:
            replace(self._path, asdict(self.live))
            replace(self._targets, [{"targets": self._nodes()}])
        except OSError:
            return
        self._written = time.monotonic()

    def _look_ahead(self) -> None:
        began = time.monotonic()
        if self._driver is None or began < self._ahead_after:
            return
        self._ahead = tuple((a.flops, float(a.params)) for a in self._driver.foresee(AHEAD))
        took = time.monotonic() - began
        self._ahead_after = began + max(AHEAD_EVERY_S, took / AHEAD_SHARE)
