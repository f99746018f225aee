"""What can go wrong with a trial, how it is told apart, and what is done about it.

Every fault becomes an event in the ledger under its kind. docs/faults.md is the table below in
words, with the faults of drivers and disks beside it.
"""

from __future__ import annotations

import errno
import re
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
    "error": Response(False, words="a program that raised will raise again: not retried"),
}
"""By kind. A non-finite loss is no fault: the trial ends as "diverged", a result like another."""

UNFINISHED = ("evaluation",)
"""Faults that end a trial whose training is paid for: the next `run` scores it again."""

_DEATHS = (
    (r"preempt", "preempted"),
    (r"node (?:has |was )?(?:died|dead|marked dead|terminated|removed)|NodeDied", "node-lost"),
    # Not "OOM": Ray names the kernel's killer among the possible causes of every SIGKILL.
    (r"OutOfMemoryError|node running low on memory", "out-of-memory"),
    (r"No space left on device|Stale file handle|Input/output error", "storage"),
)

_RAISED = (
    ("CheckpointError", "checkpoint"),
    ("EvaluationError", "evaluation"),
    ("OutOfMemoryError", "out-of-memory"),
    ("MemoryError", "out-of-memory"),
    ("AcceleratorError", "device"),
)
"""Names of exceptions, which may be torch's or Ray's: neither is loaded here."""

_DIED = {"RayActorError", "WorkerCrashedError", "NodeDiedError", "ControllerError"}
"""Ray's exceptions for processes that are gone."""

_SAID = (
    (
        r"out of memory|[Cc]an(?:no|')t allocate memory|bad_alloc|can't start new thread|"
        r"failed to map segment",
        "out-of-memory",
    ),
    (r"No space left on device", "storage"),  # torch's writers put it thus
    (r"gloo|Connection (?:closed|reset) by peer|Broken pipe", "worker-died"),
    (r"CUDA error|NCCL|cuDNN", "device"),
)
"""What errors without a type of their own say; most are torch's."""

_STORAGE_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENODEV, errno.ENXIO,
    errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH,
}  # fmt: skip


def kind_of(error: BaseException) -> str:
    """The kind of a fault that raised in a trial's own process, or in its workers."""
    seen: BaseException | None = error
    while seen is not None:
        if kind := _kind(seen):
            return kind
        seen = getattr(seen, "_base_exc", None) or seen.__cause__ or seen.__context__
    return "error"


def _kind(error: BaseException) -> str:
    """The kind of one exception, its causes left aside; "" if it tells nothing."""
    names = [cls.__name__ for cls in type(error).__mro__]
    for name, kind in _RAISED:
        if name in names:
            return kind
    if _DIED & set(names):
        return kind_of_death(str(error))
    workers = getattr(error, "worker_failures", None) or {}  # Ray Train's, by rank
    kinds = [kind_of(each) for each in workers.values()]
    # The workers that a dead one left behind break, too: what it died of counts.
    told = [kind for kind in kinds if kind not in ("error", "worker-died")]
    if told or "worker-died" in kinds:
        return (told or ["worker-died"])[0]
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
