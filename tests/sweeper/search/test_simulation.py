import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from sweeper.budget import Allocation, Space
from sweeper.errors import TrialFailed
from sweeper.search.protocol import COLUMNS, Finished
from sweeper.search.simulation import run

SPACE = Space((1e11, 4e11), (10_000, 20_000, 40_000), (6e4, 1.2e5, 2.4e5), granule=64)


@dataclass
class Script:
    """Asks for given trials in order, as slots come free, and remembers what it was told."""

    wanted: Sequence[Allocation]
    greedy: bool = False

    def __post_init__(self) -> None:
        self.told: list[tuple[int, int, float, int]] = []

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        ended = observations["trial_id"].nunique()
        self.told.append((ended, len(pending), remaining_flops, n))
        rest = list(self.wanted)[ended + len(pending) :]
        asked = []
        for a in rest[:n]:
            if self.greedy or a.flops <= remaining_flops:
                asked.append(a)
                remaining_flops -= a.flops
        return asked if asked or pending else Finished("complete")


def trials(*flops: float) -> list[Allocation]:
    return [SPACE.allocation(c, 2e4, seed=i) for i, c in enumerate(flops)]


def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
    return {"a": rng.normal(), "b": math.log(allocation.params)}


def simulate(script: Script, loss_fn: object = loss, **more: float) -> pd.DataFrame:
    given = {"allowance": 1e13, "slots": 1, "seed": 0} | more
    return run(script, SPACE, loss_fn, skills=("a", "b"), **given)  # type: ignore[arg-type]


def test_table_has_one_row_per_trial_and_skill() -> None:
    table = simulate(Script(trials(1e11, 4e11)))
    assert tuple(table.columns) == COLUMNS
    assert list(table["skill"]) == ["a", "b", "a", "b"]
    assert table["status"].eq("finished").all()
    assert table.attrs["finished"] == Finished("complete")


def test_reserves_the_budget_and_settles_the_realised_cost() -> None:
    script = Script(trials(1e11, 4e11))
    table = simulate(script, slots=2, allowance=6e11)
    spent = table.drop_duplicates("trial_id")["spent_flops"]
    assert script.told[0] == (0, 0, 6e11, 2)
    assert script.told[1][2] == pytest.approx(6e11 - 4e11 - spent.iloc[0])
    assert (spent == [SPACE.cost(a) for a in trials(1e11, 4e11)]).all()


def test_cheap_trials_end_before_dear_ones() -> None:
    table = simulate(Script(trials(4e11, 1e11, 1e11, 1e11)), slots=2)
    assert list(table["trial_id"].unique()) == [1, 2, 3, 0]


def test_outcome_depends_on_the_trial_and_seed_only() -> None:
    key = ["flops", "seed", "skill"]
    one, other = (
        simulate(Script(trials(4e11, 1e11, 1e11)), slots=q).sort_values(key)["loss"].to_list()
        for q in (1, 3)
    )
    assert one == other
    assert simulate(Script(trials(4e11, 1e11)), seed=1)["loss"].iloc[0] != one[0]


def test_failures_cost_a_part_and_leave_rows_without_losses() -> None:
    def fragile(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        if allocation.seed == 0:
            raise TrialFailed("lost its node")
        return {"a": math.nan, "b": 1.0}

    table = simulate(Script(trials(1e11, 1e11)), fragile)
    assert list(table["status"]) == ["failed", "failed", "diverged", "diverged"]
    assert table["loss"].isna().all()
    assert (table["spent_flops"] < 0.6e11).all()


def test_search_that_overspends_or_stalls_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="more than"):
        simulate(Script(trials(4e11, 4e11), greedy=True), allowance=5e11, slots=2)

    class Idle:
        def propose(self, *args: object) -> list[Allocation]:
            return []

    with pytest.raises(RuntimeError, match="no trial"):
        run(Idle(), SPACE, loss, skills=("a", "b"), allowance=1e12)  # type: ignore[arg-type]
