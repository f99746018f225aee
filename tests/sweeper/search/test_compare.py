"""The search that compares variants, on worlds whose multiplier is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.worlds import surface_world
from fitting.compare import aim
from fitting.compare.joint import VariantTrials, fit_joint
from sweeper import SpecError, Sweep
from sweeper.budget import Allocation, Space
from sweeper.cli import app
from sweeper.search.build import compares, policy
from sweeper.search.compare import FIRST_SIZES, SECOND_SIZES, CompareSearch
from sweeper.search.grid import GridOfEach
from sweeper.search.protocol import COLUMNS, Finished
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings

LADDER = (6e18, 1.8e19, 6e19)
PARAMS = tuple(int(v) for v in np.geomspace(3e7, 8e9, 45))
WORLD = surface_world({"code": (1.8, 482, 2085, 0.348, 0.366)}, noise=0.004)


def spaces(shift: float = 1.0) -> dict[str, Space]:
    """Two variants; the sizes of the second are those of the first times ``shift``."""
    found = {}
    for name, factor in (("base", 1.0), ("new", shift)):
        params = tuple(int(p * factor) for p in PARAMS)
        found[name] = Space(LADDER, params, tuple(6.0 * p for p in params), mix=name)
    return found


def sweep(times: float, *, seed: int = 0, share: float = 0.5, **asked: float) -> pd.DataFrame:
    """One simulated comparison of a variant worth ``times`` the compute."""

    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        root = math.sqrt(times) if allocation.mix == "new" else 1.0
        return WORLD.loss(allocation.params * root, allocation.tokens * root, rng)

    search = CompareSearch(SearchSettings(**asked), spaces())  # type: ignore[arg-type]
    allowance = share * 2 * 8 * sum(LADDER)
    return run(search, spaces()["base"], loss, skills=["code"], allowance=allowance, seed=seed)


def test_a_gain_is_found_long_before_the_grids_would_end() -> None:
    table = sweep(1.3)
    ended = table.attrs["finished"]
    assert ended.reason == "decided"
    assert "better" in ended.detail
    spent = table.drop_duplicates("trial_id")["spent_flops"].sum()
    assert spent < 2 * 8 * sum(LADDER) / 5


def test_no_difference_is_said_where_the_margin_is_wide() -> None:
    ended = sweep(1.0, margin=1.4).attrs["finished"]
    assert ended.reason == "decided"
    assert "no difference larger than 1.4x" in ended.detail


def test_the_allowance_ends_undecided() -> None:
    ended = sweep(1.02, share=0.06, margin=1.01).attrs["finished"]
    assert ended.reason == "allowance"
    assert "undecided" in ended.detail


def test_the_opening_is_the_same_under_every_variant_and_then_it_waits() -> None:
    search = CompareSearch(SearchSettings(), spaces())
    nothing = pd.DataFrame(columns=list(COLUMNS))
    first = search.propose(nothing, [], 1e22, 99)
    assert not isinstance(first, Finished)
    assert len(first) == 2 * (FIRST_SIZES + SECOND_SIZES)
    sizes = {
        name: [(a.flops, a.params) for a in first if a.mix == name] for name in ("base", "new")
    }
    assert sizes["base"] == sizes["new"]
    assert search.propose(nothing, first, 1e22, 4) == []
    assert isinstance(search.propose(nothing, [], 1e10, 1), Finished)


def test_variants_of_other_sizes_get_the_nearest_they_can_build() -> None:
    own = spaces(1.07)
    first = CompareSearch(SearchSettings(), own).propose(
        pd.DataFrame(columns=list(COLUMNS)), [], 1e22, 99
    )
    assert not isinstance(first, Finished)
    assert all(a.params in own[a.mix].params for a in first)


def test_the_same_ledger_gives_the_same_trials_in_any_order() -> None:
    table = sweep(1.1, share=0.08)
    table = table[table["trial_id"] < 20]
    one, other = (
        CompareSearch(SearchSettings(), spaces()).propose(rows, [], 1e21, 3)
        for rows in (table, table.sample(frac=1, random_state=1))
    )
    assert one == other


def test_gains_fall_once_a_trial_is_in_training() -> None:
    table = sweep(1.1, share=0.08)
    frames = {n: table[table["mix"] == n] for n in ("base", "new")}
    joint = fit_joint(VariantTrials.of(frames, ["code"]), ladder=LADDER)
    place = aim.Trial(np.array([1]), np.log([4e8]), np.log([6e19]))
    nothing = aim.Trial(np.array([], dtype=int), np.array([]), np.array([]))
    alone, again = (
        float(aim.gains(joint, place, pending, [(1, 0)], 6e19)[0])
        for pending in (nothing, aim.added(nothing, 1, math.log(4e8), math.log(6e19)))
    )
    assert 0 < again < alone < 1


def test_slots_wait_while_what_is_in_training_is_expected_to_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, search = sweep(1.15), CompareSearch(SearchSettings(), spaces())
    before = table[table["trial_id"] < int(table["trial_id"].max())]
    training = [spaces()["new"].allocation(LADDER[-1], 7e8, seed=9)]
    for share, waits in ((1.0, False), (0.1, True)):
        monkeypatch.setattr(aim, "left", lambda *_, share=share: share)
        assert (search.propose(before, training, 1e22, 3) == []) is waits
    assert search.propose(before, [], 1e22, 3) != []  # nothing to wait for


def test_less_is_left_the_more_is_in_training() -> None:
    table = sweep(1.1, share=0.08)
    frames = {n: table[table["mix"] == n] for n in ("base", "new")}
    joint = fit_joint(VariantTrials.of(frames, ["code"]), ladder=LADDER)
    pending = aim.Trial(np.array([], dtype=int), np.array([]), np.array([]))
    shares = []
    for size in (3e8, 6e8, 1.2e9):
        pending = aim.added(pending, 1, math.log(size), math.log(6e19))
        shares.append(aim.left(joint, pending, 1, 0, 6e19))
    assert 1 > shares[0] > shares[1] > shares[2] > 0


def test_a_spec_asks_for_it() -> None:
    budgets, two = [1e12, 3e12, 1e13], {"a": {}, "b": {"train": {"learning_rate": 0.01}}}
    spec = Sweep(budgets=budgets, allowance=1e15, variants=two)
    assert isinstance(policy(spec, ["code"]), CompareSearch)
    grid = Sweep(budgets=budgets, allowance=1e15, variants=two, search={"policy": "grid"})
    assert isinstance(policy(grid, ["code"]), GridOfEach)
    mixes = {"base": {}, "more": {"code": 4}}
    mixed = Sweep(budgets=budgets, allowance=1e15, mixes=mixes, search={"goal": "compare"})
    assert compares(mixed)
    assert not compares(Sweep(budgets=budgets, allowance=1e15, mixes=mixes))


@pytest.mark.parametrize("policy_name", ["adaptive", "grid"])
def test_a_sweep_with_variants_is_simulated_and_compared(
    policy_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.commands import comparing
    from sweeper.sweep import Results

    spec = Sweep(
        budgets=[1e12, 4e12], allowance=6e13, skills=["code"],
        variants={"base": {}, "new": {"train": {"learning_rate": 0.01}}},
        search={"policy": policy_name, "sizes_per_budget": 5, "margin": 1.25, "level": 0.02},
    )  # fmt: skip

    def loss(a: Allocation, rng: np.random.Generator) -> dict[str, float]:
        gain = 1.3 if a.mix == "new" else 1.0
        p, t = a.params * gain**0.5, a.tokens * gain**0.5
        value = 1.5 + 20 * p**-0.35 + 300 * t**-0.37 + 0.002 * rng.standard_normal()
        return {"code": value, "validation": value}

    outcome = spec.simulate(loss)
    assert set(outcome.table["mix"]) == {"base", "new"}
    found = Results.compare(outcome, skills=["code"])  # type: ignore[arg-type]
    assert found.reference == "base"
    assert found["code"].low < 1.3 < found["code"].high
    # The same question as in the sweep and its report, from Python and the console.
    assert (found.margin, found.level) == (1.25, 0.02)
    assert Results.compare(outcome, margin=1.5).margin == 1.5  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="give the variant's Results, got 'sweeps/b'"):
        Results.compare(outcome, "sweeps/b")  # type: ignore[arg-type]
    monkeypatch.setattr(comparing, "is_sweep", lambda runs: True)
    monkeypatch.setattr(comparing, "open_results", lambda directory: outcome)
    told = CliRunner().invoke(app, ["compare", "a", "--skills", "code", "--json"])
    assert json.loads(told.output)["margin"] == 1.25
    told = CliRunner().invoke(app, ["compare", "a", "--skills", "code", "--margin", "2", "--json"])
    assert json.loads(told.output)["margin"] == 2.0
