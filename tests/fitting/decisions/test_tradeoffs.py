"""Decisions from fits: weightings, fronts, single runs, serving and sampling per skill."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.checkpoints import QUESTIONS, checkpoint_grid
from benchmarks.worlds import surface_world
from fitting import FitError, Fits, FittingError, Status, Surface, fit_skills, serving_optimum
from fitting.decisions.tradeoffs import (
    flops_reaching,
    one_run,
    pareto_front,
    sampling_laws,
    serve,
    skill_surface,
    trial_noise,
    weighted,
)

# E, A, B, alpha, beta
CONSTANTS = {
    "facts": (1.0, 9500.0, 17000.0, 0.5, 0.5),
    "code": (0.5, 6300.0, 24500.0, 0.5, 0.5),
}
NOISE = 0.004
SURFACES = {name: Surface(*values) for name, values in CONSTANTS.items()}


@pytest.fixture(scope="module")
def fits() -> Fits:
    world = surface_world(CONSTANTS, noise=NOISE)
    flops = np.repeat([1e18, 3e18, 1e19, 3e19], 9)
    params = (flops / 120) ** 0.5 * np.tile(np.geomspace(0.15, 6, 9), 4)
    return fit_skills(world.table(flops, params, np.random.default_rng(2)))


def true_params(weights: dict[str, float], flops: float) -> float:
    a = sum(w * CONSTANTS[s][1] for s, w in weights.items())
    b = sum(w * CONSTANTS[s][2] for s, w in weights.items())
    return float(a / b * (flops / 6) ** 0.5)


def test_a_weighting_has_its_own_optimum(fits: Fits) -> None:
    weights = {"code": 2.0, "facts": 1.0}
    best = weighted(fits, weights).at(1e20)
    assert best.params == pytest.approx(true_params(weights, 1e20), rel=0.1)
    alone = [fits[s].at(1e20).params for s in ("code", "facts")]
    assert alone[0] < best.params < alone[1]
    with pytest.raises(FittingError, match="'cod' is no skill"):
        weighted(fits, {"cod": 1.0})
    with pytest.raises(FittingError, match="not all zero"):
        weighted(fits, {"code": 0.0})


def test_a_front_trades_one_skill_for_the_other(fits: Fits) -> None:
    front = pareto_front(fits, "facts", "code", 1e19, points=5)
    assert (np.diff(front["facts"]) > 0).all() and (np.diff(front["code"]) < 0).all()
    assert (front["params"] * front["tokens"] * 6).to_numpy() == pytest.approx(1e19)
    assert (front["code_low"] < front["code"]).all()


def test_one_run_lies_in_its_interval_nine_times_in_ten(fits: Fits) -> None:
    fit, rng = fits["code"], np.random.default_rng(5)
    assert trial_noise(fit) == pytest.approx(NOISE, rel=0.5)
    params, tokens = 1.2e9, 1e20 / 6 / 1.2e9
    low, high = one_run(fit, params, tokens).interval
    runs = float(SURFACES["code"].loss(params, tokens)) + NOISE * rng.standard_normal(200)
    assert ((low < runs) & (runs < high)).mean() > 0.85
    assert high - low < 6 * NOISE  # the noise counts once


def test_a_method_without_intervals_of_losses_is_refused(fits: Fits) -> None:
    plain = fit_skills(fits.observations.frame, method="surface")
    with pytest.raises(FitError, match="guarded"):
        one_run(plain["code"], 1e9, 1e10)


def test_serving_agrees_with_the_true_surface(fits: Fits) -> None:
    truth = SURFACES["code"]
    best = serve(fits["code"], 1e12, flops=3e19)
    wanted = serving_optimum(truth, 1e12, loss=truth.optimum(3e19).loss)
    assert best.params == pytest.approx(wanted.params, rel=0.15)
    assert best.saving > 0
    assert not serve(fits["code"], 1e12, loss=0.01).ok


def test_the_flops_a_loss_takes_have_an_interval_of_one_training(fits: Fits) -> None:
    for flops, most in ((6e18, 0.2), (1e20, 0.4)):
        loss = SURFACES["code"].optimum(flops).loss
        near = serve(fits["code"], 0.0, loss=loss).training_flops
        low, high = flops_reaching(fits["code"], loss, near)
        assert low < flops < high and math.log(high / low) < most
        outside = flops_reaching(fits["code"], loss, 2 * high)
        assert outside == (pytest.approx(low, rel=2e-3), 2 * high)
    far = SURFACES["code"].optimum(1e24).loss
    low, high = flops_reaching(fits["code"], far, 1e24)
    assert 1e20 < low < 1e24 and high == math.inf
    plain = fit_skills(fits.observations.frame, method="surface")["code"]
    assert all(math.isnan(end) for end in flops_reaching(plain, far, 1e24))


def test_serving_is_as_sure_as_the_fit_is_of_as_many_flops(fits: Fits) -> None:
    fit = fits["code"]
    found = serve(fit, 0.0, flops=1e21)
    known = fit.at(found.training_flops)
    assert known.log_params_se > skill_surface(fit).optimum(1e21).log_params_se
    assert found.log_params_se == known.log_params_se
    assert found.interval[1] / found.params == pytest.approx(known.interval[1] / known.params)


def test_serving_has_no_interval_where_the_fit_has_none() -> None:
    """Six trainings through five constants: the surface's own was 5 % wide, 40 times beyond."""
    flops = np.repeat([1e18, 1e19], 3)
    params = (flops / 120) ** 0.5 * np.tile([0.4, 1.0, 2.5], 2)
    loss = [3.567, 3.501, 3.621, 2.982, 2.933, 3.009]
    table = pd.DataFrame({"flops": flops, "params": params, "skill": "code", "loss": loss})
    found = serve(fit_skills(table.assign(tokens=flops / 6 / params))["code"], 0.0, loss=2.4)
    assert found.ok
    assert not math.isfinite(found.interval[1])


