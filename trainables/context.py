"""What a training loop asks of its surroundings: where it runs, and where it reports.

The loop knows no Ray: an executor hands it an object with these few members. No torch here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

PROGRESS = "trial.json"
"""The file of a checkpoint that says how far the trial was."""

PREFIX = "checkpoint_"
"""Names of checkpoint directories begin with this, Ray Train's own as well."""

STOP = "stop"
"""A file of this name in a trial's directory asks it to write a checkpoint and return."""

KEPT = 2
"""Checkpoints kept of a running trial: where the last is damaged, the one before serves."""


class Context(Protocol):
    """Surroundings of one worker of one trial.

    Attributes:
        world_size: workers of the trial; above 1 the executor has set up the process group.
        device: torch device of this worker, or "auto".
        directory: the trial's own, on storage all its workers see; None keeps nothing.
    """

    rank: int
    world_size: int
    device: str
    directory: Path | None

    def scratch(self) -> Path:
        """A new, empty directory for this worker's part of a checkpoint."""

    def report(self, metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        """Take progress, and a filled scratch directory to keep; all ranks call it together."""

    def should_stop(self) -> bool:
        """Whether the loop should write a checkpoint and return early."""


def checkpoints(directory: Path | None) -> list[Path]:
    """A trial's checkpoints, those of most steps first; unreadable ones come last.

    A worker group's lie a level deeper, under the name of its run.
    """
    if directory is None or not directory.is_dir():
        return []
    places = (f"{PREFIX}*", f"*/{PREFIX}*")
    found = [path for place in places for path in directory.glob(place) if path.is_dir()]
    return sorted(found, key=lambda path: (_steps(path), path.name), reverse=True)


def _steps(path: Path) -> int:
    try:
        return int(json.loads((path / PROGRESS).read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, TypeError, KeyError):
        return -1


class LocalContext:
    """One process, with checkpoints in a directory: plain use, tests, single-process trials.

    Args:
        device: torch device, or "auto" for a GPU if there is one.
        on_report: called with the metrics of every report.
    """

    rank = 0
    world_size = 1

    def __init__(
        self,
        directory: Path | None = None,
        *,
        device: str = "auto",
        on_report: Callable[[dict[str, Any]], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.device = device
        self.directory = directory
        self._on_report = on_report
        self._stop = stop

    def scratch(self) -> Path:
        """A directory beside the checkpoints, so that keeping one is a renaming."""
        if self.directory is None:
            return Path(tempfile.mkdtemp(prefix="isoskill-"))
        partial = self.directory / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def report(self, metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        """Keep the checkpoint in a single step, drop old ones, and pass metrics on."""
        if checkpoint is not None and self.directory is not None:
            place = self.directory / f"{PREFIX}{metrics['step']:012d}"
            shutil.rmtree(place, ignore_errors=True)
            checkpoint.rename(place)
            _sync(self.directory)
            for path in checkpoints(self.directory)[KEPT:]:
                shutil.rmtree(path, ignore_errors=True)
        if self._on_report is not None:
            self._on_report(metrics)

    def should_stop(self) -> bool:
        """What the caller's ``stop`` says, or whether there is a stop file."""
        asked = self._stop is not None and self._stop()
        return asked or stop_asked(self.directory)


def stop_asked(directory: Path | None) -> bool:
    """Whether a trial's directory holds a stop file."""
    return directory is not None and (directory / STOP).exists()


def run_name(name: str, directory: Path) -> str:
    """The name of a group's run, and of its place in the trial's directory: safe as a path."""
    shown = f"{name},{directory.name}" if name else directory.name
    return re.sub(r"[^\w.=+,-]+", "-", shown, flags=re.ASCII)


def _sync(directory: Path) -> None:
    """Make a renaming in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
