import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import LADDER, world
from sweeper.budget import Allocation, Space
from sweeper.search.build import build
from sweeper.search.history import mean_centre, vertices
from sweeper.search.protocol import COLUMNS, Finished
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings

SIZES = tuple(int(p) for p in np.exp(np.arange(math.log(5e6), math.log(4e10), 0.05)))
SPACE = Space(LADDER, SIZES, tuple(6.0 * p for p in SIZES))
WORLD = world("fail")


def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
    return WORLD.loss(allocation.params, allocation.tokens, rng)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    settings = SearchSettings("grid", sizes_per_budget=6, half_width=1.5, tokens_per_param=60.0)
    search = build(settings, SPACE, WORLD.skills)
    return run(search, SPACE, loss, skills=WORLD.skills, allowance=1e23)


def test_every_budget_gets_its_sizes_once_and_the_grid_is_complete(table: pd.DataFrame) -> None:
    trials = table.drop_duplicates("trial_id")
    assert (trials.groupby("flops")["params"].nunique() == 6).all()
    assert len(trials) == 6 * len(LADDER)
    assert table.attrs["finished"].reason == "complete"


def test_later_budgets_are_centred_on_the_law_through_the_earlier_ones(
    table: pd.DataFrame,
) -> None:
    trials = table.drop_duplicates("trial_id").assign(x=lambda t: np.log(t["params"]))
    centres = trials.groupby("flops")["x"].mean()
    wanted = {c: np.mean([WORLD.log_optimum(s, c) for s in WORLD.skills]) for c in LADDER}
    assert centres[LADDER[0]] == pytest.approx(0.5 * math.log(1e18 / 60), abs=0.05)
    for flops in LADDER[3:]:
        assert centres[flops] == pytest.approx(wanted[flops], abs=0.35)


def test_sizes_spread_over_the_half_width(table: pd.DataFrame) -> None:
    first = table[table["flops"] == LADDER[0]]["params"]
    assert math.log(first.max() / first.min()) == pytest.approx(3.0, abs=0.06)


def test_guess_follows_the_square_root_while_nothing_is_known() -> None:
    nothing = vertices(pd.DataFrame(columns=list(COLUMNS)), SPACE)
    low, high = (mean_centre(nothing, flops, 20.0, own=True) for flops in (LADDER[0], LADDER[-1]))
    assert low == pytest.approx(0.5 * math.log(LADDER[0] / 120))
    assert high == pytest.approx(low + 0.5 * math.log(LADDER[-1] / LADDER[0]))


def test_unaffordable_rest_is_named() -> None:
    search = build(SearchSettings("grid", sizes_per_budget=3), SPACE, WORLD.skills)
    found = run(search, SPACE, loss, skills=WORLD.skills, allowance=5e19)
    finished = found.attrs["finished"]
    assert isinstance(finished, Finished)
    assert finished.reason == "allowance" and "cannot be afforded" in finished.detail
