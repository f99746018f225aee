"""Anybody's runs: one test for each kind of fault met in public tables, on small planted ones."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fitting import Runs, fit_skills, prepare, read_runs
from fitting.errors import TableError
from fitting.reading.terms import parse_columns


def runs(sizes: int = 5) -> pd.DataFrame:
    """Three isoFLOP budgets on a known surface."""
    flops = np.repeat([1e18, 1e19, 1e20], sizes)
    params = np.round((flops / 120) ** 0.5 * np.tile(np.geomspace(0.2, 5, sizes), 3))
    tokens = flops / 6 / params
    loss = 1.7 + 400 / params**0.34 + 410 / tokens**0.28
    return pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss})


def as_text(frame: pd.DataFrame, **options: object) -> str:
    return str(frame.to_csv(index=False, **options))


def read(tmp_path: Path, content: str | bytes, name: str = "runs.csv", **options: Any) -> Runs:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_runs(path, **options)


def same(found: pd.DataFrame, truth: pd.DataFrame) -> None:
    for name in ("params", "tokens", "flops", "loss"):
        np.testing.assert_allclose(found[name], truth[name], rtol=1e-3)


# --- forms ---


def test_text_in_every_dress(tmp_path: Path) -> None:
    whole = as_text(runs())
    lines = whole.splitlines()
    german = as_text(runs(), sep=";", decimal=",")
    dresses = {
        "tab.tsv": as_text(runs(), sep="\t"),
        "semicolon.csv": as_text(runs(), sep=";"),
        "german.csv": german,
        "spaces.txt": runs().to_string(index=False),
        "commented.csv": "# exported 2026-01-01\n# project, x\n" + whole,
        "savetxt.txt": "# " + " ".join(lines[0].split(",")) + "\n"
        + "\n".join(" ".join(line.split(",")) for line in lines[1:]),
        "index.csv": str(runs().to_csv()),
        "windows.CSV": "\r\n".join(lines),
        "bom.csv": "\ufeff" + whole,
    }  # fmt: skip
    for name, text in dresses.items():
        same(read(tmp_path, text, name).table, runs())
    same(read(tmp_path, whole.encode("utf-16"), "utf16.csv").table, runs())
    same(read(tmp_path, gzip.compress(whole.encode()), "runs.csv.gz").table, runs())


def test_json_in_every_shape(tmp_path: Path) -> None:
    table = runs()
    records = table.to_dict(orient="records")
    nested = [
        {"id": f"r{i}", "config": {"model": {"params": r["params"]}, "tokens": r["tokens"]},
         "summary": {"eval/loss": r["loss"], "_step": 100}}
        for i, r in enumerate(records)
    ]  # fmt: skip
    shapes = [
        records,
        {"runs": records},
        table.to_dict(orient="list"),
        {f"run {i}": r for i, r in enumerate(records)},
        json.loads(table.to_json()),
        json.loads(table.to_json(orient="split")),
        nested,
    ]
    for shape in shapes:
        same(read(tmp_path, json.dumps(shape), "runs.json").table, table)
    lines = "\n".join(map(json.dumps, nested))
    assert read(tmp_path, lines, "runs.jsonl").read["loss"] == "summary.eval/loss"
    cut = read(tmp_path, lines + '\n{"id": "r99", "con', "runs.jsonl")
    same(cut.table, table)
    assert "line 16 is not JSON" in cut.excluded["reason"].iloc[0]
    with pytest.raises(TableError, match="line 1, column 2"):
        read(tmp_path, "[oops", "runs.json")


def test_wandb_cells_that_hold_objects(tmp_path: Path) -> None:
    table = runs()
    frame = pd.DataFrame({
        "name": [f"r{i}" for i in range(15)],
        "config": [str({"n_params": p, "train_tokens": t, "lr": 1e-3})
                   for p, t in zip(table["params"], table["tokens"], strict=True)],
        "summary": [str({"val_loss": v}) for v in table["loss"]],
    })  # fmt: skip
    same(read(tmp_path, as_text(frame)).table, table)


def test_markdown_with_bold_and_states(tmp_path: Path) -> None:
    rows = "\n".join(
        f"| {r.flops:.0e} | d{i} | {r.tokens:.4e} | {'**' * (i % 5 == 2)}{r.loss:.5f}"
        f"{'**' * (i % 5 == 2)} | done |"
        for i, r in enumerate(runs().itertuples())
    )
    text = (
        "Our runs so far:\n\n| budget | width | tokens | paloma macro | status |\n"
        f"|---|:--:|--:|---|---|\n{rows}\n| 1e18 | d9 | 1e9 | 7.91 | diverged |\n"
        "| 1e18 | d8 | 1e9 | — | running (61%) |\n\nMore soon."
    )
    found = read(tmp_path, text, "issue.md")
    same(found.table, runs())
    assert list(found.excluded["reason"]) == ["status is 'diverged'", "status is 'running (61%)'"]


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(as_text(runs()).encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    same(read_runs("-").table, runs())


def test_excel(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl", reason="workbooks are read through openpyxl (extra `read`)")
    with pd.ExcelWriter(tmp_path / "runs.xlsx") as book:
        pd.DataFrame({"note": ["see the other sheet"]}).to_excel(book, sheet_name="read me")
        runs().to_excel(book, sheet_name="runs", index=False)
    found = read_runs(tmp_path / "runs.xlsx")
    same(found.table, runs())
    assert found.notes == ("1 of 2 sheets read (runs), the others have other columns",)


def test_lines_that_are_no_records(tmp_path: Path) -> None:
    text = as_text(runs())
    cut = read(tmp_path, text + "1e20,123")
    same(cut.table, runs())
    assert "cut off: '1e20,123'" in cut.excluded["reason"].iloc[0]
    wide = read(tmp_path, text + "1e20,1e8,1e9,3.0,7,8\n")
    same(wide.table, runs())
    assert "6 cells under 4 headers" in wide.excluded["reason"].iloc[0]


def test_pivot(tmp_path: Path) -> None:
    sizes = [1e7, 3e7, 1e8, 3e8, 1e9]
    loss = {c: [1.7 + 400 / p**0.34 + 410 / (c / 6 / p) ** 0.28 for p in sizes]
            for c in (1e18, 1e19)}  # fmt: skip
    frame = pd.DataFrame(loss, index=["10M", "30M", "100M", "300M", "1B"]).T
    found = read(tmp_path, str(frame.to_csv(index_label="FLOPs"))).table
    assert len(found) == 10
    row = found[(found["flops"] == 1e19) & (found["params"] == 1e8)].iloc[0]
    assert row["loss"] == pytest.approx(loss[1e19][2])
    with pytest.raises(TableError, match="study rates"):
        read(tmp_path, "lr,96,192,384\n2^-8,4.1,3.7,3.4\n2^-9,4.1,3.7,3.4\n")


@pytest.mark.parametrize(
    ("header", "said"),
    [("Wall time,Step,Value\n1,2,3\n", "tensorboard:DIR"),
     ("Step,a - loss,a - loss__MIN,a - loss__MAX\n1,2,2,2\n", "wandb:ENTITY/PROJECT")],
)  # fmt: skip
def test_charts_are_no_tables(tmp_path: Path, header: str, said: str) -> None:
    with pytest.raises(TableError, match=said):
        read(tmp_path, header)


# --- columns ---


def test_what_was_read_is_one_line() -> None:
    given = runs().rename(columns={"params": "parameter_count", "loss": "eval/loss"})
    given["total_gflops"] = given.pop("flops") / 1e9
    given = given.drop(columns="tokens").assign(lr=1e-3, loss=9.0, tokenizer="gpt2")
    found = read_runs(given)
    same(found.table, runs())
    assert found.line == (
        "loss = eval/loss, params = parameter_count, flops = total_gflops × 1e9, tokens from "
        "flops/(6 params); ignored: lr, loss, tokenizer"
    )
    assert found.read["loss"] == "eval/loss" and found.read["units"] == {"flops": 1e9}


def test_evaluation_before_training_and_asks_between_equals() -> None:
    given = runs().rename(columns={"loss": "val_loss"}).assign(**{"train/loss": 9.0, "loss": 8.0})
    same(read_runs(given).table, runs())
    two = given.assign(test_loss=7.0)
    with pytest.raises(TableError, match="--columns 'loss=val_loss'"):
        read_runs(two)
    same(read_runs(two, {"loss": "val_loss"}).table, runs())
    both = read_runs(two, parse_columns("loss=val_loss,loss=test_loss")).table
    assert set(both["skill"]) == {"val_loss", "test_loss"}


def test_wide_tables_become_skills() -> None:
    given = runs().rename(columns={"loss": "c4_loss"}).assign(code_loss=2.0, train_loss=1.0)
    found = read_runs(given)
    assert list(found.table["skill"].unique()) == ["c4_loss", "code_loss"]
    assert "skills: 2 columns" in found.line and found.table["trial_id"].nunique() == 15


def test_letters_that_mean_layers_and_width() -> None:
    given = runs().rename(columns={"loss": "val_ce"}).assign(L=12, D=768)
    same(read_runs(given).table, runs())
    with pytest.raises(TableError, match="taken for width and layers"):
        read_runs(given.drop(columns=["flops", "tokens"]))


def test_a_label_beside_the_count() -> None:
    given = runs().assign(size=[f"{p / 1e6:.3g}M" for p in runs()["params"]])
    found = read_runs(given.rename(columns={"params": "N", "tokens": "D"}))
    same(found.table, runs())
    assert found.read["params"] == "N" and found.table["params"].iloc[0] == runs()["params"][0]


def test_experts() -> None:
    total = runs()["params"] * 33
    as_told = runs().drop(columns="flops").assign(active_params=runs()["params"], params=total)
    found = read_runs(as_told)
    same(found.table, runs())
    assert "mixture of experts" in found.notes[0]
    no_active = prepare(runs().assign(params=total))
    assert "all experts" in no_active.warnings[0] and "Keep the flops" in no_active.warnings[0]


def test_two_counts_of_params_are_told_apart_by_the_flops() -> None:
    given = runs().rename(columns={"params": "params_transformer"})
    given = given.assign(params_total=given["params_transformer"] * 2.5 + 3e7, params_wte=1e7)
    found = read_runs(given)
    same(found.table, runs())
    assert "params_transformer and not 'params_total'" in found.notes[0]
    with pytest.raises(TableError, match="could each be params"):
        read_runs(given.drop(columns="flops"))


def test_asked_columns_win_and_unknown_ones_are_refused() -> None:
    given = runs().assign(ppl=np.exp(runs()["loss"]), acc=1 - runs()["loss"] / 10)
    same(read_runs(given, {"loss": "log(ppl)"}).table, runs())
    assert np.allclose(read_runs(given, {"loss": "1-acc"}).table["loss"], runs()["loss"] / 10)
    assert read_runs(given, {"tokens": 2e9, "flops": "none"}).table["tokens"].eq(2e9).all()
    with pytest.raises(TableError, match="no such column; nearest: 'loss'"):
        read_runs(given, {"loss": "los"})
    with pytest.raises(TableError, match="did you mean 'tokens'"):
        parse_columns("token=x")
    with pytest.raises(TableError, match="write ROLE=COLUMN"):
        parse_columns("loss")


# --- units ---


def test_units_in_headers() -> None:
    given = runs()
    scaled = pd.DataFrame({
        "params (B)": given["params"] / 1e9, "tokens_b": given["tokens"] / 1e9,
        "FLOPs (1e18)": given["flops"] / 1e18, "val loss": given["loss"],
    })  # fmt: skip
    same(read_runs(scaled).table, given)
    days = given.drop(columns="tokens").rename(columns={"flops": "compute (PF-days)"})
    same(read_runs(days.assign(**{"compute (PF-days)": given["flops"] / 8.64e19})).table, given)
    same(read_runs(given.rename(columns={"params": "params (B)"})).table, given)  # a label only


@pytest.mark.parametrize("units", [(1e9, 1e9), (1e6, 1e9)])
def test_silent_units_are_asked_about_and_the_offer_is_right(units: tuple[float, float]) -> None:
    given = runs().drop(columns="flops")
    given["params"] /= units[0]
    given["tokens"] /= units[1]
    with pytest.raises(TableError, match="too small to be counts") as error:
        read_runs(given)
    offer = str(error.value).split("--columns '")[1].rstrip("'")
    same(read_runs(given, parse_columns(offer)).table, runs())


def test_units_that_the_flops_give_away_are_turned_and_said() -> None:
    given = runs()
    for name, unit in (("tokens", 1e9), ("params", 1e9), ("flops", 1e9)):
        found = read_runs(given.assign(**{name: given[name] / unit}))
        same(found.table, given)
        assert f"{name} × 1e9" in found.notes[0]


def test_forward_flops_are_refused_with_the_factor() -> None:
    given = runs().assign(flops=runs()["flops"] / 3)
    with pytest.raises(TableError, match=r"--columns flops=flops\*3"):
        prepare(read_runs(given))
    same(prepare(read_runs(given, {"flops": "flops*3"})).frame, runs())


# --- rows ---


def logs(named: bool) -> pd.DataFrame:
    """Thirty log lines of each of six trainings, the last one with the final loss."""
    steps = np.arange(1, 31)
    parts = []
    for p in (5e7, 6e7, 1e8, 2e8, 3e8, 5e8):
        tokens = steps * 1e8
        loss = 1.7 + 400 / p**0.34 + 410 / tokens**0.28
        parts.append(pd.DataFrame({"step": steps, "params": p, "tokens": tokens, "loss": loss}))
        if named:
            parts[-1].insert(0, "run", f"L-{p / 1e6:.0f}M")
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("named", [True, False])
def test_log_lines_are_checkpoints_and_the_last_counts(named: bool) -> None:
    found = read_runs(logs(named))
    assert len(found.table) == 6 and found.table["tokens"].eq(3e9).all()
    assert "174 of 180 rows are earlier checkpoints" in found.notes[0]
    assert list(found.excluded["reason"].unique()) == [
        "29 earlier checkpoints of the run whose last row is kept"
    ]


def test_the_last_row_with_a_loss_counts() -> None:
    given = logs(True).assign(**{"eval/loss": lambda t: t["loss"].where(t["step"] % 10 == 0)})
    given["eval/code_loss"] = given["loss"].where(given["step"] % 15 == 0)
    found = read_runs(given)
    assert len(found.table) == 12 and found.table["tokens"].eq(3e9).all()


def test_a_ladder_is_no_log() -> None:
    ratios = np.tile([0.5, 1, 2, 4, 8, 16], 4) * 20
    params = np.repeat([6e7, 1e8, 2e8, 4e8], 6)
    tokens = ratios * params
    table = pd.DataFrame({
        "size": [f"{p / 1e6:.0f}M" for p in params], "N": params, "tokens": tokens,
        "num_iterations": tokens / 5e5, "c4_loss": 1.7 + 400 / params**0.34 + 410 / tokens**0.28,
    })  # fmt: skip
    assert len(read_runs(table).table) == 24
    assert len(read_runs(table.assign(name=table["size"])).table) == 24
    one_name_each = table.assign(run=[f"r{i // 6}" for i in range(24)])
    assert len(read_runs(one_name_each).table) == 4  # one training each, kept at factors


def test_named_checkpoints_of_an_isoflop_grid() -> None:
    grid = runs().assign(run=[f"r{i}" for i in range(15)])
    early = grid.assign(
        tokens=grid["tokens"] / 2, loss=grid["loss"] + 0.3, flops=grid["flops"] / 2
    )
    found = read_runs(pd.concat([early, grid], ignore_index=True))
    same(found.table, runs())


def test_separate_experiments_are_fitted_apart() -> None:
    both = pd.concat([
        runs().assign(tokenizer="32k"), runs().assign(tokenizer="128k", loss=runs()["loss"] * 1.1)
    ])  # fmt: skip
    found = read_runs(both)
    assert found.read["mix"] == "tokenizer" and "--where 'tokenizer=32k'" in found.notes[0]
    assert prepare(found).skills == ["loss [tokenizer=32k]", "loss [tokenizer=128k]"]
    same(read_runs(both, where="tokenizer=32k").table, runs())


def test_a_grid_of_rates_keeps_the_best() -> None:
    rates = [1e-4, 3e-4, 1e-3, 3e-3]
    grid = pd.concat([
        runs().assign(lr=r, loss=runs()["loss"] + 0.1 * np.log(r / 5e-4) ** 2) for r in rates
    ], ignore_index=True)  # fmt: skip
    found = read_runs(grid)
    np.testing.assert_allclose(found.table["loss"], runs()["loss"], atol=0.05)
    assert "lr varies" in found.notes[0] and "study rates" in found.notes[0]
    assert len(found.table) == 15 and len(found.excluded) == 45


def test_seeds_stay() -> None:
    rng = np.random.default_rng(0)
    seeds = [runs().assign(seed=s, loss=runs()["loss"] + 0.003 * rng.normal(size=15))
             for s in range(4)]  # fmt: skip
    assert len(read_runs(pd.concat(seeds, ignore_index=True)).table) == 60


def test_identities_refuse_no_table() -> None:
    """A replicate's number, a project's name and a label of sizes are no names of runs."""
    given = runs().assign(run=np.arange(15) % 3, name="sweep", id=range(15))
    found = read_runs(given)
    same(found.table, runs())
    assert found.read["trial_id"] == "id"
    label = pd.concat([runs()] * 2, ignore_index=True).assign(name=lambda t: t["params"])
    assert len(prepare(read_runs(label)).frame) == 30


def test_statuses() -> None:
    given = runs().assign(State=["finished"] * 13 + ["crashed", "TERMINATED"])
    assert list(read_runs(given).excluded["reason"]) == ["status is 'crashed'"]
    assert len(read_runs(given.assign(State="CA")).table) == 15


def test_repeated_data_is_named() -> None:
    given = runs().assign(epochs=[0.5] * 5 + [9] * 10)
    found = read_runs(given)
    assert "10 of 15 rows repeat their data more than 4 times (up to 9)" in found.notes[0]
    assert len(read_runs(given, where="epochs<=4").table) == 5
    unique = read_runs(runs().assign(unique_tokens=1e8))
    assert "repeat their data" in unique.notes[0]
    with pytest.raises(TableError, match="no row is left"):
        read_runs(given, where="epochs>99")
    with pytest.raises(TableError, match="there is no column 'epoch'; write COLUMN<=NUMBER"):
        read_runs(given, where="epoch<4")
    with pytest.raises(TableError, match="this is no condition; write COLUMN<=NUMBER"):
        read_runs(given, where="epochs")


# --- losses ---


def test_what_is_no_loss_is_refused_and_the_offer_is_right() -> None:
    quality = np.exp(-runs()["loss"]) * 3
    for given in (runs().assign(loss=quality), runs().drop(columns="loss").assign(acc=quality)):
        with pytest.raises(TableError, match="--columns 'loss=1-") as error:
            read_runs(given)
        offer = str(error.value).split("--columns '")[1].rstrip("'")
        table = prepare(read_runs(given, parse_columns(offer))).frame
        best = table.loc[table.groupby("budget")["loss"].idxmin(), "params"]
        truth = runs().loc[runs().groupby("flops")["loss"].idxmin(), "params"]
        np.testing.assert_allclose(best, truth)
    with pytest.raises(TableError, match=r"--columns 'loss=log\(loss\)'"):
        read_runs(runs().assign(loss=np.exp(runs()["loss"])))
    named = read_runs(runs().rename(columns={"loss": "val_ppl"}).assign(
        val_ppl=np.exp(runs()["loss"])))  # fmt: skip
    same(named.table, runs())


def test_bits_are_told() -> None:
    named = read_runs(runs().rename(columns={"loss": "val_bpb"}))
    assert named.read["loss_unit"] == "bits per byte" and "bits per byte" in named.notes[0]
    silent = read_runs(runs().assign(loss=runs()["loss"] * 0.3))
    assert "low for nats per token" in silent.notes[0]
    beside = runs().rename(columns={"loss": "Loss"}).assign(PPL=np.exp(runs()["loss"]), bpb=0.9)
    same(read_runs(beside).table, runs())


def test_fit_skills_takes_runs_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    text = as_text(runs(7).rename(columns={"params": "N", "loss": "eval/loss"}))
    path.write_text(text, encoding="utf-8")
    by_path, by_runs = fit_skills(path), fit_skills(read_runs(path))
    assert by_path["loss"].at(1e19).params == by_runs["loss"].at(1e19).params
    assert by_path.observations.read is not None
    assert by_path.observations.read["loss"] == "eval/loss"


def test_trainings_pasted_twice_are_counted_once() -> None:
    """Without an id, rows alike in every cell are copies; equal coarse losses may be repeats."""
    params = np.geomspace(1e7, 1e9, 9)
    once = pd.DataFrame(
        {"params": params, "tokens": 1e18 / params, "loss": 2 + 0.0613 * np.log(params)}
    )
    twice = read_runs(pd.concat([once, once.iloc[:4]]))
    assert len(twice.table) == 9
    assert (
        list(twice.excluded["reason"])
        == ["the same as a row above in every cell: counted once"] * 4
    )
    noted = pd.concat([once.assign(host="a"), once.iloc[:4].assign(host="b")])
    assert len(read_runs(noted).table) == 13
    coarse = once.round({"loss": 2})
    assert len(read_runs(pd.concat([coarse, coarse])).table) == 18


@pytest.mark.parametrize("base", [10.0, math.e])
@pytest.mark.parametrize("names", [["params"], ["tokens"], ["params", "tokens"], ["flops"]])
@pytest.mark.parametrize("without", ["tokens", "flops", None])
def test_logarithms_under_bare_headers_are_offered_first(
    base: float, names: list[str], without: str | None
) -> None:
    flops = np.repeat([1e18, 4e18, 1.6e19], 5)
    params = 0.09 * flops**0.5 * np.tile(np.exp(np.linspace(-1.2, 1.2, 5)), 3)
    amounts = {"flops": flops, "params": params, "tokens": flops / (6 * params)}
    kept = [name for name in amounts if name in names or name != without]
    given = pd.DataFrame(amounts)[kept].assign(loss=np.linspace(4, 3, 15))
    given[names] = np.log(given[names]) / math.log(base)
    with pytest.raises(TableError, match="logarithms") as error:
        read_runs(given)
    offer = re.search("logarithms[:,] --columns '([^']+)'", str(error.value))
    assert offer is not None
    table = read_runs(given, parse_columns(offer[1])).table
    np.testing.assert_allclose(table[list(amounts)], pd.DataFrame(amounts), rtol=1e-6)


def test_logarithms_of_losses_are_told_by_their_header() -> None:
    loss = np.linspace(4, 3, 15)
    given = pd.DataFrame({"params": np.geomspace(1e8, 1e9, 15), "tokens": 1e10})
    for header in ("ln(loss)", "ln_loss", "log(loss)"):
        table = given.assign(**{header: np.log(loss)})
        (note,) = (n for n in read_runs(table).notes if "logarithm of a loss" in n)
        option = note.split("'")[1]
        np.testing.assert_allclose(read_runs(table, parse_columns(option)).table["loss"], loss)
