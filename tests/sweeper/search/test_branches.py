"""Branches cost what their trunk lacks; the search takes them up, and real sweeps refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fitting.synthetic import World, world
from sweeper import SearchSettings, SpecError, Sweep
from sweeper.budget import Allocation, Space
from sweeper.search.branches import price
from sweeper.search.build import build
from sweeper.search.simulation import run

SIZES = tuple(int(p) for p in np.geomspace(2e7, 1e10, 60))
SPACE = Space((6e18, 1e19, 3e19, 6e19), SIZES, tuple(6.0 * p for p in SIZES))


def test_a_branch_costs_what_the_trunk_lacks_and_its_cooldown() -> None:
    short, long = (SPACE.allocation(c, 3e8) for c in (1e19, 3e19))
    assert price(SPACE, [], long, 0.2) == pytest.approx(3e19, rel=1e-6)
    assert price(SPACE, [short], long, 0.2) == pytest.approx(0.8 * 2e19 + 0.2 * 3e19, rel=1e-6)
    assert price(SPACE, [long], short, 0.2) == pytest.approx(0.2 * 1e19, rel=1e-6)
    other = [replace(short, seed=1), SPACE.allocation(1e19, 1e9)]
    assert price(SPACE, other, long, 0.2) == pytest.approx(3e19, rel=1e-6)


def sweep(truth: World, cooldown: float | None) -> tuple[float, int, int]:
    """FLOPs spent, trials and trunks of a small sweep."""

    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        return truth.loss(allocation.params, allocation.tokens, rng)

    search = build(SearchSettings(tolerance=0.01, cooldown=cooldown), SPACE, truth.skills)
    table = run(search, SPACE, loss, skills=truth.skills, allowance=4e20, cooldown=cooldown)
    trials = table.drop_duplicates("trial_id")
    trunks = trials.drop_duplicates(["params", "seed"])
    return float(trials["spent_flops"].sum()), len(trials), len(trunks)


def test_a_search_with_branches_trains_more_on_fewer_trunks() -> None:
    whole = world("fail")
    truth = replace(whole, truths=whole.truths[:2])
    scratch, branches = sweep(truth, None), sweep(truth, 0.2)
    assert max(scratch[0], branches[0]) <= 4e20
    assert branches[1] > scratch[1]
    assert branches[2] / branches[1] < 0.8 * scratch[2] / scratch[1]


def test_a_real_sweep_refuses_branches(tmp_path: Path) -> None:
    sweep = Sweep(budgets=[1e11], allowance=1e12, search=SearchSettings(cooldown=0.2))
    with pytest.raises(SpecError, match="simulated"):
        sweep.run(tmp_path)
    with pytest.raises(ValueError, match="between 0 and 1"):
        SearchSettings(cooldown=1.5)
