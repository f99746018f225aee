"""What the tests of the sweeper share: a sweep's decisions, made again from its ledger.

At every start the search is given the ledger as it then was: the trials that had ended, those in
training, and the FLOPs that were neither spent nor reserved. All three follow from the order of
the events, so nothing else needs to be kept. What is replayed is exact if the directory's spec
has the allowance and the search of the time; a sweep that was run again with another allowance
answers as its last spec would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import pytest

from sweeper.budget import Allocation
from sweeper.record.ledger import ENDED
from sweeper.record.record import Record
from sweeper.search.build import build
from sweeper.search.protocol import Finished, Search


@pytest.fixture(scope="session")
def replay() -> Callable[[Record], pd.DataFrame]:
    """Asks the search again at every start of a sweep."""
    return _replay


def _replay(results: Record) -> pd.DataFrame:
    """Ask the search again at every start of a sweep.

    Args:
        results: the sweep's directory, read.

    Returns:
        One row per start and one for the end: trial_id ("" at the end), started and proposed
        (`Allocation`, or the reason of `Finished`), and same, whether they agree.
    """
    sweep = results.sweep
    search = build(sweep.search, sweep.space, sweep.measured)
    state = _State(results.trials, results.table, search, sweep.allowance)
    rows = []
    for event in results.events.itertuples():
        if event.kind in ("started", "reopened", *ENDED):
            # The driver asks after every event; the fit of one is where the next begins.
            proposed = state.ask()
            if event.kind == "started":
                started = state.allocations[event.trial_id]
                rows.append((event.trial_id, started, proposed, proposed == started))
            state.take(event.kind, event.trial_id)
    if results.finished is not None:
        proposed, ended = state.ask(), results.finished.reason
        rows.append(("", ended, proposed, proposed == ended))
    return pd.DataFrame(rows, columns=["trial_id", "started", "proposed", "same"])


@dataclass
class _State:
    """The ledger up to some event."""

    trials: pd.DataFrame
    table: pd.DataFrame
    search: Search
    allowance: float
    training: dict[str, Allocation] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    spent: float = 0.0

    def __post_init__(self) -> None:
        columns = ["flops", "params", "tokens", "seed", "mix"]
        values = zip(*(self.trials[name].tolist() for name in columns), strict=True)
        made = (Allocation(*row) for row in values)
        self.allocations = dict(zip(self.trials["trial_id"], made, strict=True))
        self.costs = self.trials.set_index("trial_id")["spent_flops"].to_dict()

    def ask(self) -> Allocation | str | None:
        """What the search says now: a trial, None to wait, or why it has finished."""
        pending = list(self.training.values())
        reserved = sum(a.flops for a in pending)
        known = self.table[self.table["trial_id"].isin(self.ended)]
        asked = self.search.propose(known, pending, self.allowance - self.spent - reserved, 1)
        if isinstance(asked, Finished):
            return asked.reason
        return asked[0] if asked else None

    def take(self, kind: str, trial_id: str) -> None:
        """Go on by one event."""
        if kind in ("started", "reopened"):
            self.training[trial_id] = self.allocations[trial_id]
            if kind == "reopened":
                self.ended.remove(trial_id)
                self.spent -= self.costs[trial_id]
        else:
            del self.training[trial_id]
            self.ended.add(trial_id)
            self.spent += self.costs[trial_id]
