from __future__ import annotations

import math

import numpy as np
import pytest

from fitting import fit_skills
from fitting.decisions.regret import (
    FACTORS,
    cost_of_choice,
    cost_of_overtraining,
    equivalent_share,
    least_losses,
)
from fitting.errors import FitError, FittingError, Status
from fitting.laws.surface import Surface

SURFACE = Surface(E=1.7, A=400.0, B=1500.0, alpha=0.34, beta=0.36)


def test_equivalent_budget_has_the_same_loss() -> None:
    rows = cost_of_choice(SURFACE, 1e21)
    assert list(rows["factor"]) == pytest.approx(FACTORS)
    for row in rows.itertuples():
        assert row.loss == pytest.approx(float(SURFACE.loss(row.params, row.tokens)))
        assert 6 * row.params * row.tokens == pytest.approx(1e21)
        assert SURFACE.optimum(row.equivalent_flops).loss == pytest.approx(row.loss, rel=1e-9)
        assert row.wasted == pytest.approx(1 - row.equivalent_flops / 1e21)
    assert (rows["excess"] > 0).all()


def test_small_errors_cost_by_the_curvature() -> None:
    best = SURFACE.optimum(1e21)
    row = cost_of_choice(SURFACE, 1e21, factors=[1.02]).iloc[0]
    assert row["excess"] == pytest.approx(best.curvature * math.log(1.02) ** 2 / 2, rel=0.01)


def test_no_error_costs_nothing() -> None:
    row = cost_of_choice(SURFACE, 1e21, factors=[1.0]).iloc[0]
    assert row["excess"] == pytest.approx(0, abs=1e-12)
    assert row["equivalent_flops"] == pytest.approx(1e21, rel=1e-5)


def test_overtraining_is_the_same_cost_by_another_name() -> None:
    best = SURFACE.optimum(1e21)
    ratio = best.tokens / best.params
    rows = cost_of_overtraining(SURFACE, 1e21, tokens_per_param=[ratio, 4 * ratio])
    assert rows["factor"].to_numpy() == pytest.approx([1.0, 0.5])
    half = cost_of_choice(SURFACE, 1e21, factors=[0.5])
    assert rows["wasted"].iloc[1] == pytest.approx(half["wasted"].iloc[0], rel=1e-5)


def test_a_hopeless_choice_ends_at_the_least_share() -> None:
    least = least_losses(SURFACE, 1e21)
    assert equivalent_share(least, 1e9) == pytest.approx(1e-6)
    assert equivalent_share(least, 1.0) == 1.0


def test_a_skill_of_a_fitted_table() -> None:
    flops = np.repeat(np.geomspace(6e18, 6e20, 4), 7)
    params = 0.1 * flops**0.5 * np.tile(np.geomspace(0.25, 4, 7), 4)
    tokens = flops / (6 * params)
    table = {"flops": flops, "params": params, "tokens": tokens}
    fits = fit_skills({**table, "loss": SURFACE.loss(params, tokens)}, method="surface")
    mine = cost_of_choice(fits["loss"], 1e21)
    assert mine["wasted"].to_numpy() == pytest.approx(
        cost_of_choice(SURFACE, 1e21)["wasted"].to_numpy(), rel=0.01
    )


def test_bad_input() -> None:
    flops, params = np.array([1e18, 2e18, 4e18]), np.array([1e8, 2e8, 4e8])
    fits = fit_skills({"flops": flops, "params": params, "loss": [3.0, 2.9, 2.8]})
    for of_all in (fits, {"loss": SURFACE}):
        with pytest.raises(FittingError, match=r"one skill's fit, such as fits\['code'\]"):
            cost_of_choice(of_all, 1e21)  # type: ignore[arg-type]
    with pytest.raises(FittingError, match="flops=0"):
        cost_of_choice(SURFACE, 0)
    with pytest.raises(FittingError, match="factors=-1"):
        cost_of_choice(SURFACE, 1e21, factors=[-1])
    with pytest.raises(FittingError, match="tokens_per_param=inf"):
        cost_of_overtraining(SURFACE, 1e21, tokens_per_param=[math.inf])
    broken = Surface(*(math.nan,) * 5, status=Status.NOT_IDENTIFIED, reason="too few")
    with pytest.raises(FitError, match="too few"):
        cost_of_choice(broken, 1e21)
