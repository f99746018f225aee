"""Between search and cluster: what starts next, what has ended, what it cost.

Knows the ledger and the search, and no Ray: the tuner asks `Driver.start` for work whenever a
slot may be free, and tells it what became of each trial. Retries are decided here and counted in
the ledger, so that they survive the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeper.budget import Allocation
from sweeper.driver.faults import ENDS_THE_SWEEP, MOST_RETURNS, RESPONSES, UNFINISHED
from sweeper.errors import DirectoryError
from sweeper.record.ledger import Ledger
from sweeper.search.protocol import Finished, Search
from sweeper.spec.spec import Spec, trial_id

NOTE_EVERY_S = 10.0
"""Seconds between notes of a trial's progress in the ledger (assumption): what a killed driver
may not know of the work that its trials lost."""


@dataclass(frozen=True)
class Start:
    """A trial to start now.

    Attributes:
        trial_id: identity of the training.
        allocation: what it trains.
        halvings: of the micro-batch, one for each time that memory ran out.
    """

    trial_id: str
    allocation: Allocation
    halvings: int = 0


Listener = Callable[[str, Start, Mapping[str, Any]], None]
"""Called with an event ("started", "progressed", "finished", "diverged", "failed", "stopped", or
"fault"), the trial, and its record; while a trial progresses that is what its loop reported
last."""


@dataclass
class _Attempt:
    """What is known of a trial in training: tokens so far, and when the ledger was told."""

    tokens: float
    noted_at: float
    resumed: bool = False


class Driver:
    """Feeds one sweep's trials to whatever trains them.

    Args:
        sweep: the spec.
        ledger: its state; trials that were running when a driver died are started first.
        search: the policy.
        listener: told of every start and end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sweep: Spec,
        ledger: Ledger,
        search: Search,
        listener: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.finished: Finished | None = None
        self.stopping = False
        self._sweep, self._ledger, self._search = sweep, ledger, search
        self._listener = listener or (lambda event, start, record: None)
        self._clock = clock
        for fault in UNFINISHED:
            for trial in ledger.failed_by(fault):
                ledger.reopen(trial, "its training is paid for; its skills are scored again")
        # Trials to go on with, and when.
        self._waiting = [(0.0, Start(*i)) for i in ledger.allocations("running").items()]
        self._training: dict[str, Start] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._observations: pd.DataFrame | None = None
        # What the search last said; it is asked anew only when a trial has started or ended.
        self._proposed: list[Allocation] | Finished | None = None

    @property
    def training(self) -> list[Start]:
        """Trials now in training."""
        return list(self._training.values())

    def start(self, fits: Callable[[float], bool]) -> Start | Finished | None:
        """Reserve and return the next trial.

        Args:
            fits: whether a trial of so many params finds free resources now.

        Returns:
            The trial; None to ask again later; `Finished` when there is nothing more to start
            and nothing in training that might have to be started again.
        """
        if self.stopping:
            return None if self._training else Finished("stopped", "on request")
        if self._waiting:
            return self._go_on(fits)
        if self._proposed is None:
            self._proposed = self._propose(1)
        if isinstance(self._proposed, Finished):
            if self._training:
                return None
            self.finished = self._proposed
            return self.finished
        if not self._proposed or not fits(self._proposed[0].params):
            return None
        allocation = self._proposed[0]
        return self._begin(Start(trial_id(self._sweep.trial(allocation)), allocation))

    def _go_on(self, fits: Callable[[float], bool]) -> Start | None:
        """The first interrupted trial whose time has come."""
        for i, (when, start) in enumerate(self._waiting):
            if when <= self._clock():
                if not fits(start.allocation.params):
                    return None
                del self._waiting[i]
                return self._begin(start)
        return None

    def foresee(self, n: int) -> list[Allocation]:
        """The trials, n at most, that the search would start now if all found room."""
        proposed = self._propose(n)
        return [] if isinstance(proposed, Finished) else proposed

    def _propose(self, n: int) -> list[Allocation] | Finished:
        if self._observations is None:
            self._observations = self._ledger.observations()
        spent, reserved = self._ledger.totals()
        return self._search.propose(
            self._observations,
            [start.allocation for start in self._training.values()],
            self._sweep.allowance - spent - reserved,
            n,
        )

    def _begin(self, start: Start) -> Start:
        self._ledger.reserve(start.trial_id, start.allocation, start.allocation.flops)
        self._training[start.trial_id] = start
        tokens = self._ledger.progress(start.trial_id).trained_tokens
        self._attempts[start.trial_id] = _Attempt(tokens, self._clock())
        self._proposed = None
        self._listener("started", start, {})
        return start

    def progressed(self, trial: str, metrics: Mapping[str, Any]) -> None:
        """Remember how far a trial is, so that its cost is known if it dies.

        Args:
            trial: in training.
            metrics: its report: ``tokens`` so far, and ``resumed_at_tokens``, those that its
                checkpoint held when this attempt began.
        """
        if trial not in self._training:
            return
        self._note(trial, float(metrics["tokens"]), float(metrics.get("resumed_at_tokens", 0.0)))
        self._listener("progressed", self._training[trial], metrics)

    def _note(self, trial: str, tokens: float, resumed_at: float) -> None:
        attempt, now = self._attempts[trial], self._clock()
        lost = 0.0 if attempt.resumed else max(0.0, attempt.tokens - resumed_at)
        first, attempt.resumed, attempt.tokens = not attempt.resumed, True, tokens
        if first or now - attempt.noted_at >= NOTE_EVERY_S:
            wasted = self._flops(self._training[trial], lost)
            self._ledger.advance(trial, round(tokens), wasted_flops=wasted)
            attempt.noted_at = now

    def ended(self, trial: str, record: Mapping[str, Any]) -> None:
        """Settle a trial that returned a record, whatever its verdict."""
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
            spent = self._spent(self._training[trial], tokens)
            self._ledger.settle(trial, record, spent_flops=spent)
        self._forget(trial, str(record["status"]), record)

    def died(self, trial: str, kind: str, reason: str) -> None:
        """Do what a fault calls for: start the trial again, or settle it as failed."""
        start = self._training.get(trial)
        if start is None:
            return
        if kind in ENDS_THE_SWEEP:
            raise DirectoryError(_first_line(reason))
        response, progress = RESPONSES[kind], self._ledger.progress(trial)
        tokens = self._attempts[trial].tokens
        allowed = self._sweep.cluster.retries if response.counts else MOST_RETURNS
        if response.retried and progress.faults < allowed and progress.attempts <= MOST_RETURNS:
            detail = f"{_first_line(reason)}; {response.words}"
            self._ledger.fault(trial, kind, detail, tokens=round(tokens), counts=response.counts)
            again = self._again(start, kind)
            self._waiting.insert(0, (self._clock() + response.wait_s, again))
            self._forget(trial, "fault", {"kind": kind, "reason": detail})
            return
        tries = f" ({progress.attempts} attempts)" if progress.attempts > 1 else ""
        self._ledger.fail(
            trial, f"{reason}{tries}", spent_flops=self._spent(start, tokens), fault=kind
        )
        self._forget(trial, "failed", {"reason": reason})

    def _again(self, start: Start, kind: str) -> Start:
        more = int(kind == "out-of-memory")
        return Start(start.trial_id, start.allocation, start.halvings + more)

    def _forget(self, trial: str, event: str, record: Mapping[str, Any]) -> None:
        start = self._training.pop(trial)
        del self._attempts[trial]
        self._observations, self._proposed = None, None
        self._listener(event, start, record)

    def _spent(self, start: Start, tokens: float) -> float:
        """FLOPs of a trial: its tokens, and those it had to train on twice."""
        return self._flops(start, tokens) + self._ledger.progress(start.trial_id).wasted_flops

    def _flops(self, start: Start, tokens: float) -> float:
        allocation = start.allocation
        return self._sweep.space.cost(allocation) * tokens / allocation.tokens


def _first_line(reason: str) -> str:
    return (reason.strip().splitlines() or ["no reason was given"])[0][:300]
