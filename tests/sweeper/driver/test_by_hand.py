"""Ask and tell: the sweep of those who launch their own trainings."""

import json
import math

import pandas as pd
import pytest
from typer.testing import CliRunner

from sweeper import DirectoryError, Finished, Results, SpecError, Sweep
from sweeper.cli import app
from sweeper.commands.status import render, snapshot
from sweeper.plan.warnings import cautions
from sweeper.record.ledger import Ledger
from sweeper.record.repair import repair

ROWS = [{"params": 12 * d * (64 * d) ** 2, "depth": d} for d in range(2, 13)]


def make(**changes):
    values = {
        "budgets": [1e15, 3e15, 1e16],
        "allowance": 6e16,
        "trainer": {
            "command": ["train", "--depth={depth}", "--tokens={tokens}", "--out={directory}"],
            "skills": {"code": "code", "validation": "aggregate"},
        },
        "sizes": {"ladder": ROWS},
        "cluster": {"device": "cpu-core"},
        **changes,
    }
    return Sweep.from_dict(values)


def loss(a, shift):
    return 1.5 + 400 / a.params**0.34 + shift * 410 / a.tokens**0.28


def losses(a):
    return {"code": loss(a, 1.0), "validation": loss(a, 1.2)}


def test_a_sweep_by_hand_is_the_sweep_of_the_machine(tmp_path):
    sweep = make()
    while not isinstance(asked := sweep.ask(tmp_path), Finished):
        (one,) = asked
        assert one.command[1] == f"--depth={one.row['depth']}"
        assert one.command[-1] == f"--out={one.directory}"
        assert one.directory.is_dir()
        sweep.tell(tmp_path, one.id, losses(one.allocation))
    by_machine = sweep.simulate(lambda a, rng: losses(a))
    ledger = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    by_hand = list(ledger.allocations("finished").values())
    ledger.close()
    drawn = by_machine.table.drop_duplicates("trial_id")
    assert [(a.flops, a.params, a.seed) for a in by_hand] == list(
        drawn[["flops", "params", "seed"]].itertuples(index=False, name=None)
    )
    assert asked.reason == by_machine.finished.reason


def test_trials_that_are_out_are_reserved_and_not_asked_twice(tmp_path):
    sweep = make()
    first, second = sweep.ask(tmp_path, 3), sweep.ask(tmp_path, 3)
    ids = [one.id for one in [*first, *second]]
    assert len(set(ids)) == 6
    ledger = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    assert ledger.totals()[1] == sum(one.allocation.flops for one in [*first, *second])
    ledger.close()


def test_trials_that_are_out_are_under_way_to_suggest_as_well(tmp_path):
    sweep = make()
    for _ in range(7):
        (one,) = sweep.ask(tmp_path)
        sweep.tell(tmp_path, one.id, losses(one.allocation))
    out = [one.allocation.flops for one in sweep.ask(tmp_path, 2)]
    asked = ["suggest", str(tmp_path), "--budgets", "1e15,3e15,1e16", "--json", "--allowance"]
    for allowance, some in ((sum(out) + 5e14, False), (sum(out) + 5e15, True)):
        done = CliRunner().invoke(app, [*asked, str(allowance)])
        assert bool(json.loads(done.stdout)) is some


def test_what_is_suggested_for_a_sweep_is_on_its_sizes_and_budgets(tmp_path):
    sweep = make()
    sizes = {size["params"] for size in sweep.sizes.ladder}
    for k in range(8):
        (one,) = sweep.ask(tmp_path)
        if k in (0, 7):
            asked = ["suggest", str(tmp_path), "--json", "--allowance", "1e18"]
            rows = json.loads(CliRunner().invoke(app, asked).stdout)
            assert rows and {row["params"] for row in rows} <= sizes
            assert {row["flops"] for row in rows} <= set(sweep.budgets)
        sweep.tell(tmp_path, one.id, losses(one.allocation))


