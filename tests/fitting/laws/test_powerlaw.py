from __future__ import annotations

import math

import numpy as np
import pytest

from fitting.errors import FitError, FittingError, Status
from fitting.laws.powerlaw import fit_power_law

FLOPS = np.array([6e18, 1e19, 3e19, 6e19, 1e20, 3e20])


def test_exact_law_is_recovered() -> None:
    law = fit_power_law(FLOPS, 0.3 * FLOPS**0.47)
    assert law.coefficient == pytest.approx(0.3)
    assert law.exponent == pytest.approx(0.47)
    assert float(law(1e22)) == pytest.approx(0.3 * 1e22**0.47)
    tokens = law.tokens_law()
    assert tokens.quantity == "tokens"
    assert float(tokens(1e22)) == pytest.approx(1e22 / (6 * float(law(1e22))))
    assert tokens.tokens_law().coefficient == pytest.approx(law.coefficient)
    counted = law.tokens_law(per_param_token=7.3)  # a table that counts attention
    assert counted(1e20) * law(1e20) * 7.3 == pytest.approx(1e20)


def test_standard_errors_equal_those_of_ordinary_regression() -> None:
    from scipy.stats import linregress

    rng = np.random.default_rng(0)
    params = 0.3 * FLOPS**0.47 * np.exp(0.05 * rng.standard_normal(6))
    law = fit_power_law(FLOPS, params)
    line = linregress(np.log(FLOPS), np.log(params))
    assert law.exponent == pytest.approx(line.slope)
    assert law.exponent_se == pytest.approx(line.stderr)
    assert law.coefficient_se == pytest.approx(law.coefficient * line.intercept_stderr)


@pytest.mark.parametrize(("extra", "most"), [(0.0, 0.99), (0.08, 0.96)])
def test_intervals_hold_with_unequal_errors_and_scatter(extra: float, most: float) -> None:
    rng = np.random.default_rng(1)
    se = np.array([0.02, 0.1, 0.03, 0.15, 0.05, 0.04])
    truth = 0.3 * FLOPS**0.47
    hits = 0
    for _ in range(500):
        noise = np.hypot(se, extra) * rng.standard_normal(6)
        law = fit_power_law(FLOPS, truth * np.exp(noise), se=se)
        low, high = law.interval(1e22)
        hits += bool(low < 0.3 * 1e22**0.47 < high)
    assert 0.86 < hits / 500 < most  # without scatter the interval is wide, by design


def test_scatter_keeps_one_lucky_budget_from_deciding() -> None:
    params = 0.3 * FLOPS**0.47 * np.exp(np.array([0.1, -0.1, 0.1, -0.1, 0.1, 0.3]))
    se = np.array([0.05] * 5 + [0.001])
    free = fit_power_law(FLOPS, params, se=se)
    pinned = np.polyfit(np.log(FLOPS), np.log(params), 1, w=1 / se)
    assert free.scatter > 0.05
    off = [math.log(free(3e20)), np.polyval(pinned, math.log(3e20))] - np.log(params[-1])
    assert abs(off[1]) < 1e-3 < abs(off[0])


def test_unusable_budgets_are_left_out_and_counted() -> None:
    params = 0.3 * FLOPS**0.47
    params[2] = np.nan
    law = fit_power_law(FLOPS, params)
    assert law.exponent == pytest.approx(0.47)
    assert law.reason == "1 of 6 budgets have no usable optimum."


def test_one_budget_gives_no_law() -> None:
    law = fit_power_law([1e19, 1e19], [1e8, 2e8])
    assert law.status is Status.NOT_IDENTIFIED and not law.ok
    assert math.isnan(law.exponent) and "1 usable" in law.reason
    assert "no law" in repr(law)
    with pytest.raises(FitError):
        fit_power_law([], [], throw=True)
    with pytest.raises(FittingError, match="one length"):
        fit_power_law(FLOPS, [1e8])


def test_two_budgets_give_a_law_without_errors() -> None:
    law = fit_power_law([1e19, 1e20], [1e8, 3e8])
    assert law.ok and math.isnan(law.exponent_se)


def test_shapes_and_repr() -> None:
    law = fit_power_law(FLOPS, 0.3 * FLOPS**0.47)
    assert law(np.ones((2, 3))).shape == (2, 3)
    assert law.interval(np.array([1e19, 1e20]))[0].shape == (2,)
    assert len(repr(law)) < 100
