"""Keeps the live file of a running sweep true, and says how long it will still take."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeper.budget import Allocation
from sweeper.driver.driver import Start
from sweeper.record.ledger import Ledger
from sweeper.record.live import Live, Progress
from sweeper.record.timeleft import ahead_of, left_s
from sweeper.search.protocol import Search
from sweeper.spec.spec import Spec
from sweeper.text import write_whole

WRITE_EVERY_S = 2.0
"""Seconds between rewrites (assumption: what a person watching wants)."""

AHEAD_EVERY_S, AHEAD_SHARE = 20.0, 0.02
"""Fewest seconds between questions to the search what it would start next, and most of the
driver's time they take (assumptions)."""


class Pulse:
    """Keeps the file up to date, at most once in `WRITE_EVERY_S`; a listener of the driver.

    Args:
        path: of the file.
        dashboard: URL of Ray's dashboard, or "".
        ray_files: directory of this run's Ray.
    """

    def __init__(self, path: Path, *, dashboard: str, ray_files: str) -> None:
        self._path, self._dashboard, self._ray_files = path, dashboard, ray_files
        self._trials: dict[str, Progress] = {}
        self._written = 0.0
        self.write()

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
        return Live(self._dashboard, self._ray_files, dict(self._trials))

    def write(self) -> None:
        """Replace the file in one step; a full disk must not stop a sweep for this."""
        try:
            write_whole(self._path, json.dumps(asdict(self.live)))
        except OSError:
            return
        self._written = time.monotonic()


class TimeLeft:
    """Seconds until the sweep ends, for whoever shows them; None before any trial has ended.

    Args:
        spec: of the sweep.
        ledger: its state.
        search: asked now and then what it would start next.
        pulse: knows how far the running trials are.
    """

    def __init__(self, spec: Spec, ledger: Ledger, search: Search, pulse: Pulse) -> None:
        self._spec, self._ledger, self._search, self._pulse = spec, ledger, search, pulse
        self._ahead: list[Allocation] | None = None
        self._ask_after = 0.0

    def __call__(self) -> float | None:
        """The estimate as things stand."""
        trials, began = self._ledger.trials(), time.monotonic()
        if began >= self._ask_after:
            observations = self._ledger.observations()
            self._ahead = ahead_of(self._search, self._spec.allowance, trials, observations)
            took = time.monotonic() - began
            self._ask_after = began + max(AHEAD_EVERY_S, took / AHEAD_SHARE)
        return left_s(trials, self._pulse.live, self._spec.allowance, self._ahead)
