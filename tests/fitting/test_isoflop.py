from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fitting.errors import FitError, FittingError, Status
from fitting.isoflop import fit_isoflop
from fitting.regression import Parabola, fit_parabola, parabola_bias
from fitting.values import FloatArray

SIZES = np.geomspace(1e8, 1.6e9, 7)
BEST = 4.2e8


def valley(params: FloatArray = SIZES, curvature: float = 0.1) -> FloatArray:
    return 2.0 + 0.5 * curvature * np.log(params / BEST) ** 2


def test_exact_parabola_is_recovered() -> None:
    found = fit_isoflop(SIZES, valley(), flops=1e19)
    assert found.status is Status.OK
    assert found.params == pytest.approx(BEST, rel=1e-9)
    assert found.curvature == pytest.approx(0.1)
    assert found.tokens == pytest.approx(1e19 / (6 * BEST))
    assert found.loss == pytest.approx(2.0)
    assert found.log_params_se == pytest.approx(0.0, abs=1e-9)


def test_scale_of_params_and_order_of_rows_are_immaterial() -> None:
    rng = np.random.default_rng(0)
    noisy = valley() + 0.002 * rng.standard_normal(7)
    one = fit_isoflop(SIZES, noisy)
    other = fit_isoflop(SIZES[::-1] * 1e3, noisy[::-1])
    assert other.params == pytest.approx(1e3 * one.params)
    assert other.log_params_se == pytest.approx(one.log_params_se)


@pytest.mark.parametrize(
    ("loss", "status"),
    [
        (4.0 - valley(), Status.CONCAVE),
        (np.full(7, 2.0), Status.FLAT),
        (3.0 - 0.1 * np.log(SIZES / 1e8), Status.NO_INTERIOR_MINIMUM),
        (valley(SIZES * 8), Status.NO_INTERIOR_MINIMUM),
        (valley(SIZES * 3), Status.EDGE),
    ],
)
def test_verdicts(loss: FloatArray, status: Status) -> None:
    found = fit_isoflop(SIZES, loss)
    assert found.status is status
    assert found.reason
    assert math.isnan(found.params) == (status is not Status.EDGE)
    assert not found.ok


def test_pure_noise_seldom_passes_for_a_minimum() -> None:
    rng = np.random.default_rng(1)
    statuses = [fit_isoflop(SIZES, 2 + 0.01 * rng.standard_normal(7)).status for _ in range(400)]
    assert statuses.count(Status.OK) / 400 < 0.06
    assert statuses.count(Status.FLAT) / 400 > 0.6


def test_noisy_concave_curves_never_pass() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        assert not fit_isoflop(SIZES, 4 - valley() + 0.01 * rng.standard_normal(7)).ok


def test_too_few_sizes() -> None:
    found = fit_isoflop([1e8, 1e8, 2e8], [2.0, 2.1, 1.9])
    assert found.status is Status.TOO_FEW_SIZES
    assert fit_isoflop([], []).status is Status.TOO_FEW_SIZES
    with pytest.raises(FitError, match="Train three sizes or more") as error:
        fit_isoflop([1e8, 2e8], [2.0, 1.9], throw=True)
    assert error.value.status is Status.TOO_FEW_SIZES


def test_three_points_have_no_standard_error() -> None:
    sizes = np.array([2e8, 4e8, 9e8])
    bare = fit_isoflop(sizes, valley(sizes))
    assert bare.ok
    assert math.isnan(bare.log_params_se) and math.isnan(bare.interval[0])


def test_bad_points_are_left_out_and_said() -> None:
    loss = valley().copy()
    loss[3] = np.nan
    found = fit_isoflop(SIZES, loss)
    assert found.params == pytest.approx(BEST)
    assert "1 of 7 points left out" in found.reason
    with pytest.raises(FittingError, match="one length"):
        fit_isoflop(SIZES, loss[:-1])


def test_what_is_no_number_and_no_budget_is_refused() -> None:
    for sizes in (["a"] * 7, pd.date_range("2020", periods=7), SIZES + 1j, {"a": 1}):
        with pytest.raises(FittingError, match="params: give numbers"):
            fit_isoflop(sizes, valley())
    for flops in (-1.0, 0.0, math.inf, "1e19", None):
        with pytest.raises(FittingError, match="flops"):
            fit_isoflop(SIZES, valley(), flops=flops)


def test_intervals_and_standard_errors_hold() -> None:
    rng = np.random.default_rng(3)
    hits, errors, claimed = 0, [], []
    for _ in range(600):
        found = fit_isoflop(SIZES, valley() + 0.004 * rng.standard_normal(7))
        hits += found.interval[0] < BEST < found.interval[1]
        errors.append(math.log(found.params / BEST))
        claimed.append(found.log_params_se)
    assert 0.86 < hits / 600 < 0.94
    assert np.sqrt(np.mean(np.square(claimed))) == pytest.approx(np.std(errors), rel=0.15)


def surface_curve(u: FloatArray, alpha: float, beta: float) -> FloatArray:
    return beta * np.exp(-alpha * u) + alpha * np.exp(beta * u)


@pytest.mark.parametrize("offset", [-0.8, 0.0, 0.8])
def test_bias_equals_the_error_on_an_exact_surface(offset: float) -> None:
    u = np.linspace(-1.5, 1.5, 9) + offset
    fit = fit_parabola(u, surface_curve(u, 0.46, 0.15))
    assert parabola_bias(u, fit.vertex, exponents=(0.46, 0.15)) == pytest.approx(
        fit.vertex, abs=1e-5
    )


def test_published_bias_of_a_centred_grid() -> None:
    # Czech et al. 2026: tokens at Chinchilla's exponents (.34, .28), 15 sizes, +-8x: -2.9 %,
    # hence params +2.9 %.
    u = np.linspace(-math.log(8), math.log(8), 15)
    fit = fit_parabola(u, surface_curve(u, 0.34, 0.28))
    bias = parabola_bias(u, fit.vertex, exponents=(0.34, 0.28))
    assert math.expm1(-bias) == pytest.approx(-0.029, abs=0.002)
    assert parabola_bias(u, 0.0, exponents=(0.3, 0.3)) == pytest.approx(0.0, abs=1e-9)


def test_unbounded_interval_when_curvature_is_weak() -> None:
    weak = Parabola(0.0, np.array([2.0, 0.0, 0.01]), np.diag([1e-6, 1e-6, 1e-4]), 5.0, 0.01)
    assert weak.interval() == (-math.inf, math.inf)


def test_whatever_the_curve_the_answer_is_sound() -> None:
    rng = np.random.default_rng(6)
    for _ in range(300):
        n = int(rng.integers(0, 10))
        sizes = 10 ** rng.uniform(-2, 14) * np.exp(rng.uniform(0, 3, n))
        loss = 10 ** rng.uniform(-30, 30) * np.exp(10 ** rng.uniform(-3, 1.5) * rng.normal(size=n))
        if n and rng.random() < 0.3:
            loss[rng.integers(n)] = rng.choice([np.nan, np.inf, -1.0, 0.0])
        found = fit_isoflop(sizes, loss)
        assert found.reason
        if found.ok:
            assert sizes.min() < found.params < sizes.max()
            assert found.curvature > 0
            assert not found.log_params_se < 0
        elif found.status is not Status.EDGE:
            assert math.isnan(found.params) and math.isnan(found.interval[0])
