"""Faults as Ray really raises them, most of them wrapped: kind, and first words that tell."""

import pickle

import pytest

pytest.importorskip("ray.train.v2._internal.exceptions", reason="Ray Train 2's own exceptions")

from ray import exceptions as ray_exceptions
from ray.train.v2._internal.exceptions import (
    BroadcastCollectiveTimeoutError,
    CheckpointManagerInitializationError,
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

from sweeper import Sweep
from sweeper.driver.driver import Driver
from sweeper.driver.faults import RESPONSES, first_words, kind_of, reason_of
from sweeper.errors import DirectoryError
from sweeper.record.ledger import Ledger
from sweeper.search.protocol import Finished

SWEEP = Sweep(budgets=[1e11, 2e11], allowance=1e12)

SIGKILL = """The actor died unexpectedly before finishing this task.
\tclass_name: RayTrainWorker
\tactor_id: 3b1f4c
\tpid: 4711
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: Worker unexpectedly exits with a connection error code 2. End of file. There are some \
potential root causes. (1) The process is killed by SIGKILL by OOM killer due to high memory."""


def died(said):
    return ray_exceptions.RayActorError(None, said)


def found_dead(failure):
    """What Ray Train makes of a worker that does not answer."""
    return WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: ...", failure)


def raised(error):
    """What Ray Train makes of a worker that raised."""
    return UserExceptionWithTraceback(error, f"Traceback (most recent call last):\n{error!r}")


def group(*failures):
    text = "\n".join(f"[Rank {i} Error Snippet]:\n{e}" for i, e in enumerate(failures))
    return WorkerGroupError(text, dict(enumerate(failures)))


LEFT_BEHIND = raised(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
OUT_OF_MEMORY = ray_exceptions.OutOfMemoryError("Task was killed: the node running low on memory.")
NODE = died("The actor died because its node has died. Node Id: 12ab")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (group(found_dead(died(SIGKILL)), LEFT_BEHIND), "worker-died", "worker 0 of 2 that"),
        (group(LEFT_BEHIND, found_dead(died(SIGKILL))), "worker-died", "worker 1 of 2 that"),
        (group(LEFT_BEHIND, found_dead(OUT_OF_MEMORY)), "out-of-memory", "running low on memory"),
        (group(LEFT_BEHIND, found_dead(NODE)), "node-lost", "its node has died"),
        (group(raised(RuntimeError("NCCL error: remote")), found_dead(NODE)), "node-lost", "node"),
        (group(WorkerHealthCheckTimeoutError("no answer for 60 s")), "hung", "no answer for 60 s"),
        (group(BroadcastCollectiveTimeoutError(9.0, [1], 8.0)), "hung", "timed out after 9.00"),
        (group(LEFT_BEHIND), "worker-died", "Connection closed by peer"),
        (group(raised(ValueError("no column x")), LEFT_BEHIND), "error", "Error: no column x"),
        (group(raised(OSError(28, "No space left on device"))), "storage", "No space left"),
        (PreemptionError(PreemptionInfo(None, {"n": [1]})), "preempted", "node preemption"),
        (ControllerError(WorkerGroupStartupFailedError("no start")), "worker-died", "no start"),
        (ControllerError(CheckpointManagerInitializationError("cut")), "checkpoint", "cut"),
        (ControllerError(OSError(116, "Stale file handle")), "storage", "Stale file handle"),
        (ray_exceptions.RaySystemError(ValueError("odd")), "worker-died", "odd"),
        (ray_exceptions.NodeDiedError("node 12"), "node-lost", "node 12"),
        (ray_exceptions.OutOfDiskError("full"), "storage", "OutOfDisk"),
    ],
)  # fmt: skip
def test_what_ray_wraps_is_seen_through(error, kind, said):
    sent = pickle.loads(pickle.dumps(error))  # as it comes from another process
    assert kind_of(sent) == kind
    assert said in reason_of(sent)
    assert "Training failed due to" not in reason_of(sent)
    assert "\n" not in reason_of(sent)


def test_a_killed_process_is_said_in_plain_words():
    assert first_words(SIGKILL) == (
        "the process died without a word: killed, out of memory, or crashed"
    )
    assert first_words("Traceback (most recent call last):\n") == ""


class One:
    """A search that wants one trial."""

    def propose(self, observations, pending, remaining_flops, n=1):
        return Finished("complete") if pending else [SWEEP.space.allocation(1e11, 1e4)]


def test_a_damaged_corpus_fails_no_trial_and_ends_the_sweep(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")

    class CorpusError(ValueError):
        pass

    error = CorpusError("shards/code/00000-00000.bin has 7 bytes, 9 by the manifest")
    driver = Driver(SWEEP, ledger, One())
    start = driver.next()
    driver.begin(start)
    with pytest.raises(DirectoryError, match="has 7 bytes, 9 by the manifest"):
        driver.died(start.trial_id, kind_of(error), reason_of(error))
    assert ledger.counts() == {"running": 1}
    assert Driver(SWEEP, ledger, One()).next().trial_id == start.trial_id
    ledger.close()


def test_every_kind_that_is_told_has_a_response():
    from sweeper.driver import faults

    told = {*faults._RAISED.values(), *(kind for _, kind in faults._DEATHS)}
    assert told <= set(RESPONSES)
    assert set(faults._FIRST_OF_A_GROUP) >= told