def test_a_table_of_a_header_alone_opens_the_search(tmp_path):
    (tmp_path / "runs.csv").write_text("params,tokens,loss\n")
    asked = ["suggest", str(tmp_path / "runs.csv"), "--json", "--allowance", "1e20"]
    found = CliRunner().invoke(app, [*asked, "--budgets", "1e18,3e18", "-n", "3"])
    assert [row["flops"] for row in json.loads(found.stdout)] == [1e18] * 3
    with pytest.raises(SpecError, match="holds no run yet: say --budgets"):
        CliRunner().invoke(app, asked, catch_exceptions=False)


def test_an_empty_directory_is_not_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = make()
    for verb in (sweep.run, sweep.ask, lambda place: sweep.tell(place, "3f2a9c", {})):
        with pytest.raises(DirectoryError, match=r"empty path .* such as sweeps/a"):
            verb("")
    for words in (["ask", "sweep.yaml", "--out", ""], ["run", ""], ["tell", "", "3f2a9c"]):
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, DirectoryError) and "empty" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_a_plan_warns_of_what_a_command_is_not_told_and_of_a_short_allowance():
    deaf = {"command": ["train", "--depth={depth}"], "skills": {"code": "code"}}
    said = " ".join(cautions(make(trainer=deaf, allowance=2e16)))
    assert "neither {tokens} nor {steps} nor {flops}" in said and "no {directory}" in said
    assert "pays 2 trials on the largest budget" in said
    sound = " ".join(cautions(make()))
    assert "{tokens}" not in sound and "pays" not in sound


@pytest.mark.parametrize(
    ("told", "words"),
    [(("code=2", "code=3"), "code is told twice"), (("code=2", "--failed", "x"), "has no losses")],
)
def test_what_is_told_twice_or_against_itself_is_refused(tmp_path, told, words):
    (one,) = make().ask(tmp_path)
    done = CliRunner().invoke(app, ["tell", str(tmp_path), one.id, *told])
    assert isinstance(done.exception, SpecError) and words in str(done.exception)


def test_a_vocabulary_too_small_for_the_built_in_corpora_is_refused_before_a_trial():
    with pytest.raises(SpecError, match="vocabulary: 3 is less than the 254 tokens"):
        Sweep.from_dict({"budgets": [1e11], "allowance": 1e13, "model": {"vocabulary": 3}})


def test_status_says_that_trials_are_out_and_who_launches_them(tmp_path):
    make().ask(tmp_path, 2)
    shown = str(render(snapshot(Results(tmp_path))))
    assert "2 out" in shown and "`isoskill tell` records what became of a trial" in shown
    assert "isoskill run" not in shown and "interrupted" not in shown


def test_losses_of_what_failed_are_refused_and_not_dropped(tmp_path):
    sweep = make()
    (one,) = sweep.ask(tmp_path)
    with pytest.raises(SpecError, match="give its losses, or say why it failed, not both"):
        sweep.tell(tmp_path, one.id, losses(one.allocation), failed="node 7 rebooted")
    assert sweep.tell(tmp_path, one.id, losses(one.allocation)) == "finished"


def test_what_is_lost_is_asked_again_until_its_retries_are_spent(tmp_path):
    sweep = make()
    (one,) = sweep.ask(tmp_path)
    assert sweep.tell(tmp_path, one.id, failed="node 7 rebooted", kind="node-lost") == "running"
    for attempt in (2, 3):
        again = sweep.ask(tmp_path, 2)
        assert (again[0].id, again[0].attempt) == (one.id, attempt)
        state = sweep.tell(tmp_path, one.id, failed="killed", kind="worker-died")
        assert state == "running"
    sweep.ask(tmp_path)
    tokens = one.allocation.tokens / 2
    assert sweep.tell(tmp_path, one.id, failed="x", kind="worker-died", tokens=tokens) == "failed"
    ledger = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    spent = ledger.trials().set_index("trial_id").loc[one.id, "spent_flops"]
    ledger.close()
    assert spent == pytest.approx(sweep.space.cost(one.allocation) / 2)


