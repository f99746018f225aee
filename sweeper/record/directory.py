"""The sweep directory as an interface: what lies where, whose it is, and who drives it.

sweeps/a/
├── sweep.yaml            the resolved spec
├── layout.json           version of this layout
├── ledger.sqlite         the only state
├── tuning.sqlite         Optuna's storage of `isoskill tune`
├── tuned.yaml            the spec with what the tuning found
├── observations.parquet  export, one row per (trial, skill)
├── out.json              trials launched by hand that are out, for `isoskill repair`
├── corpus.json           the prepared corpus's manifest, where one is trained on
├── fits.json             optima and laws
├── report.html
├── live.json             progress of running trials; disposable
├── driver.lock           held by the one driver; free when that is dead
├── trials/<trial_id>/    checkpoints while it has not finished, questions.parquet afterwards
└── ray/                  Ray's own files; never read back
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sweeper.errors import DirectoryError, named
from sweeper.record.changes import taken_over
from sweeper.record.ledger import Ledger
from sweeper.spec.spec import Spec
from sweeper.text import write_whole
from trainables.corpora.whole import check_whole
from trainables.data import Prepared
from trainables.manifest import read_unchanged
from trainables.progress import to_stderr

LAYOUT_VERSION = 1
"""Version of the tree above; a directory without layout.json is of version 1."""


LOCK_TRIES = 5
"""Looks at a held lock, a tenth of a second apart (assumption: a reader holds it for less)."""


class Directory:
    """Paths of one sweep's files."""

    def __init__(self, root: str | Path) -> None:
        self.root = named(root)
        self.spec = self.root / "sweep.yaml"
        self.ledger = self.root / "ledger.sqlite"
        self.tuning = self.root / "tuning.sqlite"
        self.tuned = self.root / "tuned.yaml"
        self.observations = self.root / "observations.parquet"
        self.out = self.root / "out.json"
        self.corpus = self.root / "corpus.json"
        self.fits = self.root / "fits.json"
        self.report = self.root / "report.html"
        self.trials = self.root / "trials"
        self.ray = self.root / "ray"
        self.lock = self.root / "driver.lock"
        self.layout = self.root / "layout.json"
        self.live = self.root / "live.json"

    def questions(self, trial_id: str) -> Path:
        """Where a trial keeps the loss of every question; see `Results.questions`."""
        return self.trials / trial_id / "questions.parquet"

    def stop_file(self, trial_id: str) -> Path:
        """While it exists, the trial writes a checkpoint and returns; see `trainables.context`."""
        return self.trials / trial_id / "stop"

    def require(self) -> Directory:
        """Return self if a sweep lives here.

        Raises:
            DirectoryError: there is none.
        """
        missing = [path.name for path in (self.spec, self.ledger) if not path.exists()]
        if self.spec.exists():
            self._check_ledger()
        if self.ledger.name in missing:  # perhaps a spec that was not run
            absent = " and ".join(missing) + (" are" if len(missing) > 1 else " is")
            raise DirectoryError(
                f"{self.root}: no sweep here ({absent} missing); "
                "`isoskill run SPEC --out DIRECTORY` makes one"
            )
        if missing:
            raise DirectoryError(
                f"{self.root}: sweep.yaml is missing; copy it back, or run the sweep's spec "
                "again: `isoskill run SPEC --out DIRECTORY` (launched by hand: `isoskill ask`)"
            )
        self._check_layout()
        return self

    def _check_layout(self) -> None:
        try:
            version = json.loads(self.layout.read_text(encoding="utf-8"))["layout"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DirectoryError(
                f"{self.layout}: cannot be read ({error}); it should say "
                f'{{"layout": {LAYOUT_VERSION}}}'
            ) from error
        if version != LAYOUT_VERSION:
            raise DirectoryError(
                f"{self.layout}: layout {version!r}, this isoskill knows {LAYOUT_VERSION}; "
                "use the version that wrote it"
            )

    def claim(self, sweep: Spec, *, unscored: bool = False) -> Spec:
        """Make the directory this sweep's, or take over the one that is in it.

        Args:
            unscored: accept skills that finished trials have yet to be scored on.

        Returns:
            The spec to go on with; see `sweeper.record.changes`.

        Raises:
            DirectoryError: it holds a sweep whose trials this one could not use, or the corpus
                is not the spec's.
        """
        self._check_layout()
        self._check_ledger()
        manifest = _manifest(sweep)
        if self.spec.exists() and self.ledger.exists():
            sweep = self._taken_over(sweep, manifest, unscored=unscored)
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            if manifest is not None:
                write_whole(self.corpus, json.dumps(manifest, indent=1))
            write_whole(self.layout, json.dumps({"layout": LAYOUT_VERSION}))
            sweep.save(self.spec)
        except OSError as error:
            raise DirectoryError(f"{self.root}: cannot be written: {error.strerror}") from error
        return sweep

    def _taken_over(self, sweep: Spec, manifest: dict[str, Any] | None, *, unscored: bool) -> Spec:
        manifests = None
        if manifest is not None and self.corpus.exists():
            manifests = json.loads(self.corpus.read_text(encoding="utf-8")), manifest
        with Ledger(self.ledger, read_only=True) as ledger:
            try:
                return taken_over(
                    Spec.load(self.spec), sweep, ledger, manifests=manifests, unscored=unscored
                )
            except DirectoryError as error:
                raise DirectoryError(f"{self.root}: {error}") from None

    def _check_ledger(self) -> None:
        """Refuse to start over where results lie whose ledger is gone."""
        files = [self.observations, self.out, *self.trials.glob("*/*")]
        ours = [path for path in files if not path.parent.name.startswith("tune-")]
        left = [path for path in ours if path.exists()]
        if left and not self.ledger.exists():
            raise DirectoryError(
                f"{self.root}: ledger.sqlite is gone, but {left[0].relative_to(self.root)} is "
                "there: a sweep was run here. Copy the ledger back, or make one from what is left "
                "with `isoskill repair DIRECTORY`; to start over choose another directory"
            )

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Hold the directory as its one driver; the lock of a dead driver is free.

        Raises:
            DirectoryError: another driver holds it; the message says which, and since when.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = self.lock.open("a+", encoding="utf-8")
        except OSError as error:
            raise DirectoryError(f"{self.root}: cannot be written: {error.strerror}") from error
        with file:
            if not _locked(file):
                file.seek(0)
                raise DirectoryError(
                    f"{self.root} is driven by {_holder(file.read())}; stop it first"
                )
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

    def clean(self, trials: Iterable[str]) -> None:
        """Remove what trials whose result is in the ledger no longer need: all but questions."""
        for trial in trials:
            for path in (self.trials / trial).glob("*"):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif path != self.questions(trial):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it has kept its questions, or never was
                (self.trials / trial).rmdir()


def _locked(file: TextIO) -> bool:
    """Take the driver's lock; tried for a moment, as `Directory.holder` looks at it in passing."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def _manifest(sweep: Spec) -> dict[str, Any] | None:
    """What the sweep's prepared corpus says of itself; None if it has none."""
    if not isinstance(sweep.data, Prepared):
        return None
    try:
        manifest = read_unchanged(sweep.data.path, sweep.data.packed)
        check_whole(Path(sweep.data.path), manifest, say=to_stderr)
        return manifest
    except ValueError as error:
        raise DirectoryError(str(error)) from error


def _holder(text: str) -> str:
    try:
        who = json.loads(text)
    except ValueError:
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(who["since"]))
    return f"process {who['pid']} on {who['host']} since {since}"


def safe_name(name: str) -> str:
    """A sweep's name as the name of a directory: it cannot leave the place it is put in."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.")[:60] or "sweep"
