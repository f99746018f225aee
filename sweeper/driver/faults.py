"""What can go wrong with a trial, how it is told apart, and what is done about it.

Every fault becomes an event in the ledger under its kind. docs/faults.md is the table below in
words, with the faults of drivers and disks beside it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    """What the driver does about a fault of a trial.

    Attributes:
        retried: whether the trial is started again, from its last checkpoint if it has one.
        counts: whether that uses up one of `cluster.retries`; a fault that is not the trial's
            doing is bounded by `MOST_RETURNS` alone.
        wait_s: seconds before the trial is started again.
        words: what is done, for people.
    """

    retried: bool
    counts: bool = True
    wait_s: float = 0.0
    words: str = ""


MOST_RETURNS = 100
"""Starts of one trial after which even faults that do not count end it (assumption: a trial that
lost its node a hundred times will not finish on this cluster)."""

STORAGE_WAIT_S = 30.0
"""Seconds before a trial that could not write is tried again (assumption: a clean-up's time)."""

AGAIN_S = 1.0
"""Seconds before a trainer that asked to be started again is (assumption: no busy loop)."""

RESPONSES = {
    "worker-died": Response(True, words="goes on from its last checkpoint"),
    "hung": Response(True, words="its process is killed; goes on from its last checkpoint"),
    "out-of-memory": Response(True, words="goes on with micro-batches of half the size"),
    "device": Response(True, words="goes on in a new process"),
    "node-lost": Response(True, counts=False, words="goes on on another node"),
    "preempted": Response(True, counts=False, words="goes on on another node"),
    "checkpoint": Response(True, words="the bad checkpoint is set aside; trains from its start"),
    "storage": Response(True, wait_s=STORAGE_WAIT_S, words="tried again when the disk had time"),
    "evaluation": Response(True, words="scored again from its last checkpoint"),
    "interrupted": Response(True, counts=False, wait_s=AGAIN_S, words="started again, as it asks"),
    "losses": Response(False, words="fix what the trainer writes; the next run reads it again"),
    "corpus": Response(False, words="the sweep ends; it goes on when the corpus is whole again"),
    "error": Response(False, words="a program that raised will raise again: not retried"),
}
"""By kind. A non-finite loss is no fault: the trial ends as "diverged", a result like another."""

ENDS_THE_SWEEP = ("corpus",)
"""Faults that every trial would meet: none of them fails for it, the sweep ends in words."""

UNFINISHED = ("evaluation", "losses")
"""Faults that end a trial whose training is paid for: the next `run` scores it again."""

_DEATHS = (
    (r"preempt", "preempted"),
    (r"node (?:has |was )?(?:died|dead|marked dead|terminated|removed)|NodeDied", "node-lost"),
    # Not "OOM": Ray names the kernel's killer among the possible causes of every SIGKILL.
    (r"OutOfMemoryError|node running low on memory", "out-of-memory"),
    (r"No space left on device|Stale file handle|Input/output error", "storage"),
)

_RAISED = {
    "CorpusError": "corpus",
    "CheckpointError": "checkpoint",
    "CheckpointManagerInitializationError": "checkpoint",
    "EvaluationError": "evaluation",
    "OutOfMemoryError": "out-of-memory",
    "MemoryError": "out-of-memory",
    "AcceleratorError": "device",
    "PreemptionError": "preempted",
    "NodeDiedError": "node-lost",
    "LocalRayletDiedError": "node-lost",
    "OutOfDiskError": "storage",
    "WorkerHealthCheckTimeoutError": "hung",
    "CollectiveTimeoutError": "hung",
    "NCCLHangError": "hung",
}
"""Names of exceptions, which may be torch's, Ray's or our own: none is loaded here."""

_DIED = {"RayActorError", "WorkerCrashedError", "WorkerGroupStartupFailedError"}
"""Ray's exceptions for processes that are gone."""

_LEFT_BEHIND = "left-behind"
"""A worker whose connection to another broke: what ended that one counts, if it is known."""

_SAID = (
    (
        r"out of memory|[Cc]an(?:no|')t allocate memory|bad_alloc|can't start new thread|"
        r"failed to map segment",
        "out-of-memory",
    ),
    (r"No space left on device", "storage"),  # torch's writers put it thus
    (r"gloo|Connection (?:closed|reset|refused)|Broken pipe|Socket Timeout", _LEFT_BEHIND),
    (r"CUDA error|NCCL|cuDNN", "device"),
)
"""What errors without a type of their own say; most are torch's."""

_STORAGE_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENODEV, errno.ENXIO,
    errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH,
}  # fmt: skip