def test_what_else_a_trainer_measures_is_left_out_told_or_read(tmp_path):
    sweep = make()
    one, two = sweep.ask(tmp_path, 2)
    measured = {"code": 2.0, "validation": 3.0, "accuracy": 0.4, "step": 900}
    (one.directory / "losses.json").write_text(json.dumps(measured))
    assert sweep.tell(tmp_path, one.id) == "finished"
    assert sweep.tell(tmp_path, two.id, measured) == "finished"
    assert set(Results(tmp_path).table["skill"]) == {"code", "validation"}


def test_losses_may_lie_in_the_directory_and_nan_is_diverged(tmp_path):
    sweep = make()
    one, two = sweep.ask(tmp_path, 2)
    with pytest.raises(SpecError, match=r"losses\.json: is not there"):
        sweep.tell(tmp_path, one.id)
    (one.directory / "losses.json").write_text('{"code": 2, "validation": 3}')
    assert sweep.tell(tmp_path, one.id) == "finished"
    nothing = {"code": math.nan, "validation": 3.0}
    assert sweep.tell(tmp_path, two.id, nothing) == "diverged"
    with pytest.raises(SpecError, match=r"has finished already, .* --correct"):
        sweep.tell(tmp_path, one.id, {"code": 1, "validation": 1})


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"losses": {"code": 2.31, "validation": 2.5}}, "finished"),
        ({"failed": "that was another job's"}, "failed"),
        ({"failed": "node 7 rebooted", "kind": "node-lost"}, "running"),
    ],
)
def test_what_was_told_wrong_is_corrected_and_kept_as_an_event(tmp_path, told, state):
    sweep = make()
    one, two = sweep.ask(tmp_path, 2)
    sweep.tell(tmp_path, one.id, {"code": 231, "validation": 2.5})
    sweep.tell(tmp_path, two.id, losses(two.allocation))
    with pytest.raises(SpecError, match="no loss of validation"):
        sweep.tell(tmp_path, one.id, {"code": 2.31}, correct=True)
    assert Results(tmp_path).table["loss"].max() == 231  # what cannot be used changes nothing
    assert sweep.tell(tmp_path, one.id, **told, correct=True) == state
    now = Results(tmp_path)
    assert now.trials.set_index("trial_id")["state"][one.id] == state
    assert now.table["loss"].max() < 100 and (now.table["trial_id"] == two.id).sum() == 2
    event = now.events.set_index("kind").loc["reopened", "detail"]
    assert event == "told anew, it had finished; its code was 231; its validation was 2.5"
    again = sweep.ask(tmp_path)
    assert not isinstance(again, Finished) and (again[0].id == one.id) == (state == "running")


def test_what_is_lost_twice_is_asked_once(tmp_path):
    sweep = make()
    (one,) = sweep.ask(tmp_path)
    for _ in range(2):
        sweep.tell(tmp_path, one.id, failed="node 7 rebooted", kind="node-lost")
    ids = [each.id for each in sweep.ask(tmp_path, 2)]
    assert ids[0] == one.id and len(set(ids)) == 2


def test_what_was_told_outlives_the_ledger(tmp_path):
    sweep = make()
    one, two, three = sweep.ask(tmp_path, 3)
    sweep.tell(tmp_path, one.id, losses(one.allocation))
    sweep.tell(tmp_path, three.id, failed="node 7 rebooted", kind="node-lost")
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    with pytest.raises(DirectoryError, match=r"ledger\.sqlite is gone, .* `isoskill repair"):
        sweep.ask(tmp_path)
    done = CliRunner().invoke(app, ["repair", str(tmp_path)])
    assert "`isoskill ask` and `isoskill tell` go on with it" in done.stdout
    assert set(Results(tmp_path).table["trial_id"]) == {one.id}
    assert "isoskill run" not in str(render(snapshot(Results(tmp_path))))
    # A job that is still out is known; what was given back is asked for anew.
    assert "1 still out" in done.stdout
    assert sweep.tell(tmp_path, two.id, losses(two.allocation)) == "finished"
    assert sweep.ask(tmp_path)[0].id == three.id