def test_serving_is_withheld_where_the_fits_own_check_fails(
    fits: Fits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fitting.fits._LazyFits.withheld", lambda *_: "Its own check fails.")
    with pytest.raises(FitError, match="check fails"):
        serve(fits["code"], 1e12, flops=1e21)


def test_serving_counts_as_the_table_does(fits: Fits) -> None:
    """Attention counted, say: 7.5 FLOPs per parameter and token."""
    frame = fits.observations.frame
    counted = fit_skills(frame.assign(flops=7.5 * frame["params"] * frame["tokens"]))["code"]
    best = serve(counted, 1.0, flops=1e20)
    assert best.per_param_token == pytest.approx(7.5)
    assert best.training_flops == pytest.approx(1e20, rel=0.01)
    assert best.params == pytest.approx(counted.at(1e20).params, rel=0.1)


def test_a_demand_or_a_loss_is_wanted_not_both(fits: Fits) -> None:
    with pytest.raises(FittingError, match="not both"):
        serve(fits["code"], 1e12)


def questions(skill: str, *, counts: bool) -> pd.DataFrame:
    """Results per question on T^2's grid of checkpoints, from a known law."""
    rng, parts = np.random.default_rng(0), []
    for i, (p, t) in enumerate(zip(*checkpoint_grid()[:2], strict=True)):
        a, b = QUESTIONS.shape(QUESTIONS.surface.loss(p, t))
        chance = np.maximum(rng.beta(float(a), float(b), 200), 1e-12)
        rows = {"params": p, "tokens": t, "skill": skill, "trial_id": i}
        if counts:
            rows |= {"passes": rng.binomial(64, chance), "samples": 64}
        else:
            rows |= {"nll": -np.log(chance)}
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("counts", [False, True])
def test_both_sampling_laws_per_skill(counts: bool) -> None:
    laws = sampling_laws(questions("qa", counts=counts))["qa"]
    # Beta-distributed chances have no additive law of -ln pass@k; that of pass@k is built on them.
    assert laws.nll.status is Status.MISFIT and "fit_pass_law" in laws.nll.reason
    assert laws.rate.ok
    best = laws.rate.optimum(2.56e19, 2e9)
    assert best.ok and best.k > 1
    assert best.tokens_per_param > 20  # more than Chinchilla's
    assert math.isfinite(best.value)
