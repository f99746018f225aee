from __future__ import annotations

import math
import re

import numpy as np
import pytest

from fitting.errors import FitError, FittingError, Status
from fitting.isoflop import fit_isoflop
from fitting.laws import newton
from fitting.laws.bootstrap import bootstrap_surface, bootstrap_weights
from fitting.laws.surface import Surface, fit_surface, prepare_points
from fitting.values import FloatArray

TRUTH = Surface(E=1.7, A=400.0, B=1500.0, alpha=0.34, beta=0.35)


def grid() -> tuple[FloatArray, FloatArray]:
    flops = np.repeat(np.geomspace(6e18, 3e21, 6), 7)
    params = 0.1 * flops**0.5 * np.tile(np.geomspace(0.2, 5, 7), 6)
    return params, flops / (6 * params)


@pytest.mark.parametrize("loss_function", ["log-huber", "least-squares"])
def test_exact_surface_is_recovered(loss_function: str) -> None:
    p, t = grid()
    found = fit_surface(p, t, TRUTH.loss(p, t), loss_function=loss_function)  # type: ignore[arg-type]
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(TRUTH, name), rel=1e-4)
    assert found.objective == pytest.approx(0.0, abs=1e-15)
    assert found.ok and not found.reason


@pytest.mark.parametrize(
    "truth",
    [
        Surface(E=0.2, A=3.0, B=900.0, alpha=0.12, beta=0.55),
        Surface(E=2.5, A=5e3, B=60.0, alpha=0.5, beta=0.18),
        Surface(E=0.01, A=10.0, B=20.0, alpha=0.1, beta=0.1),
    ],
)
def test_recovery_far_from_chinchilla(truth: Surface) -> None:
    p, t = grid()
    found = fit_surface(p, t, truth.loss(p, t))
    assert found.exponent == pytest.approx(truth.exponent, abs=1e-3)
    assert float(found.law()(1e21)) == pytest.approx(float(truth.law()(1e21)), rel=1e-3)


def test_optimum_is_the_minimum_of_the_surface() -> None:
    best = TRUTH.optimum(1e21)
    sizes = best.params * np.exp(np.linspace(-1e-3, 1e-3, 9))
    losses = TRUTH.loss(sizes, 1e21 / (6 * sizes))
    assert fit_isoflop(sizes, losses).params == pytest.approx(best.params, rel=1e-5)
    assert best.loss == pytest.approx(float(losses[4]))
    spread = np.log(sizes / best.params)
    assert 2 * np.polyfit(spread * 1e3, losses * 1e6, 2)[0] == pytest.approx(
        best.curvature, rel=0.01
    )


def test_newton_reaches_what_scipy_reaches() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    p, t = grid()
    loss = TRUTH.loss(p, t) * np.exp(0.01 * rng.standard_t(3, len(p)))
    points, weights, _ = prepare_points(p, t, loss, "log-huber", 1e-3, None)
    draws = bootstrap_weights(len(p), 6, seed=1)
    start = np.tile(newton.grid_starts(points, weights)[:1], (6, 1))
    found = newton.minimise(points, start, draws)
    assert found.converged.all()
    for row, best, w in zip(found.theta, found.objective, draws, strict=True):
        rival = minimize(
            lambda v, w=w: float(newton.objective(points, v[None], w[None])[0]) * 1e3,
            row,
            method="Nelder-Mead",
            options={"maxiter": 4000, "xatol": 1e-10, "fatol": 1e-13},
        )
        assert best <= rival.fun * 1e-3 * (1 + 1e-6)


