"""`fit --bootstrap`: the surface's constants with intervals, and progress while it takes time."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fitting import fit_skills
from sweeper.analysis.bootstrap import lines, resample
from sweeper.cli import app
from sweeper.errors import SpecError
from trainables import progress

TRUE = {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28}


def table(noise: float = 0.002) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for flops in (1e18, 3e18, 1e19):
        for params in np.geomspace(3e7, 3e9, 9):
            tokens = flops / 6 / params
            loss = TRUE["E"] + TRUE["A"] / params ** TRUE["alpha"]
            loss = (loss + TRUE["B"] / tokens ** TRUE["beta"]) * math.exp(noise * rng.normal())
            rows.append((flops, params, tokens, "code", loss))
    few = [(1e18, p, 1e18 / 6 / p, "short", 2 + (math.log(p) - 19) ** 2) for p in (1e8, 2e8, 4e8)]
    return pd.DataFrame(rows + few, columns="flops params tokens skill loss".split())


def test_constants_have_intervals_that_hold_the_truth_and_progress_is_told(monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    said: list[str] = []
    found = resample(fit_skills(table()), 200, say=said.append)
    code = found["code"]
    for name in ("alpha", "beta", "E"):
        assert code[name]["low"] < TRUE[name] < code[name]["high"]
        assert 0 < code[name]["se"] < code[name]["high"] - code[name]["low"]
    b = TRUE["beta"] / (TRUE["alpha"] + TRUE["beta"])
    assert code["exponent"]["low"] < b < code["exponent"]["high"]
    assert "distinct allocations" in found["short"]["reason"]
    assert any("of 200 draws" in line and "left" in line for line in said)
    shown = "\n".join(lines(found))
    assert "alpha    0." in shown and "distinct allocations" in shown


def test_the_command_prints_and_gives_json(tmp_path):
    table().to_csv(tmp_path / "runs.csv", index=False)
    command = ["fit", str(tmp_path / "runs.csv"), "--method", "surface", "--bootstrap", "100"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0 and "exponent" in shown.stdout
    values = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert values["bootstrap"]["code"]["alpha"]["se"] > 0
    assert "skills" in values


def test_too_few_draws_are_refused():
    with pytest.raises(SpecError, match="bootstrap=10: ask for 100"):
        resample(fit_skills(table()), 10)