@pytest.mark.parametrize("name", ["out.json", "observations.parquet"])
def test_a_repair_that_fails_leaves_no_empty_ledger(tmp_path, name):
    sweep = make()
    one, two = sweep.ask(tmp_path, 2)
    sweep.tell(tmp_path, one.id, losses(one.allocation))
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    sound = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(DirectoryError, match=name):
        repair(tmp_path)
    with pytest.raises(DirectoryError, match=r"`isoskill repair"):  # and not started over
        sweep.ask(tmp_path)
    (tmp_path / name).write_bytes(sound)
    assert (repair(tmp_path).ended, Results(tmp_path).trials["state"].tolist()) == (
        1, ["finished", "running"],
    )  # fmt: skip
    assert sweep.tell(tmp_path, two.id, losses(two.allocation)) == "finished"


def test_what_is_moved_away_is_asked_for_anew(tmp_path):
    sweep = make()
    one, two = sweep.ask(tmp_path, 2)
    sweep.tell(tmp_path, one.id, losses(one.allocation))
    for file in (*tmp_path.glob("ledger.sqlite*"), tmp_path / "out.json"):
        file.unlink()
    repair(tmp_path)
    assert sweep.ask(tmp_path)[0].id == two.id


def test_an_answer_that_was_final_is_not_once_more_may_be_spent(tmp_path):
    sweep = make(allowance=1e16)
    while not isinstance(asked := sweep.ask(tmp_path), Finished):
        sweep.tell(tmp_path, asked[0].id, losses(asked[0].allocation))
    assert Results(tmp_path).finished is not None
    make(allowance=6e16).ask(tmp_path)
    assert Results(tmp_path).finished is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"code": 2}, "no loss of validation"),
        ({"code": 2, "validatoin": 3}, "no loss of validation, .* it has code, validatoin"),
        ({"code": "2", "validation": 3}, "'2' is text"),
        ({"code": -2.0, "validation": 3}, "-2 is not above 0"),
        (2.31, "2.31 is no object such as"),
    ],
)
def test_losses_that_are_none_or_miss_a_skill_are_refused(tmp_path, given, words):
    sweep = make()
    (one,) = sweep.ask(tmp_path)
    with pytest.raises(SpecError, match=words):
        sweep.tell(tmp_path, one.id, given)


def test_what_cannot_be_is_refused(tmp_path):
    sweep = make()
    sweep.ask(tmp_path)
    with pytest.raises(SpecError, match="was not asked for"):
        sweep.tell(tmp_path, "nobody", losses(sweep.space.allocation(1e15, 1e6)))
    with pytest.raises(SpecError, match=r"kind 'lost' is unknown.*did you mean"):
        (two,) = sweep.ask(tmp_path)
        sweep.tell(tmp_path, two.id, failed="x", kind="lost")
    for n in (0, "3", 2.5):
        with pytest.raises(SpecError, match="ask for one trial or more"):
            sweep.ask(tmp_path, n)
    for tokens in (1e99, math.nan, -5):
        with pytest.raises(SpecError, match="how many of them it was trained on"):
            sweep.tell(tmp_path, two.id, failed="x", kind="node-lost", tokens=tokens)
    with pytest.raises(SpecError, match=r"give the id of a trial, such as asked\.id"):
        sweep.tell(tmp_path, two, losses(two.allocation))
    with pytest.raises(DirectoryError, match="no sweep here"):
        sweep.tell(tmp_path / "nowhere", two.id, losses(two.allocation))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(SpecError, match="table: no column params, tokens"):
        sweep.suggest(pd.DataFrame({"flops": [1e15], "skill": "a", "loss": 2.0}))
    with pytest.raises(SpecError, match="trainer: a sweep launched by hand says"):
        Sweep(budgets=[1e11], allowance=1e13).ask(tmp_path / "b")
    other = make(trainer={"version": "2", "skills": {"code": "code"}})
    with pytest.raises(DirectoryError, match=r"trainer\.version is '' there and '2' here"):
        other.ask(tmp_path)
