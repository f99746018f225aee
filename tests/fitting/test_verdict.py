import numpy as np
import pandas as pd
import pytest

from fitting.optima import fit_guarded
from fitting.synthetic import LADDER, world
from fitting.verdict import CHECK_TRIALS, guarded_by, verdict


def sweep(name: str, top: int = 4, seed: int = 0) -> pd.DataFrame:
    """Wide grids on four cheap budgets and a few trials at 3e20 FLOPs."""
    truth = world(name)
    flops = np.array([*np.repeat(LADDER[:4], 8), *[3e20] * top])
    offsets = [*np.tile(np.linspace(-1.6, 1.6, 8), 4), *np.linspace(-1.5, 2.0, top)]
    centre = [truth.log_optimum("aggregate", c) for c in flops]
    return truth.table(
        flops, np.exp(np.add(centre, offsets)), np.random.default_rng(seed)
    ).dropna()


def test_nothing_to_check_without_trials_at_the_top() -> None:
    assert not verdict(sweep("fail", top=CHECK_TRIALS - 2)[lambda t: t["flops"] > 1e20]).checked
    below = sweep("fail", top=1)
    assert verdict(below).flops == pytest.approx(6e19, rel=0.01)


def test_the_true_law_foretells_the_top_budget() -> None:
    found = [verdict(sweep("fail", seed=seed)) for seed in range(10)]
    assert all(v.flops == pytest.approx(3e20, rel=0.01) and v.trials >= 2 for v in found)
    assert sum(v.alarm for v in found) <= 1


def test_a_wrong_law_raises_the_alarm() -> None:
    assert all(verdict(sweep("sigmoid", seed=seed)).alarm for seed in range(4))


def test_one_bad_trial_is_a_suspect_and_its_repeat_clears_the_law() -> None:
    table = sweep("fail", seed=2)
    top = table[table["flops"] == 3e20]
    bad = top["trial_id"].iloc[0]
    spoiled = table.assign(loss=table["loss"] + 0.2 * (table["trial_id"] == bad))
    assert not verdict(table).alarm
    found = verdict(spoiled)
    size = float(top["params"].iloc[0])
    assert found.alarm and found.suspect == pytest.approx(size, rel=1e-6)
    repeat = top[top["trial_id"] == bad].assign(trial_id=10_000)
    cleared = verdict(pd.concat([spoiled, repeat]))
    assert not cleared.alarm
    confirmed = verdict(pd.concat([spoiled, repeat.assign(loss=repeat["loss"] + 0.2)]))
    assert confirmed.alarm and np.isnan(confirmed.suspect)


def test_alarm_drops_the_plain_surface() -> None:
    table = sweep("sigmoid")
    fit, found = fit_guarded(table, ladder=LADDER), verdict(table)
    kept = guarded_by(found, fit)
    assert found.alarm
    assert kept.weights.sum() == pytest.approx(1)
    assert all(w == 0 for w, c in zip(kept.weights, kept.components, strict=True) if c.h == 0)


def test_row_order_is_immaterial() -> None:
    table = sweep("interact")
    shuffled = table.sample(frac=1, random_state=0)
    assert verdict(table).statistic == pytest.approx(verdict(shuffled).statistic, rel=1e-3)
