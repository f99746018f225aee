from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from fitting.decisions.passk import (
    neg_log_pass_at_k,
    nll_from_counts,
    pass_at_k,
    pass_at_k_from_counts,
    pass_curves,
)
from fitting.errors import FittingError, TableError


def test_pass_at_k_of_a_probability() -> None:
    assert pass_at_k(-math.log(0.2), [1, 2, 5]) == pytest.approx([0.2, 0.36, 1 - 0.8**5])
    assert pass_at_k(0.0, 3) == 1.0


@pytest.mark.parametrize("nll", [1e-12, 0.1, 5.0, 29.0, 31.0, 40.0, 800.0])
@pytest.mark.parametrize("k", [1.0, 1.5, 64.0, 1e6])
def test_precise_for_rare_and_for_certain_answers(nll: float, k: float) -> None:
    from decimal import Decimal, getcontext

    getcontext().prec = 800
    p = (-Decimal(nll)).exp()
    exact = -float((1 - (1 - p) ** Decimal(k)).ln())
    assert neg_log_pass_at_k(nll, k) == pytest.approx(exact, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize(("passes", "samples"), [(0, 6), (1, 6), (3, 6), (5, 6), (6, 6)])
def test_counts_give_the_mean_over_all_subsets(passes: int, samples: int) -> None:
    outcome = [True] * passes + [False] * (samples - passes)
    for k in range(1, samples + 1):
        tries = [any(chosen) for chosen in combinations(outcome, k)]
        assert pass_at_k_from_counts(passes, samples, k) == pytest.approx(np.mean(tries))


def test_counts_are_unbiased() -> None:
    rng = np.random.default_rng(0)
    passes = rng.binomial(20, 0.07, 200_000)
    assert pass_at_k_from_counts(passes, 20, 8).mean() == pytest.approx(1 - 0.93**8, rel=0.01)


def table_of(**columns: list[float]) -> pd.DataFrame:
    base = {"params": [1e6, 1e6, 2e6, 2e6], "tokens": [1e8, 1e8, 5e7, 5e7]}
    return pd.DataFrame({**base, **columns})


def test_curves_from_losses_and_from_probabilities_agree() -> None:
    nll = [1.0, 3.0, 0.5, 2.0]
    one = pass_curves(table_of(nll=nll), k=[1, 4.5])
    other = pass_curves(table_of(probability=[math.exp(-v) for v in nll]), k=[1, 4.5])
    assert one.nll == pytest.approx([2.0, 1.25]) and one.neg_log_pass[:, 0] == pytest.approx(
        one.nll
    )
    assert one.pass_rate[0, 1] == pytest.approx(np.mean(pass_at_k([1.0, 3.0], 4.5)))
    np.testing.assert_allclose(one.neg_log_pass, other.neg_log_pass)
    # The mean of logarithms bounds the logarithm of the mean (Jensen).
    assert (one.neg_log_pass >= -np.log(one.pass_rate)).all()


def test_curves_from_counts() -> None:
    found = pass_curves(table_of(passes=[0, 8, 2, 4], samples=[8] * 4), k=[1, 8])
    assert found.pass_rate == pytest.approx(np.array([[0.5, 0.5], [0.375, 1.0]]))
    assert found.nll[0] == pytest.approx(nll_from_counts([0, 8], 8).mean())
    assert np.isfinite(found.neg_log_pass).all()


def test_repeats_of_an_allocation_are_kept_apart() -> None:
    table = table_of(nll=[1.0, 2.0, 3.0, 4.0], trial_id=[0, 1, 2, 2])
    assert len(pass_curves(table).params) == 3


def test_bad_input() -> None:
    for k in (0.5, 0, -3, math.nan):
        with pytest.raises(FittingError, match="at least one sample"):
            pass_at_k(1.0, k)
    with pytest.raises(FittingError, match="k=9 exceeds the 8 samples"):
        pass_at_k_from_counts(1, 8, 9)
    with pytest.raises(FittingError, match="whole numbers"):
        pass_at_k_from_counts(1, 8, 1.5)
    with pytest.raises(FittingError, match="between 0 and samples"):
        pass_at_k_from_counts(9, 8, 1)
    with pytest.raises(FittingError, match="counts, not shares"):
        pass_at_k_from_counts(1.5, 8, 1)
    assert str(pass_at_k_from_counts([0, 0], 8, 1)) == "[0. 0.]"  # not -0.
    with pytest.raises(FittingError, match="nll must be"):
        pass_at_k(-0.1, 2)
    with pytest.raises(TableError, match="one of nll, probability"):
        pass_curves(table_of())
    with pytest.raises(TableError, match="without samples"):
        pass_curves(table_of(passes=[0, 0, 0, 0]))
    with pytest.raises(TableError, match="above 0"):
        pass_curves(table_of(probability=[0.0, 0.1, 0.1, 0.1]))
    with pytest.raises(TableError, match="no rows"):
        pass_curves(table_of(nll=[1.0] * 4).head(0))
    with pytest.raises(TableError, match="finite and positive in every row"):
        pass_curves(table_of(nll=[1.0] * 4).assign(params=math.nan))


def test_trials_without_names_are_told_apart_by_their_allocation() -> None:
    nameless = table_of(nll=[1.0, 2.0, 3.0, 4.0], trial_id=[None] * 4)
    assert len(pass_curves(nameless).params) == len(
        pass_curves(nameless.drop(columns="trial_id")).params
    )
