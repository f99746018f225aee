import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import LADDER, world
from fitting.mixture.fit import fit_guarded
from fitting.mixture.lack_of_fit import (
    ODDS,
    LackOfFit,
    lack_of_fit,
    odds_against,
    odds_against_surface,
)


def sweep(name: str, top: int = 4, seed: int = 0) -> pd.DataFrame:
    """Wide grids on four cheap budgets and a few trials at 3e20 FLOPs."""
    truth = world(name)
    flops = np.array([*np.repeat(LADDER[:4], 8), *[3e20] * top])
    offsets = [*np.tile(np.linspace(-1.6, 1.6, 8), 4), *np.linspace(-1.5, 2.0, top)]
    centre = [truth.log_optimum("aggregate", c) for c in flops]
    return truth.table(
        flops, np.exp(np.add(centre, offsets)), np.random.default_rng(seed)
    ).dropna()


def grid(name: str, seed: int) -> pd.DataFrame:
    """Eight sizes on all budgets."""
    truth = world(name)
    centre = np.array([truth.log_optimum("aggregate", c) for c in LADDER])
    sizes = np.exp((centre[:, None] + np.linspace(-1.6, 1.6, 8)).ravel())
    return truth.table(np.repeat(LADDER, 8), sizes, np.random.default_rng(seed)).dropna()


def test_one_bad_trial_at_the_top_raises_no_alarm() -> None:
    table = sweep("fail", seed=2)
    bad = table.loc[table["flops"] == 3e20, "trial_id"].iloc[0]
    spoiled = table.assign(loss=table["loss"] + 0.2 * (table["trial_id"] == bad))
    assert odds_against(fit_guarded(spoiled, ladder=LADDER)) < ODDS


@pytest.mark.parametrize("name", ["fail", "asym", "noisy"])
def test_a_law_that_holds_raises_no_alarm(name: str) -> None:
    for seed in range(3):
        fit = fit_guarded(sweep(name, seed=seed), ladder=LADDER)
        assert odds_against(fit) < ODDS and odds_against_surface(fit) < ODDS


@pytest.mark.parametrize("name", ["interact", "sigmoid"])
def test_a_law_that_does_not_hold_raises_the_alarm(name: str) -> None:
    for seed in range(2):
        table = sweep(name, seed=seed) if name == "sigmoid" else grid(name, seed)
        fit = fit_guarded(table, ladder=LADDER)
        assert LackOfFit(surface_odds=odds_against_surface(fit)).off_surface


def test_two_budgets_or_few_trials_are_not_judged() -> None:
    table = sweep("sigmoid")
    fit = fit_guarded(table, ladder=LADDER)
    assert lack_of_fit(table, fit).off_surface
    two = table[table["flops"].isin(LADDER[:2])]
    few = table[table["trial_id"] % 2 == 0]
    assert not lack_of_fit(two, fit).tested and not lack_of_fit(few, fit).tested
