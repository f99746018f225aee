"""The console: what the verbs print, and how mistakes are refused."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from sweeper import SpecError, Sweep
from sweeper.cli import app, main

SPEC = "budgets: [1e11, 2e11, 4e11]\nallowance: 6e12\n"


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Somebody's CSV: two skills on three budgets, from known surfaces."""
    rows = []
    for flops in (1e18, 1e19, 1e20):
        for params in (flops**0.5 / 4 * x for x in (0.2, 0.4, 0.7, 1.3, 2.5, 5.0)):
            for skill, a, b in (("code", 4e5, 6e6), ("facts", 9e5, 3e6)):
                loss = 1.0 + (a / params) ** 0.5 + (b * params / flops) ** 0.5
                rows.append((flops, params, flops / 6 / params, skill, loss))
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    pd.DataFrame(rows, columns=["C", "N", "D", "skill", "loss"]).to_csv(path, index=False)
    return path


def said(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def refused(monkeypatch, capsys):
    """What the console says of a mistake, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["isoskill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert ended.value.code == 2, said
        return said

    return run


def refused_alone(*arguments):
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_plan_prints_a_table_and_json(spec):
    text = said("plan", spec)
    assert "1e11" in text
    assert "15 to 60 trials within 6e12 FLOPs" in text
    plan = json.loads(said("plan", spec, "--json", "--set", "search.policy=grid"))
    assert plan["trials"] == [24, 24]
    assert [b["flops"] for b in plan["budgets"]] == [1e11, 2e11, 4e11]
    for budget in plan["budgets"]:
        realised = 6 * budget["params"] * budget["tokens"]
        assert 0.99 < realised / budget["flops"] <= 1


def test_plan_says_what_intervals_to_expect(spec):
    plan = json.loads(said("plan", spec, "--json", "--simulate"))
    assert [row["flops"] for row in plan["expected"]] == [1e11, 2e11, 4e11]
    assert all(0 < row["half_width"] < 1 for row in plan["expected"])
    text = said("plan", spec, "--simulate", "--set", "allowance=2e12")
    assert "best sizes to within ±" in text


def test_help_says_whole_what_every_command_does():
    assert "..." not in said("--help").partition("Commands:")[2]


def test_skills_lists_the_defaults(spec):
    rows = json.loads(said("skills", "--json"))
    assert {"knowledge", "code", "validation"} <= {row["name"] for row in rows if row["default"]}
    shown = said("skills")
    assert "* knowledge" in shown
    assert "+ mbpp                 code       held-out    MBPP" in shown
    assert "  triviaqa-test: TriviaQA withholds the answers" in shown
    public = {row["name"]: row["public"] for row in rows if "public" in row}
    assert len(public) == 19 and not public["cat-lm"] and public["humaneval"]


def test_fit_and_predict_work_on_anybodys_table(runs):
    assert "code" in said("fit", runs, "--method", "parabola")
    at = json.loads(said("predict", runs, "--flops", "1e19", "--method", "surface", "--json"))[
        "skills"
    ]
    assert at["facts"]["params"] == pytest.approx((9e5 / 3e6 * 1e19) ** 0.5, rel=0.02)
    assert at["code"]["params"] == pytest.approx((4e5 / 6e6 * 1e19) ** 0.5, rel=0.02)
    assert "params on" in said("predict", runs, "--flops", "1e21", "--skill", "code")


def test_mistakes_end_with_one_message_and_code_2(tmp_path, spec, runs, refused):
    spec.write_text(SPEC + "serch: {}\n")
    assert "did you mean 'search'" in refused("plan", spec) == refused_alone("plan", spec)
    assert "absent.yaml: no such file" in refused("run", tmp_path / "absent.yaml")
    assert "no sweep here" in refused("status", tmp_path)
    assert "did you mean 'code'" in refused("predict", runs, "--flops", "1e19", "--skill", "cod")
    assert "positive number" in refused("predict", runs, "--flops", "-1")
    assert "'parabol' is unknown" in refused("fit", runs, "--method", "parabol")
    assert "KEY=VALUE" in refused("plan", spec, "--set", "x")


def test_no_ray_at_the_address_is_said_at_once(tmp_path, spec):
    nowhere = ("--set", "cluster.address=127.0.0.1:1")
    said = refused_alone("run", spec, "--out", tmp_path / "a", *nowhere)
    assert "nothing answers there" in said
    assert "ray start --head" in said


def test_a_local_ray_that_does_not_start_is_said(monkeypatch):
    import ray

    from sweeper import Cluster, ClusterError
    from sweeper.cluster.connect import STARTS, connected

    failures = iter(range(STARTS))

    def fail(**_):
        if next(failures, None) is None:
            return SimpleNamespace(dashboard_url="127.0.0.1:1")
        raise Exception("The current node timed out during startup.\nMore.")

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # of the cluster that the tests share
    with (
        pytest.raises(ClusterError, match=r"did not start .*timed out during startup\.\); the m"),
        connected(Cluster(), name="a"),
    ):
        pass
    failures = iter(range(STARTS - 1))  # and one that starts at last is used
    with connected(Cluster(), name="a") as dashboard:
        assert dashboard == "http://127.0.0.1:1"


def test_a_directory_of_another_spec_is_refused(tmp_path, spec, refused):
    from sweeper import Sweep
    from sweeper.record.directory import Directory
    from sweeper.record.ledger import Ledger

    other = Sweep(budgets=[1e11, 3e11], allowance=6e12)
    Directory(tmp_path / "a").claim(other)
    ledger = Ledger(tmp_path / "a" / "ledger.sqlite")
    ledger.reserve("a", other.space.allocation(3e11, 3e4))
    ledger.close()
    said = refused("run", spec, "--out", tmp_path / "a")
    assert "belongs to another sweep: budgets: 1 trial of 3e11 FLOPs" in said


def test_a_sweep_whose_trials_all_failed_ends_in_words(tmp_path, refused, monkeypatch):
    from sweeper import Results, Sweep
    from sweeper.commands.sweeps import _closing
    from sweeper.record.directory import Directory
    from sweeper.record.ledger import Ledger

    sweep, directory = Sweep(budgets=[1e11, 2e11], allowance=1e12), Directory(tmp_path)
    directory.claim(sweep)
    ledger = Ledger(directory.ledger)
    ledger.reserve("a", sweep.space.allocation(1e11, 3e4))
    ledger.fail("a", "out of memory", spent_flops=0.0)
    ledger.close()
    results = Results(tmp_path)
    results.export()
    assert "No trial has finished: 1 failed, most of them so: 'out of memory'" in _closing(results)
    monkeypatch.setattr(Sweep, "run", lambda sweep, directory, progress: results)  # without Ray
    ended = CliRunner().invoke(app, ["run", str(tmp_path), "--out", str(tmp_path)])
    assert ended.exit_code == 3 and "No trial has finished" in ended.output
    for command in (("fit",), ("predict", "--flops", "1e12")):
        assert "'out of memory'" in refused(command[0], tmp_path, *command[1:])
    assert "1 trial, integrity ok" in said("status", tmp_path, "--backup", tmp_path / "copy")
    assert Ledger(tmp_path / "copy").check() == "ok"
    assert "1 failed" in said("status", tmp_path)


def test_a_table_without_losses_is_refused(tmp_path, refused):
    path = tmp_path / "runs.csv"
    path.write_text("params,tokens\n1,2\n")
    assert "loss" in refused("fit", path)


def test_tuning_a_foreign_trainer_is_refused_in_words(tmp_path, refused):
    spec = tmp_path / "mine.yaml"
    spec.write_text(
        "budgets: [1e18, 3e18]\nallowance: 1e20\ntrainer: {skills: {code: code}}\n"
        "sizes: {ladder: [{params: 5e7}, {params: 1e8}, {params: 2e8}]}\n"
    )
    assert "not with a trainer of yours" in refused("tune", spec)


def test_a_number_that_is_none_is_refused_in_words(spec, refused):
    assert "allowance: write a number, such as 1e18, got 'abc'" in refused(
        "plan", spec, "--set", "allowance=abc"
    )


@pytest.mark.parametrize("command", ["run", "tune", "ask"])
def test_a_sweep_named_by_its_directory_goes_on_there(tmp_path, monkeypatch, refused, command):
    trainer = {"skills": {"code": "code"}} if command == "ask" else None
    given = {"budgets": [1e11], "allowance": 1e13, "name": "elsewhere", "trainer": trainer}
    Sweep.from_dict({k: v for k, v in given.items() if v}).save(tmp_path / "sweep.yaml")
    places = []

    def seen(self, directory, *args, **options):
        places.append(directory)
        raise SpecError("enough")

    monkeypatch.setattr(Sweep, command, seen)
    monkeypatch.setattr("sweeper.commands.sweeps._tuned_within", lambda sweep, *a, **k: sweep)
    assert "enough" in refused(command, tmp_path)
    assert places == [tmp_path]