_FIRST_OF_A_GROUP = (
    "preempted", "node-lost", "corpus", "checkpoint", "storage", "out-of-memory", "evaluation",
    "worker-died", "device", "hung", "error", _LEFT_BEHIND,
)  # fmt: skip
"""Which of its workers' faults is a group's: the others break in consequence."""

_WRAPPED = ("_base_exc", "health_check_failure", "controller_failure", "cause")
"""Attributes under which Ray's exceptions keep what they are about."""

_SAYS_NOTHING = re.compile(
    r"Training failed due to |\[Rank [\d,]+ Error Snippet\]|Traceback \(most recent|File \"|"
    r"ray::|The actor died unexpectedly|A worker health check failed|Worker \d+ health check|"
    r"(?:class_name|actor_id|pid|name|namespace|ip|node_id):|The above exception|During handling"
)
"""Lines of Ray's messages that tell no cause."""

_UNEXPLAINED = re.compile(r"Worker exit type: SYSTEM_ERROR|connection error code 2|worker_died")


def kind_of(error: BaseException) -> str:
    """The kind of a fault that raised in a trial's own process, or in its workers."""
    kind, _, _ = _origin(error)
    return "worker-died" if kind == _LEFT_BEHIND else kind


def reason_of(error: BaseException) -> str:
    """A fault in a line: which worker of a group, and the first words that tell a cause."""
    _, origin, worker = _origin(error)
    name, said = type(origin).__name__, first_words(str(origin))
    return f"{worker}{name}: {said}" if said else f"{worker}{name}"


def first_words(text: str) -> str:
    """The first line of a message that tells a cause; "" if there is none."""
    lines = [line.strip() for line in text.splitlines()]
    told = next((line for line in lines if line and not _SAYS_NOTHING.match(line)), "")
    if _UNEXPLAINED.search(told):
        return "the process died without a word: killed, out of memory, or crashed"
    return told


def _origin(error: BaseException) -> tuple[str, BaseException, str]:
    """The kind of a fault, the exception that tells it, and whose it is within a group."""
    seen, plain, rays = [error], None, None
    for each in seen:
        workers = getattr(each, "worker_failures", None)  # Ray Train's, by rank
        if workers:
            return _of_group(workers)
        if kind := _kind(each):
            return kind, each, ""
        if _is_rays(each):
            rays = rays or each
        inner = [getattr(each, name, None) for name in _WRAPPED]
        wrapped = [e for e in inner if isinstance(e, BaseException)]
        plain = plain or (None if wrapped else each)
        causes = [e for e in (each.__cause__, each.__context__) if e is not None]
        seen += [e for e in (*wrapped, *causes) if all(e is not known for known in seen)]
    # What only Ray can tell of is Ray's own trouble, not the program's.
    return ("worker-died", rays, "") if rays else ("error", plain or error, "")


def _is_rays(error: BaseException) -> bool:
    """Whether an exception is about Ray rather than about what it ran."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return "ControllerError" in names or ("RayError" in names and "RayTaskError" not in names)


def _of_group(workers: Mapping[int, BaseException]) -> tuple[str, BaseException, str]:
    origins = [(rank, *_origin(error)) for rank, error in sorted(workers.items())]
    rank, kind, origin, _ = min(origins, key=lambda each: _FIRST_OF_A_GROUP.index(each[1]))
    return kind, origin, f"worker {rank} of {len(workers)} that failed: "


def _kind(error: BaseException) -> str:
    """The kind of one exception, its causes left aside; "" if it tells nothing."""
    names = [cls.__name__ for cls in type(error).__mro__]
    if known := next((_RAISED[name] for name in names if name in _RAISED), ""):
        return known
    if getattr(error, "preempted", False) is True:
        return "preempted"
    if _DIED & set(names):
        return kind_of_death(str(error))
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS:
        return "storage"
    if isinstance(error, (RuntimeError, OSError, ImportError)):
        return next((kind for said, kind in _SAID if re.search(said, str(error))), "")
    return ""


def kind_of_death(message: str) -> str:
    """The kind of a fault that took a trial's process, from what Ray says of it."""
    for pattern, kind in _DEATHS:
        if re.search(pattern, message, re.IGNORECASE):
            return kind
    return "worker-died"
