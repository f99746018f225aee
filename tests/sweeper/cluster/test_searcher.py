"""The shell between Tune and the driver, told by hand what Tune would tell it."""

import os
import time
from types import SimpleNamespace

import pytest

from sweeper import Cluster, Resources, Sweep
from sweeper.cluster.capacity import MOST_PENDING, Capacity, most_pending
from sweeper.cluster.searcher import SLOWER, START_S, Halt, LedgerSearcher, Watched, _death
from sweeper.cluster.trial import Ended, spaced
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
    return LedgerSearcher(driver, where, directory)


def begin(searcher, name):
    """Tune has given a trial its process."""
    trial = SimpleNamespace(
        trial_id=name, error_file=None, temporary_state=SimpleNamespace(ray_actor=object())
    )
    searcher.began(trial)


def falls_silent(searcher, *names):
    """No more is heard of some trials; all others have just spoken."""
    for name, watched in searcher._trials.items():
        watched.heard_at = time.monotonic() + (-1.0 if name in names else 60.0)
    searcher._looked_at = 0.0
    searcher.look()


def test_a_cluster_that_grows_is_asked_for_all_it_may_grow_to(searching):
    configs = [searching.suggest(f"t{i}") for i in range(5)]
    assert [config is not None for config in configs] == [True] * 4 + [False]
    assert configs[3]["work"].report_every_s == pytest.approx(0.4)


def test_trials_wait_for_nodes_as_long_as_others_train_on_all_there_are(searching, cluster):
    for i in range(4):
        searching.suggest(f"t{i}")
    begin(searching, "t0")
    begin(searching, "t1")
    falls_silent(searching, "t2", "t3")
    assert searching.error is None
    cluster["CPU"] = 4.0
    searching._capacity.forget()
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
    searching.on_trial_complete("t0", {"record": Ended(record)})
    assert halt.stop_all()
    searching.on_trial_complete("t1")
    assert not halt.stop_all()
    assert len(searching._driver.training) == 1, "it stays reserved for the next driver"


def test_room_now_is_told_from_room_to_come(cluster):
    capacity, one = Capacity(Cluster(address="auto", cpus=4)), Resources()
    assert capacity.fits(one, [one] * 3)
    assert not capacity.fits(one, [one] * 4)
    assert not capacity.has_room(one, [one] * 2)
    assert capacity.has_room(one, [one])


def test_silence_is_judged_by_a_trials_own_pace_and_twice_as_patiently_each_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    start = SimpleNamespace(hangs=0)
    watched = Watched(start, 0.0)
    for now[0] in (1.0, 2.0, 5.0, 6.0):
        watched.reported()
    assert watched.patience_s(2.0) == pytest.approx(SLOWER * 3.0)
    assert watched.patience_s(100.0) == 100.0
    start.hangs = 2
    assert watched.patience_s(100.0) == 400.0
    watched.wait(START_S)
    assert watched.heard_at == 6.0 + 4 * START_S


@pytest.mark.parametrize("slept_s", [90_000.0, 0.0])
def test_a_driver_that_slept_takes_nobody_for_silent(searching, monkeypatch, slept_s):
    """A laptop that was shut for a day; beside it, a trial that really fell silent."""
    searching._cluster = Cluster(address="auto", hang_s=100.0)
    now, ended = [1000.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(searching, "_end_silent", lambda watched, silent_s: ended.append(silent_s))
    searching.work("a")
    searching._trials["a"].heard_at = now[0]
    searching.look()
    now[0] += slept_s + 1.0
    searching.look()
    assert not ended
    for _ in range(110):
        now[0] += 1.0
        searching.look()
    assert ended and ended[0] < 103.0


DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: wrap_function.<locals>.ImplicitFunc
\tpid: 6522
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"""


@pytest.mark.parametrize("head", ["Failure # 1\n", "Failure # 1\nray.exceptions.ActorDiedError: "])
def test_a_death_is_told_by_the_first_words_of_ray_that_say_something(head, tmp_path):
    (tmp_path / "error.txt").write_text(head + DIED)
    watched = Watched(None, 0.0, tune_trial=SimpleNamespace(error_file=tmp_path / "error.txt"))
    words = "the process died without a word: killed, out of memory, or crashed"
    assert _death(watched) == ("worker-died", words)


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
