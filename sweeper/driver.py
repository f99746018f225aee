"""Between search and cluster: what starts next, what has ended, what it cost.

Knows the ledger and the search, and no Ray: the tuner asks `Driver.start` for work whenever a
slot may be free, and tells it what became of each trial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeper.budget import Allocation
from sweeper.ledger import Ledger
from sweeper.search import Finished, Search
from sweeper.spec import Sweep, trial_id


@dataclass(frozen=True)
class Start:
    """A trial to start now."""

    trial_id: str
    allocation: Allocation


Listener = Callable[[str, Start, Mapping[str, Any]], None]
"""Called with ("started" | "progressed" | "finished" | "diverged" | "failed", trial, record);
while a trial progresses the record is what its loop reported last."""


class Driver:
    """Feeds one sweep's trials to whatever trains them.

    Args:
        sweep: the spec.
        ledger: its state; trials that were running when a driver died are started first.
        search: the policy.
        listener: told of every start and end.
    """

    def __init__(
        self, sweep: Sweep, ledger: Ledger, search: Search, listener: Listener | None = None
    ) -> None:
        self.finished: Finished | None = None
        self._sweep, self._ledger, self._search = sweep, ledger, search
        self._listener = listener or (lambda event, start, record: None)
        self._interrupted = [Start(*item) for item in ledger.allocations("running").items()]
        self._training: dict[str, Start] = {}
        self._progress: dict[str, float] = {}
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
            The trial; None to ask again later; `Finished` when there is nothing more to start.
        """
        if self._interrupted:
            if not fits(self._interrupted[0].allocation.params):
                return None
            return self._begin(self._interrupted.pop(0))
        if self._proposed is None:
            self._proposed = self._propose()
        if isinstance(self._proposed, Finished):
            self.finished = self._proposed
            return self.finished
        if not self._proposed or not fits(self._proposed[0].params):
            return None
        allocation = self._proposed[0]
        return self._begin(Start(trial_id(self._sweep.trial(allocation)), allocation))

    def _propose(self) -> list[Allocation] | Finished:
        if self._observations is None:
            self._observations = self._ledger.observations()
        spent, reserved = self._ledger.totals()
        return self._search.propose(
            self._observations,
            [start.allocation for start in self._training.values()],
            self._sweep.allowance - spent - reserved,
            1,
        )

    def _begin(self, start: Start) -> Start:
        self._ledger.reserve(start.trial_id, start.allocation, start.allocation.flops)
        self._training[start.trial_id] = start
        self._proposed = None
        self._listener("started", start, {})
        return start

    def progressed(self, trial: str, metrics: Mapping[str, Any]) -> None:
        """Remember how far a trial is, so that its cost is known if it dies."""
        self._progress[trial] = float(metrics["tokens"])
        self._listener("progressed", self._training[trial], metrics)

    def ended(self, trial: str, record: Mapping[str, Any]) -> None:
        """Settle a trial that returned a record, whatever its verdict."""
        start = self._training.pop(trial)
        if record["status"] == "failed":
            self._ledger.fail(trial, record["reason"], spent_flops=self._lost(start))
        else:
            spent = self._flops(start, float(record["tokens"]))
            self._ledger.settle(trial, record, spent_flops=spent)
        self._changed()
        self._listener(str(record["status"]), start, record)

    def died(self, trial: str, reason: str) -> None:
        """Settle a trial whose process never came back; the sweep goes on without it."""
        if trial in self._training:
            self.ended(trial, {"status": "failed", "reason": reason})

    def _lost(self, start: Start) -> float:
        return self._flops(start, self._progress.get(start.trial_id, 0.0))

    def _flops(self, start: Start, tokens: float) -> float:
        allocation = start.allocation
        return self._sweep.space.cost(allocation) * tokens / allocation.tokens

    def _changed(self) -> None:
        self._observations, self._proposed = None, None
