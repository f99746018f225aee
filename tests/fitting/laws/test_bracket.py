"""Checks of curves: what is noise, and what is a spoiled trial."""

import numpy as np
import pandas as pd
import pytest

from fitting import Status
from fitting.laws.bracket import check_curves


def curves(budgets: int, sizes: int, seed: int, noise: float = 0.003) -> pd.DataFrame:
    """Lopsided valleys of curvature .19 nats and less, on sizes within a factor 3.3."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.linspace(-1.2, 1.2, sizes), budgets)
    budget = np.repeat(1e18 * 10.0 ** np.arange(budgets), sizes)
    u, depth = x - 0.5, np.repeat(0.7 ** np.arange(budgets), sizes)
    loss = 2 + depth * (0.9 * np.exp(-0.36 * u) + 1.08 * np.exp(0.3 * u))
    loss += noise * rng.normal(size=len(x))
    return pd.DataFrame({"budget": budget, "params": 1e8 * np.exp(x), "loss": loss})


@pytest.mark.parametrize(("budgets", "sizes"), [(1, 5), (2, 5), (3, 5), (2, 6), (2, 7)])
def test_a_clear_valley_is_not_called_noise(budgets, sizes):
    """A parabola of least absolute error passes through three of five points of each curve."""
    found = [check_curves(curves(budgets, sizes, seed))[0] for seed in range(20)]
    assert found == [Status.OK] * 20


@pytest.mark.parametrize("sizes", [5, 7])
def test_one_diverged_trial_hides_no_valley(sizes):
    for seed in range(10):
        table = curves(2, sizes, seed)
        table.loc[1, "loss"] += 4.0
        assert check_curves(table)[0] is Status.OK
