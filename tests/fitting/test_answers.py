"""Answers between budgets, beyond sizes, and in a table's own count of FLOPs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fitting import fit_skills
from fitting.decisions.regret import cost_of_choice
from fitting.decisions.tradeoffs import serve
from fitting.errors import Status
from fitting.values import Convention, FloatArray

BUDGETS = (1e18, 3e18, 1e19, 3e19)


def loss(params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return np.asarray(1.7 + 400 / params**0.34 + 410 / tokens**0.28)


def table() -> pd.DataFrame:
    """Eight sizes on four budgets."""
    rng, parts = np.random.default_rng(0), []
    for flops in BUDGETS:
        params = (flops / 120) ** 0.5 * np.geomspace(0.2, 5.0, 8)
        tokens = flops / 6 / params
        measured = loss(params, tokens) + 0.003 * rng.normal(size=8)
        columns = {"flops": flops, "params": params, "tokens": tokens, "loss": measured}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def test_a_wrong_size_costs_as_much_on_a_trained_budget_as_beside_it() -> None:
    fit = fit_skills(table())["loss"]
    trained, beside = (cost_of_choice(fit, c, factors=[0.9, 1.02, 1.4]) for c in (3e19, 3.3e19))
    np.testing.assert_allclose(trained["wasted"], beside["wasted"], atol=0.004)
    assert trained["wasted"].iloc[1] < 5e-4


def test_sizes_that_end_below_the_optimum_are_said_between_and_beyond_their_budgets() -> None:
    runs = table()
    dear = runs["flops"] > 5e18
    runs = runs[~dear | (runs["params"] < 0.3 * (runs["flops"] / 120) ** 0.5)]
    rows = pd.concat([runs, table().query("flops > 5e18").assign(
        params=lambda t: t["params"] / 12, tokens=lambda t: t["tokens"] * 12,
        loss=lambda t: loss(t["params"], t["tokens"]))])  # fmt: skip
    fit = fit_skills(rows)["loss"]
    assert fit.at(3e19).status is Status.EDGE
    between, beyond = fit.at(1.8e19), fit.at(1e20)
    assert between.status is Status.EDGE and "next to it" in between.reason
    assert beyond.ok and "next to it: The optimum lies above" in beyond.reason
    assert fit.at(2e18).reason == fit.reason


def test_no_law_where_no_budget_has_an_optimum() -> None:
    """Losses that rise with compute, in valleys too flat to place."""
    rng, runs = np.random.default_rng(1), table()
    flat = 0.02 * np.log(runs["params"] / 1e8) ** 2 + 0.005 * rng.normal(size=len(runs))
    worse = runs.assign(loss=2 + 0.08 * np.log(runs["flops"] / 1e18) + flat, skill="worse")
    fits = fit_skills(pd.concat([runs.assign(skill="clear"), worse]))
    assert fits["clear"].law.status is Status.OK
    assert all(np.isnan(at.params) for at in fits["worse"].optima)
    assert fits["worse"].law.status is Status.NOT_IDENTIFIED
    assert "No trained budget has an optimum" in fits["worse"].law.reason


@pytest.mark.parametrize("width", [50_304, 500_000])
def test_a_count_that_flattens_with_size_is_followed(width: int) -> None:
    """Embeddings left out: flops / (params tokens) falls from far above 6 towards it."""
    layers = np.arange(4.0, 60.0, 2.0)
    wide = layers * 64
    params: FloatArray = 12 * layers * wide**2
    tokens: FloatArray = 20 * params
    flops: FloatArray = 6 * (params + width * wide) * tokens
    own = Convention.of(flops, params, tokens)
    assert own.varies
    np.testing.assert_allclose(own.flops(params, tokens), flops, rtol=0.12)
    assert own.at(params[-1] * 10) > 5.9
    np.testing.assert_allclose(own.tokens(flops[-3:], params[-3:]), tokens[-3:], rtol=0.03)


def test_serving_counts_the_small_model_by_its_own_factor() -> None:
    runs = table()
    factor = 6 * (1 + (3e7 / runs["params"]) ** 0.5)
    fits = fit_skills(runs.assign(flops=factor * runs["params"] * runs["tokens"]))
    found = serve(fits["loss"], 1e12, flops=5e19)
    expected = 6 * (1 + (3e7 / found.params) ** 0.5)
    assert found.per_param_token == pytest.approx(expected, rel=0.03)
    cost = found.params * (found.tokens + 1e12 / 3) * found.per_param_token
    assert found.cost == pytest.approx(cost, rel=1e-3)
