"""Faults on a real cluster: a killed, a frozen and a stopped trial end at the same losses."""

import contextlib
import os
import signal
import threading
import time

import psutil
import pytest

from sweeper import Cluster, SearchSettings, Sizes, Sweep
from sweeper.cluster import searcher
from sweeper.cluster.searcher import free
from sweeper.driver.faults import kind_of, reason_of
from trainables.data import Data
from trainables.trainer import RAYS_LIST, run_trial
from trainables.training import Train

pytestmark = pytest.mark.ray

SWEEP = Sweep(
    budgets=[2e10],
    allowance=2e11,
    data=Data(evaluation_documents=16),
    sizes=Sizes(7e3, 4e4),
    skills=["code"],
    train=Train(checkpoint_every_s=0.2),
    search=SearchSettings(policy="grid", sizes_per_budget=3),
    cluster=Cluster(hang_s=10.0, retries=5),
)


def losses(results):
    table = results.table.set_index(["flops", "params", "seed", "skill"])["nll"]
    return table.sort_index().to_dict()


def in_training(root):
    """Processes of trials, once one of them has a checkpoint to go on from."""
    if not any(root.glob("trials/*/checkpoint_*")):
        return []
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::ImplicitFunc.train"]:
                found.append(process.pid)
    return found


class Trouble(threading.Thread):
    """Sends each of some signals to a trial in training, or to this process: its driver."""

    def __init__(self, root, *signals, driver=False):
        super().__init__(daemon=True)
        self.root, self.signals, self.driver, self.struck = root, signals, driver, set()
        self.start()

    def run(self):
        for number in self.signals:
            while not (victims := set(in_training(self.root)) - self.struck):
                time.sleep(0.05)
            victim = os.getpid() if self.driver else victims.pop()
            os.kill(victim, number)
            self.struck.add(victim)


def test_stopped_killed_and_frozen_trials_lose_nothing(ray_cluster, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(searcher, "START_S", 20.0)  # a trial may be frozen before it reports
    root = tmp_path / "troubled"
    Trouble(root, signal.SIGTERM, driver=True)
    stopped = SWEEP.run(root, progress=False)
    assert stopped.finished.reason == "stopped"
    assert "stopped" in set(stopped.events["kind"])
    assert (stopped.trials["state"] == "running").any()
    Trouble(root, signal.SIGKILL, signal.SIGSTOP)
    end = SWEEP.run(root, progress=False)
    assert set(end.trials["state"]) == {"finished"}
    assert {"worker-died", "hung"} <= set(end.events["kind"])
    assert not list(root.glob("trials/*/checkpoint_*"))
    assert losses(end) == alone(end, tmp_path / "peace")


def test_slots_of_a_dead_group_are_given_back(ray_cluster):
    import ray

    group = ray.util.placement_group([{"CPU": 1}])
    assert group.wait(30)
    free(group.id.hex())
    for _ in range(100):
        if ray.util.placement_group_table(group)["state"] == "REMOVED":
            return
        time.sleep(0.1)
    raise AssertionError("the slots are still held")


def of_group(root):
    """Processes of a group's workers, by rank of their start, once there is a checkpoint."""
    if not any(root.glob("*/checkpoint_*")):
        return []
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process.pid)
    return sorted(found)


def test_a_killed_worker_of_a_group_is_known_and_its_trial_goes_on(ray_cluster, tmp_path):
    """With Ray's own exceptions, and with the list that Ray keeps of checkpoints cut off."""
    space = SWEEP.space
    allocation = space.allocation(space.budgets[0], min(space.params))
    config = SWEEP.trial(allocation)
    died = []

    def train():
        try:
            run_trial(config, directory=tmp_path, workers=2, max_failures=0)
        except Exception as error:
            died.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    while not (workers := of_group(tmp_path)):
        assert thread.is_alive(), died
        time.sleep(0.05)
    os.kill(workers[-1], signal.SIGKILL)
    thread.join(60)
    assert kind_of(died[0]) == "worker-died"
    assert reason_of(died[0]).startswith("worker ")
    assert "killed, out of memory, or crashed" in reason_of(died[0])
    for path in tmp_path.glob(f"*/{RAYS_LIST}"):
        path.write_text(path.read_text()[:20])
    record = run_trial(config, directory=tmp_path, workers=2, max_failures=0)
    assert record["status"] == "finished"
    assert record["resumed_at_tokens"] > 0
