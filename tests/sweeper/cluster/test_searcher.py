"""The shell between Tune and the driver, told by hand what Tune would tell it."""

import os
import time
from types import SimpleNamespace

import pytest

from sweeper import Cluster, Sweep
from sweeper.cluster.capacity import MOST_PENDING, Capacity, most_pending
from sweeper.cluster.searcher import Halt, LedgerSearcher
from sweeper.cluster.trial import spaced
from sweeper.driver.driver import Driver
from sweeper.errors import ClusterError
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from sweeper.search.build import policy
from trainables.data import Data


@pytest.fixture
def cluster(monkeypatch):
    """The resources that a cluster says it has, to be changed."""
    import ray

    has = {"CPU": 2.0}
    monkeypatch.setattr(ray, "cluster_resources", lambda: has)
    return has


@pytest.fixture
def searching(tmp_path, cluster):
    """A searcher on a cluster of two slots that may grow to four."""
    where = Cluster(address="auto", cpus=4, hang_s=0.001)
    settings = {"budgets": [1e11, 2e11, 4e11], "allowance": 4e12, "cluster": where}
    sweep = Sweep(**settings, data=Data(source="simulated"))
    directory = Directory(tmp_path / "a")
    directory.claim(sweep)
    driver = Driver(sweep, Ledger(directory.ledger), policy(sweep, sweep.measured))
    return LedgerSearcher(driver, sweep, directory)


def begin(searcher, name):
    """Tune has given a trial its process."""
    trial = SimpleNamespace(
        trial_id=name, error_file=None, temporary_state=SimpleNamespace(ray_actor=object())
    )
    searcher.began(trial)


def falls_silent(searcher, *names):
    """No more is heard of some trials; all others have just spoken."""
    now = time.monotonic()
    searcher._heard = {name: now + 60 for name in searcher._ids}
    searcher._heard |= dict.fromkeys(names, now - 1.0)
    searcher._looked_at = 0.0
    searcher.pulse()


def test_a_cluster_that_grows_is_asked_for_all_it_may_grow_to(searching):
    configs = [searching.suggest(f"t{i}") for i in range(5)]
    assert [config is not None for config in configs] == [True] * 4 + [False]
    assert configs[3]["report_every_s"] == pytest.approx(0.4)


def test_trials_wait_for_nodes_as_long_as_others_train_on_all_there_are(searching, cluster):
    for i in range(4):
        searching.suggest(f"t{i}")
    begin(searching, "t0")
    begin(searching, "t1")
    falls_silent(searching, "t2", "t3")
    assert searching.error is None
    cluster["CPU"] = 4.0
    searching._cluster.forget()
    with pytest.raises(ClusterError, match="found no free slot"):
        falls_silent(searching, "t2")


def test_a_cluster_that_gives_no_slot_at_all_ends_the_sweep_in_words(searching):
    searching.suggest("t0")
    with pytest.raises(ClusterError, match="ray status"):
        falls_silent(searching, "t0")


def test_a_stop_does_not_wait_for_trials_without_a_process(searching):
    halt = Halt(searching)
    for i in range(2):
        searching.suggest(f"t{i}")
    begin(searching, "t0")
    searching._driver.stopping = True
    assert not halt.stop_all()
    record = {"status": "stopped", "reason": "asked to", "tokens": 0}
    searching._records["t0"] = record
    searching.on_trial_complete("t0")
    assert halt.stop_all()
    searching.on_trial_complete("t1")
    assert not halt.stop_all()
    assert len(searching._driver.training) == 1, "it stays reserved for the next driver"


def test_room_now_is_told_from_room_to_come(cluster):
    sweep = Sweep(
        budgets=[1e11], allowance=1e12, cluster=Cluster(address="auto", cpus=4),
        data=Data(source="simulated"),
    )  # fmt: skip
    capacity = Capacity(sweep)
    assert capacity.fits(1e4, [10_000] * 3)
    assert not capacity.has_room(1e4, [10_000] * 2)
    assert capacity.has_room(1e4, [10_000])


def test_as_many_wait_as_cores_can_start_processes():
    assert most_pending(Cluster(address="auto")) == MOST_PENDING
    assert most_pending(Cluster(cpus=64)) == os.cpu_count()


def test_reports_are_spaced(monkeypatch):
    now, passed = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = spaced(passed.append, 5.0)
    for second in range(12):
        now[0] = float(second)
        report({"at": second})
    assert [each["at"] for each in passed] == [0, 5, 10]
