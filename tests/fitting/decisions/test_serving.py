from __future__ import annotations

import math

import numpy as np
import pytest

from fitting.decisions.serving import (
    Demand,
    Machine,
    Prices,
    compute_optimal_tokens,
    quality_of,
    serving_optimum,
)
from fitting.errors import FitError, FittingError, Status
from fitting.laws.bootstrap import bootstrap_surface
from fitting.laws.surface import Surface, fit_surface

A100 = (312e12, 0.5), (624e12, 0.5), (624e12, 0.01)
SARDANA_PRICES = Prices.of_machines(
    Machine(1.0, *A100[0]), prompt=Machine(1.0, *A100[1]), generation=Machine(1.0, *A100[2])
)
"""Sardana and Frankle's utilisations on an A100, bf16 for training and int8 for serving."""

SURFACE = Surface(E=1.7, A=400.0, B=1500.0, alpha=0.34, beta=0.36)
WANTED = 2.1


def brute_force(surface: Surface, loss: float, per_token: float, per_param: float) -> float:
    """Least cost on a dense grid of sizes at a fixed loss."""
    smallest = (surface.A / (loss - surface.E)) ** (1 / surface.alpha)
    params = smallest * np.exp(np.geomspace(1e-4, 12, 200_001))
    left = loss - surface.E - surface.A * params**-surface.alpha
    tokens = (surface.B / left) ** (1 / surface.beta)
    return float((params * (per_token * tokens + per_param)).min())


@pytest.mark.parametrize("served", [1e10, 3e11, 1e13, 1e16])
def test_no_allocation_is_cheaper(served: float) -> None:
    best = serving_optimum(SURFACE, served, loss=WANTED)
    assert best.ok and best.unit == "flops"
    assert float(SURFACE.loss(best.params, best.tokens)) == pytest.approx(WANTED, rel=1e-12)
    assert best.cost == pytest.approx(brute_force(SURFACE, WANTED, 6, 2 * served), rel=1e-7)
    assert best.cost == pytest.approx(best.params * (6 * best.tokens + 2 * served))


def test_demand_moves_to_smaller_models_and_more_tokens() -> None:
    plans = [serving_optimum(SURFACE, d, loss=WANTED) for d in (0, 1e10, 1e12, 1e14)]
    assert np.all(np.diff([p.params for p in plans]) < 0)
    assert np.all(np.diff([p.tokens for p in plans]) > 0)
    assert np.all(np.diff([p.saving for p in plans]) > 0)


def test_no_demand_gives_the_compute_optimum() -> None:
    plan = serving_optimum(SURFACE, 0, loss=WANTED)
    assert plan.ok and plan.saving == 0 and "Nothing is served" in plan.reason
    best = SURFACE.optimum(plan.training_flops)
    assert plan.params == pytest.approx(best.params) and best.loss == pytest.approx(WANTED)


def test_quality_of_a_size_is_that_of_its_own_optimum() -> None:
    tokens = compute_optimal_tokens(SURFACE, 3e9)
    best = SURFACE.optimum(6 * 3e9 * tokens)
    assert best.params == pytest.approx(3e9) and best.loss == pytest.approx(
        quality_of(SURFACE, 3e9)
    )


def test_equal_prices_change_nothing_but_the_unit() -> None:
    flops = serving_optimum(SURFACE, 1e12, loss=WANTED)
    money = serving_optimum(SURFACE, 1e12, loss=WANTED, prices=Prices(2e-18, 2e-18, 2e-18))
    assert money.unit == "money" and money.params == pytest.approx(flops.params)
    assert money.cost == pytest.approx(2e-18 * flops.cost)


def test_generation_at_low_utilisation_wants_smaller_models() -> None:
    read = serving_optimum(SURFACE, Demand(1e12, 0), loss=WANTED, prices=SARDANA_PRICES)
    written = serving_optimum(SURFACE, Demand(0, 1e12), loss=WANTED, prices=SARDANA_PRICES)
    # 50 times the utilisation is 50 times the tokens for the same money.
    same = serving_optimum(SURFACE, Demand(5e13, 0), loss=WANTED, prices=SARDANA_PRICES)
    assert written.params < read.params
    assert written.params == pytest.approx(same.params)
    dense = brute_force(
        SURFACE, WANTED, 6 * SARDANA_PRICES.training, 2e12 * SARDANA_PRICES.generation
    )
    assert written.cost == pytest.approx(dense, rel=1e-7)


def test_price_of_a_machine() -> None:
    assert Machine(3.6, 1e15, 0.4).price_per_flop == pytest.approx(3.6 / 3600 / 4e14)
    one = Machine(2.0, 1e15, 0.5)
    assert Prices.of_machines(one, prompt=one).generation == one.price_per_flop


def test_loss_at_the_floor_is_unreachable() -> None:
    plan = serving_optimum(SURFACE, 1e12, loss=1.7)
    assert plan.status is Status.UNREACHABLE and not plan.ok
    assert "1.7" in plan.reason and "floor" in plan.reason and plan.status.advice


def test_a_hair_above_the_floor_is_out_of_reach_too() -> None:
    plan = serving_optimum(SURFACE, 1e12, loss=1.7 + 1e-9)
    assert plan.status is Status.UNREACHABLE and "FLOPs would be needed" in plan.reason


def test_far_beyond_the_data_is_said() -> None:
    fitted = Surface(**{**vars(SURFACE), "points": 30, "flops_range": (1e18, 1e20)})
    plan = serving_optimum(fitted, 0, loss=WANTED)
    assert plan.extrapolates == pytest.approx(plan.training_flops / 1e20)
    assert "times the largest budget" in plan.reason


def test_error_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    flops = np.repeat(np.geomspace(6e18, 3e21, 6), 20)
    params = 0.1 * flops**0.5 * np.tile(np.geomspace(0.2, 5, 20), 6)
    tokens = flops / (6 * params)
    loss = SURFACE.loss(params, tokens) * np.exp(0.004 * rng.standard_normal(len(params)))
    plan = serving_optimum(fit_surface(params, tokens, loss), 1e12, loss=2.2)
    draws = bootstrap_surface(params, tokens, loss, n=200)
    plans = [serving_optimum(Surface(**row), 1e12, loss=2.2) for row in draws.to_dict("records")]
    spread = np.std(np.log([p.params for p in plans]))
    assert plan.log_params_se == pytest.approx(spread, rel=0.35)
    true = serving_optimum(SURFACE, 1e12, loss=2.2).params
    assert plan.interval[0] < true < plan.interval[1]
    assert math.isnan(plans[0].log_params_se)


def test_bad_input() -> None:
    with pytest.raises(FittingError, match="prompt_tokens=-1"):
        serving_optimum(SURFACE, -1.0, loss=WANTED)
    with pytest.raises(FittingError, match="loss=nan"):
        serving_optimum(SURFACE, 1e12, loss=math.nan)
    with pytest.raises(FittingError, match="utilisation=40"):
        Machine(1.0, 1e15, 40)
    with pytest.raises(FittingError, match="prompt=0"):
        Prices(1e-18, 0, 1e-18)
    with pytest.raises(FittingError, match="params=-1"):
        quality_of(SURFACE, -1.0)
    for ask in (lambda s: serving_optimum(s, 1e12, loss=WANTED), lambda s: quality_of(s, 1e9)):
        with pytest.raises(FittingError, match="surface: give a Surface"):
            ask("code")
    broken = Surface(*(math.nan,) * 5, status=Status.NOT_IDENTIFIED, reason="too few")
    with pytest.raises(FitError, match="too few"):
        serving_optimum(broken, 1e12, loss=WANTED)
