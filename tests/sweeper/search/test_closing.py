"""The end of a sweep: what reported optima need, and the proof."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import fitting
from benchmarks.worlds import surface_world
from sweeper.budget import Allocation, Space
from sweeper.search import closing
from sweeper.search.adaptive import AdaptiveSearch
from sweeper.search.fit_state import FitState, fit_state
from sweeper.search.history import allocations
from sweeper.search.protocol import COLUMNS, Finished
from sweeper.search.selection import Selection
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings

# The ladder and about the losses of the demo, whose search used to end without any size near
# code's optimum on the largest budget.
SIZES = tuple(int(p) for p in np.geomspace(8.24e3, 2.15e5, 18))
SPACE = Space((1e11, 2e11, 4e11), SIZES, tuple(6.0 * p for p in SIZES), granule=32)
WORLD = surface_world(
    {
        "knowledge": (1.0, 60.0, 90.0, 0.40, 0.34),
        "knowledge-qa": (1.0, 70.0, 80.0, 0.40, 0.34),
        "code": (0.8, 12.0, 90.0, 0.34, 0.36),
        "validation": (1.5, 40.0, 90.0, 0.38, 0.35),
    },
    noise=0.03,
)
ALLOWANCE = 6e12


def loss(allocation: Allocation, rng: np.random.Generator) -> Mapping[str, float]:
    return WORLD.loss(allocation.params, allocation.tokens, rng)


def sweep(
    seed: int,
    slots: int,
    *,
    proves: bool = True,
    allowance: float = ALLOWANCE,
    **settings: float,
) -> pd.DataFrame:
    search = AdaptiveSearch(SearchSettings(**settings), SPACE, proves)  # type: ignore[arg-type]
    return run(
        search, SPACE, loss, skills=WORLD.skills, allowance=allowance, slots=slots, seed=seed
    )


# Of twelve such sweeps one or two end with one optimum of twelve at the edge of its sizes: their
# last losses moved it (seed 11), and four have an optimum without a size near it to prove first.
@pytest.fixture(scope="module", params=[(0, 1), (1, 4)], ids=["one slot", "four slots"])
def ended(request: pytest.FixtureRequest) -> pd.DataFrame:
    return sweep(*request.param)


def test_every_reported_optimum_has_trials_near_it_and_on_both_sides(ended: pd.DataFrame) -> None:
    fits = fitting.fit_skills(ended)
    found = {(s, c): fits[s].at(c).status for s in WORLD.skills for c in SPACE.budgets}
    assert set(found.values()) == {"ok"}, found


def test_the_last_trial_is_a_proof_at_the_optimum_of_the_aggregate(ended: pd.DataFrame) -> None:
    trials = ended.drop_duplicates("trial_id")
    first = trials[trials["seed"] >= closing.PROOF_SEED].iloc[0]
    before = ended[ended["seed"] < closing.PROOF_SEED]
    told = closing.predict(before, SPACE, SPACE.allocation(4e11, int(first["params"])))
    nearest = min(SIZES, key=lambda p: abs(math.log(p / told["validation"]["optimum"])))
    assert (first["flops"], first["params"]) == (4e11, nearest)
    assert first["seed"] == closing.PROOF_SEED + before["trial_id"].nunique()
    assert trials["seed"].iloc[-1] >= closing.PROOF_SEED


def test_what_is_predicted_holds_for_most_losses() -> None:
    held = []
    for seed in range(2):
        table = sweep(seed, 8)
        proof = table[table["seed"] >= closing.PROOF_SEED]
        assert len(proof)
        before = table[table["seed"] < closing.PROOF_SEED]
        for size, rows in proof.groupby("params"):
            told = closing.predict(before, SPACE, SPACE.allocation(4e11, int(size)))
            held += [
                told[r.skill]["low"] <= r.loss <= told[r.skill]["high"] for r in rows.itertuples()
            ]
    assert np.mean(held) >= 0.7


def test_also_a_search_that_reached_its_tolerance_proves_it() -> None:
    table = sweep(0, 2, tolerance=0.6, min_trials=15, allowance=2 * ALLOWANCE)
    assert table.attrs["finished"].reason == "tolerance"
    assert (table["seed"] >= closing.PROOF_SEED).any()
    assert table.drop_duplicates("trial_id")["spent_flops"].sum() < 1.2 * ALLOWANCE


def test_a_sweep_that_goes_on_proves_again() -> None:
    table = sweep(1, 8)
    search = AdaptiveSearch(SearchSettings(tolerance=0.01), SPACE)
    assert isinstance(search.propose(table, [], 3e11, 1), Finished)
    more = search.propose(table, [], ALLOWANCE, 1)
    assert not isinstance(more, Finished) and more[0].seed < closing.PROOF_SEED
    stale = [a for a in allocations(table) if a.seed >= closing.PROOF_SEED]
    others = [SPACE.allocation(1e11, SIZES[i], seed=50 + i) for i in range(8)]
    selection = Selection(SPACE, [*allocations(table), *others], [], ALLOWANCE, 1)
    assert stale and closing.proven(selection) == 0


def test_one_that_proves_nothing_spends_its_last_trials_elsewhere() -> None:
    assert (sweep(0, 1, proves=False)["seed"] < closing.PROOF_SEED).all()


def pinned(
    offsets: Mapping[float, list[float]], skills: tuple[str, ...] = ("validation",)
) -> tuple[FitState, Selection]:
    """A state of trials at offsets in ln p round the aggregate's optimum of each budget."""
    rng, rows = np.random.default_rng(0), []
    for c, at in offsets.items():
        for i, offset in enumerate(at):
            a = SPACE.allocation(c, math.exp(WORLD.log_optimum("validation", c) + offset), i)
            row, losses = (f"{c}-{i}", a.flops, a.params, a.tokens, a.seed, "base"), loss(a, rng)
            rows += [(*row, skill, losses[skill], "finished", a.flops) for skill in skills]
    table = pd.DataFrame(rows, columns=COLUMNS)
    state = fit_state(table, SPACE)
    assert state is not None
    return state, Selection(SPACE, allocations(table), [], 1e12, 4)


