"""Branches of one trunk share a part of their noise, and the fit knows it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fitting.mixture.fit import fit_guarded
from fitting.mixture.trunks import whitening
from fitting.synthetic import LADDER, surface_world

WORLD = surface_world({"a": (1.8, 480.0, 2085.0, 0.35, 0.37)})
BUDGETS = LADDER[:4]


def branched(correlation: float, seed: int) -> pd.DataFrame:
    """Ten sizes, each trained once and branched at four budgets."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(WORLD.log_optimum("a", 2e19) + np.linspace(-1.5, 1.5, 10))
    flops, params = np.tile(BUDGETS, len(sizes)), np.repeat(sizes, len(BUDGETS))
    loss = WORLD.expected(params, flops / (6 * params))[0]
    common = np.repeat(rng.standard_normal(len(sizes)), len(BUDGETS))
    own = rng.standard_normal(len(flops))
    noise = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
    return pd.DataFrame(
        {"flops": flops, "params": params, "tokens": flops / (6 * params), "skill": "a"}
    ).assign(loss=loss + 0.01 * noise, trunk=params, trial_id=np.arange(len(flops)))


def test_whitening_makes_the_errors_independent() -> None:
    trunk = np.array([0, 1, 0, 2, 0, 1])
    same = trunk[:, None] == trunk
    correlation = np.where(np.eye(6) == 1, 1.0, 0.7 * same)
    white, log_determinant = whitening(trunk, 0.7)
    assert white @ correlation @ white.T == pytest.approx(np.eye(6), abs=1e-12)
    assert log_determinant == pytest.approx(-0.5 * np.linalg.slogdet(correlation)[1])


def test_trunks_of_one_trial_each_change_nothing() -> None:
    table = branched(0.0, 0)
    alone = fit_guarded(table.assign(trunk=table["trial_id"]), components=(0.0, 1.0))
    without = fit_guarded(table.drop(columns="trunk"), components=(0.0, 1.0))
    assert alone.trunk_correlation == 0
    assert alone.log_optimum(BUDGETS)[0] == pytest.approx(without.log_optimum(BUDGETS)[0])


def test_a_shared_trunk_is_noticed_and_makes_intervals_honest() -> None:
    """On sizes branched at every budget the optima hardly move; what is known of them does."""
    truth = np.array([WORLD.log_optimum("a", c) for c in BUDGETS])
    found, inside, naive = [], [], []
    for seed in range(12):
        table = branched(0.9, seed)
        knowing = fit_guarded(table, ladder=BUDGETS, components=(0.0,))
        ignorant = fit_guarded(table.drop(columns="trunk"), ladder=BUDGETS, components=(0.0,))
        found.append(knowing.trunk_correlation)
        for fit, hits in ((knowing, inside), (ignorant, naive)):
            mean, error = fit.log_optimum(BUDGETS)
            hits.append(float((np.abs(mean[0] - truth) <= 1.645 * error[0]).mean()))
    assert np.median(found) >= 0.6
    assert np.mean(inside) > max(0.7, np.mean(naive) + 0.1)


def test_independent_trials_are_not_taken_for_branches() -> None:
    quiet = [fit_guarded(branched(0.0, s), components=(0.0,)) for s in range(4)]
    assert np.median([fit.trunk_correlation for fit in quiet]) <= 0.3
