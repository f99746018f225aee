"""Faults on a real cluster: a killed, a frozen and a stopped trial end at the same losses."""

import contextlib
import os
import signal
import threading
import time

import psutil
import pytest

from sweeper import Cluster, SearchSettings, Sizes, Sweep
from sweeper.live import read as read_live
from trainables.config import Data, Train

pytestmark = pytest.mark.ray

SWEEP = Sweep(
    budgets=[6e9],
    allowance=4e10,
    data=Data(evaluation_documents=16),
    sizes=Sizes(7e3, 4e4),
    skills=["code"],
    train=Train(checkpoint_every_s=0.2),
    search=SearchSettings(policy="grid", sizes_per_budget=3),
    cluster=Cluster(hang_s=20.0, retries=5),
)


def losses(results):
    table = results.table.set_index(["flops", "params", "seed", "skill"])["nll"]
    return table.sort_index().to_dict()


def in_training(root):
    """The process of a trial that has reported, if there is one."""
    if not read_live(root / "live.json").trials:
        return None
    mine = psutil.Process().children(recursive=True)
    for process in mine:
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[:1] == ["ray::ImplicitFunc.train"]:
                return process
    return None


class Trouble(threading.Thread):
    """Sends one signal to a trial in training, or to this process: its driver."""

    def __init__(self, root, number, *, driver=False):
        super().__init__(daemon=True)
        self.root, self.number, self.driver, self.struck = root, number, driver, 0
        self.start()

    def run(self):
        while not self.struck:
            time.sleep(0.05)
            victim = in_training(self.root)
            if victim is not None:
                self.struck = os.getpid() if self.driver else victim.pid
                os.kill(self.struck, self.number)


def test_killed_frozen_and_stopped_trials_lose_nothing(ray_cluster, tmp_path):
    root = tmp_path / "troubled"
    stop = Trouble(root, signal.SIGTERM, driver=True)
    stopped = SWEEP.run(root, progress=False)
    assert stop.struck
    assert stopped.finished.reason == "stopped"
    assert "stopped" in set(stopped.events["kind"])
    running = stopped.trials.query("state == 'running'")
    assert len(running) > 0
    for number in (signal.SIGKILL, signal.SIGSTOP):
        trouble = Trouble(root, number)
        end = SWEEP.run(root, progress=False)
        if trouble.struck:
            break
    assert trouble.struck
    assert set(end.trials["state"]) == {"finished"}
    assert {"worker-died", "hung"} & set(end.events["kind"])
    assert not list(root.glob("trials/*/checkpoint_*"))
    peace = SWEEP.run(tmp_path / "peace", progress=False)
    assert losses(end) == losses(peace)
