"""What every search policy must do, whatever it prefers."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import surface_world
from sweeper.budget import Allocation, Space
from sweeper.errors import TrialFailed
from sweeper.search.adaptive import AdaptiveSearch
from sweeper.search.build import build
from sweeper.search.protocol import COLUMNS, Finished, Search
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings

BUDGETS = (1e11, 2e11, 4e11)
SIZES = tuple(int(p) for p in np.geomspace(7e3, 2.5e5, 25))
SPACE = Space(BUDGETS, SIZES, tuple(6.0 * p for p in SIZES), granule=32, min_tokens=640)
WORLD = surface_world(
    {
        "copy": (1.0, 60.0, 90.0, 0.40, 0.34),
        "code": (0.8, 25.0, 90.0, 0.34, 0.36),
    },
    noise=0.01,
)
ALLOWANCE = 6e12


def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
    if rng.random() < 0.1:
        raise TrialFailed("unlucky")
    return WORLD.loss(allocation.params, allocation.tokens, rng)


def observed(search: Search, slots: int = 1, allowance: float = ALLOWANCE) -> pd.DataFrame:
    return run(search, SPACE, loss, skills=WORLD.skills, allowance=allowance, slots=slots)


def trial(allocation: Allocation, trial_id: int = 999) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    losses = WORLD.loss(allocation.params, allocation.tokens, rng)
    a = allocation
    rows = [
        (trial_id, a.flops, a.params, a.tokens, a.seed, a.mix, s, v, "finished", a.flops)
        for s, v in losses.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


SETTINGS = {
    "adaptive": SearchSettings("adaptive"),
    "grid": SearchSettings("grid", sizes_per_budget=5),
    "tpe": SearchSettings("optuna", sizes_per_budget=5),
    "gp": SearchSettings("optuna", sampler="gp", sizes_per_budget=5),
}


@pytest.fixture(scope="module", params=list(SETTINGS))
def search(request: pytest.FixtureRequest) -> Search:
    return build(SETTINGS[request.param], SPACE, WORLD.skills)


@pytest.fixture(scope="module")
def half(search: Search) -> pd.DataFrame:
    """The ledger of a sweep that was cut off."""
    table = observed(search)
    return table[table["trial_id"].isin(table["trial_id"].unique()[:9])]


class TestPolicy:
    def test_starts_from_an_empty_ledger(self, search: Search) -> None:
        asked = search.propose(pd.DataFrame(columns=COLUMNS), [], ALLOWANCE, 3)
        assert not isinstance(asked, Finished)
        assert len(asked) == 3 and len(set(asked)) == 3

    def test_asks_only_for_what_can_be_trained(self, search: Search, half: pd.DataFrame) -> None:
        asked = search.propose(half, [], ALLOWANCE, 6)
        assert not isinstance(asked, Finished) and asked
        for a in asked:
            assert a.flops in BUDGETS and a.params in SIZES and a.tokens % 32 == 0
            assert 0 < SPACE.cost(a) <= a.flops

    def test_never_exceeds_what_remains(self, search: Search, half: pd.DataFrame) -> None:
        for remaining in (0.99e11, 1e11, 2.5e11, 1e12):
            asked = search.propose(half, [], remaining, 8)
            if isinstance(asked, Finished):
                assert asked.reason in ("tolerance", "allowance", "complete", "nothing-helps")
            else:
                assert sum(a.flops for a in asked) <= remaining

    def test_without_flops_it_finishes_and_says_why(
        self, search: Search, half: pd.DataFrame
    ) -> None:
        asked = search.propose(half, [], 0.0, 1)
        assert isinstance(asked, Finished) and asked.reason == "allowance" and asked.detail

    def test_waits_for_pending_trials_when_out_of_flops(
        self, search: Search, half: pd.DataFrame
    ) -> None:
        pending = [SPACE.allocation(1e11, 3e4, seed=7)]
        asked = search.propose(half, pending, 0.0, 1)
        assert asked == [] or isinstance(asked, Finished)

    def test_same_ledger_same_answer(self, search: Search, half: pd.DataFrame) -> None:
        assert search.propose(half, [], ALLOWANCE, 4) == search.propose(half, [], ALLOWANCE, 4)

    def test_order_of_results_is_irrelevant(self, search: Search, half: pd.DataFrame) -> None:
        shuffled = half.sample(frac=1.0, random_state=0, ignore_index=True)
        assert search.propose(half, [], ALLOWANCE, 4) == search.propose(shuffled, [], ALLOWANCE, 4)

    def test_result_told_twice_counts_once(self, search: Search, half: pd.DataFrame) -> None:
        doubled = pd.concat([half, half.iloc[:4]], ignore_index=True)
        assert search.propose(half, [], ALLOWANCE, 4) == search.propose(doubled, [], ALLOWANCE, 4)

    def test_other_columns_are_ignored(self, search: Search, half: pd.DataFrame) -> None:
        more = half.assign(nll=1.0, wall_s=2.0)[["wall_s", *COLUMNS, "nll"]]
        assert search.propose(half, [], ALLOWANCE, 2) == search.propose(more, [], ALLOWANCE, 2)

    def test_unasked_for_data_is_accepted(self, search: Search, half: pd.DataFrame) -> None:
        foreign = [Allocation(1e11, 123_456, 134_976), Allocation(7e10, 20_011, 583_000, 3)]
        table = pd.concat([half, *(trial(a, 900 + i) for i, a in enumerate(foreign))])
        asked = search.propose(table, [], ALLOWANCE, 2)
        assert not isinstance(asked, Finished) and asked

    def test_never_repeats_a_trial_or_a_pending_one(
        self, search: Search, half: pd.DataFrame
    ) -> None:
        if isinstance(search, AdaptiveSearch):  # or some of the second three would wait
            search = replace(search, ahead=math.inf)
        first = search.propose(half, [], ALLOWANCE, 3)
        assert not isinstance(first, Finished)
        second = search.propose(half, first, ALLOWANCE, 3)
        assert not isinstance(second, Finished)
        key = ["flops", "params", "tokens", "seed", "mix"]
        done = {tuple(row) for row in half[key].itertuples(index=False)}
        for a in [*first, *second]:
            assert (a.flops, a.params, a.tokens, a.seed, a.mix) not in done
        assert len({*first, *second}) == 6

    def test_resumed_sweep_equals_an_uninterrupted_one(
        self, search: Search, half: pd.DataFrame
    ) -> None:
        """The next trials of the full run are what a fresh process asks for at the cut."""
        table = observed(search)
        ids = list(table["trial_id"].unique())
        nxt = table[table["trial_id"] == ids[9]].iloc[0]
        spent = half.drop_duplicates("trial_id")["spent_flops"].sum()
        asked = search.propose(half, [], ALLOWANCE - spent, 1)
        assert not isinstance(asked, Finished)
        assert (asked[0].flops, asked[0].params) == (nxt["flops"], nxt["params"])

    def test_all_trials_failing_neither_crashes_nor_loops(self, search: Search) -> None:
        def broken(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
            return {s: math.nan for s in WORLD.skills}

        table = run(search, SPACE, broken, skills=WORLD.skills, allowance=1.5e12)
        assert table["loss"].isna().all()
        assert isinstance(table.attrs["finished"], Finished)

    @pytest.mark.parametrize("slots", [1, 5])
    def test_whole_sweep_stays_within_the_allowance(self, search: Search, slots: int) -> None:
        table = observed(search, slots, allowance=4e12)
        trials = table.drop_duplicates("trial_id")
        assert trials["spent_flops"].sum() <= 4e12
        assert not trials.duplicated(["flops", "params", "seed", "mix"]).any()
        assert set(table["skill"]) == set(WORLD.skills)

    def test_sizes_that_need_too_many_tokens_are_never_asked_for(self, search: Search) -> None:
        small = replace(SPACE, max_tokens=1.5e6)
        policy = build(search.settings, small, WORLD.skills)  # type: ignore[attr-defined]
        table = run(policy, small, loss, skills=WORLD.skills, allowance=2e12)
        assert (table["tokens"] <= 1.5e6).all() and len(table) > 10
