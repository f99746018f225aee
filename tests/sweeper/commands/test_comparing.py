"""`isoskill compare` on tables and sweeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fitting import fit_skills
from sweeper import text
from sweeper.analysis.variants import Variant, compare
from sweeper.cli import app
from sweeper.errors import SpecError


def table(times: float, seed: int, skill: str = "code") -> pd.DataFrame:
    """Five sizes on three budgets of a variant worth so many times the compute."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in (1e18, 4e18, 1.6e19):
        for offset in np.linspace(-1, 1, 5):
            params = 0.09 * c**0.5 * np.exp(offset)
            p, t = params * times**0.5, c / 6 / params * times**0.5
            loss = 1.8 + 480 * p**-0.35 + 2080 * t**-0.37 + 0.003 * rng.standard_normal()
            rows.append((c, params, skill, loss))
    return pd.DataFrame(rows, columns=["flops", "params", "skill", "loss"])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    paths = tmp_path / "old.csv", tmp_path / "new.csv"
    for path, times, seed in zip(paths, (1.0, 1.4), (0, 1), strict=True):
        table(times, seed).to_csv(path, index=False)
    return str(paths[0]), str(paths[1])


def test_table_json_and_figure(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = tmp_path / "gain.svg"
    said = CliRunner().invoke(app, ["compare", *files, "--figure", str(figure)])
    assert said.exit_code == 0, said.output
    assert "new against old" in said.output
    assert "better" in said.output
    monkeypatch.setattr(text, "screen_width", lambda: 40)
    narrow = CliRunner().invoke(app, ["compare", *files]).output
    assert max(map(len, narrow.splitlines())) <= 40 and "  verdict: better" in narrow
    assert figure.read_text().startswith("<?xml")
    told = CliRunner().invoke(app, ["compare", files[0], f"gain={files[1]}", "--json"])
    one = json.loads(told.output)["variants"]["gain"]["code"]
    assert one["low"] < 1.4 < one["high"]
    assert one["verdict"] == json.loads(told.output)["skills"]["code"]["verdict"] == "better"


def test_experiments_of_one_table_are_compared(tmp_path: Path) -> None:
    both = pd.concat([table(1.0, 0).assign(mix="web"), table(1.3, 1).assign(mix="books")])
    both.to_csv(tmp_path / "both.csv", index=False)
    said = CliRunner().invoke(app, ["compare", str(tmp_path / "both.csv")])
    assert "books against web" in said.output


def test_one_variant_and_equal_names_are_refused(files: tuple[str, str]) -> None:
    one = CliRunner().invoke(app, ["compare", files[0]])
    assert isinstance(one.exception, SpecError)
    assert "give the runs of another" in str(one.exception)
    twice = CliRunner().invoke(app, ["compare", files[0], files[0]])
    assert "write NAME=RUNS" in str(twice.exception)


def measured(times: float, seed: int, tokens: int, size: int = 4000) -> pd.DataFrame:
    """What a sweep knows beside the loss: tokens and bytes of the targets."""
    rows = table(times, seed).assign(target_tokens=tokens, target_bytes=size, tokens=np.nan)
    rows["tokens"] = rows["flops"] / 6 / rows["params"]
    nats = rows["loss"] * 1000  # of a text of a thousand reference tokens
    return rows.assign(loss=nats / tokens, bits_per_byte=nats / size / np.log(2))


def test_other_tokenizers_are_compared_per_byte() -> None:
    old, new = Variant("old", measured(1.0, 0, 1000)), Variant("new", measured(1.4, 1, 800))
    found = compare([old, new])
    assert found["code"].low < 1.4 < found["code"].high
    assert "tokenizers differ" in found.notes[0]


def test_other_texts_are_said() -> None:
    old, new = Variant("old", measured(1.0, 0, 1000)), Variant("new", measured(1.4, 1, 1000, 5000))
    assert "different texts" in compare([old, new]).notes[0]


def test_other_units_are_refused() -> None:
    pair = [Variant("old", table(1, 0), "nats"), Variant("new", table(1, 1), "bits per byte")]
    with pytest.raises(SpecError, match="different units: old in nats, new in bits per byte"):
        compare(pair)


def test_the_spec_says_which_variant_of_a_sweep_is_the_reference(tmp_path: Path) -> None:
    from sweeper import Sweep
    from sweeper.analysis.variants import of_sweep
    from sweeper.record.record import Outcome
    from sweeper.report.report import write
    from sweeper.report.studies import sections

    spec = Sweep(
        budgets=[1e18, 4e18, 1.6e19], allowance=1e20, skills=["code"],
        variants={"old": {}, "new": {"train": {"learning_rate": 0.01}}},
    )  # fmt: skip
    parts = [table(1.3, 1).assign(mix="new", seed=0), table(1.0, 0).assign(mix="old", seed=0)]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.assign(status="finished", tokens=rows["flops"] / 6 / rows["params"])
    rows["trial_id"], rows["spent_flops"] = rows.index, rows["flops"]
    outcome = Outcome(spec, rows, None)
    assert [one.name for one in of_sweep("", outcome)] == ["old", "new"]
    (section,) = [s for s in sections(outcome) if s["name"] == "compare"]
    assert any("better" in line for line in section["answers"])
    assert "<svg" in section["figures"][0][0]
    page = write(outcome, tmp_path / "report.md", fit_skills(rows)).read_text()
    assert (
        "* Compute multiplier of new by code"
        in page.split("## What the sweep says")[1].lstrip().splitlines()[0]
    )


def test_losses_of_other_tokens_have_no_verdict(tmp_path: Path) -> None:
    parts = [table(m, seed).assign(tokenizer=name)
             for m, seed, name in ((1.0, 0, "32k"), (1.4, 1, "64k"))]  # fmt: skip
    names = [str(tmp_path / f"{name}.csv") for name in ("a", "b", "both")]
    for path, frame in zip(names, [*parts, pd.concat(parts)], strict=True):
        frame.to_csv(path, index=False)
    for runs in (names[:2], names[2:]):
        done = CliRunner().invoke(app, ["compare", *runs])
        assert "undecided" in done.output and "better" not in done.output
        assert "its tokenizer is 64k, the reference's 32k" in done.output
    for path, frame in zip(names, parts, strict=False):
        frame.rename(columns={"loss": "bits_per_byte"}).to_csv(path, index=False)
    assert "better" in CliRunner().invoke(app, ["compare", *names[:2]]).output


def test_every_budget_that_is_asked_about_is_answered(files: tuple[str, str]) -> None:
    text = CliRunner().invoke(app, ["compare", *files, "--flops", "4e18,6.4e19"]).output
    lines = [line for line in text.splitlines() if line.startswith("code")]
    assert "4e18" in lines[0] and "better" in lines[0]
    assert "6.4e19, 4 times beyond" in lines[1] and "better" not in lines[1]
