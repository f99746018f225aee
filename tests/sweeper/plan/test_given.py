"""Budgets and allowance chosen for a time or for money: they fit it, and what cannot is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from sweeper import SpecError, Sweep
from sweeper.cli import app
from sweeper.plan import given, measured
from sweeper.plan.given import Given, choose

MINE = {"name": "mine", "cluster": {"device": "cpu-core", "cpus": 2}}


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By data sheets: what is timed differs from run to run."""
    monkeypatch.setattr(given, "timed", lambda spec, memory: None)


def test_the_time_is_used_and_kept_and_buys_a_decade() -> None:
    found = choose(MINE, Given(minutes=15), Sweep)
    assert 0.85 * 900 < found.seconds <= 900
    low, *_, high = found.spec.budgets
    assert high / low == pytest.approx(10, rel=0.05)
    assert found.spec.allowance / high > 5
    assert (found.plan.expected["half_width"] > 0).all()
    longer = choose(MINE, Given(minutes=60), Sweep, simulate=False)
    assert longer.spec.budgets[-1] > 2 * high and longer.seconds <= 3600


def test_hours_of_devices_and_money_come_to_the_same_sweep() -> None:
    spec = {**MINE, "cluster": {"device": "h100", "gpus": 4, "price_per_hour": 2.5}}
    spec |= {"train": {"rule": "deepseek"}, "model": {"context": 1024}}
    hours = choose(spec, Given(device_hours=8), Sweep, simulate=False)
    money = choose(spec, Given(money=20), Sweep, simulate=False)
    assert hours.fields == money.fields
    assert 6 < hours.plan.device_hours <= 8


def test_too_little_says_what_would_do() -> None:
    with pytest.raises(SpecError, match=r"buy no sweep: the least ladder .* takes about .* s"):
        choose(MINE, Given(minutes=0.3), Sweep)
    with pytest.raises(SpecError, match=r"--money: what an hour costs is not known; set cluster"):
        choose(MINE, Given(money=3), Sweep)
    with pytest.raises(SpecError, match=r"--minutes -1: give a positive number"):
        Given(minutes=-1)
    with pytest.raises(SpecError, match=r"--minutes and --money: give one of"):
        Given(minutes=1, money=1)


def test_a_small_corpus_ends_the_ladder(tmp_path: Path, write_corpus: Callable[..., Path]) -> None:
    classes = {"prose": (0.5, 300, [200_000]), "code": (0.5, 1200, [200_000])}
    root = write_corpus(tmp_path / "corpus", classes, vocabulary=512, context=500)
    data = {"source": "prepared", "path": str(root), "evaluation_documents": 2}
    found = choose({**MINE, "data": data}, Given(minutes=30), Sweep, simulate=False)
    tokens = found.plan.table["tokens"].iloc[-1]
    assert max(found.spec.epochs(tokens).values()) < 4.5
    assert "the corpus ends the ladder" in " ".join(found.notes)
    # The time that is left goes into trials, up to five times as many.
    assert found.spec.allowance == pytest.approx(5 * 8 * sum(found.spec.budgets), rel=0.03)

    tiny = write_corpus(tmp_path / "tiny", {"prose": (1.0, 10, [3000])}, vocabulary=512)
    data = {"source": "prepared", "path": str(tiny), "evaluation_documents": 2}
    with pytest.raises(
        SpecError, match=r"corpus is too small for any ladder.* prepare .* times as"
    ):
        choose({**MINE, "data": data}, Given(minutes=30), Sweep)


def test_the_sizes_of_a_trainer_end_the_ladder() -> None:
    trainer = {"command": ["train", "--n={params}"], "skills": {"code": "code"}}
    ladder = [{"params": round(5000 * 1.4**i)} for i in range(9)]
    cluster = {**MINE["cluster"], "resources": [{"cpus": 1}]}
    spec = {**MINE, "trainer": trainer, "sizes": {"ladder": ladder}, "cluster": cluster}
    found = choose(spec, Given(minutes=60), Sweep, simulate=False)
    guess = (found.spec.budgets[-1] / 120) ** 0.5
    assert guess < ladder[-1]["params"] / 1.5
    assert "the sizes end the ladder" in " ".join(found.notes)
    with pytest.raises(SpecError, match=r"give that, or smaller sizes in sizes\.ladder"):
        choose(spec, Given(minutes=0.01), Sweep, simulate=False)


def test_the_console_writes_a_spec_that_runs(tmp_path: Path) -> None:
    spec, out = tmp_path / "mine.yaml", tmp_path / "run.yaml"
    spec.write_text("name: mine\ncluster: {device: cpu-core, cpus: 2}\n")
    done = CliRunner().invoke(app, ["plan", str(spec), "--minutes", "5", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"wrote {out}" in done.output and "allowance: " in done.output
    assert Sweep.load(out).cluster.cpus == 2
    chosen = json.loads(choose(MINE, Given(minutes=5), Sweep, simulate=False).to_json())["chosen"]
    assert chosen["fields"]["allowance"] == Sweep.load(out).allowance
    refused = CliRunner().invoke(app, ["plan", str(spec), "--out", str(out)])
    assert "--out: writes what --minutes" in str(refused.exception)


def test_timings_are_kept_and_give_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, calls = Sweep(budgets=[1e10, 1e11], allowance=1e12), []

    def pace(spec: Sweep, places: Any) -> list[dict[str, float]]:
        calls.append(places)
        paces = [{"tokens_per_s": 2e4, "aside_s": 0.5, "core": 0.5} for _ in places]
        paces[0] |= {"tokens_per_s": 2e3, "core": 0.05}  # a stall while it was timed
        return paces

    monkeypatch.setattr(measured, "_measured", pace)
    first = measured.timed(sweep, tmp_path / "speed.json")
    again = measured.timed(sweep, tmp_path / "speed.json")
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first, again)
    tokens = [place.tokens for place in calls[0]]
    assert first["wall_s"].tolist() == pytest.approx([n / 2e4 + 0.5 + 0.3 for n in tokens])
    elsewhere = Sweep.from_dict({**sweep.to_dict(), "cluster": {"device": "h100", "gpus": 1}})
    assert measured.timed(elsewhere) is None


def test_a_machine_is_timed_in_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "MOMENT_S", 0.2)
    sweep = Sweep(budgets=[1e9, 4e9], allowance=1e11, cluster={"cpus": 1})
    found = measured.timed(sweep)
    assert (found["wall_s"] > 0).all() and (found["core"] > 0).all()
