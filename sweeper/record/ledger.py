"""The ledger: everything a sweep knows, in one SQLite file with one writer, the driver.

A trial reserves its FLOPs when it starts and settles when it ends; what the search sees, what
the report shows and what a restarted driver goes on from is all read from here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from sweeper.budget import Allocation
from sweeper.errors import DirectoryError
from sweeper.record.redaction import redact
from sweeper.record.storage import (
    back_up,
    durable,
    integrity,
    open_reader,
    open_writer,
    transaction,
)

ENDED = ("finished", "diverged", "failed")

ENGINE = "engine"
"""Kind of the events that say how trials are trained from here on."""

PATIENCE_S = 600.0
"""Seconds a write waits for a full or vanished disk before the sweep ends in words (assumption:
time for a person or a clean-up to act, not a night of idle GPUs)."""

RECORDED = (
    "params_total params_without_embeddings params_with_head flops_6p flops_exact "
    "steps train_loss wall_s tokens_per_s first_step_at ended_at worker"
).split()
"""Columns of a trial that its record has under the same names."""


@dataclass(frozen=True)
class Progress:
    """How far a trial is, and what its faults have cost.

    Attributes:
        trained_tokens: tokens it was last known to have been trained on.
        wasted_flops: FLOPs that a fault made it pay twice.
        faults: faults that counted against its retries.
        attempts: times it was started.
    """

    trained_tokens: int
    wasted_flops: float
    faults: int
    attempts: int


RETURNED = "returned"
"""Key of the trials that somebody who launches by hand gave back, to be asked for again; it is
there once a sweep was asked."""


class Ledger:
    """Trials, observations and events of one sweep.

    Args:
        path: the SQLite file, created if absent; ":memory:" for a simulated sweep.
        read_only: open for reading beside a running driver.

    Raises:
        DirectoryError: the file is damaged or was written by another version.
    """

    patience_s = PATIENCE_S

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = str(path)
        # Tune calls the searcher from its own loop, and a simulated sweep from one thread.
        try:
            self._db = open_reader(Path(path)) if read_only else open_writer(path)
        except sqlite3.OperationalError as error:
            raise DirectoryError(f"{path}: the ledger cannot be opened ({error})") from error
        except sqlite3.DatabaseError as error:
            raise DirectoryError(f"{path}: not a readable ledger ({error})") from error
        self._db.row_factory = sqlite3.Row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._db.close()

    # -- writing: the driver only ------------------------------------------------------------

    @durable
    def set_meta(self, key: str, value: str) -> None:
        """Remember one string about the sweep."""
        with transaction(self._db):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @durable
    def forget_meta(self, key: str) -> None:
        """Forget one string about the sweep."""
        with transaction(self._db):
            self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    @durable
    def reserve(self, trial_id: str, allocation: Allocation) -> None:
        """Record the start of a trial and set its budget aside.

        A trial that was running when its driver died is reserved again under its own id; one
        that has ended can never be.

        Raises:
            ValueError: the trial has already ended.
        """
        with transaction(self._db):
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
                 allocation.seed, allocation.mix, allocation.flops, time.time()),
            )  # fmt: skip
            self._event("resumed" if row else "started", trial_id, str(allocation))

    @durable
    def settle(self, trial_id: str, record: Mapping[str, Any], *, spent_flops: float) -> None:
        """Record the end of a training: its measurements, losses and real cost.

        Args:
            record: what the training returned (`trainables.engine.loop.train`): status "finished"
            or
                "diverged", reason, measurements, and ``losses`` by skill.
            spent_flops: realised FLOPs by the sweep's convention.
        """
        fields = {name: record.get(name) for name in RECORDED}
        fields["ended_at"] = fields["ended_at"] or time.time()
        assignments = ", ".join(f"{name} = ?" for name in fields)
        with transaction(self._db):
            self._end(trial_id, record["status"], record.get("reason", ""), spent_flops)
            self._db.execute(
                f"UPDATE trials SET {assignments} WHERE trial_id = ?",
                (*fields.values(), trial_id),
            )
            if record["status"] == "finished":
                self._observe(trial_id, record["losses"])
            self._note_engine(trial_id, record)

    def _note_engine(self, trial_id: str, record: Mapping[str, Any]) -> None:
        """Keep in what precision, on what and how trials train, where that has changed."""
        if "engine" not in record:
            return
        said = f"{record['dtype']} on {record['device']}, {record['engine']}"
        last = self._db.execute(
            "SELECT detail FROM events WHERE kind = ? ORDER BY id DESC LIMIT 1", (ENGINE,)
        ).fetchone()
        if last is None or last[0] != said:
            self._event(ENGINE, trial_id, said)

    @durable
    def add(self, trial_id: str, losses: Mapping[str, Mapping[str, Any]]) -> None:
        """Record what was measured of a finished trial later; what was known is replaced."""
        with transaction(self._db):
            for skill in losses:
                self._db.execute(
                    "DELETE FROM observations WHERE trial_id = ? AND skill = ?", (trial_id, skill)
                )
            self._observe(trial_id, losses)
            self._event("scored", trial_id, ", ".join(losses))

    def _observe(self, trial_id: str, losses: Mapping[str, Mapping[str, Any]]) -> None:
        self._db.executemany(
            "INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (trial_id, skill, loss["class"], loss["nll"], loss["tokens"], loss["bytes"],
                 loss["examples"])
                for skill, loss in losses.items()
            ],
        )  # fmt: skip

    @durable
    def fail(
        self, trial_id: str, reason: str, *, spent_flops: float, fault: str = "error"
    ) -> None:
        """Record that a trial ended without a result after all its retries."""
        with transaction(self._db):
            self._end(trial_id, "failed", reason, spent_flops)
            self._db.execute(
                "UPDATE trials SET ended_at = ?, fault = ? WHERE trial_id = ?",
                (time.time(), fault, trial_id),
            )

    @durable
    def advance(self, trial_id: str, tokens: int, *, wasted_flops: float = 0.0) -> None:
        """Remember how far a running trial is, and FLOPs that it has just paid twice."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE trials SET trained_tokens = ?, wasted_flops = wasted_flops + ? "
                "WHERE trial_id = ? AND state = 'running'",
                (tokens, wasted_flops, trial_id),
            )

    @durable
    def fault(self, trial_id: str, kind: str, detail: str, *, tokens: int, counts: bool) -> None:
        """Record a fault that a running trial survives.

        Args:
            trial_id: the trial; it stays running.
            kind: a key of `sweeper.driver.faults.RESPONSES`.
            detail: what happened, and what is done about it.
            tokens: it had been trained on when it happened.
            counts: whether it uses up one of the trial's retries.
        """
        with transaction(self._db):
            self._db.execute(
                "UPDATE trials SET fault = ?, faults = faults + ?, trained_tokens = ? "
                "WHERE trial_id = ?",
                (kind, int(counts), tokens, trial_id),
            )
            self._event(kind, trial_id, detail)

    @durable
    def reopen(self, trial_id: str, why: str) -> None:
        """Set an ended trial running again, with its FLOPs reserved and its retries restored.

        What it had spent and not wasted is paid again only if its checkpoint is lost. Losses it
        had are forgotten; the event keeps them.
        """
        had = self._db.execute(
            "SELECT skill, nll / target_tokens FROM observations WHERE trial_id = ?", (trial_id,)
        ).fetchall()
        with transaction(self._db):
            self._db.execute("DELETE FROM observations WHERE trial_id = ?", (trial_id,))
            self._db.execute(
                "UPDATE trials SET state = 'running', reserved_flops = flops, spent_flops = 0, "
                "faults = 0, fault = '', reason = '', ended_at = NULL "
                "WHERE trial_id = ? AND state != 'running'",
                (trial_id,),
            )
            was = "".join(f"; its {skill} was {loss:.10g}" for skill, loss in had)
            self._event("reopened", trial_id, why + was)

    def _end(self, trial_id: str, state: str, reason: str, spent_flops: float) -> None:
        changed = self._db.execute(
            "UPDATE trials SET state = ?, reason = ?, spent_flops = ?, reserved_flops = 0 "
            "WHERE trial_id = ? AND state = 'running'",
            (state, redact(reason), spent_flops, trial_id),
        ).rowcount
        if not changed:
            raise ValueError(f"trial {trial_id} is not running")
        self._event(state, trial_id, reason)

    @durable
    def event(self, kind: str, detail: str = "", trial_id: str | None = None) -> None:
        """Append one line to the sweep's history."""
        with transaction(self._db):
            self._event(kind, trial_id, detail)

    def _event(self, kind: str, trial_id: str | None, detail: str) -> None:
        self._db.execute(
            "INSERT INTO events (at, kind, trial_id, detail) VALUES (?, ?, ?, ?)",
            (time.time(), kind, trial_id, redact(detail)),
        )

    # -- reading -----------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """Return one remembered string, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row["value"])

    def totals(self) -> tuple[float, float]:
        """FLOPs spent and reserved: what faults made a running trial pay twice is spent."""
        row = self._db.execute(
            "SELECT COALESCE(SUM(CASE state WHEN 'running' THEN wasted_flops ELSE spent_flops "
            "END), 0), COALESCE(SUM(reserved_flops), 0) FROM trials"
        ).fetchone()
        return float(row[0]), float(row[1])

    def counts(self) -> dict[str, int]:
        """Number of trials in each state that some trial is in."""
        rows = self._db.execute("SELECT state, COUNT(*) FROM trials GROUP BY state")
        return {str(state): int(count) for state, count in rows}

    def progress(self, trial_id: str) -> Progress:
        """How far a trial is, and what its faults have cost."""
        row = self._db.execute(
            "SELECT trained_tokens, wasted_flops, faults, attempts FROM trials WHERE trial_id = ?",
            (trial_id,),
        ).fetchone()
        return Progress(int(row[0]), float(row[1]), int(row[2]), int(row[3]))

    def failed_by(self, fault: str) -> list[str]:
        """Ids of the trials that ended by a fault, in order of start."""
        rows = self._db.execute(
            "SELECT trial_id FROM trials WHERE state = 'failed' AND fault = ? ORDER BY rowid",
            (fault,),
        )
        return [str(row[0]) for row in rows]

    def allocations(self, *states: str) -> dict[str, Allocation]:
        """Allocations of the trials in the given states, by trial id, in order of start."""
        marks = ", ".join("?" * len(states))
        rows = self._db.execute(
            "SELECT trial_id, flops, params, tokens, seed, mix FROM trials "
            f"WHERE state IN ({marks}) ORDER BY rowid",
            states,
        )
        return {row[0]: Allocation(*tuple(row)[1:]) for row in rows}

    def trials(self) -> pd.DataFrame:
        """One row per trial, in order of start."""
        return pd.read_sql_query("SELECT * FROM trials ORDER BY rowid", self._db)

    def events(self) -> pd.DataFrame:
        """The sweep's history, oldest first; ``trial_id`` is None for what is of no trial."""
        found = pd.read_sql_query("SELECT * FROM events ORDER BY id", self._db)
        named = found["trial_id"].astype(object)
        return found.assign(trial_id=named.where(named.notna(), None))

    def observations(self) -> pd.DataFrame:
        """The long table: one row per ended trial and skill.

        ``loss`` is nats per target token; failed and diverged trials appear once per skill
        with a NaN loss, so that a search can see where they lie.
        """
        return pd.read_sql_query(_OBSERVATIONS, self._db)

    def check(self) -> str:
        """Return "ok", or what SQLite's integrity check found."""
        return integrity(self._db)

    def backup(self, target: Path) -> None:
        """Copy the ledger to a file of its own, also while a driver writes to it.

        Raises:
            DirectoryError: the target cannot be written.
        """
        back_up(self._db, target)


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
ORDER BY t.rowid, s.skill
"""
