"""Predictions kept, and what became of them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from sweeper.analysis.registered import check, fingerprint, register
from sweeper.cli import app
from sweeper.errors import SpecError

RUNS = pd.DataFrame(
    {"params": [1e6, 2e6], "seed": [None, 1], "loss": [3.0, 2.9], "budget": [1e16, 1e16]}
)
SAID = {
    "skills": {"code": {"loss": 2.0, "loss_at_optimum": {"loss": 2.0, "low": 1.9, "high": 2.1}}}
}


def test_a_kept_prediction_is_checked_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "forecast.json"
    register(path, SAID, RUNS)
    kept = json.loads(path.read_text())
    assert kept["runs"] == fingerprint(RUNS.iloc[::-1]) and kept["date"].startswith("20")
    (row,) = check(path, {"code": 2.05})
    assert row["held"] is True and row["error"] == pytest.approx(2.0 / 2.05 - 1)
    assert check(path, {"code": 2.2})[0]["held"] is False
    with pytest.raises(SpecError, match="was not predicted"):
        check(path, {"maths": 2.0})
    with pytest.raises(SpecError, match="code=0: give the loss"):
        check(path, {"code": 0.0})
    with pytest.raises(SpecError, match="name another"):
        register(path, SAID, RUNS)


def test_losses_are_given_as_to_tell_or_with_commas(tmp_path: Path) -> None:
    two = {"skills": {**SAID["skills"], "maths": SAID["skills"]["code"]}}
    register(tmp_path / "forecast.json", two, RUNS)
    for given in (["code=2.05", "maths=2"], ["code=2.05,maths=2"]):
        said = CliRunner().invoke(app, ["check", str(tmp_path / "forecast.json"), *given])
        assert said.output.count("the interval held") == 2


def test_a_loss_that_was_withheld_is_no_prediction(tmp_path: Path) -> None:
    vague = {"loss": 2.0, "loss_at_optimum": {"status": "not-identified", "reason": "too little"}}
    register(tmp_path / "a.json", {"method": "guarded", "skills": {"code": vague}}, RUNS)
    with pytest.raises(SpecError, match=r"code: no loss was predicted \(too little\)"):
        check(tmp_path / "a.json", {"code": 2.0})
    register(tmp_path / "b.json", {"method": "parabola", "skills": {"code": vague}}, RUNS)
    assert check(tmp_path / "b.json", {"code": 2.0})[0]["held"] is None


def test_other_losses_have_another_hash() -> None:
    assert fingerprint(RUNS) != fingerprint(RUNS.assign(loss=[3.0, 2.8]))
