import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import LADDER, world
from fitting.mixture.fit import fit_guarded
from fitting.mixture.lack_of_fit import (
    CHECK_TRIALS,
    ODDS,
    LackOfFit,
    guarded_by,
    lack_of_fit,
    odds_against,
    odds_against_surface,
    predict_top,
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


def test_nothing_to_check_without_trials_at_the_top() -> None:
    assert not predict_top(
        sweep("fail", top=CHECK_TRIALS - 2)[lambda t: t["flops"] > 1e20]
    ).checked
    below = sweep("fail", top=1)
    assert predict_top(below).flops == pytest.approx(6e19, rel=0.01)


def test_the_true_law_foretells_the_top_budget() -> None:
    found = [predict_top(sweep("fail", seed=seed)) for seed in range(10)]
    assert all(v.flops == pytest.approx(3e20, rel=0.01) and v.trials >= 2 for v in found)
    assert sum(v.rejected for v in found) <= 1


def test_a_wrong_law_is_surprised() -> None:
    assert all(predict_top(sweep("sigmoid", seed=seed)).rejected for seed in range(4))


def test_one_bad_trial_is_a_suspect_and_its_repeat_clears_the_law() -> None:
    table = sweep("fail", seed=2)
    top = table[table["flops"] == 3e20]
    bad = top["trial_id"].iloc[0]
    spoiled = table.assign(loss=table["loss"] + 0.2 * (table["trial_id"] == bad))
    assert not predict_top(table).rejected
    found = predict_top(spoiled)
    size = float(top["params"].iloc[0])
    assert found.rejected and found.outlier == pytest.approx(size, rel=1e-6)
    assert odds_against(fit_guarded(spoiled, ladder=LADDER)) < ODDS
    repeat = top[top["trial_id"] == bad].assign(trial_id=10_000)
    cleared = predict_top(pd.concat([spoiled, repeat]))
    assert not cleared.rejected
    confirmed = predict_top(pd.concat([spoiled, repeat.assign(loss=repeat["loss"] + 0.2)]))
    assert confirmed.rejected and np.isnan(confirmed.outlier)


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


def test_alarm_drops_the_plain_surface() -> None:
    fit = fit_guarded(sweep("sigmoid"), ladder=LADDER)
    kept = guarded_by(LackOfFit(odds=1e3), fit)
    assert kept.weights.sum(0) == pytest.approx(1)
    assert (kept.weights[0] == 0).all()
    assert (kept.beyond[0] == 0).all()
    assert guarded_by(LackOfFit(odds=1.0), fit) is fit


def test_row_order_is_immaterial() -> None:
    table = sweep("interact")
    shuffled = table.sample(frac=1, random_state=0)
    assert predict_top(table).statistic == pytest.approx(predict_top(shuffled).statistic, rel=1e-3)
