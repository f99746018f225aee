"""The schedule is the one described, and decay spares what it should."""

from __future__ import annotations

import pytest

from trainables.config import Model, Train
from trainables.model import build
from trainables.optim import make_optimizer, rate_at
from trainables.shapes import solve


def test_the_rate_rises_to_its_peak_and_falls_to_its_final_share() -> None:
    settings = Train(warmup=0.1, final=0.02)
    rates = [rate_at(settings, 32, step, 100) for step in range(100)]
    assert max(rates) == rates[10] == pytest.approx(settings.learning_rate)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02 * settings.learning_rate)


def test_a_training_of_one_step_has_a_rate() -> None:
    assert 0 < rate_at(Train(), 32, 0, 1) <= Train().learning_rate


def test_norms_do_not_decay() -> None:
    network = build(solve(2e4, Model()), seed=0, attention="sdpa")
    decayed, spared = make_optimizer(network, Train(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in spared["params"]} == {1}
    together = [*decayed["params"], *spared["params"]]
    assert sum(p.numel() for p in together) == network.causal.num_parameters()
