"""Skills that say nothing are named, each for its own reason, and sound ones are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fitting import Status, fit_skills
from sweeper.analysis.weak import weak_skills
from sweeper.spec.scoring import few_targets

Losses = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _sound(p: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 1.0 + 60 / p**0.42 + 500 / t**0.42 + 0.01 * rng.standard_normal(p.size)


def _table(**skills: Losses) -> pd.DataFrame:
    rng, parts = np.random.default_rng(0), []
    flops = np.repeat([1e11, 3e11, 1e12], 7)
    params = np.sqrt(flops / 120) * np.tile(np.geomspace(0.3, 3.5, 7), 3)
    tokens = flops / 6 / params
    for skill, losses in skills.items():
        columns = {"flops": flops, "params": params, "tokens": tokens, "skill": skill}
        frame = pd.DataFrame({**columns, "loss": losses(params, tokens, rng)})
        parts.append(frame.assign(trial_id=np.arange(flops.size), target_tokens=5000.0))
    return pd.concat(parts, ignore_index=True)


def _weak(table: pd.DataFrame, **more: Any) -> dict[str, str]:
    return weak_skills(fit_skills(table.drop(columns="target_tokens")), table, **more)


def test_a_sound_skill_is_not_named() -> None:
    assert _weak(_table(code=_sound), vocabulary=512) == {}


def test_noise_is_not_blamed_for_a_table_without_valleys() -> None:
    """Sizes on one ratio of tokens to params: no budget has two of them, whatever the noise."""
    params = np.geomspace(3e7, 1e9, 9)
    loss = 1 + 600 / params**0.36 + 900 / (20 * params) ** 0.3
    loss += 0.004 * np.random.default_rng(0).normal(size=9)
    table = pd.DataFrame({"params": params, "tokens": 20 * params, "loss": loss})
    fits = fit_skills(table.assign(skill="code", flops=120 * params**2))
    assert {best.status for best in fits["code"].optima} == {Status.NOT_IDENTIFIED}
    assert weak_skills(fits) == {}


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        # Random digits: their frequencies are learned at once, and then nothing.
        (lambda p, t, rng: math.log(10) + 0.004 * rng.standard_normal(p.size), "nothing of it is"),
        (lambda p, t, rng: 2 - 2e-5 * np.log(p * t), "its loss does not fall"),  # by 0.0 %
        (lambda p, t, rng: 6.3 + 0.1 * rng.standard_normal(p.size), "no better than guessing"),
        (
            lambda p, t, rng: _sound(p, t, rng) + np.random.default_rng(1).normal(0, 4, p.size),
            "noise hides",
        ),
    ],
    ids=["unlearnable", "unmoved", "uniform", "noisy"],
)
def test_a_skill_that_says_nothing_is_named_with_the_reason(losses: Losses, said: str) -> None:
    found = _weak(_table(code=_sound, odd=losses), vocabulary=512)
    assert list(found) == ["odd"]
    assert found["odd"].startswith("odd says nothing yet: ") and said in found["odd"]


def test_an_optimum_beyond_the_sizes_is_not_lost_in_noise() -> None:
    def falling(p: np.ndarray, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return 6 - 0.1 * np.log(t) + rng.normal(0, 0.02, p.size)  # the smaller the better

    assert _weak(_table(code=falling)) == {}


def test_few_targets_are_named_whatever_the_curve() -> None:
    table = _table(code=_sound, tiny=_sound)
    table.loc[table["skill"] == "tiny", "target_tokens"] = 40.0
    found = _weak(table)
    assert list(found) == ["tiny"]
    assert "measured on 40 target tokens" in found["tiny"] and "500 or more" in found["tiny"]
    assert few_targets(500) == ""


def test_a_mean_loss_of_nobody_knows_how_many_targets_is_not_called_few() -> None:
    assert _weak(_table(code=_sound).assign(target_tokens=1.0)) == {}


def test_one_diverged_trial_hides_no_optimum() -> None:
    table = _table(code=_sound)
    table.loc[5, "loss"] = 9.0
    assert _weak(table) == {}


def test_small_models_on_the_largest_budget_are_not_a_skill_unlearned() -> None:
    table = _table(code=_sound, other=_sound)
    top = (table["skill"] == "code") & (table["flops"] == table["flops"].max())
    table.loc[top, "loss"] = table.loc[table["flops"] == 1e11, "loss"].max()
    assert "learned" not in _weak(table).get("code", "")
