"""Between search and cluster: what starts next, what has ended, what it cost.

Knows the ledger and the search, and no Ray: whoever trains asks `Driver.next` for work whenever a
slot may be free, begins it, and tells what became of it. Retries are decided here and counted in
the ledger, so that they survive the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sweeper.budget import Allocation
from sweeper.driver.faults import ENDS_THE_SWEEP, MOST_RETURNS, RESPONSES, UNFINISHED
from sweeper.errors import DirectoryError
from sweeper.record import proof
from sweeper.record.ledger import Ledger
from sweeper.search.protocol import Finished, Search
from sweeper.spec.placement import Resources
from sweeper.spec.spec import Spec
from trainables.config import TrialConfig
from trainables.foreign.trial import ForeignTrial

NOTE_EVERY_S = 10.0
"""Seconds between notes of a trial's progress in the ledger (assumption): what a killed driver
may not know of the work that its trials lost."""


@dataclass(frozen=True)
class Start:
    """A trial to start.

    Attributes:
        trial_id: identity of the training.
        allocation: what the search asked for.
        config: the training that this stands for.
        rule: what it holds.
        hangs: times it was killed for its silence; each doubles the silence it is allowed.
    """

    trial_id: str
    allocation: Allocation
    config: TrialConfig | ForeignTrial
    rule: Resources
    hangs: int = 0

    @classmethod
    def of(cls, spec: Spec, allocation: Allocation, trial: str = "") -> Start:
        """The start of an allocation, under the id the ledger knows it by, if it does."""
        config = spec.trial(allocation)
        rule = spec.of(allocation).placement.rule(allocation.params)
        return cls(trial or spec.trial_id(allocation), allocation, config, rule)

    @property
    def keep(self) -> bool:
        """Whether the trial's files are kept when it has ended."""
        if isinstance(self.config, ForeignTrial):
            return self.config.trainer.keep
        return self.config.train.keep

    def after(self, kind: str) -> Start:
        """What is started after a fault: with less memory, or more patience."""
        if kind == "out-of-memory" and isinstance(self.config, TrialConfig):
            return replace(self, config=replace(self.config, halvings=self.config.halvings + 1))
        return replace(self, hangs=self.hangs + 1) if kind == "hung" else self


Listener = Callable[[str, Start, Mapping[str, Any]], None]
"""Called with an event ("started", "progressed", "finished", "diverged", "failed", "stopped", or
"fault"), the trial, and its record; while a trial progresses that is what its loop reported last.
One that raises is switched off, and the ledger says why."""


@dataclass
class _Attempt:
    """What is known of a trial in training: tokens so far, and when the ledger was told."""

    start: Start
    known_tokens: float  # those of earlier attempts
    tokens: float
    noted_at: float
    resumed: bool = False


