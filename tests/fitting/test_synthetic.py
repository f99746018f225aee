import numpy as np
import pytest

from benchmarks.worlds import LADDER, WORLDS, surface_world, world

BESIROGLU = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)


def closed_form(constants: tuple[float, ...], flops: float) -> float:
    _, a, b, alpha, beta = constants
    share = beta / (alpha + beta)
    return float(np.log(alpha * a / (beta * b)) / (alpha + beta) + share * np.log(flops / 6))


def test_surface_optimum_agrees_with_the_closed_form() -> None:
    truth = surface_world({"ape": BESIROGLU})
    for flops in (1e11, 6e18, 1e25):
        assert truth.log_optimum("ape", flops) == pytest.approx(
            closed_form(BESIROGLU, flops), abs=1e-4
        )


def test_base_world_holds_the_published_constants_and_distances() -> None:
    base = world("fail")
    ape = base.log_optimum("aggregate", 6e18)
    assert ape == pytest.approx(closed_form(BESIROGLU, 6e18), abs=1e-3)
    assert base.log_optimum("knowledge-1", 6e18) - ape == pytest.approx(
        0.38 * np.log(10), abs=1e-3
    )
    gap = base.log_optimum("knowledge-1", 1e21) - base.log_optimum("aggregate", 1e21)
    assert gap == pytest.approx(0.19 * np.log(10), abs=0.01)
    params = np.exp(ape)
    loss = base.expected(np.array([params]), np.array([1e18 / params]))[0, 0]
    want = surface_world({"ape": BESIROGLU}).expected(
        np.array([params]), np.array([1e18 / params])
    )
    assert loss == pytest.approx(want[0, 0], abs=2e-3)


@pytest.mark.parametrize("name", WORLDS)
def test_optimum_is_the_minimum_of_what_is_measured(name: str) -> None:
    truth = world(name)
    for skill, flops in [("aggregate", 6e18), ("code-1", 1e20), ("knowledge-1", 1e22)]:
        best = truth.log_optimum(skill, flops)
        params = np.exp(best + np.array([-0.05, 0.0, 0.05]))
        loss = truth.expected(params, flops / 6 / params)[truth.skills.index(skill)]
        assert loss[1] < loss[0] and loss[1] < loss[2]


@pytest.mark.parametrize("name", ["asym", "interact", "bend", "lrbump"])
def test_departures_move_the_optimum_and_saturation_does_not(name: str) -> None:
    base, sigmoid, other = world("fail"), world("sigmoid"), world(name)
    moved = [abs(other.log_optimum(s, 1e22) - base.log_optimum(s, 1e22)) for s in base.skills]
    assert max(moved) > 0.25
    assert sigmoid.log_optimum("code-1", 1e22) == base.log_optimum("code-1", 1e22)


def test_noise_is_correlated_between_skills_and_bad_trials_have_their_share() -> None:
    truth = world("fail")
    n = 20_000
    params = np.full(n, 2e8)
    tokens = np.full(n, 5e9)
    losses = truth.sample(params, tokens, np.random.default_rng(0))
    broken = np.isnan(losses).all(axis=0)
    assert broken.mean() == pytest.approx(0.025, abs=0.005)
    assert np.array_equal(broken, np.isnan(losses).any(axis=0))
    residual = losses[:, ~broken] - truth.expected(params[~broken], tokens[~broken])
    raised = residual[0] > 0.1
    assert raised.mean() == pytest.approx(0.0256, abs=0.005)
    spread = residual[:, ~raised]
    assert spread.std(axis=1) == pytest.approx([t.noise for t in truth.truths], rel=0.03)
    assert np.corrcoef(spread)[0, 3] == pytest.approx(0.4, abs=0.03)


def test_noisy_world_is_noisier_at_small_budgets() -> None:
    truth, rng = world("noisy"), np.random.default_rng(1)
    spread = []
    for flops in (LADDER[0], LADDER[-1]):
        params = np.full(4000, np.exp(truth.log_optimum("aggregate", flops)))
        tokens = flops / 6 / params
        residual = truth.sample(params, tokens, rng)[0] - truth.expected(params, tokens)[0]
        spread.append(np.nanquantile(np.abs(residual), 0.68))
    assert spread[0] / spread[1] == pytest.approx((1e21 / 6e18) ** 0.3, rel=0.1)


def test_one_loss_and_the_table_speak_of_the_same_world() -> None:
    truth = world("fail")
    one = truth.loss(2e8, 5e9, np.random.default_rng(3))
    table = truth.table(np.array([6e18]), np.array([2e8]), np.random.default_rng(3))
    assert dict(zip(table["skill"], table["loss"], strict=True)) == pytest.approx(one)
    assert list(table.columns) == ["trial_id", "flops", "params", "tokens", "skill", "loss"]


def test_unknown_world_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="lrbump"):
        world("nowhere")
