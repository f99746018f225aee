"""The sweep directory as an interface: what lies where, whose it is, and who drives it.

sweeps/a/
├── sweep.yaml            the resolved spec
├── ledger.sqlite         the only state
├── observations.parquet  export, one row per (trial, skill)
├── fits.json             optima and laws
├── report.html
├── live.json             progress of running trials; disposable
├── metrics.json          where Prometheus finds the nodes; disposable
├── trials/<trial_id>/    checkpoints of a running trial, questions.parquet of a finished one
└── ray/                  Ray's own files; never read back
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeper.errors import DirectoryError
from sweeper.spec import Sweep


class Directory:
    """Paths of one sweep's files."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.spec = self.root / "sweep.yaml"
        self.ledger = self.root / "ledger.sqlite"
        self.observations = self.root / "observations.parquet"
        self.fits = self.root / "fits.json"
        self.report = self.root / "report.html"
        self.trials = self.root / "trials"
        self.ray = self.root / "ray"
        self.lock = self.root / "driver.lock"
        self.live = self.root / "live.json"
        self.targets = self.root / "metrics.json"

    def questions(self, trial_id: str) -> Path:
        """Where a trial keeps the loss of every question; see `Results.questions`."""
        return self.trials / trial_id / "questions.parquet"

    def require(self) -> Directory:
        """Return self if a sweep lives here.

        Raises:
            DirectoryError: there is none.
        """
        if not self.ledger.exists() or not self.spec.exists():
            raise DirectoryError(
                f"{self.root}: no sweep here (sweep.yaml and ledger.sqlite are missing); "
                "`isoskill run SPEC --out DIRECTORY` makes one"
            )
        return self

    def claim(self, sweep: Sweep) -> None:
        """Make the directory this sweep's, or check that it is.

        Raises:
            DirectoryError: it holds a sweep whose trials this one could not use.
        """
        if self.spec.exists():
            theirs = Sweep.load(self.spec)
            different = _differences(theirs.identity, sweep.identity)
            if different:
                raise DirectoryError(
                    f"{self.root} belongs to another sweep: {'; '.join(different)}. "
                    "Choose another directory, or make the spec agree"
                )
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            sweep.save(self.spec)
        except OSError as error:
            raise DirectoryError(f"{self.root}: cannot be written: {error.strerror}") from error

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Hold the directory as its one driver; the lock of a dead driver is free.

        Raises:
            DirectoryError: another driver holds it; the message says which, and since when.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise DirectoryError(f"{self.root} is driven by {_holder(file.read())}") from None
            file.truncate(0)
            who = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
            file.write(json.dumps(who))
            file.flush()
            yield

    def holder(self) -> dict[str, Any] | None:
        """Who drives the directory now: ``host``, ``pid``, ``since``; None if nobody does."""
        try:
            with self.lock.open(encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return dict(json.loads(file.read()))
        except (OSError, ValueError):
            return None
        return None


def _holder(text: str) -> str:
    try:
        who = json.loads(text)
    except ValueError:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(who["since"]))
    return f"process {who['pid']} on {who['host']} since {since}; stop it first"


def _differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted(ours.keys() | theirs.keys())
        return [
            line
            for key in keys
            for line in _differences(ours.get(key), theirs.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if ours == theirs else [f"{path} is {ours!r} there and {theirs!r} here"]
