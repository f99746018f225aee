"""C = 6 p t over realisable sizes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.budget import Allocation, Space, next_seed, same_budget, si

SPACE = Space(
    budgets=(1e11, 2e11),
    params=(7_000, 20_000, 60_000),
    flops_per_token=(42_000.0, 120_000.0, 360_000.0),
    granule=60,
    min_tokens=2_000,
)


@given(st.floats(1e11, 1e13), st.floats(5e3, 1e5))
def test_an_allocation_is_realisable_and_within_its_budget(flops, params):
    allocation = SPACE.allocation(flops, params)
    assert allocation.params in SPACE.params
    assert allocation.tokens % 60 == 0
    assert 0.99 * flops <= SPACE.cost(allocation) <= flops


def test_nearest_is_nearest_in_log():
    assert SPACE.params[SPACE.nearest(math.sqrt(7_000 * 20_000) * 1.01)] == 20_000
    assert SPACE.params[SPACE.nearest(1.0)] == 7_000
    assert SPACE.params[SPACE.nearest(1e12)] == 60_000


def test_sizes_that_leave_too_few_or_too_many_tokens_are_not_allowed():
    assert SPACE.allowed(1e11) == [0, 1, 2]
    assert SPACE.allowed(5e8) == [0, 1]
    bounded = Space((1e11,), SPACE.params, SPACE.flops_per_token, max_tokens=1e6)
    assert bounded.allowed(1e11) == [1, 2]


def test_next_seed_is_the_first_free_one():
    taken = [Allocation(1e11, 7_000, 1, seed) for seed in (0, 2)]
    assert next_seed(taken, 1.001e11, 7_000) == 1
    assert next_seed(taken, 2e11, 7_000) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"), [(1e19, 1.009e19, True), (1.5e19, 2.4e19, False)]
)
def test_budgets_within_one_per_cent_are_one(one, other, same):
    assert same_budget(one, other) is same


@pytest.mark.parametrize(
    ("value", "text"), [(1.3e9, "1.3B"), (124e6, "124M"), (999_960, "1M"), (12.34, "12.3")]
)
def test_si(value, text):
    assert si(value) == text


def test_an_allocation_prints_as_people_name_it():
    assert str(Allocation(1e18, 124_000_000, 1_300_000_000)) == "C=1e18 p=124M t=1.3B seed=0"
