"""The ledger keeps what it was told, across processes, and refuses what cannot be."""

import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from sweeper.budget import Allocation
from sweeper.errors import DirectoryError
from sweeper.record import storage
from sweeper.record.ledger import Ledger

ALLOCATION = Allocation(flops=6e9, params=1000, tokens=1_000_000)


def record(status: str = "finished", loss: float = 2.0) -> dict[str, object]:
    losses = {
        "code": {"nll": 10 * loss, "tokens": 10, "bytes": 20, "examples": 5, "class": "code"}
    }
    return {"status": status, "reason": "", "losses": losses, "steps": 3, "wall_s": 1.5}


@pytest.fixture
def ledger(tmp_path):
    book = Ledger(tmp_path / "ledger.sqlite")
    yield book
    book.close()


def test_a_trial_reserves_then_settles(ledger):
    ledger.reserve("a", ALLOCATION)
    assert ledger.totals() == (0.0, 6e9)
    ledger.settle("a", record(), spent_flops=5.9e9)
    assert ledger.totals() == (5.9e9, 0.0)
    row = ledger.observations().iloc[0]
    assert row["loss"] == pytest.approx(2.0)
    assert row["bits_per_byte"] == pytest.approx(1.4426950408889634)
    assert row["status"] == "finished"
    assert (row["params"], row["tokens"], row["flops"]) == (1000, 1_000_000, 6e9)


def test_failed_and_diverged_trials_appear_with_a_nan_loss_per_skill(ledger):
    for i, name in enumerate("abc"):
        ledger.reserve(name, Allocation(6e9, 1000, 1_000_000, seed=i))
    ledger.settle("a", record(), spent_flops=6e9)
    ledger.settle("b", record("diverged"), spent_flops=6e9)
    ledger.fail("c", "killed", spent_flops=1e9)
    table = ledger.observations().set_index("trial_id")
    assert table["loss"].isna().to_dict() == {"a": False, "b": True, "c": True}
    assert table.loc["c", "skill"] == "code"
    assert table.loc["c", "reason"] == "killed"
    assert ledger.totals() == (1.3e10, 0.0)


def test_an_event_of_no_trial_names_none(ledger):
    ledger.reserve("a", ALLOCATION)
    ledger.event("repaired", "from the export")
    assert ledger.events()["trial_id"].tolist() == ["a", None]


def test_an_ended_trial_is_never_trained_again(ledger):
    ledger.reserve("a", ALLOCATION)
    ledger.settle("a", record(), spent_flops=6e9)
    with pytest.raises(ValueError, match="already finished"):
        ledger.reserve("a", ALLOCATION)
    with pytest.raises(ValueError, match="not running"):
        ledger.settle("a", record(), spent_flops=6e9)


def test_the_same_allocation_and_seed_cannot_be_two_trials(ledger):
    ledger.reserve("a", ALLOCATION)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.reserve("b", ALLOCATION)
    assert ledger.totals() == (0.0, 6e9)


def test_a_running_trial_survives_its_driver_and_is_reserved_once(tmp_path):
    first = Ledger(tmp_path / "ledger.sqlite")
    first.reserve("a", ALLOCATION)
    first.close()
    second = Ledger(tmp_path / "ledger.sqlite")
    assert second.allocations("running") == {"a": ALLOCATION}
    second.reserve("a", ALLOCATION)
    assert second.totals() == (0.0, 6e9)
    assert second.trials()["attempts"].tolist() == [2]
    assert second.events()["kind"].tolist() == ["started", "resumed"]
    second.close()


def test_a_reader_sees_a_running_sweep(ledger, tmp_path):
    ledger.reserve("a", ALLOCATION)
    reader = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    assert reader.totals() == (0.0, 6e9)
    with pytest.raises(sqlite3.OperationalError):
        reader.event("x")
    reader.close()
    assert ledger.check() == "ok"


