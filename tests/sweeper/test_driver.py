"""The driver: what starts next, what is settled, and how a dead driver's sweep goes on."""

import pytest

from sweeper.driver import Driver, Start
from sweeper.ledger import Ledger
from sweeper.search import Finished
from sweeper.spec import Sweep

SWEEP = Sweep(budgets=[1e11, 2e11], allowance=1e12)


class Listed:
    """A search that asks for sizes in turn, on the cheapest budget, one seed each."""

    def __init__(self, *params):
        self.params = params
        self.asked = 0

    def propose(self, observations, pending, remaining_flops, n=1):
        self.asked += 1
        done = set(observations["params"]) | {a.params for a in pending}
        left = [a for a in map(self.allocation, self.params) if a.params not in done]
        affordable = [a for a in left if a.flops <= remaining_flops]
        if affordable:
            return affordable[:n]
        return [] if pending else Finished("complete")

    @staticmethod
    def allocation(params):
        return SWEEP.space.allocation(1e11, params)


@pytest.fixture
def ledger(tmp_path):
    book = Ledger(tmp_path / "ledger.sqlite")
    yield book
    book.close()


def always(params):
    return True


def never(params):
    return False


def record(start, status="finished"):
    losses = {"validation": {"nll": 2.0, "tokens": 1, "bytes": 1, "examples": 1, "class": "all"}}
    return {"status": status, "reason": "", "tokens": start.allocation.tokens, "losses": losses}


def test_trials_start_end_and_finish(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    first, second = driver.start(always), driver.start(always)
    assert driver.start(always) is None  # both are in training
    driver.ended(first.trial_id, record(first))
    assert driver.start(always) is None
    driver.ended(second.trial_id, record(second, "diverged"))
    assert driver.start(always) == Finished("complete")
    assert ledger.trials()["state"].tolist() == ["finished", "diverged"]
    spent, reserved = ledger.totals()
    assert 1.98e11 < spent <= 2e11
    assert reserved == 0


def test_waiting_does_not_ask_the_search_again(ledger):
    search = Listed(1e4)
    driver = Driver(SWEEP, ledger, search)
    start = driver.start(always)
    for _ in range(5):
        assert driver.start(always) is None
    assert search.asked == 2
    driver.ended(start.trial_id, record(start))
    assert isinstance(driver.start(always), Finished)


def test_nothing_is_reserved_and_nothing_asked_twice_while_no_slot_fits(ledger):
    search = Listed(1e4)
    driver = Driver(SWEEP, ledger, search)
    for _ in range(5):
        assert driver.start(never) is None
    assert search.asked == 1
    assert ledger.totals() == (0.0, 0.0)


def test_a_dead_trial_costs_what_it_had_trained(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    start = driver.start(always)
    driver.progressed(start.trial_id, {"tokens": start.allocation.tokens / 4})
    driver.died(start.trial_id, "killed")
    driver.died(start.trial_id, "told twice")
    assert ledger.totals()[0] == pytest.approx(2.5e10, rel=0.01)
    assert ledger.trials()["reason"].tolist() == ["killed"]


def test_a_new_driver_first_goes_on_with_what_was_running(ledger):
    first = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    finished, cut = first.start(always), first.start(always)
    first.ended(finished.trial_id, record(finished))
    second = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    assert second.start(never) is None
    assert second.start(always) == Start(cut.trial_id, cut.allocation)
    second.ended(cut.trial_id, record(cut))
    assert second.start(always) == Finished("complete")
    assert len(ledger.trials()) == 2


def test_listener_hears_of_every_start_and_end(ledger):
    heard = []
    driver = Driver(
        SWEEP, ledger, Listed(1e4), listener=lambda event, start, _: heard.append(event)
    )
    start = driver.start(always)
    driver.ended(start.trial_id, record(start))
    assert heard == ["started", "finished"]
