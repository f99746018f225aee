"""Rules give their sources' numbers, laws take their place, and batches are whole sequences."""

from __future__ import annotations

from typing import Any

import pytest

from fitting.tuning.published import STEP_LAW
from trainables.config import TrialConfig
from trainables.families import Model, Shape
from trainables.recipe import Recipe, fewest_tokens, recipe
from trainables.shapes import solve
from trainables.training import Law, Power, Train

LARGE = Model(vocabulary=32_000, context=2048, tied=False)
SMALL = solve(2e4, Model())
BIG = solve(1e9, LARGE)


def of(rule: str, shape: Shape, tokens: float) -> Recipe:
    return recipe(Train(rule=rule), shape, round(tokens))


def near(value: Any) -> Any:
    return pytest.approx(float(value), rel=0.02)


def test_the_default_takes_the_numbers_of_the_spec() -> None:
    found = recipe(Train(), SMALL, 480 * 100)
    assert (found.batch, found.steps, found.warmup, found.beta2) == (8, 100, 4, 0.98)
    assert found.learning_rate == Train().peak_rate(SMALL.width)


def test_llama3_runs_between_its_printed_ends() -> None:
    small = solve(40e6, LARGE)
    found = of("llama3", small, 6e18 / 6 / small.params_with_head)
    assert found.learning_rate == pytest.approx(4e-4, rel=0.01)
    assert found.batch * 2048 == pytest.approx(250e3, rel=0.01)
    assert (found.warmup, found.beta2) == (2000, 0.95)
    large = solve(16e9, LARGE)
    found = of("llama3", large, 1e22 / 6 / large.params_with_head)
    assert found.learning_rate == pytest.approx(2e-4, rel=0.01)
    assert found.batch * 2048 == pytest.approx(4e6, rel=0.01)
    assert of("llama3", large, 1e13).batch * 2048 == pytest.approx(4e6, rel=0.01)


def test_published_laws_give_what_their_papers_print() -> None:
    steplaw, body = of("steplaw", BIG, 2e10), BIG.params_without_embeddings
    assert steplaw.learning_rate == near(STEP_LAW.learning_rate(body, 2e10))
    assert steplaw.batch * 2048 == near(STEP_LAW.batch_tokens(body, 2e10))
    porian, params = of("porian", BIG, 2e10), BIG.params_with_head
    assert porian.learning_rate == near(3.7 * params**-0.36)
    assert porian.batch * 2048 == near(0.00037 * 2048 * params**0.703)
    assert porian.warmup * porian.batch * 2048 == pytest.approx(params, rel=0.01)


def test_porian_raises_beta2_at_small_batches() -> None:
    assert of("porian", BIG, 2e10).beta2 == 0.95
    assert of("porian", SMALL, 1e6).beta2 == 0.99


def test_deepseek_counts_attention_and_no_head() -> None:
    found = of("deepseek", BIG, 2e10)
    flops = (BIG.flops_per_token("exact") - 6 * 32_000 * BIG.width) * 2e10
    assert found.learning_rate == pytest.approx(0.3118 * flops**-0.125)
    assert found.batch * 2048 == pytest.approx(0.2920 * flops**0.3271, rel=0.01)


def test_a_law_takes_the_place_of_the_rule() -> None:
    law = Law(learning_rate=Power(2.0, -0.5, 0.1), batch=Power(3.0, tokens_exponent=0.5))
    found = recipe(Train(law=law), SMALL, 360_000)
    params = SMALL.params_with_head
    assert found.learning_rate == pytest.approx(2.0 * params**-0.5 * 360_000**0.1)
    assert found.batch == 30
    assert found.steps == 200
    assert recipe(Train(law=Law(learning_rate=Power(1e-3))), SMALL, 48_000).batch == 8


def test_a_short_training_keeps_half_its_steps_from_a_long_warm_up() -> None:
    found = of("steplaw", SMALL, 1e5)
    assert found.warmup == found.steps // 2


@pytest.mark.parametrize("rule", ["width", "llama3", "deepseek", "porian", "steplaw"])
def test_the_fewest_tokens_are_enough_and_no_more(rule: str) -> None:
    for shape in (SMALL, BIG):
        fewest = fewest_tokens(Train(rule=rule), shape, 40)
        assert of(rule, shape, fewest).steps >= 40
        assert of(rule, shape, 0.9 * fewest).steps < 40


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"rule": "chinchilla"}, "llama3"),
        ({"rule": "llama3", "learning_rate": 1e-3}, "train.learning_rate is not used"),
        ({"rule": "porian", "beta2": 0.9}, "train.beta2 is not used"),
        ({"law": {"learning_rate": {"coefficient": -1}}}, "must be positive"),
        ({"law": {"batch": {"coefficient": 1, "tokens_exponent": 1}}}, "must be below 1"),
        ({"law": {"batch": {"coefficient": 1, "exponent": 1}}}, "exponent"),
        ({"law": {"learning_rate": {"coefficient": 1, "params_exponent": -3}}}, "must lie in"),
    ],
)
def test_bad_rules_and_laws_are_named(train: dict[str, Any], message: str) -> None:
    values = TrialConfig(SMALL, tokens=1000).to_dict()
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_dict({**values, "train": train})


def test_a_law_survives_json_and_identity_leaves_out_what_only_the_run_sees() -> None:
    law = {"batch": {"coefficient": 2.0, "params_exponent": 0.1, "tokens_exponent": 0.2}}
    values = TrialConfig(SMALL, tokens=1000).to_dict() | {"train": {"law": law}}
    config = TrialConfig.from_dict(values)
    assert config.train.law.batch == Power(2.0, 0.1, 0.2)
    assert TrialConfig.from_dict(config.to_dict()) == config
    faster = TrialConfig.from_dict(values | {"train": {"law": law, "threads": 4}})
    assert faster.identity() == config.identity()
    assert recipe(config.train, SMALL, 1000) == config.recipe