def test_a_damaged_or_newer_file_is_refused(tmp_path):
    (tmp_path / "bad.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DirectoryError, match="not a readable ledger"):
        Ledger(tmp_path / "bad.sqlite")
    newer = Ledger(tmp_path / "newer.sqlite")
    newer.set_meta("schema_version", "99")
    newer.close()
    with pytest.raises(DirectoryError, match="schema 99"):
        Ledger(tmp_path / "newer.sqlite")
    with pytest.raises(DirectoryError, match="no ledger here"):
        Ledger(tmp_path / "absent.sqlite", read_only=True)


def test_a_damaged_page_is_found_at_opening(tmp_path):
    book = Ledger(tmp_path / "ledger.sqlite")
    for i in range(200):
        book.reserve(f"trial-{i}", Allocation(6e9, 1000, 1_000_000, seed=i))
    book.close()
    whole = bytearray((tmp_path / "ledger.sqlite").read_bytes())
    whole[-6000:-2000] = b"\xff" * 4000
    (tmp_path / "ledger.sqlite").write_bytes(whole)
    for read_only in (False, True):
        with pytest.raises(DirectoryError, match=r"damaged|not a readable ledger"):
            Ledger(tmp_path / "ledger.sqlite", read_only=read_only)


def test_a_backup_is_whole_while_the_ledger_is_written(ledger, tmp_path):
    reader = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    ledger.reserve("a", ALLOCATION)
    reader.backup(tmp_path / "backup.sqlite")
    ledger.settle("a", record(), spent_flops=6e9)
    reader.close()
    copy = Ledger(tmp_path / "backup.sqlite")
    assert copy.totals() == (0.0, 6e9)
    copy.close()
    with pytest.raises(DirectoryError, match="cannot be written"):
        ledger.backup(tmp_path / "absent" / "backup.sqlite")
    with pytest.raises(DirectoryError, match="is the ledger itself"):
        ledger.backup(tmp_path / "ledger.sqlite")


def test_copied_files_with_a_log_are_read_whole_from_memory(ledger, tmp_path, monkeypatch):
    ledger.reserve("a", ALLOCATION)  # it lies in the write-ahead log
    (tmp_path / "copy").mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"ledger.sqlite{suffix}", tmp_path / "copy")

    def refuse(db, path):
        """What a read-only directory says: the lock files cannot be made."""
        if db.execute("PRAGMA database_list").fetchone()[2].startswith(str(tmp_path)):
            raise sqlite3.OperationalError("unable to open database file")
        return version(db, path)

    version = storage.has_schema
    monkeypatch.setattr(storage, "has_schema", refuse)
    reader = Ledger(tmp_path / "copy" / "ledger.sqlite", read_only=True)
    assert reader.totals() == (0.0, 6e9)
    reader.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/a b/x", "nfs4"), ("/home/c", "ext4"), ("/data/deep/er", "fuse.sshfs"), ("/", "ext4")],
)
def test_the_file_system_is_that_of_the_nearest_mount(path, kind):
    mounts = (
        "/dev/a / ext4 rw 0 0\nhost:/x /home/a\\040b nfs4 rw 0 0\nu@h: /data fuse.sshfs rw 0 0"
    )
    assert storage.file_system(Path(path), mounts) == kind


def test_on_a_network_file_system_no_memory_is_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "file_system", lambda path: "nfs4")
    book = Ledger(tmp_path / "ledger.sqlite")
    book.reserve("a", ALLOCATION)
    assert not list(tmp_path.glob("*-shm"))
    reader = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    book.settle("a", record(), spent_flops=5e9)
    assert reader.totals() == (5e9, 0.0)
    assert "nfs4" in book.events()["detail"].iloc[0]
    reader.close()
    book.close()


def test_a_full_disk_is_waited_for_and_then_refused_in_words(ledger, monkeypatch):
    ledger.patience_s = 0.0
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DirectoryError, match="free space or fix the storage"):
        for i in range(2000):
            ledger.reserve(f"trial-{i}", Allocation(6e9, 1000, 1_000_000, seed=i))
    ledger.patience_s = 60.0
    freed = lambda _: ledger._db.execute("PRAGMA max_page_count = 100000")  # noqa: E731
    monkeypatch.setattr(storage.time, "sleep", freed)
    ledger.reserve(f"trial-{i}", Allocation(6e9, 1000, 1_000_000, seed=i))
    assert "waited" in ledger.events().query("kind == 'storage'")["detail"].iloc[0]
    assert ledger.check() == "ok"


def test_secrets_do_not_reach_the_ledger(ledger, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "correct-horse-battery")
    ledger.reserve("a", ALLOCATION)
    ledger.event("note", "key correct-horse-battery at s3://me:hunter22@host/x", "a")
    ledger.fail("a", "Authorization: Bearer abcdefgh12345678", spent_flops=0)
    said = ledger.events().to_csv() + ledger.trials().to_csv()
    for secret in ("correct-horse", "hunter22", "abcdefgh12345678"):
        assert secret not in said


def test_a_clock_that_jumps_back_changes_no_order(ledger, monkeypatch):
    """Trials are in the order in which they were started, whatever the clock said."""
    times = iter([1e9, 1e9 + 1, 5e8, 5e8 + 1, 2e9, 2e9 + 1])
    monkeypatch.setattr(time, "time", lambda: next(times, 3e9))
    for i, name in enumerate("abc"):
        ledger.reserve(name, Allocation(1e10, 10_000 + i, 100_000, 0))
    assert list(ledger.allocations("running")) == ["a", "b", "c"]
    assert ledger.trials()["trial_id"].tolist() == ["a", "b", "c"]
