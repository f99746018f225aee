from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from fitting.datamix.alignment import aligning_ratio
from fitting.datamix.shares import (
    PAPER_BASELINE,
    fit_share_response,
    multiply,
    optima_by_mix,
    paper_mixes,
    slope_difference,
)
from fitting.errors import FittingError, Status
from fitting.reference import mix_optima


def test_multiply_renormalises_and_leaves_the_others_in_proportion() -> None:
    mix = multiply(PAPER_BASELINE, {"knowledge": 2})
    assert math.fsum(mix.values()) == pytest.approx(1)
    assert mix["knowledge"] == pytest.approx(0.7377, abs=1e-4)
    assert mix["code"] / mix["other"] == pytest.approx(0.1992 / 0.2164)
    with pytest.raises(FittingError, match="no class 'maths'"):
        multiply(PAPER_BASELINE, {"maths": 2})
    with pytest.raises(FittingError, match="negative"):
        multiply(PAPER_BASELINE, {"code": -1})


def test_the_papers_thirteen_mixes() -> None:
    mixes, plotted = paper_mixes(), mix_optima()
    assert len(mixes) == 13
    for (name, mix), (_, row) in zip(mixes.items(), plotted.iterrows(), strict=True):
        assert name.replace("knowledge", "know") == row["mix"]
        assert math.fsum(mix.values()) == pytest.approx(1)
        assert mix["knowledge"] == pytest.approx(row["knowledge_share_rule"], abs=2e-4)
        assert mix["code"] == pytest.approx(row["code_share_rule"], abs=3e-4)
        tolerance = 0.011 if name.startswith("other") else 0.002  # see the digitisation's README
        assert mix["knowledge"] == pytest.approx(row["knowledge_share"], abs=tolerance)


def test_slopes_of_the_plotted_optima() -> None:
    plotted = mix_optima()
    knowledge = fit_share_response(plotted["knowledge_share"], plotted["knowledge_params"])
    code = fit_share_response(plotted["code_share"], plotted["code_params"])
    assert knowledge.slope == pytest.approx(0.35, abs=0.01)
    assert code.slope == pytest.approx(0.19, abs=0.01)
    for response in (knowledge, code):
        low, high = response.slope_interval()
        assert 0 < low < response.slope < high
    gap = slope_difference(knowledge, code)
    assert gap.value == pytest.approx(0.163, abs=0.005)
    assert 0.01 < gap.p_value < 0.1


def test_alignment_of_the_plotted_optima_contains_the_printed_ratio() -> None:
    plotted = mix_optima()
    found = aligning_ratio(
        plotted["code_share"] / plotted["knowledge_share"],
        plotted["code_params"],
        plotted["knowledge_params"],
    )
    assert found.status is Status.OK and found.within
    assert found.interval[0] < 2.1 < found.interval[1]
    assert found.params == pytest.approx(2.9e8, rel=0.05)


def test_alignment_is_exact_without_noise() -> None:
    ratio = np.geomspace(0.1, 6, 8)
    found = aligning_ratio(ratio, 3e8 * (ratio / 1.7) ** 0.2, 3e8 * (ratio / 1.7) ** -0.1)
    assert found.ratio == pytest.approx(1.7)
    assert found.params == pytest.approx(3e8)
    assert found.interval == pytest.approx((1.7, 1.7))


def test_alignment_refuses_parallel_optima() -> None:
    rng = np.random.default_rng(0)
    ratio = np.geomspace(0.1, 6, 8)
    noise = np.exp(0.05 * rng.standard_normal((2, 8)))
    found = aligning_ratio(ratio, 3e8 * noise[0], 4e8 * noise[1])
    assert found.status is Status.NOT_IDENTIFIED and math.isnan(found.ratio)
    assert aligning_ratio([1, 1], [1, 1], [1, 1]).status is Status.NOT_IDENTIFIED


def test_response_intervals_hold() -> None:
    rng = np.random.default_rng(1)
    share = np.linspace(0.1, 0.8, 9)
    hits = 0
    for _ in range(300):
        noisy = 3e8 * np.exp(0.3 * share + 0.03 * rng.standard_normal(9))
        response = fit_share_response(share, noisy)
        low, high = response.slope_interval()
        hits += low < 0.3 < high
        below, above = response.interval(share)
        assert (below < response(share)).all() and (response(share) < above).all()
    assert 0.85 < hits / 300 < 0.95


def test_response_needs_three_shares() -> None:
    response = fit_share_response([0.1, 0.1, 0.5, 0.7], [1e8, 2e8, 3e8, math.nan])
    assert response.status is Status.NOT_IDENTIFIED
    assert "1 of 4 mixes" in response.reason
    assert math.isnan(response.slope_se)


def test_optima_by_mix() -> None:
    mixes = {"base": paper_mixes()["base"], "code×4": paper_mixes()["code×4"]}
    sizes = np.geomspace(1e8, 1.2e9, 7)
    frames = [
        pd.DataFrame(
            {
                "mix": name,
                "params": sizes,
                "loss": 2 + 0.05 * np.log(sizes / (3e8 * math.exp(mix["code"]))) ** 2,
                "skill": "code",
                "flops": 6e18,
            }
        )
        for name, mix in mixes.items()
    ]
    found = optima_by_mix(pd.concat(frames), mixes)
    assert list(found["mix"]) == ["base", "code×4"]
    assert np.log(found["params"].iloc[1] / found["params"].iloc[0]) == pytest.approx(
        found["share_code"].iloc[1] - found["share_code"].iloc[0]
    )
    with pytest.raises(FittingError, match="no shares given for mix 'base'"):
        optima_by_mix(pd.concat(frames), {"code×4": mixes["code×4"]})


def test_the_papers_aligning_ratio_by_its_own_kind_of_curve() -> None:
    plotted = mix_optima()
    found = {
        curve: aligning_ratio(
            plotted["code_share"] / plotted["knowledge_share"],
            plotted["code_params"],
            plotted["knowledge_params"],
            curve=curve,
        )
        for curve in ("line", "quadratic", "monotone")
    }
    assert found["line"].ratio == pytest.approx(3.09, abs=0.02)
    for curve in ("quadratic", "monotone"):
        assert found[curve].ratio == pytest.approx(2.1, abs=0.2)
        assert found[curve].interval[0] < 2.1 < found[curve].interval[1]
    assert found["monotone"].params == pytest.approx(2.88e8, rel=0.015)
    with pytest.raises(FittingError, match="curve='cubic'"):
        aligning_ratio([1, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1], curve="cubic")  # type: ignore[arg-type]
    assert not math.isfinite(
        aligning_ratio([1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 3, 9], curve="monotone").interval[1]
    )