FULL = [-1.0, -0.5, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("top", "low", "high"),
    [
        ([-1.0, -0.7, 0.8, 1.0], -0.3, 0.3),  # none near
        ([-1.0, -0.6, -0.3], 0.15, 0.6),  # none above
        ([0.3, 0.7, 1.2], -0.6, -0.15),  # none below
    ],
)
def test_a_gap_is_filled_where_it_is(top: list[float], low: float, high: float) -> None:
    state, selection = pinned({1e11: FULL, 2e11: FULL, 4e11: top})
    points = closing.gaps(state, selection, state.optima)
    assert [flops for flops, _ in points] == [4e11]
    optimum = float(state.fit.vertex([4e11])[0, 0])
    assert low <= math.log(points[0][1]) - optimum <= high


def test_a_proof_for_which_alone_there_are_flops_goes_where_a_size_is_lacking() -> None:
    full, top = [-1.7, -1.1, *FULL], [-1.9, -0.2, 0.1, 0.5, 1.0]  # code's lies at -1.1
    both = ("code", "validation")
    state, selection = pinned({1e11: full, 2e11: full, 4e11: top}, both)
    last = Selection(selection.space, selection.ended, [], 4.5e11, 1)
    proof = closing.proof(state, last)
    assert proof is not None and proof.flops == 4e11
    code, aggregate = (WORLD.log_optimum(skill, 4e11) for skill in both)
    x = math.log(proof.params)
    assert abs(x - code) < 0.4 < abs(x - aggregate)
    state, selection = pinned({1e11: full, 2e11: full, 4e11: full}, both)
    last = Selection(selection.space, selection.ended, [], 4.5e11, 1)
    proof = closing.proof(state, last)
    assert proof is not None and abs(math.log(proof.params) - aggregate) < 0.4


def test_a_budget_without_sizes_to_train_is_left_alone() -> None:
    state, selection = pinned({1e11: FULL, 2e11: FULL, 4e11: [-1.0, -0.7, 0.8]})
    few = replace(selection.space, max_tokens=4e11 / 6 / SIZES[-1] / 2)
    assert not few.allowed(4e11)
    selection = Selection(few, selection.ended, [], 1e13, 4)
    assert all(flops < 4e11 for flops, _ in closing.gaps(state, selection, state.optima))
    proof = closing.proof(state, selection)
    assert proof is None or proof.flops < 4e11


def test_no_gap_where_all_is_there_or_nothing_was_trained() -> None:
    state, selection = pinned({1e11: FULL, 2e11: FULL})
    assert closing.gaps(state, selection, state.optima) == []