@pytest.mark.parametrize("delta", [None, 0.01])
def test_derivatives(delta: float | None) -> None:
    rng = np.random.default_rng(2)
    p, t = grid()
    loss = TRUTH.loss(p, t) * np.exp(0.02 * rng.standard_normal(len(p)))
    x, y = np.log(p), np.log(t)
    points = newton.Points(x - x.mean(), y - y.mean(), loss, (x.mean(), y.mean()), delta)
    weights = rng.uniform(0.5, 2, (1, len(p)))
    theta = np.array([[0.5, -1.0, 0.33, -0.5, 0.37]])
    local = newton.evaluate(points, theta, weights)
    assert local.objective[0] == pytest.approx(newton.objective(points, theta, weights)[0])
    for i in range(5):
        step = np.zeros((1, 5))
        step[0, i] = 1e-6
        high, low = (newton.evaluate(points, theta + s * step, weights) for s in (1, -1))
        slope = (high.objective[0] - low.objective[0]) / 2e-6
        assert local.gradient[0, i] == pytest.approx(slope, rel=1e-4, abs=1e-7)
        bend = (high.gradient[0] - low.gradient[0]) / 2e-6
        np.testing.assert_allclose(local.hessian[0, i], bend, rtol=1e-3, atol=1e-4)


def test_constant_at_a_bound_is_flagged() -> None:
    p, t = grid()
    without = fit_surface(p, t, TRUTH.B * t**-TRUTH.beta + 1.0)
    assert not without.ok and without.status is Status.NOT_IDENTIFIED
    assert re.search(r"data: .*\b(A|alpha)\b", without.reason)
    assert math.isnan(without.optimum(1e21).params)
    assert not without.law().ok
    with pytest.raises(FitError, match="At a bound"):
        fit_surface(p, t, TRUTH.B * t**-TRUTH.beta + 1.0, throw=True)


def test_zero_floor_is_flagged_but_optima_stand() -> None:
    p, t = grid()
    truth = Surface(E=0.0, A=30.0, B=60.0, alpha=0.15, beta=0.16)
    found = fit_surface(p, t, truth.loss(p, t) * (1 - 0.02 * np.log(p / 1e9)))
    if found.reason:
        assert found.reason == "At a bound, not fixed by the data: E." and found.ok
        assert found.optimum(1e21).params > 0


def test_weights_leave_points_out() -> None:
    p, t = grid()
    loss = TRUTH.loss(p, t)
    loss[5] *= 1.5
    weights = np.ones_like(loss)
    weights[5] = 0.0
    found = fit_surface(p, t, loss, weights=weights, loss_function="least-squares")
    assert found.alpha == pytest.approx(TRUTH.alpha, rel=1e-3)


def test_bad_input() -> None:
    p, t = grid()
    with pytest.raises(FittingError, match="one length"):
        fit_surface(p, t, [1.0])
    with pytest.raises(FittingError, match="loss must be finite and positive"):
        fit_surface(p, t, np.where(p > 1e9, np.nan, 2.0))
    with pytest.raises(FittingError, match="empty"):
        fit_surface([], [], [])
    with pytest.raises(FittingError, match="loss_function"):
        fit_surface(p, t, TRUTH.loss(p, t), loss_function="l1")  # type: ignore[arg-type]
    for width in (0.0, -1.0, math.nan):
        with pytest.raises(FittingError, match="delta"):
            fit_surface(p, t, TRUTH.loss(p, t), delta=width)
    with pytest.raises(FittingError, match="params: give numbers"):
        fit_surface(["a"] * len(p), t, TRUTH.loss(p, t))
    with pytest.raises(FittingError, match="flops=0"):
        TRUTH.optimum(0.0)
    few = fit_surface(p[:5], t[:5], TRUTH.loss(p, t)[:5])
    assert few.status is Status.NOT_IDENTIFIED and "5 distinct" in few.reason


