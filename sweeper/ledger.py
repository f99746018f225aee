"""The ledger: everything a sweep knows, in one SQLite file with one writer, the driver.

A trial reserves its FLOPs when it starts and settles when it ends; what the search sees, what
the report shows and what a restarted driver goes on from is all read from here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from sweeper.budget import Allocation
from sweeper.errors import DirectoryError

SCHEMA_VERSION = 1
ENDED = ("finished", "diverged", "failed")

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    trial_id TEXT PRIMARY KEY,
    flops REAL NOT NULL, params INTEGER NOT NULL, tokens INTEGER NOT NULL,
    seed INTEGER NOT NULL, mix TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'diverged', 'failed')),
    reserved_flops REAL NOT NULL, spent_flops REAL NOT NULL DEFAULT 0,
    params_total INTEGER, params_without_embeddings INTEGER, params_with_head INTEGER,
    flops_6p REAL, flops_exact REAL, steps INTEGER, train_loss REAL,
    wall_s REAL, tokens_per_s REAL,
    started_at REAL NOT NULL, first_step_at REAL, ended_at REAL,
    worker TEXT, attempts INTEGER NOT NULL DEFAULT 1, reason TEXT NOT NULL DEFAULT '',
    UNIQUE (flops, params, seed, mix)
);
CREATE TABLE observations (
    trial_id TEXT NOT NULL REFERENCES trials (trial_id), skill TEXT NOT NULL,
    class TEXT NOT NULL, nll REAL NOT NULL, target_tokens INTEGER NOT NULL,
    target_bytes INTEGER NOT NULL, examples INTEGER NOT NULL,
    PRIMARY KEY (trial_id, skill)
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL,
    trial_id TEXT, detail TEXT NOT NULL
);
"""

_RECORDED = (
    "params_total params_without_embeddings params_with_head flops_6p flops_exact "
    "steps train_loss wall_s tokens_per_s first_step_at ended_at worker"
).split()


