import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import LADDER, World, surface_world, world
from fitting.mixture.fit import fit_guarded
from sweeper.budget import Allocation, Space
from sweeper.errors import TrialFailed
from sweeper.record import timeleft
from sweeper.record.timeleft import ahead_of
from sweeper.search import safeguards
from sweeper.search.adaptive import AdaptiveSearch
from sweeper.search.build import build
from sweeper.search.fit_state import fit_state
from sweeper.search.history import allocations, guess
from sweeper.search.opening import missing
from sweeper.search.protocol import Finished
from sweeper.search.selection import Selection
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings

SIZES = tuple(int(p) for p in np.exp(np.arange(math.log(5e6), math.log(4e10), 0.1)))
SPACE = Space(LADDER, SIZES, tuple(6.0 * p for p in SIZES))
GRID = 8 * sum(LADDER)

TOY_SIZES = tuple(int(p) for p in np.geomspace(7e3, 2.5e5, 25))
TOY = Space((1e11, 2e11, 4e11), TOY_SIZES, tuple(6.0 * p for p in TOY_SIZES), granule=32)
TOY_WORLD = surface_world(
    {
        "copy": (1.0, 60.0, 90.0, 0.40, 0.34),
        "code": (0.8, 25.0, 90.0, 0.34, 0.36),
    },
    noise=0.01,
)


def sweep(
    truth: World, allowance: float, *, space: Space = SPACE, slots: int = 1, **settings: float
) -> pd.DataFrame:
    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        return truth.loss(allocation.params, allocation.tokens, rng)

    search = build(SearchSettings(**settings), space, truth.skills)  # type: ignore[arg-type]
    return run(search, space, loss, skills=truth.skills, allowance=allowance, slots=slots, seed=1)


def errors(table: pd.DataFrame, truth: World, ladder: tuple[float, ...] = LADDER) -> np.ndarray:
    fit = fit_guarded(table[table["loss"].notna()], ladder=ladder)
    wanted = [[truth.log_optimum(s, c) for c in ladder] for s in fit.skills]
    return fit.log_optimum(ladder)[0] - np.array(wanted)


def two_skills() -> World:
    """The aggregate and a skill with larger optima: quicker to fit than six."""
    whole = world("fail")
    return replace(whole, truths=whole.truths[:2])


@pytest.fixture(scope="module")
def toy() -> pd.DataFrame:
    """About thirty trials on three tiny budgets."""
    return sweep(TOY_WORLD, 6e12, space=TOY, tolerance=0.02)


def test_twentieth_of_the_grid_finds_every_optimum() -> None:
    truth = world("fail")
    table = sweep(truth, 0.05 * GRID, slots=4)
    assert np.sqrt((errors(table, truth) ** 2).mean(axis=1)).max() < 0.12
    assert table.attrs["finished"].reason == "allowance"


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_wrong_guess_of_the_optimum_is_made_good(factor: float) -> None:
    truth = two_skills()
    table = sweep(truth, 0.03 * GRID, slots=4, tokens_per_param=20.0 / factor**2)
    assert np.sqrt((errors(table, truth) ** 2).mean()) < 0.15


def test_toy_sweep_uses_all_budgets_and_stays_near_the_optima(toy: pd.DataFrame) -> None:
    trials = toy.drop_duplicates("trial_id")
    assert set(trials["flops"]) == set(TOY.budgets)
    later = trials.iloc[12:]
    distance = [
        min(abs(math.log(p) - TOY_WORLD.log_optimum(s, c)) for s in TOY_WORLD.skills)
        for p, c in zip(later["params"], later["flops"], strict=True)
    ]
    assert np.mean(np.array(distance) <= 1.6) >= 0.8
    assert np.abs(errors(toy, TOY_WORLD, TOY.budgets)).max() < 0.3


def test_says_what_was_reached_and_what_more_would_buy(toy: pd.DataFrame) -> None:
    finished = toy.attrs["finished"]
    assert isinstance(finished, Finished) and finished.reason == "allowance"
    assert "is known to within ±" in finished.detail and "as many again" in finished.detail


def test_stops_when_all_intervals_are_narrow_and_the_law_was_checked() -> None:
    truth = two_skills()
    table = sweep(truth, 1.0 * GRID, slots=4, tolerance=0.2)
    trials = table.drop_duplicates("trial_id")
    assert table.attrs["finished"].reason == "tolerance"
    assert trials["spent_flops"].sum() < 0.35 * GRID  # four of the trials are the end
    assert (trials["flops"] >= 6e19).sum() >= 3
    assert np.abs(errors(table, truth)).max() < 0.3