def test_allocations_that_confound_the_terms_have_losses_and_no_optimum() -> None:
    """One size had an optimum, with an error of 1e-13; one ratio of tokens half the true one."""
    many = np.geomspace(1e8, 1e10, 9)
    rounded = np.round(20 * many, -7)
    for p, t, why in (
        (np.full(9, 1e8), many, "1 sizes and 9 token counts"),
        (many, np.full(9, 1e10), "9 sizes and 1 token counts"),
        (np.repeat([1e8, 1e9], 9), np.tile(many, 2), "2 sizes and 9 token counts"),
        (many, rounded, "in step"),
    ):
        found = fit_surface(p, t, TRUTH.loss(p, t))
        assert found.status is Status.NOT_IDENTIFIED and why in found.reason
        assert math.isnan(found.optimum(1e20).params)
        assert found.loss(p, t) == pytest.approx(TRUTH.loss(p, t), rel=1e-3)
    p, t = grid()
    nothing = fit_surface(p, t, TRUTH.loss(p, t), weights=np.zeros(len(p)))
    assert nothing.status is Status.NOT_IDENTIFIED
    budget = fit_surface(many, 1e20 / 6 / many, TRUTH.loss(many, 1e20 / 6 / many))
    assert budget.optimum(1e20).params == pytest.approx(TRUTH.optimum(1e20).params, rel=0.05)


def test_same_data_same_answer() -> None:
    rng = np.random.default_rng(3)
    p, t = grid()
    loss = TRUTH.loss(p, t) * np.exp(0.01 * rng.standard_normal(len(p)))
    assert fit_surface(p, t, loss) == fit_surface(p, t, loss)


@pytest.mark.parametrize("loss_function", ["log-huber", "least-squares"])
def test_delta_errors_agree_with_the_bootstrap(loss_function: str) -> None:
    rng = np.random.default_rng(4)
    p, t = grid()
    p, t = np.tile(p, 4), np.tile(t, 4)
    loss = TRUTH.loss(p, t) * np.exp(0.005 * rng.standard_normal(len(p)))
    found = fit_surface(p, t, loss, loss_function=loss_function)  # type: ignore[arg-type]
    draws = bootstrap_surface(p, t, loss, n=400, loss_function=loss_function)  # type: ignore[arg-type]
    exponent = draws["beta"] / (draws["alpha"] + draws["beta"])
    assert found.law().exponent_se == pytest.approx(exponent.std(), rel=0.3)
    low, high = found.optimum(1e21).interval
    assert low < float(TRUTH.law()(1e21)) < high


def test_bootstrap_is_reproducible_and_refuses_too_little() -> None:
    p, t = grid()
    loss = TRUTH.loss(p, t) * (1 + 0.01 * np.sin(np.arange(len(p))))
    one = bootstrap_surface(p, t, loss, n=20, seed=7)
    assert list(one.columns) == ["E", "A", "B", "alpha", "beta"]
    assert one.attrs["unconverged"] == 0
    assert one.equals(bootstrap_surface(p, t, loss, n=20, seed=7))
    assert not one.equals(bootstrap_surface(p, t, loss, n=20, seed=8))
    with pytest.raises(FitError, match="distinct"):
        bootstrap_surface(p[:4], t[:4], loss[:4], n=3)
    with pytest.raises(FittingError, match="n=0"):
        bootstrap_surface(p, t, loss, n=0)


def test_bootstrap_weights_count_draws() -> None:
    weights = bootstrap_weights(10, 50, seed=0)
    assert weights.shape == (50, 10)
    assert (weights.sum(axis=1) == 10).all()


def test_whatever_the_points_the_answer_is_sound() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        n = int(rng.integers(1, 30))
        p, t = np.exp(rng.uniform(15, 25, n)), np.exp(rng.uniform(18, 27, n))
        axis = rng.integers(0, 4)
        p, t = (np.full(n, 1e8) if axis == 0 else p), (np.full(n, 1e10) if axis == 1 else t)
        loss = 10 ** rng.uniform(-20, 20) * np.exp(10 ** rng.uniform(-4, 1) * rng.normal(size=n))
        found = fit_surface(p, t, loss)
        best = found.optimum(1e20)
        assert found.ok == best.ok == found.law().ok
        assert best.reason or best.ok
        if not best.ok:
            assert math.isnan(best.params)
