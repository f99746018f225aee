from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import LADDER, world
from fitting.mixture.crowd import Crowd
from fitting.mixture.design import (
    Candidates,
    Goal,
    _blocks,
    _projected,
    choose,
    narrowed_by,
)
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.mixture.kinds import APART

CENTRES = np.array([world("fail").log_optimum("aggregate", c) for c in LADDER])


def trials(n: int = 8, budgets: int = 4, half: float = 1.6) -> pd.DataFrame:
    flops = np.repeat(LADDER[:budgets], n)
    params = np.exp(
        np.repeat(CENTRES[:budgets], n) + np.tile(np.linspace(-half, half, n), budgets)
    )
    return world("fail").table(flops, params, np.random.default_rng(0)).dropna()


def places(half: float = 1.6, n: int = 13) -> Candidates:
    flops = np.repeat(LADDER, n)
    log_params = np.repeat(CENTRES, n) + np.tile(np.linspace(-half, half, n), len(LADDER))
    return Candidates(log_params, flops, flops, np.ones(len(flops)))


def at(places: Candidates, indices: list[int]) -> Candidates:
    return Candidates(
        *(v[indices] for v in (places.log_params, places.flops, places.cost, places.chance))
    )


@pytest.fixture(scope="module")
def fit() -> Guarded:
    return fit_guarded(trials(), ladder=LADDER)


GOAL = Goal(LADDER, tolerance=0.1, overhead=LADDER[0])


def ask(fit: Guarded, candidates: Candidates, n: int, **more: object) -> list[int]:
    given = {"pending": Candidates.none(), "remaining": 1e22} | more
    return choose(fit, candidates, GOAL, n=n, **given)  # type: ignore[arg-type]


def test_several_at_once_equal_one_after_the_other_in_training(fit: Guarded) -> None:
    """Rank-1 updates of the projections agree with inverting the updated precision."""
    together = ask(fit, places(), 6)
    one_by_one: list[int] = []
    for _ in range(6):
        training = at(places(), one_by_one) if one_by_one else Candidates.none()
        one_by_one += ask(fit, places(), 1, pending=training)
    assert together == one_by_one
    assert len(set(together)) > 1


def test_repeats_are_worth_what_the_fit_counts_them_for() -> None:
    """Precisions of single trials, each with its factor, add up to m / (1 + (m - 1) r)."""
    alike = np.array([0.0, 0.3, 0.9])
    crowd, summed = Crowd(np.zeros(1), np.ones((1, 1), bool), alike), np.zeros(3)
    for trained in range(1, 6):
        summed += 1 / crowd.factor[:, 0]
        assert summed == pytest.approx(trained / (1 + (trained - 1) * alike))
        crowd = crowd.after(0)


def test_a_place_trained_often_is_left_for_others(fit: Guarded) -> None:
    """What repeats have in common, no seed averages out; without it a place stays as good."""
    best = ask(replace(fit, alike=np.zeros(len(fit.skills))), places(), 1)[0]
    seen, here = fit.measured, at(places(), [best] * 10)
    crowded = replace(
        seen,
        log_params=np.concatenate([seen.log_params, here.log_params]),
        log_flops=np.concatenate([seen.log_flops, np.log(here.flops)]),
        loss=np.pad(seen.loss, ((0, 0), (0, 10)), constant_values=np.nan),
    )
    for alike in (0.0, 0.3):
        known = replace(fit, measured=crowded, alike=np.full(len(fit.skills), alike))
        assert (ask(known, places(), 1)[0] == best) == (alike == 0.0)


def test_gain_is_the_fall_of_variance_that_the_trial_brings(fit: Guarded) -> None:
    """What the score promises for an added trial is what the posterior with it delivers."""
    plain = fit.components[0]
    place = places()
    best = ask(fit, place, 1)[0]
    row = plain.jacobian(place.log_params[best : best + 1], place.flops[best : best + 1])[:, 0]
    aim = plain.target(np.array(LADDER))
    noise = fit.noise**2
    after = np.linalg.inv(
        plain.precision + row[:, :, None] * row[:, None, :] / noise[:, None, None]
    )
    spread = np.einsum("sp,spq->sq", row, np.linalg.inv(plain.precision))
    own = np.einsum("sp,sp->s", spread, row)
    fall = np.einsum("stp,sp->st", aim, spread) ** 2 / (noise + own)[:, None]
    before = np.einsum("stp,spq,stq->st", aim, np.linalg.inv(plain.precision), aim)
    assert np.einsum("stp,spq,stq->st", aim, after, aim) == pytest.approx(before - fall)


def test_cheap_budgets_first_and_nothing_dearer_than_what_remains(fit: Guarded) -> None:
    chosen = ask(fit, places(), 10)
    assert np.median(places().flops[chosen]) <= 1e20
    chosen = ask(fit, places(), 10, remaining=2.5e19)
    assert places().flops[chosen].sum() <= 2.5e19
    assert ask(fit, places(), 3, remaining=5e18) == []


def test_risky_places_are_avoided(fit: Guarded) -> None:
    safe = places()
    best = ask(fit, safe, 1)[0]
    chance = np.ones(len(safe))
    chance[best] = 0.2
    assert ask(fit, Candidates(safe.log_params, safe.flops, safe.cost, chance), 1)[0] != best


def test_more_flops_promise_narrower_intervals(fit: Guarded) -> None:
    some = narrowed_by(fit, places(), GOAL, flops=1e20)
    more = narrowed_by(fit, places(), GOAL, flops=1e21)
    assert more.mean() < some.mean() < 1
    assert narrowed_by(fit, places(), GOAL, flops=1e18) == pytest.approx(1.0)


def test_block_is_worth_what_its_trials_teach_one_after_the_other(fit: Guarded) -> None:
    block, square = [60, 65, 70], GOAL.square
    for member in _projected(fit, places(), Candidates.none(), LADDER):
        promised = member.joint_gain(block, square)
        before = np.einsum("stp,stp->st", member.aim_spread, member.aims)
        for i in block:
            member.learn(i)
        after = np.einsum("stp,stp->st", member.aim_spread, member.aims)
        assert promised == pytest.approx(np.log((square + before) / (square + after)).mean())


def test_blocks_are_considered_only_once_the_law_is_given_up(fit: Guarded) -> None:
    loose = np.array([[float(c.name == APART.name)] * len(fit.skills) for c in fit.components])
    assert _blocks(fit, places()) == []
    found = _blocks(replace(fit, weights=loose), places())
    assert len(found) == len(LADDER) and all(len(block) == 3 for block in found)
