"""Plans: hours, money and wall time by hand; simulated policies; the inverted question."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.worlds import surface_world
from fitting import fit_skills
from sweeper import Cluster, Resources, SearchSettings, Sizes, SpecError, Sweep
from sweeper.cli import app
from sweeper.plan.estimate import plan
from sweeper.plan.expected import Need, needed, simulate_policy, world_of
from trainables.data import Data
from trainables.families import Model
from trainables.training import Train

SWEEP = Sweep(budgets=[1e11, 2e11, 4e11], allowance=3e12, skills=["code"])
GPUS = Cluster(device="h100", gpus=4, mfu=0.2, price_per_hour=2.0, resources=(Resources(gpus=1),))


def test_hours_money_and_wall_time_follow_from_the_stated_utilisation():
    large = Sweep(
        budgets=[1e19, 2e19, 4e19], allowance=3e20, cluster=GPUS, train=Train(rule="steplaw"),
        model=Model(vocabulary=32_000, context=1024),
    )  # fmt: skip
    found = plan(large)
    hours = 3e20 / (989e12 * 0.2) / 3600
    assert found.device_hours == pytest.approx(hours, rel=0.01)
    assert found.price == pytest.approx(2 * hours, rel=0.01)
    longest = 4e19 / (989e12 * 0.2) / 3600
    assert found.wall_hours == pytest.approx(hours / 4 + longest, rel=0.01)
    assert "20 % as stated" in found.speed
    grid = found.policies.set_index("policy").loc["grid"]
    assert grid["flops"] == pytest.approx(8 * 7e19)
    assert grid["price"] == pytest.approx(2 * 8 * 7e19 / (989e12 * 0.2) / 3600, rel=0.01)


def test_devices_nobody_sees_make_no_wall_time():
    found = plan(replace(SWEEP, cluster=replace(GPUS, gpus=None, address="auto")))
    assert found.devices == 0 and math.isnan(found.wall_hours)
    assert json.loads(found.to_json(), parse_constant=pytest.fail)["wall_hours"] is None
    assert "--ask-cluster" in str(found)


def test_an_unknown_device_is_refused():
    with pytest.raises(SpecError, match="did you mean 'h100'"):
        plan(replace(SWEEP, cluster=Cluster(device="h10")))


def test_simulation_says_what_every_policy_finds():
    found = plan(SWEEP, simulate=True)
    assert set(found.policies["policy"]) >= {"adaptive", "grid", "optuna"}
    assert (found.policies["half_width"] > 0).all()
    assert (found.policies["flops"] <= 3e12).all()
    assert len(found.expected["by_skill"][0]) == 2
    assert found.expected["trials"].sum() >= 5
    text = str(found)
    assert "policy grid" in text and "stand-in world" in text


@pytest.fixture(scope="module")
def pilot():
    """Fits of two skills whose noise is a tenth of the stand-in's."""
    constants = {
        "code": (0.3, 150.0, 900.0, 0.5, 0.5),
        "validation": (1.6, 180.0, 900.0, 0.5, 0.5),
    }
    flops = np.repeat([1e11, 2e11, 4e11], 9)
    params = (flops / 1e11) ** 0.5 * np.tile(np.geomspace(6e3, 1.6e5, 9), 3)
    table = surface_world(constants, noise=0.002).table(flops, params, np.random.default_rng(3))
    return fit_skills(table)


def test_a_pilots_world_has_its_surfaces_and_its_noise(pilot):
    world = world_of(SWEEP, pilot)
    assert world.skills == ("code", "validation") and world.name == "pilot"
    assert [t.noise for t in world.truths] == pytest.approx([0.002] * 2, rel=0.8)
    for truth in world.truths:
        best = math.exp(truth.log_optimum(2e11))
        assert best == pytest.approx(pilot[truth.name].at(2e11).params, rel=0.1)
    quiet, loud = (
        simulate_policy(SWEEP, w, policy="grid").widths.max() for w in (world, world_of(SWEEP))
    )
    assert quiet < 0.5 * loud


def test_less_tolerance_needs_more_and_far_beyond_none_suffices(pilot, monkeypatch):
    monkeypatch.setattr("sweeper.plan.expected.DRAWS", 2)
    monkeypatch.setattr("sweeper.plan.expected.ENDLESS_TRIALS", 200)
    world = world_of(SWEEP, pilot)
    loose, tight = (needed(SWEEP, world, tolerance=tol) for tol in (0.08, 0.01))
    assert loose.possible and tight.possible
    assert loose.allowance < tight.allowance and loose.trials < tight.trials
    assert tight.floor < 0.01
    never = needed(SWEEP, world, tolerance=0.002, at=1e24)
    assert not never.possible and math.isnan(never.allowance) and never.floor > 0.002
    assert "cannot be reached" in str(never) and "a factor of a million" in str(never)


def test_the_inverted_plan_is_asked_for_on_the_console(tmp_path, monkeypatch):
    import sweeper.plan.expected

    def answer(sweep, world, *, tolerance, at):
        return Need(tolerance, (at,), 5e12, 40, 0.02)

    monkeypatch.setattr(sweeper.plan.expected, "needed", answer)
    spec = tmp_path / "sweep.yaml"
    spec.write_text("budgets: [1e11, 2e11]\nallowance: 3e12\n")
    run = CliRunner().invoke(app, ["plan", str(spec), "--tolerance", "0.1", "--at", "1e12"])
    assert "needs an allowance of 5e12 FLOPs" in run.output


