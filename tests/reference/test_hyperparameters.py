"""Published rules of learning rate and batch size, at values their papers print or imply."""

from __future__ import annotations

import pytest

from fitting.tuning.published import STEP_LAW
from trainables.families import Model
from trainables.recipe import deepseek_batch, recipe
from trainables.shapes import solve
from trainables.training import Train


def deepseek_flops(layers: int, width: int, context: int, tokens: float) -> float:
    """C = M t, M = 72 layers width^2 + 12 layers width context (arXiv 2401.02954)."""
    return (72 * layers * width**2 + 12 * layers * width * context) * tokens


def test_deepseek_models_were_trained_by_their_rule() -> None:
    """7 B: 2304 sequences of 4096; 67 B: 4608 (table 2), both on 2 T tokens."""
    small = deepseek_flops(30, 4096, 4096, 2e12)
    large = deepseek_flops(95, 8192, 4096, 2e12)
    assert deepseek_batch(small) == pytest.approx(2304 * 4096, rel=0.1)
    assert deepseek_batch(large) == pytest.approx(4608 * 4096, rel=0.1)
    assert deepseek_batch(1e20) == pytest.approx(0.2920 * 10**6.542)


def test_porian_rule_at_a_hundred_million() -> None:
    shape = solve(1e8, Model(vocabulary=32_000, context=2048))
    found = recipe(Train(rule="porian"), shape, 2_000_000_000)
    assert found.learning_rate == pytest.approx(4.9e-3, rel=0.01)
    assert found.batch == pytest.approx(156, rel=0.02)


def test_step_law_at_its_two_grids() -> None:
    """429 M on 40 B and 1.07 B on 100 B tokens (figure 1), by the constants it prints."""
    for params, tokens in ((4.29e8, 4e10), (1.07e9, 1e11)):
        rate = 1.79 * params**-0.713 * tokens**0.307
        assert float(STEP_LAW.learning_rate(params, tokens)) == pytest.approx(rate, rel=0.02)
        batch = 0.58 * tokens**0.571
        assert float(STEP_LAW.batch_tokens(params, tokens)) == pytest.approx(batch, rel=0.01)
        low, high = STEP_LAW.learning_rate.at(params, tokens).interval
        assert low < rate < high and high / low < 1.2
