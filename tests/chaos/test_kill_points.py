"""A driver killed between any two statements of its ledger ends where it would have ended."""

import random
import shutil
import sqlite3
import zlib

import pytest

from sweeper import SearchSettings, Sweep
from sweeper.driver.driver import Driver
from sweeper.record.ledger import Ledger
from sweeper.search.build import build
from sweeper.search.protocol import Finished

KILLS = 15
"""Of each policy; `--long` makes it 200."""

GRID = Sweep(
    budgets=[1e11, 2e11],
    allowance=3e12,
    search=SearchSettings(policy="grid", sizes_per_budget=6),
)
ADAPTIVE = Sweep(budgets=[1e11, 2e11], allowance=1.5e12)


class Killed(BaseException):
    """What a kill -9 looks like from inside: nothing catches it."""


class Fuse:
    """Counts the statements that change a ledger, and kills at a chosen one."""

    def __init__(self, home, left):
        self.home, self.left, self.grave = home, left, None

    def connection(self):
        fuse = self

        class Connection(sqlite3.Connection):
            def execute(self, sql, *args):
                fuse.burn(sql)
                return super().execute(sql, *args)

            def executemany(self, sql, *args):
                fuse.burn(sql)
                return super().executemany(sql, *args)

        return Connection

    def burn(self, sql):
        if not sql.startswith(
            ("INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "CREATE", "ALTER")
        ):
            return
        self.left -= 1
        if self.left == 0:
            # What lies on the disk now is what the next driver finds.
            self.grave = self.home.with_name(f"{self.home.name}-next")
            shutil.copytree(self.home, self.grave)
        if self.left <= 0:
            raise Killed


def outcome(start):
    """A training: the same allocation has the same losses, however often it is interrupted."""
    a = start.allocation
    loss = 1 + 60 / a.params**0.42 + 500 / a.tokens**0.42 + zlib.crc32(str(a).encode()) / 2**38
    losses = {"validation": {"nll": loss, "tokens": 1, "bytes": 1, "examples": 1, "class": "all"}}
    if zlib.crc32(str(a).encode()) % 7 == 0:
        return {"status": "failed", "kind": "error", "reason": "always fails"}
    return {"status": "finished", "reason": "", "tokens": a.tokens, "losses": losses}


def train_half(driver, start, checkpoints):
    """Train to the middle, where a checkpoint is written before it is reported."""
    resumed_at = checkpoints.get(start.trial_id, 0)
    half = checkpoints[start.trial_id] = start.allocation.tokens // 2
    driver.progressed(start.trial_id, {"tokens": half, "resumed_at_tokens": resumed_at})


def drive(sweep, home, slots, checkpoints):
    """One driver's life: opens the ledger, goes on, until the search is finished."""
    ledger = Ledger(home / "ledger.sqlite")
    try:
        assert ledger.check() == "ok"
        search = build(sweep.search, sweep.space, ("validation",))
        driver = Driver(sweep, ledger, search)
        training = []
        while True:
            start = driver.next()
            if isinstance(start, Finished):
                return start
            if start is not None and len(training) < slots:
                driver.begin(start)
                training.append(start)
                train_half(driver, start, checkpoints)
                continue
            done = training.pop(0)
            driver.ended(done.trial_id, outcome(done))
    finally:
        ledger.close()


def found(home):
    ledger = Ledger(home / "ledger.sqlite", read_only=True)
    table, spent = ledger.observations(), ledger.totals()
    trials, events = ledger.trials(), ledger.events()
    ledger.close()
    losses = table.set_index(["flops", "params", "seed", "skill"])["loss"].sort_index()
    assert not trials.duplicated(["flops", "params", "seed"]).any()
    assert not events[events["kind"] == "finished"].duplicated("trial_id").any()
    return losses.fillna(-1).to_dict(), spent


@pytest.mark.parametrize(("sweep", "slots"), [(GRID, 3), (ADAPTIVE, 1)], ids=["grid", "adaptive"])
def test_every_prefix_of_the_ledger_goes_on_to_the_same_end(
    sweep, slots, tmp_path, monkeypatch, long_run
):
    (tmp_path / "whole").mkdir()
    reason = drive(sweep, tmp_path / "whole", slots, {})
    undisturbed = found(tmp_path / "whole")
    assert len(undisturbed[0]) > 8
    rng, kills, round_ = random.Random(0), 0, 0
    connect = sqlite3.connect
    while kills < (200 if long_run else KILLS):
        home, round_ = tmp_path / f"round-{round_}", round_ + 1
        home.mkdir()
        checkpoints = {}
        while True:
            fuse = Fuse(home, rng.randint(1, 60))
            monkeypatch.setattr(
                sqlite3,
                "connect",
                lambda *a, f=fuse, **k: connect(*a, **k, factory=f.connection()),
            )
            try:
                end = drive(sweep, home, slots, checkpoints)
                break
            except Killed:
                kills, home = kills + 1, fuse.grave
            finally:
                monkeypatch.undo()
        assert end == reason
        losses, spent = found(home)
        assert losses == undisturbed[0]
        assert spent == pytest.approx(undisturbed[1])
