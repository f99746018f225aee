"""What a training loop asks of its surroundings: where it runs, and where it reports.

The loop knows no Ray: an executor hands it an object with these few members. No torch here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

STATE = "state.pt"
"""The one file of a checkpoint directory."""


class Context(Protocol):
    """Surroundings of one worker of one trial.

    Attributes:
        rank: index of this worker.
        world_size: workers of the trial; above 1 the executor has set up the process group.
        device: torch device of this worker, or "auto".
    """

    rank: int
    world_size: int
    device: str

    def report(self, metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        """Take progress, and a checkpoint directory to keep; all ranks call it together."""

    def latest_checkpoint(self) -> Path | None:
        """The directory of the last checkpoint kept, if any."""

    def should_stop(self) -> bool:
        """Whether the loop ought to write a checkpoint and return early."""


class LocalContext:
    """One process, with checkpoints in a directory: plain use, tests, single-process trials.

    Args:
        directory: where to keep the last checkpoint; None keeps none.
        device: torch device, or "auto" for a GPU if there is one.
        on_report: called with the metrics of every report.
        stop: asked now and then whether to stop early.
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
        self._directory = directory
        self._on_report = on_report
        self._stop = stop

    def report(self, metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        """Keep the checkpoint, replacing the one before in a single step, and pass metrics on."""
        if checkpoint is not None and self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            partial = self._directory / f"{STATE}.partial"
            shutil.copyfile(checkpoint / STATE, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(self._directory / STATE)
        if self._on_report is not None:
            self._on_report(metrics)

    def latest_checkpoint(self) -> Path | None:
        """The directory, if a checkpoint was kept in it."""
        if self._directory is not None and (self._directory / STATE).exists():
            return self._directory
        return None

    def should_stop(self) -> bool:
        """What the caller's ``stop`` says."""
        return self._stop is not None and self._stop()