class Ledger:
    """Trials, observations and events of one sweep.

    Args:
        path: the SQLite file, created if absent; ":memory:" for a simulated sweep.
        read_only: open for reading beside a running driver.

    Raises:
        DirectoryError: the file is damaged or was written by a newer version.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = str(path)
        uri = f"{Path(path).resolve().as_uri()}?mode=ro" if read_only else self.path
        if read_only and not Path(path).exists():
            raise DirectoryError(f"{path}: no ledger here; has the sweep been run?")
        # Tune calls the searcher from its own loop, and a simulated sweep from one thread.
        self._db = sqlite3.connect(uri, uri=read_only, isolation_level=None, timeout=30.0)
        self._db.row_factory = sqlite3.Row
        try:
            self._prepare(read_only)
        except sqlite3.DatabaseError as error:
            raise DirectoryError(f"{path}: not a readable ledger ({error})") from error

    def _prepare(self, read_only: bool) -> None:
        if not read_only:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
                with self._transaction():
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._set_meta("schema_version", str(SCHEMA_VERSION))
        version = int(self.meta("schema_version") or 0)
        if version != SCHEMA_VERSION:
            raise DirectoryError(
                f"{self.path}: ledger schema {version}, this isoskill reads {SCHEMA_VERSION}; "
                "use the version that wrote it"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._db.close()

    # -- writing: the driver only ------------------------------------------------------------

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def set_meta(self, key: str, value: str) -> None:
        """Remember one string about the sweep."""
        with self._transaction():
            self._set_meta(key, value)

    def reserve(self, trial_id: str, allocation: Allocation, flops: float) -> None:
        """Record the start of a trial and set its FLOPs aside.

        A trial that was running when its driver died is reserved again under its own id; one
        that has ended can never be.

        Raises:
            ValueError: the trial has already ended.
        """
        with self._transaction():
            row = self._db.execute(
                "SELECT state FROM trials WHERE trial_id = ?", (trial_id,)
            ).fetchone()
            if row and row["state"] != "running":
                raise ValueError(f"trial {trial_id} has already {row['state']}")
            self._db.execute(
                "INSERT INTO trials (trial_id, flops, params, tokens, seed, mix, state, "
                "reserved_flops, started_at) VALUES (?, ?, ?, ?, ?, ?, 'running', ?, ?) "
                "ON CONFLICT (trial_id) DO UPDATE SET attempts = attempts + 1",
                (trial_id, allocation.flops, allocation.params, allocation.tokens,
                 allocation.seed, allocation.mix, flops, time.time()),
            )  # fmt: skip
            self._event("resumed" if row else "started", trial_id, str(allocation))

    def settle(self, trial_id: str, record: Mapping[str, Any], *, spent_flops: float) -> None:
        """Record the end of a training: its measurements, losses and real cost.

        Args:
            trial_id: a running trial.
            record: what the training returned (`trainables.loop.train`): status "finished" or
                "diverged", reason, measurements, and ``losses`` by skill.
            spent_flops: realised FLOPs by the sweep's convention.
        """
        fields = {name: record.get(name) for name in _RECORDED}
        fields["ended_at"] = fields["ended_at"] or time.time()
        assignments = ", ".join(f"{name} = ?" for name in fields)
        with self._transaction():
            self._end(trial_id, record["status"], record.get("reason", ""), spent_flops)
            self._db.execute(
                f"UPDATE trials SET {assignments} WHERE trial_id = ?",
                (*fields.values(), trial_id),
            )
            if record["status"] == "finished":
                self._observe(trial_id, record["losses"])

    def _observe(self, trial_id: str, losses: Mapping[str, Mapping[str, Any]]) -> None:
        self._db.executemany(
            "INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (trial_id, skill, loss["class"], loss["nll"], loss["tokens"], loss["bytes"],
                 loss["examples"])
                for skill, loss in losses.items()
            ],
        )  # fmt: skip

    def fail(self, trial_id: str, reason: str, *, spent_flops: float) -> None:
        """Record that a trial ended without a result after all its retries."""
        with self._transaction():
            self._end(trial_id, "failed", reason, spent_flops)
            self._db.execute(
                "UPDATE trials SET ended_at = ? WHERE trial_id = ?", (time.time(), trial_id)
            )

    def _end(self, trial_id: str, state: str, reason: str, spent_flops: float) -> None:
        changed = self._db.execute(
            "UPDATE trials SET state = ?, reason = ?, spent_flops = ?, reserved_flops = 0 "
            "WHERE trial_id = ? AND state = 'running'",
            (state, reason, spent_flops, trial_id),
        ).rowcount
        if not changed:
            raise ValueError(f"trial {trial_id} is not running")
        self._event(state, trial_id, reason)

    def event(self, kind: str, detail: str = "", trial_id: str | None = None) -> None:
        """Append one line to the sweep's history."""
        with self._transaction():
            self._event(kind, trial_id, detail)

    def _event(self, kind: str, trial_id: str | None, detail: str) -> None:
        self._db.execute(
            "INSERT INTO events (at, kind, trial_id, detail) VALUES (?, ?, ?, ?)",
            (time.time(), kind, trial_id, detail),
        )

    # -- reading -----------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """Return one remembered string, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row["value"])

    def totals(self) -> tuple[float, float]:
        """FLOPs spent by ended trials and reserved by running ones."""
        row = self._db.execute(
            "SELECT COALESCE(SUM(spent_flops), 0), COALESCE(SUM(reserved_flops), 0) FROM trials"
        ).fetchone()
        return float(row[0]), float(row[1])

    def allocations(self, *states: str) -> dict[str, Allocation]:
        """Allocations of the trials in the given states, by trial id, in order of start."""
        marks = ", ".join("?" * len(states))
        rows = self._db.execute(
            "SELECT trial_id, flops, params, tokens, seed, mix FROM trials "
            f"WHERE state IN ({marks}) ORDER BY started_at, rowid",
            states,
        )
        return {row[0]: Allocation(*tuple(row)[1:]) for row in rows}

    def trials(self) -> pd.DataFrame:
        """One row per trial, in order of start."""
        return pd.read_sql_query("SELECT * FROM trials ORDER BY started_at, rowid", self._db)

    def events(self) -> pd.DataFrame:
        """The sweep's history, oldest first."""
        return pd.read_sql_query("SELECT * FROM events ORDER BY id", self._db)

    def observations(self) -> pd.DataFrame:
        """The long table: one row per ended trial and skill.

        ``loss`` is nats per target token; failed and diverged trials appear once per skill
        with a NaN loss, so that a search can see where they lie.
        """
        return pd.read_sql_query(_OBSERVATIONS, self._db)

    def check(self) -> str:
        """Return "ok", or what SQLite's integrity check found."""
        return str(self._db.execute("PRAGMA integrity_check").fetchone()[0])


_OBSERVATIONS = """
SELECT t.trial_id, t.flops, t.params, t.tokens, t.seed, t.mix,
       s.skill AS skill, o.class, o.nll / o.target_tokens AS loss,
       o.nll / o.target_bytes / 0.6931471805599453 AS bits_per_byte,
       o.nll, o.target_tokens, o.target_bytes, o.examples,
       t.state AS status, t.reason, t.spent_flops, t.params_total,
       t.params_without_embeddings, t.params_with_head, t.flops_6p, t.flops_exact,
       t.steps, t.train_loss, t.wall_s, t.tokens_per_s
FROM trials t
JOIN (SELECT DISTINCT skill FROM observations
      UNION SELECT '' WHERE NOT EXISTS (SELECT 1 FROM observations)) s
LEFT JOIN observations o ON o.trial_id = t.trial_id AND o.skill = s.skill
WHERE t.state != 'running' AND (o.skill IS NOT NULL OR t.state != 'finished')
ORDER BY t.started_at, t.rowid, s.skill
"""
