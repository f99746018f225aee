"""A sweep's ledger says what the search was told, hence what it proposed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sweeper import Results, SearchSettings, Sweep
from sweeper.driver.driver import Driver, Start
from sweeper.record.ledger import Ledger
from sweeper.search.build import build
from sweeper.search.protocol import Finished

SWEEP = Sweep(
    budgets=[1e11, 2e11, 4e11],
    allowance=3e12,
    skills=["code"],
    search=SearchSettings(tolerance=0.02),
)


def measured(start: Start) -> dict[str, object]:
    """The record of a training; some trials fail."""
    rng = np.random.default_rng([start.allocation.params, start.allocation.seed])
    if rng.random() < 0.15:
        return {"status": "failed", "reason": "out of memory"}
    p, t = start.allocation.params, start.allocation.tokens
    losses = {}
    for skill, a in (("code", 60.0), ("validation", 90.0)):
        nll = 1 + a / p**0.42 + 500 / t**0.42 + 0.01 * rng.standard_normal()
        losses[skill] = {"nll": nll, "tokens": 1, "bytes": 1, "examples": 1, "class": skill}
    return {"status": "finished", "reason": "", "tokens": t, "losses": losses}


def driven(root: Path, slots: int, sweep: Sweep = SWEEP) -> Results:
    """A sweep driven to its end, cheap trials ending first."""
    sweep.save(root / "sweep.yaml")
    ledger = Ledger(root / "ledger.sqlite")
    driver = Driver(sweep, ledger, build(sweep.search, sweep.space, sweep.measured))
    while True:
        asked = driver.next() if len(driver.training) < slots else None
        if isinstance(asked, Start):
            driver.begin(asked)
        if isinstance(asked, Finished) and not driver.training:
            break
        if not isinstance(asked, Start):
            ending = min(driver.training, key=lambda s: (s.allocation.flops, s.trial_id))
            driver.ended(ending.trial_id, measured(ending))
    assert driver.finished is not None
    ledger.set_meta("finished", json.dumps(asdict(driver.finished)))
    ledger.close()
    return Results(root)


@pytest.mark.parametrize("slots", [1, 5])
def test_the_ledger_replays_to_the_same_proposals(
    tmp_path: Path, slots: int, replay: Callable[[Results], pd.DataFrame]
) -> None:
    results = driven(tmp_path, slots)
    assert len(results.trials) > 12
    again = replay(results)
    assert len(again) == len(results.trials) + 1
    assert again["same"].all(), again[~again["same"]]


def test_another_search_is_told_apart(
    tmp_path: Path, replay: Callable[[Results], pd.DataFrame]
) -> None:
    results = driven(tmp_path, 1)
    Sweep.from_dict({**SWEEP.to_dict(), "search": {"policy": "grid"}}).save(
        tmp_path / "sweep.yaml"
    )
    assert not replay(Results(tmp_path))["same"].all()
    assert replay(results)["same"].all()
