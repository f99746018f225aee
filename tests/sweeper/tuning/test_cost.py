"""What a tuning takes, by hand, and how it is made to fit a time."""

import pytest

from sweeper import SpecError, Sweep
from sweeper.spec.sections import Tuning
from sweeper.tuning.cost import tuning_cost, within
from sweeper.tuning.points import points_of


def test_the_cost_of_a_tuning_follows_from_its_points_and_trials() -> None:
    tuning = Tuning(points=((1e4, 1e5), (3e4, 1e5)), trials=4)
    sweep = Sweep(
        budgets=[1e11, 2e11], allowance=6e12, tuning=tuning,
        cluster={"device": "cpu-core", "cpus": 2, "mfu": 0.1},
    )  # fmt: skip
    found = tuning_cost(sweep)
    assert (found.trials, found.points) == (6 + 4, 2)  # two more at the cheapest point
    flops = 6 * 6e9 + 4 * 1.8e10
    assert found.flops == pytest.approx(flops, rel=0.02)
    assert found.share == pytest.approx(flops / 6e12, rel=0.02)
    # At 6.5 GFLOP/s a core, two trials side by side, and .3 s beside the steps of each.
    assert found.seconds == pytest.approx((flops / 6.5e9 + 10 * 0.3) / 2, rel=0.05)
    assert "about 10 trainings at 2 points" in str(found)


def test_a_tuning_is_made_to_fit_a_time_by_fewer_tokens() -> None:
    sweep = Sweep(budgets=[1e11, 2e11], allowance=6e12, cluster={"device": "cpu-core", "cpus": 2})
    whole = tuning_cost(sweep)
    half = within(sweep, whole.seconds / 2)
    found = tuning_cost(half)
    assert 0.3 * whole.seconds < found.seconds <= whole.seconds / 2
    assert [p for p, _ in points_of(half)] == [p for p, _ in points_of(sweep)]
    assert within(sweep, whole.seconds) is sweep
    with pytest.raises(SpecError, match=r"tune: 1 s are not enough, .* are for .* trainings"):
        within(sweep, 1.0)
