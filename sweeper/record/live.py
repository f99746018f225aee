"""What is in training right now: a small file beside the ledger, rewritten as trials report.

Disposable: no sweep reads it back. Without it (a copied directory, a dead driver) only the
progress of running trials is unknown; all else is in the ledger.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.driver.driver import Driver, Start

WRITE_EVERY_S = 2.0
"""Seconds between rewrites (assumption: what a person watching wants)."""

AHEAD = 24
"""Trials that the search is asked for, to tell how long the rest will take (assumption)."""

AHEAD_EVERY_S, AHEAD_SHARE = 20.0, 0.02
"""Fewest seconds between such questions, and most of the driver's time they take (assumptions)."""


@dataclass(frozen=True)
class Progress:
    """What a running trial last said of itself."""

    tokens: float
    tokens_per_s: float


@dataclass(frozen=True)
class Live:
    """A driver and the trials it has in training.

    Attributes:
        at: when this was written, seconds since the epoch.
        host, pid: the driver's.
        dashboard: URL of Ray's dashboard, or "".
        trials: progress by trial id.
        ahead: (FLOPs, params) of the trials that the search would start next as things stand,
            `AHEAD` at most; None where that is not known.
    """

    at: float = 0.0
    host: str = ""
    pid: int = 0
    dashboard: str = ""
    trials: dict[str, Progress] = field(default_factory=dict)
    ahead: tuple[tuple[float, float], ...] | None = None


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
            _replace(self._path, asdict(self.live))
            _replace(self._targets, [{"targets": self._nodes()}])
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


def _replace(path: Path, values: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values), encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> Live:
    """Read the file; an empty `Live` where there is none or it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        trials = {key: Progress(**value) for key, value in values.pop("trials").items()}
        ahead = values.pop("ahead", None)
        return Live(**values, trials=trials, ahead=ahead and tuple((c, p) for c, p in ahead))
    except (OSError, ValueError, TypeError, KeyError):
        return Live()
