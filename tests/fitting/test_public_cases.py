"""Tables as people in the field have them: the right value, or a status that names the cause."""

from pathlib import Path

import numpy as np
import pytest

import fitting
from fitting.decisions.tradeoffs import serve
from fitting.errors import Status
from fitting.fits import Fits

TABLES = Path(__file__).parents[3] / "shared/cases/tables"
pytestmark = pytest.mark.skipif(not TABLES.exists(), reason=f"{TABLES} is not here")


def fits_of(path: str) -> Fits:
    return fitting.fit_skills(TABLES / path)


def said(fits: Fits) -> str:
    return " ".join(fits.warnings)


@pytest.mark.parametrize(
    ("path", "factor"),
    [
        ("05_nanochat_results/results.csv", (7, 10)),
        ("05_nanochat_results/body_head.csv", (6.5, 7.5)),
    ],
)
def test_measured_flops_give_tokens_in_their_own_count(path, factor):
    fits = fits_of(path)
    (fit,) = fits.values()
    top = fit.optima[-1]
    assert top.ok and 0.4 < fit.law.exponent < 0.65
    assert factor[0] < top.flops / (top.params * top.tokens) < factor[1]


def test_attention_or_embeddings_in_the_flops_are_said():
    assert "times 6 params tokens" in said(fits_of("05_nanochat_results/results.csv"))


@pytest.mark.parametrize("name", ["log", "log_with_run", "final"])
def test_logs_of_one_token_count_say_what_to_train_next(name):
    fits = fits_of(f"09_checkpoints_as_runs/{name}.csv")
    assert len(fits.observations.frame) == 6  # the last line of every run
    assert fits["loss"].status is Status.TOO_FEW_SIZES
    assert "what tokens give cannot" in said(fits)
    assert ("earlier checkpoints" in said(fits)) == (name != "final")


@pytest.mark.parametrize("name", ["active", "as_told", "moe", "total"])
def test_a_mixture_of_experts_is_sized_by_its_active_params(name):
    (fit,) = fits_of(f"10_moe_active_total/{name}.csv").values()
    assert fit.at(1e19).params == pytest.approx(1.12e8, rel=0.05)
    assert fit.law.exponent == pytest.approx(0.515, abs=0.02)


def test_serving_says_the_same_in_either_count():
    whole, body = (fits_of(f"12_serving/{n}.csv")["loss"] for n in ("runs", "runs_nonemb"))
    one, other = (serve(f, 1e12, flops=3e19) for f in (whole, body))
    assert other.per_param_token == pytest.approx(8)
    assert other.params == pytest.approx(0.75 * one.params, rel=0.01)
    assert other.tokens == pytest.approx(one.tokens, rel=0.01)
    assert other.cost == pytest.approx(one.cost, rel=0.01) and one.saving > 0


def test_repeated_tokens_are_named_as_a_cause():
    assert "repeat their data" in said(fits_of("13_epochs/repeats.csv"))


def test_a_ladder_has_optima_and_says_where_they_lie_outside():
    fits = fits_of("14_overtrained_ladder/ladder.csv")
    fit = fits["c4_loss"]
    assert fit.ok and 0.45 < fit.law.exponent < 0.56
    assert {o.status for o in fit.optima} >= {Status.OK, Status.EDGE}
    assert fit.optima[0].status is Status.EDGE and fit.optima[0].extrapolates > 1.3
    assert fit.at(1e22).extrapolates > 10
    assert "not an isoFLOP table" in said(fits)


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("one", Status.TOO_FEW_SIZES, "one training tells no optimum"),
        ("same_tokens", Status.TOO_FEW_SIZES, "four times the tokens"),
        ("twenty_to_one", Status.TOO_FEW_SIZES, "5 and on 80 tokens per param"),
        ("two_by_three", Status.FLAT, "widen their range"),
        ("three_by_four", Status.OK, ""),
    ],
)
def test_few_points_say_what_to_train_next(name, status, words):
    fits = fits_of(f"16_few_points/{name}.csv")
    (fit,) = fits.values()
    assert fit.status is status and words in said(fits)
    if status is Status.OK:
        low, high = fit.at(1e19).interval
        assert low < 2.6e8 < high and high < 1.6 * low


def test_dear_budgets_that_end_below_their_optimum_have_an_edge():
    fit = fits_of("25_cut_off_top_budget/capped.csv")["loss"]
    statuses = [o.status for o in fit.optima]
    assert statuses == [Status.OK, Status.OK, Status.EDGE, Status.EDGE, Status.EDGE]
    widths = np.array([o.log_params_se for o in fit.optima])
    assert (np.diff(widths) > 0).all() and fit.optima[-1].extrapolates > 2
    assert "above the sizes trained" in fit.optima[-1].reason
