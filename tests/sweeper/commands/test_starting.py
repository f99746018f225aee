"""`init` and `demo`: first specs are sized for what was asked, and `plan` takes each as it is."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from sweeper.cli import app
from sweeper.errors import SpecError
from sweeper.plan.starter import DEMO, KINDS, Request, starter


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    return done.output


def table(path):
    rows = [
        (c, p, c / 6 / p, skill, 1.7 + 400 / p**0.34 + 410 / (c / 6 / p) ** 0.28)
        for c in (1e18, 3e18, 1e19)
        for p in np.geomspace(3e7, 3e9, 9)
        for skill in ("code", "validation")
    ]
    frame = pd.DataFrame(rows, columns=["flops", "params", "tokens", "skill", "loss"])
    frame.to_csv(path, index=False)


@pytest.mark.parametrize("kind", ["laptop", "gpu", "cluster", "trainer", "demo"])
def test_the_plan_takes_a_first_spec_and_the_hours_that_were_asked_for(kind, folder):
    said("init", kind, "--out", "s.yaml")
    plan = json.loads(said("plan", "s.yaml", "--json"))
    text = (folder / "s.yaml").read_text()
    assert "$" not in text
    assert max(map(len, text.splitlines())) <= 130
    hours = {"laptop": 0.1, "gpu": 2, "cluster": 24, "trainer": 24}.get(kind)
    if hours:
        devices = {"cluster": 8}.get(kind, plan["devices"])
        assert plan["device_hours"] == pytest.approx(hours * devices, rel=0.06)
        assert plan["budgets"][-1]["flops"] >= 9 * plan["budgets"][0]["flops"]
        assert plan["budgets"][-1]["flops"] <= 0.1 * plan["allowance"] * (1 + 1e-9)


def test_several_gpus_of_one_machine_are_planned_for(folder):
    said("init", "gpu", "--gpus", "4", "--hours", "3", "--out", "s.yaml")
    assert yaml.safe_load((folder / "s.yaml").read_text())["cluster"]["gpus"] == 4
    plan = json.loads(said("plan", "s.yaml", "--json"))
    assert plan["device_hours"] == pytest.approx(12, rel=0.06)


def test_a_table_gives_a_spec_that_goes_on_from_it(folder):
    table(folder / "runs.csv")
    said("init", "table", "--runs", "runs.csv", "--out", "s.yaml")
    spec = yaml.safe_load((folder / "s.yaml").read_text())
    assert [float(b) for b in spec["budgets"]] == [3e18, 1e19, 3e19]
    assert spec["cluster"]["device"] == "h100"  # such budgets are no CPU's
    assert spec["trainer"]["skills"] == {"code": "code", "validation": "aggregate"}
    assert "1e+19" not in (folder / "s.yaml").read_text()
    assert json.loads(said("plan", "s.yaml", "--pilot", "runs.csv", "--json"))["allowance"] == 2e20
    asked = json.loads(said("ask", "s.yaml", "-n", "2", "--json"))
    assert len(asked) == 2


def test_a_spec_trains_on_a_prepared_corpus(folder, write_corpus):
    classes = {"prose": (0.5, 10, [50_000, 50_000]), "code": (0.5, 40, [80_000])}
    write_corpus(folder / "corpus", classes, vocabulary=300, context=128)
    said("init", "laptop", "--data", "corpus", "--out", "s.yaml")
    spec = yaml.safe_load((folder / "s.yaml").read_text())
    assert spec["data"] == {"source": "prepared", "path": "corpus"}
    assert "train" not in spec and "model" not in spec  # they follow the corpus
    assert "epochs" in said("plan", "s.yaml")


def test_a_spec_follows_a_command_and_an_allowance(folder):
    said("init", "trainer", "--command", "sh go.sh {params} {tokens}", "--allowance", "1e20")
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    assert spec["trainer"]["command"] == ["sh", "go.sh", "{params}", "{tokens}"]
    assert float(spec["allowance"]) == 1e20
    said("init", "trainer", "--allowance", "1e15", "--out", "small.yaml")
    assert "trials within 1e15 FLOPs" in said("plan", "small.yaml")


def test_what_cannot_be_written_is_said(folder):
    (folder / "sweep.yaml").write_text("mine")
    with pytest.raises(SpecError, match=r"sweep\.yaml: there already"):
        app(["init", "laptop"], standalone_mode=False)
    assert (folder / "sweep.yaml").read_text() == "mine"
    for wish, words in (
        ({"kind": "labtop"}, "did you mean 'laptop'"),
        ({"kind": "table"}, "--runs"),
        ({"kind": "gpu", "device": "h10"}, "--device"),
        ({"kind": "laptop", "hours": 0}, "--hours 0"),
        ({"kind": "trainer", "allowance": 1e6}, "--allowance 1e.06: .*too little"),
        ({"kind": "trainer", "hours": 1e-4}, "--hours 0.0001: .*too little"),
        ({"kind": "laptop", "allowance": 1}, "--allowance 1: no sweep of that size"),
        ({"kind": "gpu", "allowance": 1e60}, "--allowance 1e.60: no sweep of that size"),
        ({"kind": "gpu", "hours": 1e9}, "--hours 1e.09: no sweep of that size"),
        ({"kind": "gpu", "hours": 1, "allowance": 1e18}, "give one"),
        ({"kind": "laptop", "device": "h100"}, "--device says nothing .*: it goes with gpu"),
        ({"kind": "demo", "hours": 1}, "--hours says nothing"),
        ({"kind": "trainer", "command": "sh 'x"}, "--command .*No closing quotation"),
        ({"kind": "laptop", "data": "nowhere"}, "--data nowhere"),
    ):
        with pytest.raises(SpecError, match=words):
            starter(Request(file=folder / "s.yaml", **wish))
    with pytest.raises(SpecError, match="there is no folder"):
        app(["init", "laptop", "--out", "nowhere/t.yaml"], standalone_mode=False)
    with pytest.raises(SpecError, match="say which spec"):
        app(["init", "--out", "t.yaml"], standalone_mode=False)


def test_three_questions_write_a_spec(folder, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    from sweeper.commands import starting

    answers = iter(["cluster", "a100 x 4", 10.0])
    monkeypatch.setattr(starting.typer, "prompt", lambda *_, **__: next(answers))
    assert starting._asked() == {"kind": "cluster", "device": "a100", "gpus": 4, "hours": 10.0}
    answers = iter(["cluster", "8 a100"])
    with pytest.raises(SpecError, match="'8 a100': write a GPU and how many"):
        starting._asked()


def test_the_demo_runs_the_spec_of_the_package(monkeypatch, folder):
    from sweeper.commands import starting

    seen = []
    monkeypatch.setattr(
        starting, "carry_out", lambda sweep, out, again, quiet: seen.append((sweep, out, again))
    )
    assert "1e11" in said("demo", "--out", "here")
    ((sweep, out, again),) = seen
    assert sweep.budgets[0] == 1e11
    assert str(out) == "here"
    assert again == "isoskill demo --out here"
    assert "demo" in KINDS
    assert DEMO.is_file()


def test_a_plan_can_be_drawn(folder):
    said("init", "demo", "--out", "s.yaml")
    assert "figure: plan.svg" in said("plan", "s.yaml", "--figure", "plan.svg")
    drawn = (folder / "plan.svg").read_text()
    assert drawn.count("<path") > 20
    assert "Date" not in drawn
    with pytest.raises(SpecError, match=r"plan.jpeg: it is written as .svg"):
        app(["plan", "s.yaml", "--figure", "plan.jpeg"], standalone_mode=False)