def test_a_trainer_that_always_fails_is_not_started_two_dozen_times() -> None:
    def broken(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        raise TrialFailed("no such file")

    search = build(SearchSettings(), TOY, TOY_WORLD.skills)
    table = run(search, TOY, broken, skills=TOY_WORLD.skills, allowance=6e12, slots=2, seed=1)
    assert table["trial_id"].nunique() in (6, 7)


def test_region_where_trials_fail_is_left_alone() -> None:
    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        if allocation.params > 90_000:
            raise TrialFailed("out of memory")
        return TOY_WORLD.loss(allocation.params, allocation.tokens, rng)

    late = []
    for seed in range(3):
        search = build(SearchSettings(tolerance=0.02), TOY, TOY_WORLD.skills)
        table = run(search, TOY, loss, skills=TOY_WORLD.skills, allowance=6e12, seed=seed)
        trials = table.drop_duplicates("trial_id")
        late.append((trials.iloc[len(trials) // 2 :]["status"] == "finished").mean())
    assert np.mean(late) > 0.5


def test_opening_is_wide_cheap_and_repeats_one_size() -> None:
    points = missing(SPACE, SearchSettings(), [])
    assert {flops for flops, _ in points} == set(LADDER[:2])
    sizes = [math.log(size) for flops, size in points if flops == LADDER[0]]
    assert max(sizes) - min(sizes) == pytest.approx(2.5, abs=0.15)
    assert len(sizes) == 7 and len(set(sizes)) == 5


@pytest.mark.parametrize("side", [-1, 1])
def test_opening_goes_no_farther_from_the_guess_where_sizes_end(side: int) -> None:
    guessed = guess(LADDER[0], SearchSettings().tokens_per_param)
    there = tuple(p for p in SIZES if side * (math.log(p) - guessed) < 0.5)
    space = Space(LADDER, there, tuple(6.0 * p for p in there))
    points = missing(space, SearchSettings(), [])
    away = [side * (math.log(size) - guessed) for flops, size in points if flops == LADDER[0]]
    assert -1.35 < min(away) < -1.15 and 0.4 < max(away) < 0.5
    assert len(set(away)) == 5


def test_small_allowance_opens_the_cheapest_budget_alone() -> None:
    whole = sum(flops for flops, _ in missing(SPACE, SearchSettings(), []))
    points = missing(SPACE, SearchSettings(), [], allowance=2.2 * whole)
    assert [flops for flops, _ in points] == [LADDER[0]] * 5
    assert len(missing(SPACE, SearchSettings(), [], allowance=2.3 * whole)) == 12


def test_opening_spreads_over_what_can_be_built() -> None:
    few = tuple(p for p in SIZES if 1e8 <= p <= 4e8)
    points = missing(Space(LADDER, few, tuple(6.0 * p for p in few)), SearchSettings(), [])
    sizes = {size for flops, size in points if flops == LADDER[0]}
    assert len(sizes) == 5 and {min(few), max(few)} <= sizes


def test_opening_counts_trials_that_are_there_already() -> None:
    trials = [Allocation(LADDER[0], SIZES[i], 1, seed=i) for i in range(4)]
    assert (
        len(missing(SPACE, SearchSettings(), trials))
        == len(missing(SPACE, SearchSettings(), [])) - 4
    )


def test_many_slots_are_filled_at_once_before_any_loss_is_known() -> None:
    search = build(SearchSettings(), SPACE, ("a",))
    asked = search.propose(pd.DataFrame(columns=list(sweep_columns())), [], GRID, 40)
    assert not isinstance(asked, Finished)
    assert len(asked) == 40 and len(set(asked)) == 40
    assert len({a.params for a in asked}) > 20


def test_many_slots_wait_for_what_is_in_training() -> None:
    """No more is in training than has ended, but for the opening and the check."""
    truth = two_skills()
    search = AdaptiveSearch(SearchSettings(), SPACE)
    free = replace(search, ahead=math.inf)
    table = sweep(truth, 0.03 * GRID, slots=1)
    first = table[table["trial_id"].isin(table["trial_id"].unique()[:12])]
    ended = sum(a.flops for a in allocations(first))

    asked = search.propose(first, [], GRID, 16)
    assert not isinstance(asked, Finished)
    assert 0.5 * ended < sum(a.flops for a in asked) <= ended
    assert not search.propose(first, asked, GRID - ended, 16 - len(asked))

    at_once = free.propose(first, [], GRID, 16)
    assert not isinstance(at_once, Finished) and len(at_once) == 16
    assert sum(a.flops for a in at_once) > ended

    trials = first.drop_duplicates("trial_id")
    trials = trials.assign(state="finished", reserved_flops=0.0, wasted_flops=0.0)
    to_come = ahead_of(search, GRID, trials, first)  # the time left is that of all of them
    assert len(to_come) == timeleft.AHEAD and sum(a.flops for a in to_come) > ended


def sweep_columns() -> tuple[str, ...]:
    from sweeper.search.protocol import COLUMNS

    return COLUMNS


def test_lonely_contrary_trial_of_the_check_is_repeated() -> None:
    """A spoiled trial at the top is trained again before the law is given up."""
    truth = two_skills()
    table = sweep(truth, 0.2 * GRID, slots=2)
    top = table["flops"].max()
    size = table.loc[(table["flops"] == top) & table["loss"].notna(), "params"].iloc[0]
    bad = (table["flops"] == top) & (table["params"] == size)
    spoiled = table.assign(loss=table["loss"] + 0.3 * bad)
    asked = AdaptiveSearch(SearchSettings(tolerance=0.02), SPACE).propose(spoiled, [], GRID, 1)
    assert not isinstance(asked, Finished)
    assert (asked[0].flops, asked[0].params) == (top, size)
    assert asked[0].seed not in set(table.loc[bad, "seed"])


@pytest.mark.parametrize(
    ("larger", "begun", "left", "points"),
    [
        ((), 0, 3.9, 0),
        ((), 0, 4.0, 3),
        ((8e11,), 0, 4.9, 0),
        ((8e11,), 0, 6.0, 3),
        ((8e11,), 0, 3.1, 3),
        ((8e11,), 1, 2.9, 0),
        ((8e11,), 1, 3.0, 2),
    ],
)
def test_the_check_leaves_room_for_what_its_budget_needs(
    toy: pd.DataFrame, larger: tuple[float, ...], begun: int, left: float, points: int
) -> None:
    """Room to repeat a bad trial; below the largest budget for five, or three if none has it."""
    top, space = TOY.budgets[-1], replace(TOY, budgets=(*TOY.budgets, *larger))
    first = toy.loc[toy["flops"] == top, "trial_id"].unique()[:begun]
    table = toy[(toy["flops"] < top) | toy["trial_id"].isin(first)]
    state = fit_state(table, space)
    assert state is not None
    selection = Selection(space, allocations(table), [], remaining=left * top, free=4)
    asked = safeguards.check(state, selection, converged=True)
    assert [flops for flops, _ in asked] == [top] * points


@pytest.mark.parametrize(
    ("left", "aside"), [(3.1, safeguards.CLOSER), (6.0, safeguards.ASIDE)], ids=["small", "ample"]
)
def test_a_check_that_is_all_its_budget_gets_lies_closer(
    toy: pd.DataFrame, left: float, aside: float
) -> None:
    top, space = TOY.budgets[-1], replace(TOY, budgets=(*TOY.budgets, 8e11))
    table = toy[toy["flops"] < top]
    state = fit_state(table, space)
    assert state is not None
    selection = Selection(space, allocations(table), [], remaining=left * top, free=4)
    asked = safeguards.check(state, selection, converged=True)
    optima = state.fit.vertex([top])
    wanted = np.exp([optima.min() - aside, optima.mean(), optima.max() + aside])
    assert [size for _, size in asked] == [selection.nearest(top, x) for x in np.log(wanted)]


@pytest.mark.parametrize(
    ("budgets", "curve"),
    [
        ((1e11,), lambda x, z: 3.0 + 0.05 * (x - 10.5) ** 2 + 0.01 * z),
        ((1e11, 2e11, 4e11), lambda x, z: 3.0),
        ((1e11, 2e11, 4e11), lambda x, z: 3.0 + 0.1 * z),
        ((1e11, 2e11, 4e11), lambda x, z: 5.0 - 0.1 * x + 0.01 * z),
    ],
    ids=["one budget", "constant", "noise only", "no minimum"],
)
def test_losses_that_obey_no_law_do_not_stop_the_sweep(
    budgets: tuple[float, ...], curve: Callable[[float, float], float]
) -> None:
    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        return {"a": curve(math.log(allocation.params), rng.normal())}

    space = replace(TOY, budgets=budgets)
    search = build(SearchSettings(tolerance=0.01), space, ("a",))
    table = run(search, space, loss, skills=("a",), allowance=2.5e12, slots=2)
    assert table.attrs["finished"].reason in ("allowance", "nothing-helps")
    assert table["spent_flops"].sum() > 2e12
