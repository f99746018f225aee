from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fitting.errors import FitError, FittingError, Status, TableError
from fitting.laws.surface import Surface
from fitting.tuning.optima import (
    FLAT_FRACTION,
    fit_points,
    flat_factor,
    recipe_shift,
    tuned_points,
)

SURFACE = Surface(E=1.7, A=400.0, B=1500.0, alpha=0.34, beta=0.36)
CURVATURE = 0.012  # d2 ln loss / d(ln rate)2: flat to a factor of 1.9, as Step Law's trials are
RATES = np.geomspace(2e-4, 2e-2, 13)


def fit_hyperparameter(table, quantity, **options):
    return fit_points(tuned_points(table, quantity), quantity, **options)


def best_rate(p: float, t: float) -> float:
    return 1.8 * p**-0.7 * t**0.3


def best_batch(t: float) -> float:
    return 0.6 * t**0.57


def trials(
    *, noise: float, seed: int = 0, batches: int = 1, skew: float = 0.0, rates: object = RATES
) -> pd.DataFrame:
    """Nine allocations of three sizes, each on a grid of rates (and batches)."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in (2e8, 5e8, 1e9):
        for t in (5e9, 2e10, 8e10):
            for rate in np.asarray(rates):
                for step in range(batches):
                    batch = best_batch(t) * 2.0 ** (step - (batches - 1) / 2)
                    off = math.log(rate / best_rate(p, t))
                    wide = math.log(batch / best_batch(t))
                    bowl = CURVATURE * (off**2 + wide**2 + 0.6 * off * wide) / 2
                    loss = float(SURFACE.loss(p, t)) * math.exp(
                        bowl + skew * off**3 + noise * rng.standard_normal()
                    )
                    rows.append((p, t, rate, batch, loss))
    return pd.DataFrame(rows, columns=["params", "tokens", "lr", "batch_tokens", "loss"])


def test_clean_trials_give_the_law_back() -> None:
    law = fit_hyperparameter(trials(noise=0.0), "learning_rate")
    assert law.ok and law.coefficient == pytest.approx(1.8, rel=1e-3)
    assert law.params_exponent == pytest.approx(-0.7, abs=1e-6)
    assert law.tokens_exponent == pytest.approx(0.3, abs=1e-6)
    assert law.params_range == (2e8, 1e9) and law.tokens_range == (5e9, 8e10)


def test_rate_and_batch_varied_together() -> None:
    table = trials(noise=0.0, batches=5)
    rate = fit_hyperparameter(table, "learning_rate")
    batch = fit_hyperparameter(table, "batch_tokens", predictors=("tokens",))
    assert rate.params_exponent == pytest.approx(-0.7, abs=1e-6)
    assert batch.tokens_exponent == pytest.approx(0.57, abs=1e-6) and batch.params_exponent == 0
    assert float(batch(3e8, 1e10)) == pytest.approx(best_batch(1e10), rel=1e-6)


def test_intervals_hold_the_truth() -> None:
    inside, target = 0, best_rate(4e9, 4e11)
    for seed in range(40):
        found = fit_hyperparameter(trials(noise=0.001, seed=seed), "learning_rate").at(4e9, 4e11)
        low, high = found.interval
        inside += low < target < high
        assert found.extrapolates > 1 and found.warning
    assert inside >= 31  # 90 % of 40 less 2.6 standard deviations


def test_tokens_that_differ_by_part_of_a_batch_are_one_allocation() -> None:
    table = trials(noise=0.0)
    table["tokens"] *= 1 + 1e-3 * np.arange(len(table)) % 3e-3
    assert len(tuned_points(table, "learning_rate")) == 9


def test_flat_width() -> None:
    points = tuned_points(trials(noise=0.0), "learning_rate")
    expected = math.exp(math.sqrt(2 * math.log1p(FLAT_FRACTION) / CURVATURE))
    assert flat_factor(points) == pytest.approx(expected, rel=1e-3)
    for point in points:
        off = math.log(point.flat[1] / point.value)
        assert math.exp(CURVATURE * off**2 / 2) == pytest.approx(1 + FLAT_FRACTION, rel=1e-6)
        assert point.loss == pytest.approx(float(SURFACE.loss(point.params, point.tokens)))


def test_a_steep_far_side_moves_the_optimum_little() -> None:
    law = fit_hyperparameter(trials(noise=0.0, skew=0.001), "learning_rate")
    ratio = float(law(5e8, 2e10)) / best_rate(5e8, 2e10)
    assert ratio == pytest.approx(1, abs=0.2)  # less than .05 % of the loss at this flatness


def test_minimum_outside_the_grid_is_an_edge() -> None:
    points = tuned_points(trials(noise=0.0, rates=np.geomspace(2e-4, 9e-4, 7)), "learning_rate")
    edges = [p for p in points if p.status is Status.EDGE]
    assert edges and all("outside the values tried" in p.reason for p in edges)
    assert all(math.isnan(p.value) for p in edges)


def test_what_the_trials_do_not_tell_apart_is_said() -> None:
    table = trials(noise=0.0)
    one_size = table[table["params"] == 2e8]
    law = fit_hyperparameter(one_size, "learning_rate")
    assert (
        law.status is Status.NOT_IDENTIFIED and "do not tell params and tokens apart" in law.reason
    )
    assert fit_hyperparameter(one_size, "learning_rate", predictors=("tokens",)).ok
    with pytest.raises(FitError, match="fewer predictors"):
        fit_hyperparameter(one_size, "learning_rate").required()
    fixed = fit_hyperparameter(table, "batch_tokens")
    assert not fixed.ok and "too few trials for a minimum of batch_tokens" in fixed.reason
    assert fixed.reason.count("batch_tokens") == 1  # said once for all of one reason


def test_too_few_rates_and_upside_down() -> None:
    table = trials(noise=0.0)
    two = table[table["lr"].isin(RATES[5:7])]
    assert {p.status for p in tuned_points(two, "learning_rate")} == {Status.NOT_IDENTIFIED}
    upside = table.assign(loss=10 / table["loss"])
    assert {p.status for p in tuned_points(upside, "learning_rate")} <= {
        Status.CONCAVE,
        Status.EDGE,
    }


def test_mistuned_rates_move_the_optimum() -> None:
    best = SURFACE.optimum(1e21).params

    def shift(tuned_at: float) -> float:
        return recipe_shift(
            lambda p, t: float(SURFACE.loss(p, t)),
            1e21,
            params=best,
            curvature=CURVATURE,
            log_off=lambda p, _: 0.3 * math.log(p / tuned_at),
        )

    assert shift(best) == pytest.approx(1.0, abs=1e-4)
    # Rates right for small models and too high for large ones make small ones look better.
    off = shift(best / 100)
    assert off < 0.9
    sizes = best * np.exp(np.linspace(-2, 1, 3001))
    loss = SURFACE.loss(sizes, 1e21 / (6 * sizes))
    wrong = 0.3 * np.log(sizes / (best / 100))
    brute = sizes[np.argmin(loss * np.exp(CURVATURE / 2 * wrong**2))]
    assert off == pytest.approx(brute / best, rel=2e-3)


def test_bad_input() -> None:
    table = trials(noise=0.0)
    with pytest.raises(TableError, match="missing columns learning_rate"):
        fit_hyperparameter(table.drop(columns="lr"), "learning_rate")
    with pytest.raises(TableError, match="diverged"):
        fit_hyperparameter(table.assign(loss=math.nan), "learning_rate")
    with pytest.raises(FittingError, match="quantity='beta2'"):
        fit_hyperparameter(table, "beta2")  # type: ignore[arg-type]
    with pytest.raises(FittingError, match="quantity='batch'"):
        fit_points(tuned_points(table, "learning_rate"), "batch")  # type: ignore[arg-type]
    with pytest.raises(FittingError, match="predictors"):
        fit_hyperparameter(table, "learning_rate", predictors=())
    with pytest.raises(FittingError, match="no allocation has an optimum"):
        flat_factor([])
