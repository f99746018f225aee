from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fitting.datamix.composition import compose, composition_range, share_sweep
from fitting.errors import FittingError, Status
from fitting.isoflop import fit_isoflop
from fitting.laws.bootstrap import draw_curves
from fitting.values import Optimum

SIZES = 4e8 * np.geomspace(0.3, 4, 9)


def table(
    optima: dict[str, tuple[float, float]], *, noise: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Skills given as (ln of p* / 4e8, curvature) on one budget."""
    rng = np.random.default_rng(seed)
    frames = []
    for skill, (shift, curvature) in optima.items():
        loss = 2 + curvature / 2 * (np.log(SIZES / 4e8) - shift) ** 2
        loss += noise * rng.standard_normal(len(SIZES))
        frames.append(pd.DataFrame({"params": SIZES, "loss": loss, "skill": skill}))
    return pd.concat(frames, ignore_index=True).assign(flops=1e19)


def optimum_under(data: pd.DataFrame, weights: dict[str, float]) -> Optimum:
    """Optimum of the weighted loss on the one budget of `table`."""
    made = compose(data, weights)
    return fit_isoflop(made["params"], made["loss"], flops=1e19)


def test_weighted_optimum_is_the_curvature_weighted_mean() -> None:
    data = table({"facts": (0.4, 0.2), "code": (-0.2, 0.05)})
    found = optimum_under(data, {"facts": 3.0, "code": 1.0})
    expected = (3 * 0.2 * 0.4 + 0.05 * -0.2) / (3 * 0.2 + 0.05)
    assert math.log(found.params / 4e8) == pytest.approx(expected)


def test_share_sweep_runs_from_one_skill_to_the_other() -> None:
    data = table({"facts": (0.4, 0.1), "code": (-0.2, 0.1)}, noise=0.001)
    found = share_sweep(data, "facts", "code", shares=[0.0, 0.5, 1.0])
    assert list(found["share"]) == [0.0, 0.5, 1.0]
    assert found["log_ratio"].iloc[0] == 0.0
    assert found["log_ratio"].iloc[2] == pytest.approx(0.6, abs=0.05)
    assert found["params"].is_monotonic_increasing
    assert (found["log_ratio_low"] <= found["log_ratio"]).all()
    assert (found["log_ratio"] <= found["log_ratio_high"]).all()
    assert set(found["status"]) == {Status.OK}


def test_shares_and_skills_that_are_none_are_refused() -> None:
    data = table({"facts": (0.4, 0.1), "code": (-0.2, 0.1)})
    for second, shares, why in (
        ("facts", [0.5], "given twice"),
        ("code", [2.0, -1.0], "between 0 and 1"),
        ("code", "some", "shares: give numbers"),
    ):
        with pytest.raises(FittingError, match=why):
            share_sweep(data, "facts", second, shares=shares)
    (found,) = composition_range(data, skills="code")
    assert set(found.optima) == {"code"}


def test_extremes_over_all_weightings_are_single_skills() -> None:
    data = table({"a": (0.4, 0.1), "b": (-0.2, 0.3), "c": (0.1, 0.02)})
    (found,) = composition_range(data)
    assert (found.smallest, found.largest) == ("b", "a")
    assert found.log_ratio == pytest.approx(0.6)
    assert found.percent == pytest.approx(100 * math.expm1(0.6))
    rng = np.random.default_rng(0)
    for _ in range(50):
        weights = dict(zip("abc", rng.dirichlet(np.ones(3)), strict=True))
        mixed = optimum_under(data, weights)
        assert found.optima["b"] <= mixed.params <= found.optima["a"]


def test_range_interval_holds_even_when_there_is_no_range() -> None:
    hits = {0.0: 0, 0.3: 0}
    for true in hits:
        for seed in range(40):
            spread = {"a": (0.0, 0.1), "b": (true, 0.1), "c": (true / 2, 0.1)}
            (found,) = composition_range(table(spread, noise=0.004, seed=seed), draws=200)
            hits[true] += found.interval[0] <= true <= found.interval[1]
    assert hits[0.0] / 40 > 0.75  # .86 over 500 tables
    assert hits[0.3] / 40 > 0.85  # .96 over 500 tables


def test_unusable_skill_is_left_out_and_named() -> None:
    data = table({"a": (0.4, 0.1), "b": (-0.2, 0.1), "bad": (0.0, -0.1)})
    (found,) = composition_range(data)
    assert set(found.optima) == {"a", "b"}
    assert "negative" in found.excluded["bad"]
    (alone,) = composition_range(data, skills=["a", "bad"])
    assert math.isnan(alone.log_ratio)


def test_a_composite_is_a_skill_like_any_other() -> None:
    data = table({"facts": (0.4, 0.2), "code": (-0.2, 0.05)}, noise=0.001)
    data.loc[0, "loss"] = math.nan
    made = compose(data, {"facts": 3.0, "code": 1.0}, name="ours")
    assert len(made) == len(SIZES) - 1
    whole = data.pivot(index="params", columns="skill", values="loss").dropna()
    expected = 0.75 * whole["facts"] + 0.25 * whole["code"]
    np.testing.assert_allclose(made.set_index("params")["loss"].sort_index(), expected)
    assert set(made["skill"]) == {"ours"}


def test_only_trials_with_all_skills_count() -> None:
    data = table({"a": (0.4, 0.1), "b": (-0.2, 0.1)})
    data.loc[0, "loss"] = 99.0
    kept = data.drop(index=len(SIZES))  # skill b was not measured on that trial
    found = optimum_under(kept, {"a": 1.0, "b": 1.0})
    assert math.log(found.params / 4e8) == pytest.approx(0.1)


@pytest.mark.parametrize("weights", [{"a": -1.0, "b": 2.0}, {"a": 0.0}, {"a": math.nan}])
def test_bad_weights(weights: dict[str, float]) -> None:
    with pytest.raises(FittingError, match="weights"):
        optimum_under(table({"a": (0.4, 0.1), "b": (0.0, 0.1)}), weights)


def test_draws_reproduce_the_covariance_between_skills() -> None:
    rng = np.random.default_rng(1)
    x = np.log(np.tile(SIZES, 30))
    common = 0.003 * rng.standard_normal(len(x))
    own = 0.001 * rng.standard_normal((len(x), 2))
    losses = 2 + 0.05 * (x - np.log(4e8))[:, None] ** 2 + common[:, None] + own
    drawn = draw_curves(x, losses, n=4000)
    assert drawn is not None
    ends = np.stack([drawn.vertices(w) for w in np.eye(2)], axis=1)
    assert np.corrcoef(ends.T)[0, 1] == pytest.approx(0.9, abs=0.03)
    assert draw_curves(x[:3], losses[:3]) is None
