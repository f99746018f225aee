"""The closing proof: what the last trials were predicted to measure, and what they did."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pandas as pd

from sweeper.budget import Allocation, Space
from sweeper.record.ledger import Ledger
from sweeper.search.closing import PROOF_SEED, predict
from sweeper.text import number, si

KIND = "proof"
"""Kind of the events that hold what a proof should measure, written before it starts."""


def keep(ledger: Ledger, space: Space, trial: str, allocation: Allocation) -> None:
    """Write down what a proof should measure, once; nothing for other trials."""
    if allocation.seed < PROOF_SEED:
        return
    events = ledger.events()
    if ((events["kind"] == KIND) & (events["trial_id"] == trial)).any():
        return
    told = predict(ledger.observations(), space, allocation)
    if told:
        ledger.event(KIND, json.dumps(told), trial)


@dataclass(frozen=True)
class Proof:
    """One skill's loss in one proof.

    Attributes:
        trial: its id.
        flops: of the trial.
        params: of the trial.
        skill: measured.
        predicted: loss, nats per token.
        low: end of its 90 % interval.
        high: end of its 90 % interval.
        measured: loss; NaN if the trial has not ended well.
        optimum: params of least loss on this budget, as predicted.
    """

    trial: str
    flops: float
    params: int
    skill: str
    predicted: float
    low: float
    high: float
    measured: float
    optimum: float

    @property
    def held(self) -> bool:
        """Whether the interval held."""
        return self.low <= self.measured <= self.high


def proofs(events: pd.DataFrame, table: pd.DataFrame) -> list[Proof]:
    """What was predicted of each proof and what it measured.

    Args:
        events: `Ledger.events`.
        table: `Ledger.observations`.
    """
    measured = table.set_index(["trial_id", "skill"])["loss"]
    places = table.drop_duplicates("trial_id").set_index("trial_id")
    found = []
    for event in events[events["kind"] == KIND].itertuples():
        if event.trial_id not in places.index:
            continue  # in training
        flops, params = places.loc[event.trial_id, ["flops", "params"]]
        for skill, told in json.loads(event.detail).items():
            loss = float(measured.get((event.trial_id, skill), math.nan))
            ends = (told["loss"], told["low"], told["high"])
            place = (event.trial_id, float(flops), int(params))
            found.append(Proof(*place, skill, *ends, loss, told["optimum"]))
    return found


def sentences(found: list[Proof]) -> list[str]:
    """One for each trial of a proof: whose optimum it was, and how the losses came out."""
    said = []
    for trial in dict.fromkeys(p.trial for p in found):
        own = [p for p in found if p.trial == trial]
        params = own[0].params
        head = f"Closing check, {si(params)} params on {number(own[0].flops)} FLOPs"
        known = [p for p in own if math.isfinite(p.measured)]
        if not known:
            said.append(f"{head}: the trial ended without losses.")
            continue
        at = min(known, key=lambda p: abs(math.log(p.optimum / params)))
        held = sum(p.held for p in known)
        said.append(
            f"{head} (the predicted optimum of {at.skill}): its loss was predicted as "
            f"{at.predicted:.3f} (90 % {at.low:.3f} to {at.high:.3f}) and is {at.measured:.3f}; "
            f"{held} of {len(known)} skills' losses are inside their intervals."
        )
    return said
