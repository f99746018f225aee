"""How a ledger lies on its disk: its schema, the file system's promises, copies and full disks."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sweeper.errors import DirectoryError

SCHEMA = """
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
    trained_tokens INTEGER NOT NULL DEFAULT 0, wasted_flops REAL NOT NULL DEFAULT 0,
    faults INTEGER NOT NULL DEFAULT 0, fault TEXT NOT NULL DEFAULT '',
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
INSERT INTO meta VALUES ('schema_version', '2')
"""

SCHEMA_VERSION = 2
"""A schema that changes takes the next number, and a step that brings an old file to it."""

NETWORK_FILE_SYSTEMS = (
    "nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "gfs2",
    "ocfs2", "orangefs", "pvfs2", "fuse.",
)  # fmt: skip
"""Prefixes of file system types (as in /proc/mounts) whose files other machines may have open.
SQLite's write-ahead log keeps its index in shared memory, which does not reach them
(sqlite.org/wal.html, section 1)."""

RETRY_S = 1.0
"""Seconds between tries of a write to a full or vanished disk (assumption)."""

OUTAGES = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_BUSY")
"""SQLite's errors (by prefix) that pass when the disk has room or is back."""

Write = TypeVar("Write", bound=Callable[..., Any])


def file_system(path: Path, mounts: str | None = None) -> str:
    """Type of the file system that holds a path, such as "ext4" or "nfs4"; "" if unknown.

    Args:
        path: need not exist yet.
        mounts: the text of /proc/self/mounts.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
        except OSError:  # not Linux
            return ""
    rows = [line.split(" ") for line in mounts.splitlines()]
    places = {row[1].encode().decode("unicode_escape"): row[2] for row in rows if len(row) > 2}
    resolved = path.resolve()
    return next((places[str(p)] for p in (resolved, *resolved.parents) if str(p) in places), "")


def networked(path: Path) -> str:
    """The file system's type if other machines may have its files open, else ""."""
    kind = file_system(path)
    return kind if kind.startswith(NETWORK_FILE_SYSTEMS) else ""


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of a block's statements, or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def open_writer(path: str | Path) -> sqlite3.Connection:
    """Open a ledger for its one writer: whole, made if absent.

    Raises:
        DirectoryError: it is damaged, or of another schema.
        sqlite3.Error: it is no database, or cannot be written.
    """
    if str(path) != ":memory:" and not Path(path).parent.is_dir():
        raise DirectoryError(f"{path}: there is no directory {Path(path).parent}")
    db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    try:
        # A rollback journal is slower, but needs no memory shared between machines.
        db.execute(f"PRAGMA journal_mode={'DELETE' if networked(Path(path)) else 'WAL'}")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
        require_whole(db, path)
        if not has_schema(db, path):
            with transaction(db):
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
            if kind := networked(Path(path)):
                _note_network(db, kind)
    except BaseException:
        db.close()
        raise
    return db


def _note_network(db: sqlite3.Connection, kind: str) -> None:
    db.execute(
        "INSERT INTO events (at, kind, detail) VALUES (?, 'storage', ?)",
        (
            time.time(),
            f"the directory lies on {kind}: the ledger keeps a rollback journal, as a write-ahead "
            "log's shared memory does not reach other machines; run its driver on one at a time",
        ),
    )


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a ledger for reading, also while it is written; it is never changed.

    One that lies where SQLite cannot put its lock files (a read-only directory) is read from a
    copy in memory.

    Raises:
        DirectoryError: there is none, it is damaged, or of another schema.
        sqlite3.Error: it is no database.
    """
    if not path.exists():
        raise DirectoryError(f"{path}: no ledger here; has the sweep been run?")
    uri = f"{path.resolve().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
    try:
        _require_readable(db, path)
    except sqlite3.OperationalError:
        db.close()
        return _copy_in_memory(path)
    except BaseException:
        db.close()
        raise
    return db


def _require_readable(db: sqlite3.Connection, path: Path) -> None:
    if not has_schema(db, path):
        raise DirectoryError(f"{path}: an empty ledger; the same `isoskill run` fills it")
    require_whole(db, path)


def _copy_in_memory(path: Path) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None)
    with tempfile.TemporaryDirectory(prefix="isoskill-") as name:
        copy = Path(name) / "ledger.sqlite"
        for suffix in ("", "-wal"):  # the log may hold transactions that the file lacks
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        db = sqlite3.connect(copy, isolation_level=None)
        try:
            _require_readable(db, path)
            db.backup(memory)
        finally:
            db.close()
    memory.execute("PRAGMA query_only=ON")
    return memory


def has_schema(db: sqlite3.Connection, path: str | Path) -> bool:
    """Whether a file has a ledger's tables; an empty one has none.

    Raises:
        DirectoryError: its schema is another version's.
    """
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return False
    row = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None or row[0] != str(SCHEMA_VERSION):
        raise DirectoryError(
            f"{path}: ledger schema {row[0] if row else 'unknown'}, this isoskill reads "
            f"{SCHEMA_VERSION}; use the version that wrote it"
        )
    return True


def integrity(db: sqlite3.Connection) -> str:
    """ "ok", or what SQLite's integrity check found."""
    found = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
    orphans = db.execute("PRAGMA foreign_key_check").fetchall()
    return "; ".join(found + [f"{len(orphans)} observations without a trial"] * bool(orphans))


def require_whole(db: sqlite3.Connection, path: str | Path) -> None:
    """Check that nothing of the file is lost.

    Raises:
        DirectoryError: something is; the message says what, and what to do.
    """
    found = integrity(db)
    if found != "ok":
        raise DirectoryError(
            f"{path}: the ledger is damaged ({found[:300]}); put a backup in its place "
            "(`isoskill status DIRECTORY --backup FILE` writes one), or rebuild it from the "
            "export and the checkpoints with `isoskill repair DIRECTORY`"
        )


def back_up(db: sqlite3.Connection, target: Path) -> None:
    """Copy an open ledger to a file of its own, while others may write to it.

    Raises:
        DirectoryError: the target is the ledger itself, or cannot be written.
    """
    own = db.execute("PRAGMA database_list").fetchone()[2]
    if own and target.exists() and os.path.samefile(own, target):
        raise DirectoryError(f"{target}: is the ledger itself; name another file for its backup")
    partial = target.with_name(f"{target.name}.partial")
    try:
        copy = sqlite3.connect(partial, isolation_level=None)
        try:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            require_whole(copy, partial)
        finally:
            copy.close()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DirectoryError(f"{target}: the backup cannot be written ({error})") from error


def durable(write: Write) -> Write:
    """Make a ledger's method, which is one transaction, wait for a full or vanished disk.

    The object must have ``path``, ``patience_s`` and ``event``.

    Raises:
        DirectoryError: the disk is not back after ``patience_s``.
    """

    @functools.wraps(write)
    def persist(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.monotonic()
        trouble = ""
        while True:
            try:
                result = write(self, *args, **kwargs)
                break
            except sqlite3.OperationalError as error:
                trouble = f"{error.sqlite_errorname}: {error}"
                if not error.sqlite_errorname.startswith(OUTAGES):
                    raise
                if time.monotonic() - started >= self.patience_s:
                    raise DirectoryError(
                        f"{self.path}: cannot be written ({error}); free space or fix the "
                        "storage and run the same command: what was recorded is kept"
                    ) from error
                time.sleep(min(RETRY_S, self.patience_s))
        if trouble:
            waited = time.monotonic() - started
            self.event("storage", f"the ledger waited {waited:.0f} s for its disk ({trouble})")
        return result

    return persist  # type: ignore[return-value] # the same signature