class Driver:
    """Feeds one sweep's trials to whatever trains them.

    Args:
        spec: of the sweep.
        ledger: its state; trials that were running when a driver died are started first.
        search: the policy.
        clock: monotonic seconds.

    Attributes:
        listeners: told of every start and end.
    """

    def __init__(
        self,
        spec: Spec,
        ledger: Ledger,
        search: Search,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.finished: Finished | None = None
        self.stopping = False
        self.listeners: list[Listener] = []
        self._spec, self._ledger, self._search, self._clock = spec, ledger, search, clock
        for fault in UNFINISHED:
            for trial in ledger.failed_by(fault):
                ledger.reopen(trial, "its training is paid for; its skills are scored again")
        # Trials to go on with, and when.
        running = ledger.allocations("running").items()
        self._waiting = [(0.0, Start.of(spec, allocation, trial)) for trial, allocation in running]
        self._attempts: dict[str, _Attempt] = {}
        self._observations: pd.DataFrame | None = None
        # What the search last said; it is asked again only when a trial has started or ended.
        self._answer: Start | Finished | None = None
        self._asked = False

    @property
    def training(self) -> list[Start]:
        """Trials now in training."""
        return [attempt.start for attempt in self._attempts.values()]

    def next(self) -> Start | Finished | None:
        """The trial to begin as soon as it finds room.

        Returns:
            The trial; None to ask again later; `Finished` when there is nothing more to start
            and nothing in training that might have to be started again.
        """
        if self.stopping:
            return None if self._attempts else Finished("stopped", "on request")
        now = self._clock()
        due = next((start for when, start in self._waiting if when <= now), None)
        if due is not None:
            return due
        if not self._asked:
            self._answer, self._asked = self._propose(), True
        if isinstance(self._answer, Finished):
            if self._attempts or self._waiting:
                return None
            self.finished = self._answer
        return self._answer

    def _propose(self) -> Start | Finished | None:
        if self._observations is None:
            self._observations = self._ledger.observations()
        spent, reserved = self._ledger.totals()
        pending = [*self.training, *(start for _, start in self._waiting)]
        asked = self._search.propose(
            self._observations,
            [start.allocation for start in pending],
            self._spec.allowance - spent - reserved,
            1,
        )
        if isinstance(asked, Finished):
            return asked
        return Start.of(self._spec, asked[0]) if asked else None

    def begin(self, start: Start) -> None:
        """Reserve a trial's FLOPs: it is in training from now on."""
        proof.keep(self._ledger, self._spec.space, start.trial_id, start.allocation)
        self._ledger.reserve(start.trial_id, start.allocation)
        self._waiting = [(at, each) for at, each in self._waiting if each is not start]
        tokens = self._ledger.progress(start.trial_id).trained_tokens
        self._attempts[start.trial_id] = _Attempt(start, tokens, tokens, self._clock())
        self._asked = False
        self._tell("started", start, {})

    def progressed(self, trial: str, metrics: Mapping[str, Any]) -> None:
        """Remember how far a trial is, so that its cost is known if it dies.

        Args:
            metrics: its report: ``tokens`` so far, and ``resumed_at_tokens``, those that its
                checkpoint held when this attempt began.
        """
        if trial not in self._attempts:
            return
        self._note(trial, float(metrics["tokens"]), float(metrics.get("resumed_at_tokens", 0.0)))
        self._tell("progressed", self._attempts[trial].start, metrics)

    def _note(self, trial: str, tokens: float, resumed_at: float) -> None:
        attempt, now = self._attempts[trial], self._clock()
        lost = 0.0 if attempt.resumed else max(0.0, attempt.tokens - resumed_at)
        first, attempt.resumed, attempt.tokens = not attempt.resumed, True, tokens
        if first or now - attempt.noted_at >= NOTE_EVERY_S:
            wasted = self._flops(attempt.start, lost)
            self._ledger.advance(trial, round(tokens), wasted_flops=wasted)
            attempt.noted_at = now

    def ended(self, trial: str, record: Mapping[str, Any]) -> None:
        """Settle a trial that returned a record, however it ended."""
        for note in record.get("notes", ()):
            self._ledger.event("note", note, trial)
        if record["status"] == "failed":
            self.died(trial, record.get("kind", "error"), record["reason"])
            return
        tokens = float(record["tokens"])
        for refused in record.get("refused_checkpoints", ()):
            self._ledger.event("checkpoint", f"{refused}; the one before serves", trial)
        self._note(trial, tokens, float(record.get("resumed_at_tokens", 0.0)))
        if record["status"] == "stopped":
            self._ledger.advance(trial, round(tokens))
            self._ledger.event("stopped", str(record["reason"]), trial)
        else:
            spent = self._spent(self._attempts[trial].start, tokens)
            self._ledger.settle(trial, record, spent_flops=spent)
        self._forget(trial, str(record["status"]), record)

    def died(self, trial: str, kind: str, reason: str) -> None:
        """Do what a fault calls for: start the trial again, or settle it as failed."""
        attempt = self._attempts.get(trial)
        if attempt is None:
            return
        if kind in ENDS_THE_SWEEP:
            raise DirectoryError(_first_line(reason))
        response, progress = RESPONSES[kind], self._ledger.progress(trial)
        # One that got further than ever before was slow, not stuck.
        counts = response.counts and not (kind == "hung" and attempt.tokens > attempt.known_tokens)
        allowed = self._spec.cluster.retries if counts else MOST_RETURNS
        if response.retried and progress.faults < allowed and progress.attempts <= MOST_RETURNS:
            detail = f"{_first_line(reason)}; {response.words}"
            self._ledger.fault(trial, kind, detail, tokens=round(attempt.tokens), counts=counts)
            self._waiting.insert(0, (self._clock() + response.wait_s, attempt.start.after(kind)))
            self._forget(trial, "fault", {"kind": kind, "reason": detail})
            return
        tries = f" ({progress.attempts} attempts)" if progress.attempts > 1 else ""
        # Its losses are what fails where the training itself has ended, and is paid for.
        whole = kind in UNFINISHED
        tokens = attempt.start.allocation.tokens if whole else attempt.tokens
        spent = self._spent(attempt.start, tokens)
        self._ledger.fail(trial, f"{reason}{tries}", spent_flops=spent, fault=kind)
        self._forget(trial, "failed", {"reason": reason})

    def _forget(self, trial: str, event: str, record: Mapping[str, Any]) -> None:
        start = self._attempts.pop(trial).start
        self._observations, self._asked = None, False
        self._tell(event, start, record)

    def _tell(self, event: str, start: Start, record: Mapping[str, Any]) -> None:
        for listener in list(self.listeners):
            try:
                listener(event, start, record)
            except Exception as error:  # who only watches must not end the sweep
                self.listeners.remove(listener)
                name = getattr(listener, "__name__", type(listener).__name__)
                said = f"{name} is switched off: {type(error).__name__}: {error}"
                self._ledger.event("listener-off", said)

    def _spent(self, start: Start, tokens: float) -> float:
        """FLOPs of a trial: its tokens, and those it had to train on twice."""
        return self._flops(start, tokens) + self._ledger.progress(start.trial_id).wasted_flops

    def _flops(self, start: Start, tokens: float) -> float:
        allocation = start.allocation
        return self._spec.of(allocation).space.cost(allocation) * tokens / allocation.tokens


def _first_line(reason: str) -> str:
    return (reason.strip().splitlines() or ["no reason was given"])[0][:300]
