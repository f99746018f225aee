"""The driver: what starts next, what is settled, and how a dead driver's sweep goes on."""

import errno
from dataclasses import replace

import pytest

from sweeper import Cluster, Sweep
from sweeper.driver.driver import Driver, Start
from sweeper.driver.faults import kind_of, kind_of_death
from sweeper.record.ledger import Ledger
from sweeper.search.protocol import Finished

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


def begin(driver):
    """The next trial, begun as one that found room at once."""
    start = driver.next()
    if isinstance(start, Start):
        driver.begin(start)
    return start


def record(start, status="finished"):
    losses = {"validation": {"nll": 2.0, "tokens": 1, "bytes": 1, "examples": 1, "class": "all"}}
    return {"status": status, "reason": "", "tokens": start.allocation.tokens, "losses": losses}


def test_trials_start_end_and_finish(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    first, second = begin(driver), begin(driver)
    assert begin(driver) is None  # both are in training
    driver.ended(first.trial_id, record(first))
    assert begin(driver) is None
    driver.ended(second.trial_id, record(second, "diverged"))
    assert begin(driver) == Finished("complete")
    assert ledger.trials()["state"].tolist() == ["finished", "diverged"]
    spent, reserved = ledger.totals()
    assert 1.98e11 < spent <= 2e11
    assert reserved == 0


def test_a_training_whose_losses_cannot_be_read_is_paid_for(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    start = begin(driver)
    record = {"status": "failed", "kind": "losses", "reason": "losses.json: is no JSON"}
    driver.ended(start.trial_id, record)
    spent, reserved = ledger.totals()
    assert spent == pytest.approx(start.allocation.flops, rel=0.01) and reserved == 0


def test_waiting_does_not_ask_the_search_again(ledger):
    search = Listed(1e4)
    driver = Driver(SWEEP, ledger, search)
    start = begin(driver)
    for _ in range(5):
        assert begin(driver) is None
    assert search.asked == 2
    driver.ended(start.trial_id, record(start))
    assert isinstance(begin(driver), Finished)


def test_nothing_is_reserved_and_nothing_asked_twice_while_no_slot_fits(ledger):
    search = Listed(1e4)
    driver = Driver(SWEEP, ledger, search)
    for _ in range(5):
        assert driver.next().allocation == Listed.allocation(1e4)
    assert search.asked == 1
    assert ledger.totals() == (0.0, 0.0)


def test_a_dead_trial_costs_what_it_had_trained(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    start = begin(driver)
    driver.progressed(start.trial_id, {"tokens": start.allocation.tokens / 4})
    driver.died(start.trial_id, "error", "killed")
    driver.died(start.trial_id, "error", "told twice")
    assert ledger.totals()[0] == pytest.approx(2.5e10, rel=0.01)
    assert ledger.trials()["reason"].tolist() == ["killed"]


def test_a_new_driver_first_goes_on_with_what_was_running(ledger):
    first = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    finished, cut = begin(first), begin(first)
    first.ended(finished.trial_id, record(finished))
    second = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    assert second.next() == cut
    assert begin(second) == cut
    second.ended(cut.trial_id, record(cut))
    assert begin(second) == Finished("complete")
    assert len(ledger.trials()) == 2


def test_listener_hears_of_every_start_and_end(ledger):
    heard = []
    driver = Driver(SWEEP, ledger, Listed(1e4))
    driver.listeners.append(lambda event, start, _: heard.append(event))
    start = begin(driver)
    driver.ended(start.trial_id, record(start))
    assert heard == ["started", "finished"]


def test_a_listener_that_raises_is_switched_off_and_the_sweep_goes_on(ledger):
    heard = []

    def broken(event, start, metrics):
        raise KeyError("no such mix")

    driver = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    driver.listeners += [broken, lambda event, start, _: heard.append(event)]
    for start in [begin(driver), begin(driver)]:
        driver.ended(start.trial_id, record(start))
    assert isinstance(begin(driver), Finished)
    assert heard == ["started", "started", "finished", "finished"]
    (said,) = ledger.events().query("kind == 'listener-off'")["detail"]
    assert said == "broken is switched off: KeyError: 'no such mix'"


def test_a_slow_trial_is_not_failed_for_its_silence(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    for step in range(1, 3 * SWEEP.cluster.retries):
        start = begin(driver)
        assert start.hangs == step - 1  # each time it is waited for longer
        driver.progressed(start.trial_id, {"tokens": 1000 * step})
        driver.died(start.trial_id, "hung", "no sign of progress")
    assert ledger.progress(start.trial_id).faults == 0
    for _ in range(SWEEP.cluster.retries + 1):  # it gets no further: it is stuck
        start = begin(driver)
        driver.progressed(start.trial_id, {"tokens": 1000})
        driver.died(start.trial_id, "hung", "no sign of progress")
    assert ledger.trials()["state"].tolist() == ["failed"]


def test_a_fault_is_retried_as_often_as_the_spec_says_and_no_more(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    for _ in range(SWEEP.cluster.retries):
        start = begin(driver)
        driver.died(start.trial_id, "worker-died", "SIGKILL")
        assert ledger.allocations("running")
    driver = Driver(SWEEP, ledger, Listed(1e4))  # the count outlives the driver
    driver.died(begin(driver).trial_id, "worker-died", "SIGKILL")
    trial = ledger.trials().iloc[0]
    assert (trial["state"], trial["fault"], trial["attempts"]) == ("failed", "worker-died", 3)
    assert "(3 attempts)" in trial["reason"]
    assert (ledger.events()["kind"] == "worker-died").sum() == SWEEP.cluster.retries


def test_a_lost_node_does_not_count_against_a_trial(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    for _ in range(3 * SWEEP.cluster.retries):
        driver.died(begin(driver).trial_id, "node-lost", "its node died")
    assert ledger.progress(begin(driver).trial_id).faults == 0


def test_memory_that_ran_out_halves_the_micro_batch(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    assert begin(driver).config.halvings == 0
    driver.died(driver.training[0].trial_id, "out-of-memory", "CUDA out of memory")
    assert begin(driver).config.halvings == 1


def test_a_trial_that_could_not_write_waits_while_others_start(ledger):
    now = [0.0]
    driver = Driver(SWEEP, ledger, Listed(1e4, 3e4), clock=lambda: now[0])
    first = begin(driver)
    driver.died(first.trial_id, "storage", "No space left on device")
    other = begin(driver)
    assert other.allocation == Listed.allocation(3e4)
    driver.ended(other.trial_id, record(other))
    assert begin(driver) is None  # the search is complete, but a trial may come back
    now[0] += 60
    assert begin(driver) == first


def test_work_done_twice_is_spent_but_not_work_that_a_checkpoint_saved(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    start = begin(driver)
    trial, tokens, cost = start.trial_id, start.allocation.tokens, SWEEP.space.cost
    driver.progressed(trial, {"tokens": 0.6 * tokens, "resumed_at_tokens": 0})
    driver.died(trial, "worker-died", "SIGKILL")
    driver = Driver(SWEEP, ledger, Listed(1e4))  # even where the driver died too
    begin(driver)
    driver.progressed(trial, {"tokens": 0.5 * tokens, "resumed_at_tokens": 0.4 * tokens})
    assert ledger.totals()[0] == pytest.approx(0.2 * cost(start.allocation), rel=1e-3)
    driver.ended(trial, {**record(start), "resumed_at_tokens": 0.4 * tokens})
    assert ledger.totals()[0] == pytest.approx(1.2 * cost(start.allocation), rel=1e-3)
    assert ledger.trials()["wasted_flops"][0] == pytest.approx(2e10, rel=0.01)


def test_a_stopped_trial_stays_for_the_next_driver(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4, 3e4))
    start = begin(driver)
    driver.stopping = True
    assert begin(driver) is None
    driver.ended(
        start.trial_id, {"status": "stopped", "reason": "asked", "tokens": 1e5, "losses": {}}
    )
    assert begin(driver) == Finished("stopped", "on request")
    assert list(ledger.allocations("running")) == [start.trial_id]
    assert ledger.progress(start.trial_id).trained_tokens == 1e5


def test_a_trial_whose_scoring_failed_is_scored_again_by_the_next_driver(ledger):
    sweep = replace(SWEEP, cluster=Cluster(retries=0))
    driver = Driver(sweep, ledger, Listed(1e4))
    start = begin(driver)
    driver.progressed(start.trial_id, {"tokens": start.allocation.tokens})
    driver.died(start.trial_id, "evaluation", "a question could not be read")
    assert begin(driver) == Finished("complete")
    assert ledger.totals()[0] == pytest.approx(SWEEP.space.cost(start.allocation))
    again = Driver(sweep, ledger, Listed(1e4))
    assert begin(again).trial_id == start.trial_id
    tokens = start.allocation.tokens
    again.ended(start.trial_id, {**record(start), "resumed_at_tokens": tokens})
    assert ledger.totals() == (pytest.approx(SWEEP.space.cost(start.allocation)), 0.0)


def test_the_search_is_not_over_while_a_trial_may_come_back(ledger):
    driver = Driver(SWEEP, ledger, Listed(1e4))
    start = begin(driver)
    assert begin(driver) is None
    driver.died(start.trial_id, "preempted", "the node was preempted")
    assert begin(driver).trial_id == start.trial_id


class Full(OSError):
    def __init__(self):
        super().__init__(errno.ENOSPC, "No space left on device")


class OutOfMemoryError(RuntimeError):  # as torch names it
    pass


class CheckpointError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Full(), "storage"),
        (OSError(errno.ESTALE, "Stale file handle"), "storage"),
        (OutOfMemoryError("CUDA out of memory"), "out-of-memory"),
        (MemoryError(), "out-of-memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out-of-memory"),
        (RuntimeError("can't start new thread"), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out-of-memory"),
        (CheckpointError("checkpoint_3 is not what was written"), "checkpoint"),
        (RuntimeError("CUDA error: an illegal memory access"), "device"),
        (ValueError("data.surface: 'E' is missing"), "error"),
        (FileNotFoundError(errno.ENOENT, "no such file"), "error"),
    ],
)
def test_faults_are_told_apart(error, kind):
    assert kind_of(error) == kind
    wrapped = RuntimeError("the loop failed")
    wrapped.__cause__ = error
    assert kind_of(wrapped) == kind


def test_a_group_died_of_what_its_first_dead_worker_died_of():
    class WorkerGroupError(Exception):
        pass

    group = WorkerGroupError("worker group failed")
    group.worker_failures = {0: RuntimeError("gloo: Connection closed by peer"), 1: Full()}
    assert kind_of(group) == "storage"
    group.worker_failures.pop(1)
    assert kind_of(group) == "worker-died"
    group.worker_failures = {0: ValueError("no such thing")}
    assert kind_of(group) == "error"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("The actor is dead because its worker process has died. SIGKILL", "worker-died"),
        ("The actor died because its node has died. Node Id: 12ab", "node-lost"),
        ("The actor died because its node was preempted", "preempted"),
        ("Task was killed due to the node running low on memory", "out-of-memory"),
        ("OSError: [Errno 28] No space left on device", "storage"),
        (
            "There are some potential root causes. (1) The process is killed by SIGKILL by OOM "
            "killer due to high memory usage. (2) ray stop --force is called.",
            "worker-died",
        ),
        ("", "worker-died"),
    ],
)
def test_deaths_are_told_apart_by_what_ray_says(said, kind):
    assert kind_of_death(said) == kind