@pytest.mark.parametrize(("tolerance", "at"), [(0.0, None), (math.nan, None), (0.1, -1.0)])
def test_bad_questions_are_refused(tolerance, at):
    with pytest.raises(SpecError, match="positive number"):
        plan(SWEEP, tolerance=tolerance, at=at)


def test_what_is_no_pilot_and_no_number_of_devices_is_refused():
    with pytest.raises(SpecError, match=r"pilot: give Results\(DIRECTORY\).*, got 'sweeps/a'"):
        SWEEP.plan(pilot="sweeps/a")
    with pytest.raises(SpecError, match="devices=-1: how many are at hand"):
        SWEEP.plan(devices=-1)


def test_a_pilot_without_surfaces_is_refused():
    rows = pd.DataFrame(
        {"flops": 1e11, "params": [1e4, 2e4], "tokens": [1e6, 5e5], "skill": "code", "loss": 1.0}
    )
    with pytest.raises(SpecError, match="plan without it"):
        world_of(SWEEP, fit_skills(rows))


def test_a_grid_says_what_it_will_train():
    """Sizes end within the grid's range: what is planned is what a simulated sweep trains."""
    sizes, search = Sizes(low=2e4), SearchSettings("grid", sizes_per_budget=6)
    sweep = Sweep(budgets=[2e10, 4e10, 1e11], allowance=3e12, sizes=sizes, search=search)
    found = sweep.plan()
    trained = sweep.simulate(lambda a, _: {"code": 1 + 60 / a.params**0.42 + 500 / a.tokens**0.42})
    counts = trained.table.drop_duplicates("trial_id").groupby("flops").size()
    assert counts.to_list() == [3, 4, 4]
    rows = found.policies.set_index("policy")
    assert rows.loc["grid", "trials"] == "11" and found.trials == (11, 11)
    assert rows.loc["grid", "flops"] == pytest.approx(3 * 2e10 + 4 * 4e10 + 4 * 1e11)
    assert found.device_hours == pytest.approx(rows.loc["grid", "hours"])
    assert rows.loc["adaptive", "trials"] == "30 to 150"
    assert any("fewer sizes than search.sizes_per_budget=6" in text for text in found.warnings)


def test_moved_shares_are_shown():
    moved = replace(SWEEP, data=Data(shares={"code": 0.3})).plan()
    assert "builtin: knowledge 51 % of tokens, code 30 % of tokens, other 19 % of" in str(moved)


def test_a_longer_ladder_is_looked_at_whatever_the_devices(monkeypatch):
    """Sizes beyond the sweep's devices or rules are no reason to refuse the question."""

    def width(design, world, ladder, targets, trials):
        return 0.05 if ladder[-1] >= 1e22 else 0.5

    monkeypatch.setattr("sweeper.plan.expected._wide", width)
    monkeypatch.setattr("sweeper.plan.expected._design", lambda *_: None)
    one = Cluster(device="h100", gpus=1)
    for cluster in (one, replace(one, resources=(Resources(gpus=1.0),))):
        sweep = Sweep(budgets=[1e18, 1e19], allowance=1e21, skills=["code"], cluster=cluster)
        need = needed(sweep, world_of(sweep), tolerance=0.1, at=1e25)
        assert need.ladder_top == pytest.approx(1e22)


MIXES = {
    "budgets": [1e11, 2e11], "allowance": 1.5e12, "skills": ["code", "knowledge"],
    "mixes": {"base": {}, "code": {"code": 4}, "knowledge": {"knowledge": 3}},
}  # fmt: skip


def test_a_simulated_plan_searches_over_the_mixes():
    sweep = Sweep.from_dict(MIXES)
    found = sweep.plan(simulate=True)
    assert list(found.policies["policy"]) == ["adaptive", "grid"]  # optuna knows no mixes
    one = simulate_policy(sweep, world_of(sweep))
    assert one.trials["mix"].nunique() > 1
    assert set(found.expected["by_skill"][0]) == {"code", "knowledge"}  # validation follows none
    assert np.isfinite(found.expected["half_width"]).all()
    assert "alike under every mix" in str(found)


def test_an_allowance_over_mixes_is_not_guessed():
    with pytest.raises(SpecError, match="worked out for one mix"):
        Sweep.from_dict(MIXES).plan(tolerance=0.1)


def test_an_allowance_beyond_any_number_of_trials_is_compared_to_none() -> None:
    few, many = (str(Need(0.1, (1e18,), 1e20, trials, 0.08)) for trials in (40, 1111))
    assert few.endswith("about 40 trials; 1000 trials on this ladder would bring ±8.3 %.")
    assert many.endswith("about 1111 trials.")


def test_a_grid_that_the_allowance_does_not_pay_for_is_marked() -> None:
    grids = [
        line
        for allowance in (1e13, 2e12)
        for line in str(Sweep(budgets=[1e11, 4e11], allowance=allowance).plan()).splitlines()
        if line.startswith("policy grid")
    ]
    assert [line.endswith("more than the allowance pays for") for line in grids] == [False, True]
