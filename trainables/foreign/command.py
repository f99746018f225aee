"""A trial that is a command: started, watched, asked to end, and read.

The contract with the trainer is docs/trainers.md. No Ray and no torch: whoever calls `run` says
where progress goes and when to stop.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainables.context import stop_asked
from trainables.foreign import losses
from trainables.foreign.heartbeat import Heartbeat, Whole
from trainables.foreign.losses import LOSSES, LossesError
from trainables.foreign.placeholders import filled
from trainables.foreign.process import Ended, Process, last_lines
from trainables.foreign.trial import ForeignTrial

AGAIN = 75
"""Exit code that asks to be started again (EX_TEMPFAIL of sysexits.h; Slurm's requeue scripts)."""

WHOLE = ".ended"
"""Left in a directory whose trainer ended well, but whose log could not be read: the next attempt
reads that first, as the spec may say by then what its losses are called."""

LOOK_S = 0.2
"""Seconds between looks at progress, stop file and clock."""

ALIVE_S = 2.0
"""Seconds between reports that say no more than that this process still watches: the hang of a
command is judged here, where its output can be shown."""

FULL_BYTES = 2**20
"""Free bytes below which a disk counts as full (assumption)."""

Report = Callable[[dict[str, Any]], None]

_SAID = (
    (r"No space left on device|Disk quota exceeded|Errno 28", "storage"),
    (r"SIGKILL|exitcode\s*:\s*-9|Connection (?:closed|reset) by peer|Broken pipe", "worker-died"),
    (r"NCCL|CUDA error|cuDNN", "device"),
)
"""What a trainer's last lines say of faults that are not its own doing (faults of
docs/faults.md); any other exit but 0 and `AGAIN` is its own, and is not tried again."""


@dataclass(frozen=True)
class Place:
    """Where a command runs.

    Attributes:
        environment: variables beside this process's, such as the GPUs it may use.
        values: placeholders of resources: gpus, cpus, nodes, node_rank, ...
        hang_s: seconds without a sign of progress after which it is ended.
    """

    directory: Path
    environment: Mapping[str, str]
    values: Mapping[str, str | int | float]
    hang_s: float = float("inf")


def arguments(trial: ForeignTrial, place: Place) -> list[str]:
    """The trial's command, every placeholder filled."""
    values = trial.values(place.directory, **{"python": sys.executable, **place.values})
    return filled(trial.trainer.command, values)


def run(
    trial: ForeignTrial, place: Place, *, report: Report = lambda metrics: None
) -> dict[str, Any]:
    """Train one trial by its command.

    Args:
        report: called with ``tokens, tokens_per_s, train_loss, resumed_at_tokens`` on progress,
            and again in between, or with ``alive`` before the first.

    Returns:
        The record: ``status`` "finished", "diverged", "stopped", or "failed" with its ``kind``;
        ``reason`` in words; ``losses`` and counts where it finished.
    """
    began = time.time()
    place.directory.mkdir(parents=True, exist_ok=True)
    if (found := earlier(trial, place.directory)) is not None:
        return found | {"wall_s": 0.0}
    try:
        process = start(arguments(trial, place), trial, place)
    except OSError as error:
        return failed("error", f"trainer.workdir: {trial.trainer.workdir}: {error.strerror}")
    with process:
        record = watched(trial, place, process, report)
    started = process.started_at or began
    return record | {"wall_s": time.time() - began, "first_step_at": started}


def watched(trial: ForeignTrial, place: Place, process: Running, report: Report) -> dict[str, Any]:
    """The record of a command that was started, once it has ended."""
    watch = Watch(trial, place, process, report)
    while (ended := watch.wait()) is None:
        watch.look()
    return watch.outcome(ended)


def start(command: Sequence[str], trial: ForeignTrial, place: Place) -> Process:
    """Start a command of a trial."""
    workdir = Path(trial.trainer.workdir)
    return Process(
        command, directory=place.directory, environment=place.environment, workdir=workdir,
        rank=int(place.values.get("node_rank", 0)),
    )  # fmt: skip


def earlier(trial: ForeignTrial, directory: Path) -> dict[str, Any] | None:
    """The record of a training that an earlier attempt ended, if its losses are whole."""
    log, whole = trial.trainer.losses, directory / WHOLE
    if log is not None and not whole.exists():
        return None
    try:
        found = losses.read(directory, trial.classes, log)
    except LossesError:  # the trainer, started again, writes it again
        with contextlib.suppress(OSError):
            if log is None:
                (directory / LOSSES).replace(directory / f"{LOSSES}.broken")
        found = None
    if found is None:
        whole.unlink(missing_ok=True)
    return None if found is None else measured(trial, found)


def measured(trial: ForeignTrial, found: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a training with losses."""
    reason = losses.diverged(found)
    return {
        "status": "diverged" if reason else "finished", "reason": reason, "losses": dict(found),
        "params_with_head": trial.params, "params_total": trial.row.get("params_total"),
        "params_without_embeddings": trial.row.get("params_without_embeddings"),
        "tokens": trial.tokens, "steps": trial.recipe.get("steps"),
        "flops_6p": 6.0 * trial.params * trial.tokens,
        "flops_exact": trial.flops_per_token * trial.tokens,
    }  # fmt: skip


def failed(kind: str, reason: str) -> dict[str, Any]:
    """The record of a training that ended without a result."""
    return {"status": "failed", "kind": kind, "reason": reason}


class Running(Protocol):
    """A command that was started, here or on several nodes.

    Attributes:
        output: what it prints: ``size`` in bytes, ``tail``, and the ``problem`` of keeping it.
    """

    output: Any

    def poll(self, wait_s: float = 0.0) -> Ended | None:
        """Wait no longer than so; returns how it ended, once it has."""

    def ask(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """Kill it and all it has started."""


class Watch:
    """What is looked at while a command runs, and what is made of its end."""

    def __init__(
        self, trial: ForeignTrial, place: Place, process: Running, report: Report
    ) -> None:
        self._trial, self._place, self._process, self._report = trial, place, process, report
        steps = (int(trial.recipe.get(name, 0)) for name in ("batch_tokens", "steps"))
        whole = Whole(trial.tokens, *steps)
        self.heart = Heartbeat(place.directory, whole, trial.trainer.progress)
        self._told = time.monotonic()
        self._latest: dict[str, Any] = {"alive": 1}
        self._asked: float | None = None
        self._why = ""
        self._complete_at: float | None = None

    def wait(self) -> Ended | None:
        """Let it run for a moment; returns how it ended, once it has."""
        until = time.monotonic() + LOOK_S
        while (left := until - time.monotonic()) > 0:
            if (ended := self._process.poll(left)) is not None:
                return ended
        return None

    def look(self) -> None:
        """Report progress, and see whether it has to end."""
        self._tell()
        now = time.monotonic()
        grace_s = self._trial.trainer.grace_s
        if self._asked is not None:
            if now - self._asked > grace_s:
                self._process.kill()
        elif self._complete_at is not None:
            if now - self._complete_at > grace_s:
                self._end("complete")
        elif stop_asked(self._place.directory):
            self._end("stopped")
        elif now - self.heart.at > self._place.hang_s:
            self._end("hung")
        elif self._complete():
            self._complete_at = now  # it may take its time to end, but not forever

    def _tell(self) -> None:
        metrics = self.heart.look(self._process.output.tail)
        self._latest = metrics or self._latest
        now = time.monotonic()
        if metrics is not None or now - self._told >= ALIVE_S:
            self._report(self._latest)
            self._told = now

    def _end(self, why: str) -> None:
        self._why, self._asked = why, time.monotonic()
        self._process.ask()

    def _complete(self) -> bool:
        """Whether the losses are there, whole: the end, whatever the process does."""
        if self._trial.trainer.losses is not None:
            return False
        with contextlib.suppress(LossesError):
            return losses.read(self._place.directory, self._trial.classes, None) is not None
        return False

    def outcome(self, ended: Ended) -> dict[str, Any]:
        """The record of a command that has ended."""
        self._tell()
        record = self._result(ended)
        notes = [f"it had left running, and was ended: {name}" for name in ended.left]
        notes += [f"cannot be ended, the kernel holds it: {name}" for name in ended.stuck]
        if self._process.output.problem:
            notes.append(self._process.output.problem)
        speed = self.heart.tokens_per_s
        return record | {"notes": notes, "train_loss": self.heart.loss, "tokens_per_s": speed}

    def _result(self, ended: Ended) -> dict[str, Any]:
        try:
            whole = ended.code == 0 or self._trial.trainer.losses is None
            found = self._read() if whole else None
        except LossesError as error:
            if ended.code == 0:
                (self._place.directory / WHOLE).touch()
                return failed("losses", self._with_output(str(error)))
            found = None
        if found is not None:
            return measured(self._trial, found)
        if self._why == "stopped":
            return {"status": "stopped", "reason": "asked to stop", "tokens": self.heart.tokens}
        if self._why == "hung":
            return failed("hung", self._with_output(self._silence()))
        return self._failure(ended)

    def _read(self) -> dict[str, Any] | None:
        return losses.read(self._place.directory, self._trial.classes, self._trial.trainer.losses)

    def _silence(self) -> str:
        trainer = self._trial.trainer
        sign = f"lines that match {trainer.progress!r}" if trainer.progress else "progress.jsonl"
        return (
            f"no sign of progress for {self._place.hang_s:g} s (cluster.hang_s) in {sign}, though "
            f"it printed {self._process.output.size:,} bytes; docs/trainers.md says how a trainer "
            "shows progress"
        )

    def _failure(self, ended: Ended) -> dict[str, Any]:
        program, code = arguments(self._trial, self._place)[0], ended.code
        if ended.refused:
            return failed("error", f"{program}: cannot be started: {ended.refused}")
        if code is None:
            return failed("worker-died", f"{program}: its keeper was killed, and it with it")
        if code == AGAIN:
            return failed("interrupted", f"{program}: asked to be started again (exit {AGAIN})")
        if code < 0:
            known = {number.value: number.name for number in signal.Signals}
            text = f"{program}: killed by {known.get(-code, f'signal {-code}')}"
            more = ", as the kernel does when memory runs out" * (-code == signal.SIGKILL)
            return failed("worker-died", self._with_output(text + more))
        if code == 0:
            there = f"no {losses.source(self._trial.trainer.losses)} in its {{directory}}"
            return failed("losses", self._with_output(f"{program}: ended, but there is {there}"))
        return failed(self._kind(), self._with_output(f"{program}: ended with exit code {code}"))

    def _kind(self) -> str:
        """The kind of fault that an exit code alone does not tell."""
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._place.directory).free < FULL_BYTES:
                return "storage"
        said = last_lines(self._process.output.tail)
        return next((kind for pattern, kind in _SAID if re.search(pattern, said)), "error")

    def _with_output(self, text: str) -> str:
        """A reason, with the last line in the first, and the last lines below it."""
        lines = last_lines(self._process.output.tail)
        if not lines:
            return f"{text}; it printed nothing"
        return f"{text}; last it said: {lines.splitlines()[-1].strip()}\n{lines}"


def visible_gpus(ids: Sequence[str]) -> dict[str, str]:
    """The variable that shows a command its GPUs and no others."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(ids)}
