"""Questions to somebody's table, as the console answers them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from sweeper.cli import app, main
from sweeper.text import number


def _table(loss: str = "val_loss") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    flops = np.repeat([1e18, 3e18, 1e19, 3e19], 7)
    params = np.round((flops / 120) ** 0.5 * np.tile(np.geomspace(0.2, 5, 7), 4))
    tokens = flops / 6 / params
    value = 1.7 + 400 / params**0.34 + 410 / tokens**0.28 + 0.001 * rng.normal(size=28)
    return pd.DataFrame({"N": params, "train_tokens": tokens, loss: value, "lr": 1e-3})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    _table().to_csv(path, index=False)
    return path


def say(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def answer(*arguments: object, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        say(*arguments, "--json", code=code), parse_constant=pytest.fail
    )
    return found


def test_fit_says_what_was_read_and_a_script_gets_it_all(runs: Path) -> None:
    text = say("fit", runs)
    assert text.startswith(
        "read: loss = val_loss, params = N, tokens = train_tokens, flops from 6 params tokens; "
        "ignored: lr\n"
    )
    found = answer("fit", runs)
    assert found["read"]["loss"] == "val_loss" and found["read"]["ignored"] == ["lr"]
    assert found["excluded"] == []
    optimum = found["skills"]["loss"]["optima"][0]
    assert optimum["low"] < optimum["params"] < optimum["high"] and optimum["status"] == "ok"
    assert {"flops", "tokens"} <= set(optimum)
    assert {"law", "grade", "score"} <= set(found["skills"]["loss"])


def test_why_an_interval_depends_on_the_company_is_said(runs: Path, tmp_path: Path) -> None:
    table = pd.read_csv(runs)
    both = pd.concat([table.assign(skill=name) for name in ("one", "other")])
    both.to_csv(tmp_path / "both.csv", index=False)
    assert "skills are fitted together" in say("fit", tmp_path / "both.csv")
    assert "skills are fitted together" not in say("fit", runs)


def test_an_optimum_beyond_the_sizes_of_its_budget_is_marked(tmp_path: Path) -> None:
    table = _table()
    flops = 6 * table["N"] * table["train_tokens"]
    small = table["N"] < 0.4 * (flops.max() / 120) ** 0.5
    table[(flops < 0.9 * flops.max()) | small].to_csv(tmp_path / "cut.csv", index=False)
    text = say("fit", tmp_path / "cut.csv")
    assert "(at the edge)" in text and "lies above the sizes trained" in text


def test_a_marked_optimum_is_a_number_everywhere(tmp_path: Path) -> None:
    """What `fit` marks `predict` gives with the mark, and its JSON has beside what it costs."""
    table = _table()
    flops = 6 * table["N"] * table["train_tokens"]
    small = table["N"] < 0.4 * (flops.max() / 120) ** 0.5
    path = tmp_path / "cut.csv"
    table[(flops < 0.9 * flops.max()) | small].to_csv(path, index=False)
    text = say("predict", path, "--flops", "3e19")
    assert "no number" not in text and "at the edge: The optimum lies above" in text
    found = answer("predict", path, "--flops", "3e19")["skills"]["loss"]
    assert found["status"] == "edge" and found["choices"] and found["doubt"]["wasted"] < 0.1
    assert "1e3 times beyond the data" in say("predict", path, "--flops", "1e15")
    beyond = say("predict", path, "--flops", "9e19")
    assert "note: loss: On the trained budget next to it: The optimum lies above" in beyond
    for method in ("guarded", "parabola", "surface"):
        _table().to_csv(tmp_path / "whole.csv", index=False)
        plain = say("predict", tmp_path / "whole.csv", "--flops", "3e19", "--method", method)
        assert "note: loss: " not in plain


def test_losses_are_told_in_the_unit_of_the_table(tmp_path: Path) -> None:
    _table("val_bpb").to_csv(tmp_path / "bits.csv", index=False)
    text = say("predict", tmp_path / "bits.csv", "--flops", "1e20", "--params", "1e9",
               "--tokens", "2e10")  # fmt: skip
    assert "(bits per byte, and the share" in text and " bits per byte and wastes" in text
    assert "nats" not in text


def test_suggestions_for_some_rows_and_for_a_sweeps_directory(tmp_path: Path) -> None:
    table = _table().assign(epochs=[1] * 21 + [9] * 7)
    table.to_csv(tmp_path / "all.csv", index=False)
    asked = ("--budgets", "1e19", "--allowance", "1e20", "-n", 2)
    some = say("suggest", tmp_path / "all.csv", *asked, "--where", "epochs<=4")
    table[table["epochs"] == 1].to_csv(tmp_path / "one.csv", index=False)

    def rows(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.strip().startswith("1e19")]

    assert rows(some) and rows(some) == rows(say("suggest", tmp_path / "one.csv", *asked))
    frame = pd.DataFrame({"params": table["N"], "tokens": table["train_tokens"],
                          "loss": table["val_loss"], "status": "finished"})  # fmt: skip
    frame.to_parquet(tmp_path / "observations.parquet")
    assert rows(say("suggest", tmp_path, *asked))


def test_columns_and_where(tmp_path: Path) -> None:
    table = _table().assign(test_loss=9.0, epochs=[1] * 21 + [9] * 7)
    table.to_csv(tmp_path / "two.csv", index=False)
    text = say("fit", tmp_path / "two.csv", "--columns", "loss=val_loss", "--where", "epochs<=4")
    assert "loss = val_loss" in text and "3e+19" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit", "absent.csv"), "no such file"),
        (("predict", "RUNS"), "what is asked?"),
        (("predict", "RUNS", "--gpus", "8", "--days", "14"), "of which kind?"),
        (("predict", "RUNS", "--gpus", "8", "--device", "h100"), "give --days"),
        (("predict", "RUNS", "--days", "14"), "--days goes with --gpus"),
        (("predict", "RUNS", "--gpus", "8", "--device", "h10", "--days", "1"), "mean 'h100'?"),
        (("predict", "RUNS", "--gpus", "1.5", "--device", "h100", "--days", "1"), "whole number"),
        (("predict", "RUNS", "--gpus", "8", "--device", "165:24", "--days", "1"), "in full"),
        (("predict", "RUNS", "--gpus", "1", "--device", "t4", "--days", "3650"), "days=3650"),
        (("predict", "RUNS", "--params", "7B"), "--tokens: give --params and --tokens"),
        (("predict", "RUNS", "--flops", "1e20", "--config", "run.yaml"), "isoskill init"),
        (("predict", "RUNS", "--target-loss", "2.5", "--front", "a,b"), "'a' is unknown"),
        (("predict", "RUNS", "--flops", "1e20", "--prices", "h100:2:.4"), "goes with --inference"),
        (("predict", "RUNS", "--flops", "1e20", "--set", "data.x=3"), "--set goes with --config"),
        (
            ("predict", "RUNS", "--params", "1B", "--tokens", "9B", "--inference-tokens", "1T"),
            "serving is of a budget, or of a loss wanted",
        ),
        (("predict", "RUNS", "--flops", "1e20", "--questions", "q.csv"), "--inference-flops"),
        (("predict", "RUNS", "--flops", "1e20", "--weights", "a=1,a=2"), "a is there twice"),
        (
            (
                "predict",
                "RUNS",
                "--gpus",
                "8",
                "--device",
                "h100",
                "--days",
                "1",
                "--price-per-hour",
                "-2",
            ),
            "give money, 0 or more",
        ),
        (("check", "RUNS", "code=2"), "no kept prediction"),
        (("compare", "a=RUNS", "b=RUNS", "--flops", "0"), "flops=0.0: give a positive"),
        (("compare", "a=RUNS", "b=RUNS", "--flops", "inf"), "flops=inf: give a positive"),
        (("compare", "a=RUNS", "b=RUNS", "--skills", "los"), "los: measured nowhere; known: loss"),
        (("suggest", "RUNS", "--allowance", "1e20", "--tolerance", "0"), "tolerance=0"),
        (("suggest", "RUNS", "--allowance", "inf"), "allowance=inf"),
        (("suggest", "RUNS", "--allowance", "1e20", "--budgets", "1e60"), "name nearer ones"),
        (("suggest", "RUNS", "--allowance", "1e20", "--budgets", "1e3"), "name nearer ones"),
        (("study", "rates", "RUNS", "--out", "x"), "--out says nothing of a study of rates"),
        (("study", "datamix", "RUNS", "--wanted", "a"), "--wanted says nothing"),
        # Where nothing could be written, nothing is read either.
        (("compare", "absent.csv", "no.csv", "--figure", "x.bmp"), ".svg, .png, .pdf: choose"),
        (("compare", "absent.csv", "no.csv", "--figure", "no/x.svg"), "there is no folder no"),
        (("predict", "absent.csv", "--flops", "1", "--register", "no/x"), "there is no folder no"),
        (("predict", "absent.csv", "--flops", "1", "--register", "RUNS"), "name another file"),
        (("report", "absent.csv", "--out", "no/x.html"), "there is no folder no"),
        (("report", "absent.csv", "--out", "x.pdf"), ".html, .md, .json: choose one"),
        (("status", "absent", "--backup", "no/x"), "there is no folder no"),
        (("status", "absent", "--backup", "."), "there already; name another file"),
        (("plan", "absent.yaml", "--figure", "no/x.svg"), "there is no folder no"),
        (("plan", "absent.yaml", "--minutes", "1", "--out", "no/x"), "there is no folder no"),
    ],
)
def test_mistakes_end_with_the_remedy(
    runs: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(
        "sys.argv", ["isoskill", *(a.replace("RUNS", str(runs)) for a in arguments)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_run_of_data_without_an_optimum_ends_as_other_questions_without_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    falling = _table().assign(val_loss=lambda t: 2 + 1e9 / t["N"])
    falling.to_csv(tmp_path / "runs.csv", index=False)
    asked = ["predict", str(tmp_path / "runs.csv"), "--flops", "1e18"]
    spec = tmp_path / "sweep.yaml"
    spec.write_text("budgets: [1e11, 1e12]\nallowance: 1e13\n", encoding="utf-8")
    for more in ([], ["--config", str(tmp_path / "big.yaml"), "--spec", str(spec)]):
        monkeypatch.setattr("sys.argv", ["isoskill", *asked, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 3, capsys.readouterr()


def test_eight_gpus_for_two_weeks(runs: Path) -> None:
    asked = ("--gpus", "8", "--device", "H100", "--days", "14", "--mfu", "40%")
    found = answer("predict", runs, *asked, "--price-per-hour", "2.5")
    assert found["flops"] == pytest.approx(8 * 989e12 * 0.4 * 14 * 86400)
    assert found["hours"] == 14 * 24 and found["hardware"]["price"] == pytest.approx(6720)
    one = found["skills"]["loss"]
    assert one["low"] < one["params"] < one["high"]
    half, double = one["around"]
    assert half["params"] < one["params"] < double["params"]
    assert one["memory"]["holds"] and one["memory"]["state_bytes"] == 16 * one["params"]
    text = say("predict", runs, *asked, "--gpus", "64")
    assert "21,504 device-hours" in text  # 2.15e+04 is not what people write
    priced = say("predict", runs, "--target-loss", "2.4", "--prices", "h100:2500:.4")
    assert re.search(r"for [\d,]+ of money \(90 %: [\d,]+ (to|or) ", priced)
    text = say("predict", runs, *asked)
    assert "3.83e21 FLOPs" in text and "over all 8 it is" in text
    alone = say("predict", runs, "--gpus", "1", "--device", "rtx4090", "--days", "300")
    assert "do not hold it" in alone


def test_how_long_a_budget_takes(runs: Path) -> None:
    found = answer("predict", runs, "--flops", "1e21", "--gpus", "8", "--device", "h100")
    assert found["flops"] == 1e21
    assert found["hours"] == pytest.approx(1e21 / (8 * 989e12 * 0.4) / 3600)


def test_an_allocation_has_a_loss_and_a_distance_from_the_best(runs: Path) -> None:
    found = answer("predict", runs, "--params", "2B", "--tokens", "40B")
    one = found["skills"]["loss"]["allocation"]
    truth = 1.7 + 400 / 2e9**0.34 + 410 / 4e10**0.28
    assert one["low"] < truth < one["high"] and one["flops"] == pytest.approx(6 * 2e9 * 4e10)
    assert one["excess"] >= 0 and 0 <= one["wasted"] < 0.2
    wide = answer("predict", runs, "--params", "40B", "--tokens", "2B")["skills"]["loss"]
    assert wide["allocation"]["wasted"] > 0.5
    text = say("predict", runs, "--params", "2e9", "--tokens", "4×10^10")
    assert "the best size for them is" in text and "no interval" not in text
    text = say("predict", runs, "--params", "2B", "--tokens", "40B", "--method", "surface")
    assert "(no interval by this method; --method guarded has one) for" in text


@pytest.mark.parametrize("given", [("--params", "2B"), ("--tokens", "40B")])
def test_half_an_allocation_is_completed_by_the_tables_own_count(
    given: tuple[str, str], tmp_path: Path
) -> None:
    table = _table()
    table.assign(flops=8 * table["N"] * table["train_tokens"]).to_csv(tmp_path / "8.csv")
    found = answer("predict", tmp_path / "8.csv", "--flops", "6.4e20", *given)
    one = found["skills"]["loss"]["allocation"]
    assert (one["params"], one["tokens"]) == pytest.approx((2e9, 4e10))
    assert one["flops"] == pytest.approx(6.4e20)


def test_a_loss_to_reach_needs_no_budget(runs: Path) -> None:
    found = answer("predict", runs, "--target-loss", "2.6")
    assert found["flops"] is None
    one = found["skills"]["loss"]["serving"]
    low, high = one["training_flops_interval"]
    assert 1e19 < low <= one["training_flops"] <= high < 5 * low
    text = say("predict", runs, "--target-loss", "2.6")
    assert "Least compute for 2.6 nats" in text and f" FLOPs (90 %: {number(low)} to " in text


def test_how_long_a_loss_to_reach_takes(runs: Path) -> None:
    asked = ("predict", runs, "--target-loss", "2.6", "--gpus", "8", "--device", "h100")
    found = answer(*asked)
    one = found["skills"]["loss"]["serving"]
    assert one["hours"] == pytest.approx(one["training_flops"] / (8 * 989e12 * 0.4) / 3600)
    assert found["flops"] is None and "hours" not in found
    text = say(*asked, "--price-per-hour", "2")
    assert " h on 8 h100 at 40 % of their peak (assumed), cost " in text


def test_no_number_is_exit_code_3(tmp_path: Path) -> None:
    _table().iloc[:2].to_csv(tmp_path / "two.csv", index=False)
    assert "no number" in say("predict", tmp_path / "two.csv", "--flops", "1e22", code=3)
    found = answer("fit", tmp_path / "two.csv", code=3)
    assert found["skills"]["loss"]["optima"][0]["status"] != "ok"


def test_marked_sizes_are_numbers(tmp_path: Path) -> None:
    _table().iloc[[i for i in range(28) if i % 7 in (0, 6)]].to_csv(tmp_path / "ends.csv")
    text = say("fit", tmp_path / "ends.csv", code=0)
    assert "(no size near it)" in text and "no law" not in text
    say("predict", tmp_path / "ends.csv", "--flops", "3e19", code=0)


@pytest.mark.parametrize("suffix", ["html", "md", "json"])
def test_the_report_of_a_table(runs: Path, tmp_path: Path, suffix: str) -> None:
    page = tmp_path / f"page.{suffix}"
    say("report", runs, "--out", page)
    text = page.read_text(encoding="utf-8")
    assert "params = N" in text
    assert "isoskill run sweep.yaml" not in text and "allowance" not in text
    assert "has not stopped" not in text


def test_a_table_as_a_plans_pilot(runs: Path, tmp_path: Path) -> None:
    spec = tmp_path / "sweep.yaml"
    spec.write_text("budgets: [1e18, 3e18]\nallowance: 3e19\ncluster: {device: h100}\n")
    assert "in the pilot's world" in say("plan", spec, "--pilot", runs, "--simulate")


def test_rates_of_a_grid(tmp_path: Path) -> None:
    rates = [2.0**-k for k in range(7, 14)]
    widths = [96, 192, 384, 768]
    loss = {w: [3 + 20 / w + 0.03 * np.log(r * w / 0.3) ** 2 for r in rates] for w in widths}
    pivot = pd.DataFrame({"lr": [f"2^-{k}" for k in range(7, 14)], **loss})
    pivot.loc[0, 768] = np.nan
    pivot.to_csv(tmp_path / "pivot.csv", index=False)
    found = answer("study", "rates", tmp_path / "pivot.csv")
    assert found["size"] == "width" and len(found["points"]) == 4
    assert found["points"][0]["learning_rate"] == pytest.approx(0.3 / 96, rel=0.02)
    assert found["law"]["size_exponent"] == pytest.approx(-1, abs=0.02)
    long = pivot.melt("lr", var_name="width", value_name="val_loss").dropna()
    long.assign(params=long["width"].astype(int) ** 2 * 48, tokens=2e9).to_csv(
        tmp_path / "long.csv", index=False
    )
    again = answer("study", "rates", tmp_path / "long.csv")
    assert again["size"] == "params"
    some = answer("study", "rates", tmp_path / "long.csv", "--where", "width>100")
    assert len(some["points"]) == 3
    assert again["law"]["size_exponent"] == pytest.approx(-0.5, abs=0.02)
    assert "best rate" in say("study", "rates", tmp_path / "pivot.csv")


def test_a_directory_without_runs_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fit", str(tmp_path)])
    assert done.exit_code != 0 and "sweep" in str(done.exception)


def test_a_skill_without_a_forecast_stretches_no_table(tmp_path: Path) -> None:
    """Its reason stands below what a wrong size costs the others."""
    rows = []
    ladder = np.geomspace(6e18, 1e21, 7)
    for k, late in enumerate((3.3, 3.3, 3.2, 3.0, 2.7, 2.3, 1.7)):
        flops = float(ladder[k])
        for u in np.linspace(-1.4, 1.4, 9):
            size = math.exp(0.5 * math.log(flops / 120) + u)
            noise = 0.01 * math.sin(7 * u + k)
            clean = 2 + 1.5 * (flops / ladder[0]) ** -0.1 + 0.1 * u**2 + noise
            for skill, loss in (("clean", clean), ("late", late + 0.15 * u**2 + 20 * noise)):
                rows.append((flops, size, flops / 6 / size, skill, loss))
    columns = ["flops", "params", "tokens", "skill", "loss"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "runs.csv", index=False)
    shown = say("predict", tmp_path / "runs.csv", "--flops", 3e22).splitlines()
    start = next(i for i, line in enumerate(shown) if line.startswith("A wrong size"))
    head, clean_row, late_row = shown[start + 1 : start + 4]
    assert "half" in head and len(head) < 80
    assert clean_row.split()[0] == "clean" and "%" in clean_row
    assert "late" in late_row and "no number: Its trials say too little of its loss" in late_row


def test_a_run_under_way_that_has_a_row_per_skill_is_paid_for_once(tmp_path: Path) -> None:
    wide = _table("code").assign(facts=lambda t: t["code"] + 0.1, run=range(28))
    long = wide.melt(["run", "N", "train_tokens"], ["code", "facts"], "skill", "loss")
    long.loc[long["run"] == 20, "loss"] = math.nan
    long.to_csv(tmp_path / "runs.csv", index=False)
    said = say("suggest", tmp_path / "runs.csv", "--allowance", "1.5e19", "--budgets", "1e19,3e19")
    assert "of which runs under way take 1e19" in said
