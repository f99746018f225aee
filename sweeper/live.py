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

import pandas as pd

if TYPE_CHECKING:
    from sweeper.driver import Start

WRITE_EVERY_S = 2.0
"""Seconds between rewrites (assumption: what a person watching wants)."""


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
    """

    at: float = 0.0
    host: str = ""
    pid: int = 0
    dashboard: str = ""
    trials: dict[str, Progress] = field(default_factory=dict)


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
        return Live(
            time.time(), socket.gethostname(), os.getpid(),
            self._dashboard, dict(self._trials),
        )  # fmt: skip

    def write(self) -> None:
        """Replace the files, each in one step; a full disk must not stop a sweep for this."""
        try:
            _replace(self._path, asdict(self.live))
            _replace(self._targets, [{"targets": self._nodes()}])
        except OSError:
            return
        self._written = time.monotonic()


def _replace(path: Path, values: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values), encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> Live:
    """Read the file; an empty `Live` where there is none or it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        trials = {key: Progress(**value) for key, value in values.pop("trials").items()}
        return Live(**values, trials=trials)
    except (OSError, ValueError, TypeError, KeyError):
        return Live()


def left_s(trials: pd.DataFrame, live: Live, allowance: float) -> float | None:
    """Seconds until the allowance is spent, at the speed measured so far; an upper bound, since a
    search may stop earlier.

    Running trials go on at their own measured speed; FLOPs not yet given to a trial take as long
    as those of the later half of the ended trials did, on as many slots as now train.

    Args:
        trials: `Ledger.trials`.
        live: progress of the running trials.
        allowance: FLOPs the sweep may spend.

    Returns:
        Seconds, or None before any trial has ended.
    """
    ended = trials.dropna(subset=["wall_s"])
    ended = ended[(ended["wall_s"] > 0) & (ended["spent_flops"] > 0)].sort_values("ended_at")
    if ended.empty:
        return None
    recent = ended.tail((len(ended) + 1) // 2)
    pace = float(recent["wall_s"].sum() / recent["spent_flops"].sum())
    running = trials[trials["state"] == "running"]
    free = allowance - float(trials["spent_flops"].sum() + trials["reserved_flops"].sum())
    seconds = pace * max(free, 0.0)
    for trial in running.itertuples():
        own = trial_left_s(live.trials.get(str(trial.trial_id)), float(trial.tokens))
        seconds += pace * float(trial.flops) if own is None else own
    return seconds / max(len(running), 1)


def trial_left_s(progress: Progress | None, tokens: float) -> float | None:
    """Seconds a running trial still needs, or None before it has reported a speed."""
    if progress is None or progress.tokens_per_s <= 0:
        return None
    return max(tokens - progress.tokens, 0.0) / progress.tokens_per_s
