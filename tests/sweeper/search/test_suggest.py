"""What to train next, from a table."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fitting import FittingError, Status, fit_skills, read_runs
from sweeper import SpecError, Sweep
from sweeper.cli import app
from sweeper.search.build import build
from sweeper.search.protocol import Finished
from sweeper.search.suggest import observed, space_of, suggest_for
from sweeper.spec.search import SearchSettings

BUDGETS = (1e18, 3e18, 1e19)


def runs(count, k=6.0, skills=2):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        c, p = BUDGETS[i % 3], round(math.exp(rng.uniform(17.5, 20.5)))
        t = c / k / p
        for s in range(skills):
            loss = 1.5 + 400 / p**0.34 + (410 + 40 * s) / t**0.28 + 0.004 * rng.normal()
            rows.append((f"r{i}", c, p, t, f"skill-{s}", loss))
    return pd.DataFrame(rows, columns=["trial_id", "flops", "params", "tokens", "skill", "loss"])


def test_suggestions_are_the_search_itself():
    table = runs(24)
    found = suggest_for(table, budgets=BUDGETS, allowance=1e20, n=4)
    space = space_of(table, budgets=BUDGETS, tokens_per_param=20.0)
    search = build(SearchSettings(), space, ["skill-0", "skill-1"])
    assert [each.allocation for each in found] == search.propose(observed(table), [], 1e20, 4)
    assert all(each.after < each.before for each in found)


def test_as_many_are_suggested_as_asked_for_though_a_sweep_would_wait():
    table = runs(36).query("flops < 2e18")
    found = suggest_for(table, budgets=BUDGETS, allowance=1e21, n=20)
    assert len(found) == 20
    ended = table.groupby("trial_id")["flops"].first().sum()
    assert sum(each.allocation.flops for each in found) > ended


def test_a_sweep_takes_runs_as_read_and_says_what_it_does_not_take():
    sweep = Sweep(budgets=BUDGETS, allowance=1e20, data={"source": "simulated"})
    table = runs(12)
    assert sweep.suggest(read_runs(table), 2) == sweep.suggest(table, 2)
    for source, n, said in (("runs.csv", 1, "table: give a data frame"), (table, 1.5, "n=1.5")):
        with pytest.raises(SpecError, match=said):
            sweep.suggest(source, n)


def test_what_a_run_teaches_is_told_of_the_largest_budget_or_the_one_that_is_named():
    table = runs(24)
    asked = {"budgets": BUDGETS, "allowance": 1e20, "n": 3}
    for at, told in (({}, BUDGETS[-1]), ({"at": 1e20}, 1e20)):
        found = suggest_for(table, **asked, **at)
        assert {each.flops for each in found} == {told}
        now = fit_skills(table)[found[0].skill].at(told)  # what `fit` and `predict` say of it
        assert math.exp(found[0].before) == pytest.approx(now.interval[1] / now.params)
    alone = [s.allocation for s in suggest_for(table, **asked, at=BUDGETS[-1])]
    assert alone != [s.allocation for s in suggest_for(table, **asked)]
    with pytest.raises(FittingError, match=r"^at=-1.0: give a positive"):
        suggest_for(table, **asked, at=-1.0)


def test_of_a_skill_without_an_optimum_no_precision_is_promised(tmp_path):
    table = runs(24, skills=1)  # all of whose sizes lie below the optimum, for this loss
    table["loss"] = 1.5 + 4e3 / table["params"] ** 0.34 + 41 / table["tokens"] ** 0.28
    assert not fit_skills(table)["skill-0"].ok
    (found,) = suggest_for(table, budgets=BUDGETS, allowance=1e20, n=1)
    assert found.status is Status.NO_INTERIOR_MINIMUM and math.isnan(found.before)
    table.to_csv(tmp_path / "runs.csv", index=False)
    asked = ["suggest", str(tmp_path / "runs.csv"), "--allowance", "1e20", "-n", "1"]
    said = CliRunner().invoke(app, asked).stdout
    assert "skill-0, which has no optimum yet (no minimum)" in said
    (row,) = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert row["teaches"]["before"] is None and row["teaches"]["after"] is None
    assert row["teaches"]["status"] == "no-interior-minimum"


def test_pending_runs_are_taken_for_known_and_reserve_their_flops():
    table = runs(24)
    first = suggest_for(table, budgets=BUDGETS, allowance=1e20, n=1)[0].allocation
    out = pd.DataFrame(
        [{"trial_id": "x", "flops": first.flops, "params": first.params, "tokens": first.tokens,
          "skill": "skill-0", "loss": math.nan}] * 2
    )  # fmt: skip
    both = pd.concat([table, out], ignore_index=True)
    second = suggest_for(both, budgets=BUDGETS, allowance=1e20, n=1)[0].allocation
    assert second != first
    spent = suggest_for(both, budgets=BUDGETS, allowance=2.5 * first.flops, n=3)
    assert not isinstance(spent, Finished)
    assert sum(each.allocation.flops for each in spent) <= 1.5 * first.flops


def test_tokens_follow_the_tables_own_flops_and_sizes_a_ladder(tmp_path):
    table = runs(24, k=5.0)
    for each in suggest_for(table, budgets=BUDGETS, allowance=1e20, n=3):
        a = each.allocation
        assert a.flops / a.params / a.tokens == pytest.approx(5.0, rel=1e-3)
    (tmp_path / "sizes.csv").write_text("params,flops_per_token\n50M,4e8\n200M,1.4e9\n600M,4e9\n")
    for each in suggest_for(
        table, budgets=BUDGETS, allowance=1e20, n=3, ladder=tmp_path / "sizes.csv"
    ):
        per_token = {50e6: 4e8, 200e6: 1.4e9, 600e6: 4e9}[each.allocation.params]
        assert each.allocation.tokens == int(each.allocation.flops / per_token)
    with pytest.raises(SpecError, match=r"^ladder: .*none\.csv"):
        suggest_for(table, budgets=BUDGETS, allowance=1e20, n=1, ladder="none.csv")


def test_a_sweep_suggests_on_its_own_sizes():
    sweep = Sweep(budgets=[1e11, 2e11], allowance=1e13)
    nothing = pd.DataFrame(columns=["flops", "params", "tokens", "skill", "loss"])
    found = sweep.suggest(nothing, 4)
    assert len(found) == 4
    assert all(a.params in sweep.shapes for a in found)


def test_rows_without_names_are_trials_by_their_numbers():
    table = runs(24)
    named, plain = observed(table), observed(table.drop(columns="trial_id"))
    assert plain["trial_id"].nunique() == named["trial_id"].nunique() == 24
    assert (plain.groupby("trial_id")["skill"].nunique() == 2).all()
    found = suggest_for(table.drop(columns="trial_id"), budgets=BUDGETS, allowance=1e20, n=1)
    assert found[0].skill  # a law was fitted: the search is past its opening


def test_the_command_as_table_csv_and_json(tmp_path):
    table = runs(24)
    table.loc[table.index[-2:], "loss"] = math.nan
    table.to_csv(tmp_path / "runs.csv", index=False)
    asked = ["suggest", str(tmp_path / "runs.csv"), "--allowance", "1e20", "-n", "3"]
    as_json = CliRunner().invoke(app, [*asked, "--budgets", "1e18,3e18,1e19", "--json"])
    rows = json.loads(as_json.stdout)
    assert len(rows) == 3
    assert {"flops", "params", "tokens", "teaches"} <= rows[0].keys()
    # Those of the table are its budgets.
    plain = CliRunner().invoke(app, asked).stdout.splitlines()
    assert len(plain) == 1 + 3
    assert "narrows most" in plain[0] and "skill-" in plain[1] and " %" in plain[1]
    few = CliRunner().invoke(app, [*asked[:3], "2.5e19", "-n", "30"])
    count = len(few.stdout.splitlines()) - 1
    assert 0 < count < 30
    assert f"note: {count} of 30: before their losses are known" in few.stderr
    text = CliRunner().invoke(app, [*asked, "--csv"]).stdout
    assert text.splitlines()[0].startswith("flops,params,tokens")
    with pytest.raises(SpecError, match="--budgets 'x'"):
        CliRunner().invoke(app, [*asked, "--budgets", "x"], catch_exceptions=False)
    waits = table.assign(state=["running" if i >= 44 else "finished" for i in range(len(table))])
    waits.to_csv(tmp_path / "runs.csv", index=False)
    assert len(json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)) == 3
    head = table.head(2)  # too few for a law: the opening of the search
    head.to_csv(tmp_path / "runs.csv", index=False)
    opening = CliRunner().invoke(app, [*asked, "--budgets", "1e18,3e18"]).stdout
    assert "opens the search" in opening


def test_an_empty_table_has_no_budgets_and_that_is_said():
    with pytest.raises(SpecError, match=r"^budgets: no 3 sizes of the table share one"):
        suggest_for(runs(24).iloc[:0], budgets=[], allowance=1e20, n=1)


def test_an_allowance_that_pays_for_no_run_is_said():
    table = runs(24)
    asked = {"budgets": BUDGETS, "n": 2}
    for few in (table, table.assign(loss=table["loss"].where(table.index < 44))):  # two are out
        found = suggest_for(few, **asked, allowance=1e17)
        assert isinstance(found, Finished) and found.reason == "allowance"
        assert "pay for no run: the smallest budget is 1e18; raise the allowance" in found.detail
    assert "1e17 FLOPs, of which runs under way take 1.3e19, pay" in found.detail
