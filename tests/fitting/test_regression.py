from __future__ import annotations

import math

import numpy as np
import pytest

from fitting.regression import (
    falling_root,
    fieller,
    grid_minimum,
    least_squares,
    p_value,
    scattered_fit,
    t_interval,
)

X = np.linspace(-1, 1, 9)
LINE = np.stack([np.ones_like(X), X], axis=1)


def test_weighted_least_squares_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    y, w = 2 - 3 * X + 0.1 * rng.standard_normal(9), rng.uniform(0.5, 2, 9)
    found = least_squares(LINE, y, w)
    slope, covariance = np.polyfit(X, y, 1, w=np.sqrt(w), cov=True)
    np.testing.assert_allclose(found.coefficients[::-1], slope)
    np.testing.assert_allclose(found.covariance[::-1, ::-1], covariance)
    assert math.isnan(least_squares(LINE[:2], y[:2]).variance)


def test_scatter_makes_the_squares_equal_to_their_expectation() -> None:
    rng = np.random.default_rng(1)
    y, se = 0.3 * rng.standard_normal(9), np.full(9, 0.01)
    fit, scatter = scattered_fit(LINE, y, se)
    assert fit.squares == pytest.approx(fit.dof, rel=1e-9)
    assert 0.1 < scatter < 0.6
    assert scattered_fit(LINE, 1 + X, se)[1] == 0.0


def test_scatter_may_exceed_the_variance_of_the_values() -> None:
    """Residuals of few points spread by n / (n - k) more than the points themselves."""
    y = np.array([1.0, -2.0, 1.0])  # no line through them explains anything
    _, scatter = scattered_fit(LINE[[0, 4, 8]], y, np.full(3, 1e-6))
    assert scatter**2 == pytest.approx(6.0, rel=1e-6)
    assert scatter**2 > np.var(y)


def test_fieller_holds_the_zero_and_is_unbounded_for_a_flat_line() -> None:
    line, covariance = np.array([1.0, 2.0]), np.diag([0.01, 0.01])
    low, high = fieller(line, covariance, 1.645)
    assert low < -0.5 < high
    assert fieller(line, np.diag([0.01, 9.0]), 1.645) == (-math.inf, math.inf)


def test_roots_and_minima() -> None:
    assert falling_root(lambda x: 2 - x**3, 0.0, 9.0) == pytest.approx(2 ** (1 / 3), rel=1e-12)
    assert (
        falling_root(lambda x: -x, 1.0, 2.0) == 1.0
        and falling_root(lambda x: 5 - x, 1.0, 2.0) == 2
    )
    grid = np.geomspace(0.01, 3, 40)
    assert grid_minimum(lambda v: (v - 0.3) ** 2, grid) == pytest.approx(0.3, abs=1e-6)
    assert grid_minimum(lambda v: v, grid) == pytest.approx(grid[0], abs=1e-5)


def test_t_interval_and_p_value_agree() -> None:
    low, _ = t_interval(1.0, 0.5, 7.0)
    assert p_value(1.0 - low, 0.5, 7.0) == pytest.approx(0.1)
    assert math.isnan(p_value(1.0, 0.0, 7.0))
