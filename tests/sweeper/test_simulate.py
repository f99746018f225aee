"""`Sweep.simulate`: the same search and accounting, on surfaces whose optima are known."""

import math

import pytest

from sweeper import SearchSettings, SpecError, Sweep, TrialFailed

SURFACES = {
    # E, A, B, alpha, beta: knowledge wants capacity, code wants data.
    "knowledge": (1.5, 100.0, 450.0, 0.42, 0.42),
    "code": (1.0, 60.0, 500.0, 0.42, 0.42),
}
NOISE = 0.01


def truth(skill, flops):
    _, a, b, alpha, beta = SURFACES[skill]
    ratio = alpha * a / (beta * b) * (flops / 6) ** beta
    return ratio ** (1 / (alpha + beta))


def losses(allocation, rng):
    return {
        skill: e + a * allocation.params**-alpha + b * allocation.tokens**-beta
        + NOISE * rng.standard_normal()
        for skill, (e, a, b, alpha, beta) in SURFACES.items()
    }  # fmt: skip


def sweep(**search):
    return Sweep(budgets=[1e11, 2e11, 4e11, 8e11], allowance=1e13, search=SearchSettings(**search))


def test_the_surfaces_have_their_optima_inside_the_range_of_sizes():
    for skill in SURFACES:
        for flops in (1e11, 8e11):
            assert 8e3 < truth(skill, flops) < 3e5


@pytest.mark.parametrize("policy", ["adaptive", "grid"])
def test_both_optima_and_exponents_are_recovered(policy):
    outcome = sweep(policy=policy, tolerance=0.15).simulate(losses, seed=3)
    assert outcome.table.groupby("trial_id")["spent_flops"].first().sum() <= 1e13
    fits = outcome.fit()
    for skill in SURFACES:
        assert fits[skill].law.exponent == pytest.approx(0.5, abs=0.1)
        for flops in (1e11, 8e11):
            optimum = fits[skill].at(flops)
            error = math.log(optimum.params / truth(skill, flops))
            assert abs(error) < 0.3
            assert abs(error) < 2.5 * optimum.log_params_se


def test_the_same_seed_gives_the_same_sweep_for_any_number_of_slots():
    one = sweep().simulate(losses, seed=1)
    two = sweep().simulate(losses, seed=1)
    assert one.table.equals(two.table)
    many = sweep().simulate(losses, seed=1, slots=8)
    assert many.table.groupby("trial_id")["spent_flops"].first().sum() <= 1e13


def test_failed_trials_cost_and_the_sweep_goes_on():
    def shaky(allocation, rng):
        if rng.random() < 0.2:
            raise TrialFailed("lost")
        found = losses(allocation, rng)
        return {**found, "code": math.nan} if rng.random() < 0.2 else found

    outcome = sweep(tolerance=0.2).simulate(shaky, seed=0)
    assert {"failed", "diverged", "finished"} == set(outcome.table["status"])
    assert outcome.fit()["code"].at(8e11).ok  # at 4e11 the trial near the optimum failed twice


@pytest.mark.parametrize("returned", [2.31, None, {}])
def test_a_loss_function_that_returns_no_losses_is_told_so(returned):
    sweep = Sweep(budgets=[1e11, 2e11, 4e11], allowance=6e12)
    with pytest.raises(SpecError, match=r"loss_fn: returned .*; return losses"):
        sweep.simulate(lambda allocation, rng: returned)


def test_a_mix_that_no_trial_has_is_refused_by_name():
    outcome = Sweep(budgets=[1e11, 2e11, 4e11], allowance=1e12).simulate(losses)
    with pytest.raises(SpecError, match=r"mix 'bose' is unknown \(did you mean 'base'\?\)"):
        outcome.fit(mix="bose")
