"""The schedule is the one described, and decay spares what it should."""

from __future__ import annotations

import pytest

from trainables.engine.model import build
from trainables.engine.optim import make_optimizer, rate_at
from trainables.families import Model
from trainables.recipe import recipe
from trainables.shapes import solve
from trainables.training import Train

SHAPE = solve(2e4, Model())


def rates(settings: Train, steps: int) -> list[float]:
    found = recipe(settings, SHAPE, 480 * steps)
    return [rate_at(settings, found, step) for step in range(steps)]


def test_the_rate_rises_to_its_peak_and_falls_to_its_final_share() -> None:
    settings = Train(warmup=0.1, final=0.02)
    found = rates(settings, 100)
    assert max(found) == found[10] == pytest.approx(settings.peak_rate(SHAPE.width))
    assert found[:10] == sorted(found[:10])
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[-1] == pytest.approx(0.02 * found[10])


def test_wsd_is_constant_until_its_last_steps() -> None:
    found = rates(Train(schedule="wsd", warmup=0.1, final=0.1, decay=0.2), 100)
    assert set(found[10:80]) == {max(found)}
    assert found[79] > found[80] > found[-1] == pytest.approx(0.1 * max(found))


def test_a_training_of_one_step_has_a_rate() -> None:
    for schedule in ("cosine", "wsd"):
        assert 0 < rates(Train(schedule=schedule), 1)[0] <= Train().peak_rate(SHAPE.width)


def test_norms_do_not_decay() -> None:
    network = build(SHAPE, seed=0, attention="sdpa")
    settings = Train(weight_decay=0.1)
    optimizer = make_optimizer(network, settings, recipe(settings, SHAPE, 48_000))
    decayed, spared = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in spared["params"]} == {1}
    together = [*decayed["params"], *spared["params"]]
    assert sum(p.numel() for p in together) == network.causal.num_parameters()
