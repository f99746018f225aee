"""The vertex form against the surface it stands for, and its derivatives against differences."""

import math

import numpy as np
import pytest

from fitting.mixture.discrepancy import bend_functions
from fitting.mixture.vertex_form import (
    Groups,
    Layout,
    Rows,
    exponents,
    jacobian,
    normal_sums,
    slope_along,
    surface,
)

STEP = 1e-6


def some_rows(nodes: int, knots: np.ndarray, rng: np.random.Generator, n: int = 30) -> Rows:
    hats = np.zeros((n, nodes))
    if nodes:
        hats[np.arange(n), np.sort(rng.integers(0, nodes, n))] = 1.0
        hats[:5] *= 0.25
    sizes = rng.uniform(-2, 2, n)
    return Rows(sizes, rng.uniform(-2, 3, n), thrice(hats), bend_functions(sizes, knots)[0])


def thrice(hats: np.ndarray) -> np.ndarray:
    """The same weights for drift, level and curvature."""
    return np.broadcast_to(hats, (3, *hats.shape))


def some_theta(layout: Layout, rng: np.random.Generator, batch: int = 3) -> np.ndarray:
    theta = 0.3 * rng.standard_normal((batch, layout.width))
    theta[:, :5] += [1.5, -0.2, 0.0, 0.1, math.log(0.7)]
    return theta


def differences(function, theta: np.ndarray) -> np.ndarray:
    """Central differences by every parameter, last axis."""
    columns = []
    for p in range(theta.shape[1]):
        move = np.zeros_like(theta)
        move[:, p] = STEP
        columns.append((function(theta + move) - function(theta - move)) / (2 * STEP))
    return np.stack(columns, axis=-1)


def test_the_plain_form_is_the_five_parameter_surface():
    floor, amount, alpha, data, beta = 1.8, 480.0, 0.35, 2100.0, 0.37
    total, slope = alpha + beta, beta / (alpha + beta)
    log_vertex = (math.log(alpha * amount / (beta * data)) - beta * math.log(6)) / total
    gamma = slope * (1 - slope) * total
    reducible = math.log(amount * math.exp(-alpha * log_vertex) / slope)
    least = floor + math.exp(reducible)
    theta = np.array([[least, reducible, log_vertex, math.log(beta / alpha), math.log(total)]])
    log_params, log_flops = np.log([1e8, 1e9, 3e10]), np.log([6e18, 1e20, 3e21])
    rows = Rows(log_params, log_flops, np.zeros((3, 3, 0)), np.zeros((3, 0)))
    tokens = np.exp(log_flops - log_params) / 6
    expected = floor + amount * np.exp(log_params) ** -alpha + data * tokens**-beta
    assert exponents(theta)[3][0] == pytest.approx(gamma)
    np.testing.assert_allclose(surface(theta, rows)[0][0], expected, rtol=1e-12)


@pytest.mark.parametrize(("nodes", "bends"), [(0, 0), (4, 0), (4, 3)])
def test_loss_derivatives_are_right(nodes, bends):
    rng = np.random.default_rng(nodes + bends)
    knots = np.linspace(-1.5, 1.5, bends + 1) if bends else np.empty(0)
    rows = some_rows(nodes, knots, rng)
    theta = some_theta(Layout(nodes, bends), rng)
    found = jacobian(surface(theta, rows)[1], rows)
    expected = differences(lambda at: surface(at, rows)[0], theta)
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(("nodes", "bends"), [(0, 0), (4, 0), (4, 3)])
def test_normal_sums_need_no_wide_jacobian(nodes, bends):
    rng = np.random.default_rng(1)
    rows = some_rows(nodes, np.linspace(-1.5, 1.5, bends + 1) if bends else np.empty(0), rng)
    patterns, group = np.unique(rows.hats[0], axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    hats = thrice(rows.hats[0][order])
    rows = Rows(rows.log_params[order], rows.log_flops[order], hats, rows.bends[order])
    starts = np.searchsorted(group.reshape(-1)[order], np.arange(len(patterns) + 1))
    theta = some_theta(Layout(nodes, bends), rng)
    local = surface(theta, rows)[1]
    weights, residual = rng.uniform(0.1, 2, (2, 3, len(rows)))
    sums, pull = normal_sums(local, weights, residual, Groups(tuple(starts.tolist()), patterns))
    wide = jacobian(local, rows)
    np.testing.assert_allclose(sums, np.einsum("bnp,bn,bnq->bpq", wide, weights, wide))
    np.testing.assert_allclose(pull, np.einsum("bnp,bn,bn->bp", wide, weights, residual))


def test_the_slope_along_a_budget_is_the_derivative_of_the_loss():
    rng = np.random.default_rng(2)
    knots, layout = np.linspace(-1.5, 1.5, 4), Layout(2, 3)
    theta = some_theta(layout, rng)
    sizes, log_flops = rng.uniform(-1, 1, 6), rng.uniform(-1, 1, 6)

    def loss(at: np.ndarray) -> np.ndarray:
        hats = np.zeros((3, 6, 2))
        return surface(theta, Rows(at, log_flops, hats, bend_functions(at, knots)[0]))[0]

    def slope(at: np.ndarray):
        vertex = theta[:, 2, None] + exponents(theta)[0][:, None] * log_flops
        return slope_along(
            theta,
            layout,
            log_flops=log_flops,
            distance=at - vertex,
            log_curvature=np.zeros((3, 6)),
            bends=tuple(np.tile(f, (3, 1, 1)) for f in bend_functions(at, knots)[1:]),
        )

    found = slope(sizes)
    np.testing.assert_allclose(
        found.value, (loss(sizes + STEP) - loss(sizes - STEP)) / (2 * STEP), atol=1e-7
    )
    curvature = (slope(sizes + STEP).value - slope(sizes - STEP).value) / (2 * STEP)
    np.testing.assert_allclose(found.by_size, curvature, atol=1e-6)


def test_far_away_places_stay_finite():
    theta = some_theta(Layout(0), np.random.default_rng(3))
    far = np.array([-1e3, 1e3])
    loss, local, _ = surface(theta, Rows(far, far, np.zeros((3, 2, 0)), np.zeros((2, 0))))
    assert np.isfinite(loss).all()
    assert np.isfinite(local).all()
