"""What the closing proof was predicted to measure, kept before it starts."""

import json
import math

import numpy as np
import pytest

from sweeper import Finished, Sweep
from sweeper.driver.driver import Driver, Start
from sweeper.record.ledger import Ledger
from sweeper.record.proof import proofs, sentences
from sweeper.search.adaptive import AdaptiveSearch
from sweeper.search.closing import PROOF_SEED

SWEEP = Sweep(budgets=[1e11, 2e11, 4e11], allowance=4e12)


def record(start, rng):
    a = start.allocation
    losses = {}
    for skill, size in (("code", 2e4), ("validation", 3e4)):
        optimum = math.log(size * math.sqrt(a.flops / 1e11))
        nll = 2 - 0.1 * math.log(a.flops / 1e11) + 0.1 * (math.log(a.params) - optimum) ** 2
        nll += 0.003 * rng.normal()
        losses[skill] = {"nll": nll, "tokens": 1, "bytes": 1, "examples": 1, "class": "all"}
    return {"status": "finished", "reason": "", "tokens": a.tokens, "losses": losses}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    book = Ledger(tmp_path_factory.mktemp("proof") / "ledger.sqlite")
    driver = Driver(SWEEP, book, AdaptiveSearch(SWEEP.search, SWEEP.space))
    rng = np.random.default_rng(0)
    while not isinstance(start := driver.next(), Finished):
        assert isinstance(start, Start)
        driver.begin(start)
        driver.ended(start.trial_id, record(start, rng))
    yield book
    book.close()


def test_the_forecast_is_written_before_the_proof_starts(ledger):
    events = ledger.events()
    told = events[events["kind"] == "proof"]
    assert len(told) >= 1
    trials = ledger.trials().set_index("trial_id")
    for event in told.itertuples():
        own = events[events["trial_id"] == event.trial_id]
        assert own["kind"].tolist() == ["proof", "started", "finished"]
        assert trials.loc[event.trial_id, "seed"] >= PROOF_SEED
        assert json.loads(event.detail).keys() == {"code", "validation"}
    assert set(told["trial_id"]) == set(trials.index[trials["seed"] >= PROOF_SEED])


def test_what_came_of_it_is_told_in_a_sentence(ledger):
    found = proofs(ledger.events(), ledger.observations())
    losses = ledger.observations().set_index(["trial_id", "skill"])["loss"]
    for each in found:
        assert each.measured == losses[each.trial, each.skill]
        assert each.held == (each.low <= each.measured <= each.high)
    assert sum(each.held for each in found) >= len(found) / 2
    said = sentences(found)
    assert len(said) == len({each.trial for each in found})
    assert said[0].startswith("Closing check, ") and "predicted optimum of validation" in said[0]


def test_a_proof_without_losses_is_said_to_have_none(ledger):
    table = ledger.observations()
    table["loss"] = math.nan
    assert "without losses" in sentences(proofs(ledger.events(), table))[0]


def test_a_proof_in_training_is_not_told_yet(ledger):
    assert proofs(ledger.events(), ledger.observations().iloc[:4]) == []
