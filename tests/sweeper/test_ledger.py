"""The ledger keeps what it was told, across processes, and refuses what cannot be."""

import sqlite3

import pytest

from sweeper.budget import Allocation
from sweeper.errors import DirectoryError
from sweeper.ledger import Ledger

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
    ledger.reserve("a", ALLOCATION, 6e9)
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
        ledger.reserve(name, Allocation(6e9, 1000, 1_000_000, seed=i), 6e9)
    ledger.settle("a", record(), spent_flops=6e9)
    ledger.settle("b", record("diverged"), spent_flops=6e9)
    ledger.fail("c", "killed", spent_flops=1e9)
    table = ledger.observations().set_index("trial_id")
    assert table["loss"].isna().to_dict() == {"a": False, "b": True, "c": True}
    assert table.loc["c", "skill"] == "code"
    assert table.loc["c", "reason"] == "killed"
    assert ledger.totals() == (1.3e10, 0.0)


def test_an_ended_trial_is_never_trained_again(ledger):
    ledger.reserve("a", ALLOCATION, 6e9)
    ledger.settle("a", record(), spent_flops=6e9)
    with pytest.raises(ValueError, match="already finished"):
        ledger.reserve("a", ALLOCATION, 6e9)
    with pytest.raises(ValueError, match="not running"):
        ledger.settle("a", record(), spent_flops=6e9)


def test_the_same_allocation_and_seed_cannot_be_two_trials(ledger):
    ledger.reserve("a", ALLOCATION, 6e9)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.reserve("b", ALLOCATION, 6e9)
    assert ledger.totals() == (0.0, 6e9)


def test_a_running_trial_survives_its_driver_and_is_reserved_once(tmp_path):
    first = Ledger(tmp_path / "ledger.sqlite")
    first.reserve("a", ALLOCATION, 6e9)
    first.close()
    second = Ledger(tmp_path / "ledger.sqlite")
    assert second.allocations("running") == {"a": ALLOCATION}
    second.reserve("a", ALLOCATION, 6e9)
    assert second.totals() == (0.0, 6e9)
    assert second.trials()["attempts"].tolist() == [2]
    assert second.events()["kind"].tolist() == ["started", "resumed"]
    second.close()


def test_a_reader_sees_a_running_sweep(ledger, tmp_path):
    ledger.reserve("a", ALLOCATION, 6e9)
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
