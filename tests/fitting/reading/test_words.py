"""Names and cells in other words: logarithms, other languages, trackers, and what to type."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fitting.errors import TableError
from fitting.reading.numbers import number
from fitting.reading.observations import prepare
from fitting.reading.runs import read_runs
from fitting.reading.terms import parse_columns


def runs() -> pd.DataFrame:
    """Five sizes on three budgets."""
    flops = np.repeat([1e18, 3e18, 1e19], 5)
    params = np.round((flops / 120) ** 0.5 * np.tile(np.geomspace(0.25, 4, 5), 3))
    tokens = np.round(flops / 6 / params)
    loss = np.round(1.7 + 400 / params**0.34 + 410 / tokens**0.28, 4)
    return pd.DataFrame({"flops": 6 * params * tokens, "params": params, "tokens": tokens,
                         "loss": loss})  # fmt: skip


RUNS = runs()
SIZED = RUNS[["params", "tokens", "loss"]]


def same(table: pd.DataFrame | Path, columns: str = "") -> None:
    found = prepare(read_runs(table, parse_columns(columns) if columns else None)).frame
    names = ["flops", "params", "tokens", "loss"]
    np.testing.assert_allclose(found[names], RUNS[names], rtol=2e-3)


@pytest.mark.parametrize(
    ("role", "name", "base"),
    [
        ("flops", "log_flops", 10),
        ("flops", "log C", np.e),
        ("params", "log_params", np.e),
        ("params", "log N", 10),
        ("params", "lg(N)", 10),
        ("tokens", "ln(tokens)", np.e),
    ],
)
def test_logarithms_are_told_by_their_size(role: str, name: str, base: float) -> None:
    other = "params" if role != "params" else "tokens"
    table = RUNS[[other, "loss"]].assign(**{name: np.log(RUNS[role]) / np.log(base)})
    same(table)
    same(table.rename(columns={name: "x"}), f"{role}={'10^x' if base == 10 else 'exp(x)'}")


@pytest.mark.parametrize(
    "names",
    [
        ("Parameterzahl (Mio.)", "Trainings-Token (Mrd.)", "Validierungsverlust"),
        ("Paramètres (M)", "Jetons (milliards)", "Perte"),
    ],
)
def test_german_and_french(names: tuple[str, str, str], tmp_path: Path) -> None:
    scaled = SIZED.assign(params=SIZED["params"] / 1e6, tokens=SIZED["tokens"] / 1e9)
    path = tmp_path / "runs.csv"
    scaled.set_axis(list(names), axis=1).to_csv(path, sep=";", decimal=",", index=False)
    same(path)


@pytest.mark.parametrize(
    ("role", "form"),
    [("params", "{:.8g}m-params"), ("tokens", "{:.8g}BT"), ("tokens", "{:.8g} B tokens")],
)
def test_units_in_cells(role: str, form: str) -> None:
    cells = [form.format(v / (1e6 if role == "params" else 1e9)) for v in SIZED[role]]
    same(SIZED.assign(**{role: cells}))


def test_a_model_that_is_named_by_its_size() -> None:
    cells = [f"{v / 1e6:.6g}M" for v in SIZED["params"]]
    same(SIZED.assign(params=cells).rename(columns={"params": "Model"}))
    same(SIZED.assign(model=["1B", "2B", "3B"] * 5))
    same(RUNS[["flops", "tokens", "loss"]].assign(model=np.arange(101, 116)))  # a number of it


def test_names_of_trackers() -> None:
    same(SIZED.rename(columns={"params": "parameters/n_params", "tokens": "parameters/tokens",
                               "loss": "metrics/val/loss"}))  # fmt: skip
    same(RUNS[["params", "flops", "loss"]].set_axis(
        ["model.num_parameters", "all_results.total_flos", "all_results.eval_loss"], axis=1
    ))  # fmt: skip


def test_objects_one_after_another_and_lists_of_skills(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    rows = SIZED.to_dict("records")
    path.write_text("\n".join(json.dumps(row, indent=2) for row in rows))
    same(path)
    for row in rows:
        row["evals"] = [{"name": skill, "loss": row["loss"]} for skill in ("code", "math")]
        del row["loss"]
    path.write_text(json.dumps(rows))
    assert prepare(read_runs(path)).skills == ["code", "math"]


def test_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(SIZED.to_csv(index=False).encode("utf-16-be"))
    same(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"value": SIZED["loss"], "number": np.arange(15)}, "loss=value"),
        ({"initial": 11.0, "final": SIZED["loss"]}, "loss=final"),
        ({"log_likelihood": -SIZED["loss"]}, "loss=0-log_likelihood"),
        ({"loss": -SIZED["loss"]}, "loss=0-loss"),
    ],
)
def test_a_loss_by_an_unknown_name_is_pointed_at(columns: dict[str, object], said: str) -> None:
    table = SIZED[["params", "tokens"]].assign(**columns)
    with pytest.raises(TableError, match=f"--columns '{said}'"):
        read_runs(table)
    same(table, said)


def test_skills_by_bare_names_are_pointed_at() -> None:
    table = SIZED.rename(columns={"loss": "code"}).assign(math=SIZED["loss"] / 2)
    with pytest.raises(TableError, match="--columns 'loss=code,loss=math'"):
        read_runs(table)


def test_names_of_texts_alone_are_losses_on_them() -> None:
    table = SIZED.rename(columns={"loss": "c4"}).assign(wikitext=SIZED["loss"] / 2)
    assert list(read_runs(table).read["loss"]) == ["c4", "wikitext"]


def test_a_table_without_names(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    SIZED.to_csv(path, header=False, index=False)
    with pytest.raises(TableError, match="the first line holds numbers and no names"):
        read_runs(path)


def test_a_header_that_holds_a_long_number_is_no_power_of_ten() -> None:
    same(SIZED.assign(**{"tokens_10" + "9" * 400: 1.0}))


@pytest.mark.parametrize(
    "beside", ["Δ loss", "loss_vs_baseline", "loss improvement", "excess_loss", "loss reduction %"]
)
def test_a_difference_of_losses_is_no_loss(beside: str) -> None:
    assert read_runs(SIZED.assign(**{beside: 0.1}).rename(columns={"loss": "val_loss"})).read[
        "loss"
    ] == "val_loss"  # fmt: skip


def test_one_text_in_several_units_is_one_skill() -> None:
    harness = RUNS[["params", "tokens"]].assign(**{
        "wikitext/word_perplexity": np.exp(1.3 * RUNS["loss"]),
        "wikitext/bits_per_byte": RUNS["loss"],
    })  # fmt: skip
    assert read_runs(harness).read["loss"] == "wikitext/bits_per_byte"
    words = read_runs(harness.drop(columns="wikitext/bits_per_byte"))
    assert words.read["loss_unit"] == "nats per word" and "nats per word" in words.notes[0]


def test_texts_in_several_units_are_each_told_theirs() -> None:
    mixed = RUNS[["params", "tokens"]].assign(**{
        "qa_loss": RUNS["loss"], "web_bpb": RUNS["loss"] / 3, "code_ppl": np.exp(RUNS["loss"]),
    })  # fmt: skip
    found = read_runs(mixed)
    assert found.read["loss_unit"] == "in its own unit"
    assert any(note.startswith("web_bpb: in bits per byte") for note in found.notes)
    assert "code_ppl: perplexity, whose logarithm is in nats per token" in found.notes
    assert read_runs(mixed.drop(columns="web_bpb")).read["loss_unit"] == "nats"


def test_logarithms_to_two_are_bits() -> None:
    bits = RUNS[["params", "tokens"]].assign(**{"log2 ppl": RUNS["loss"] / np.log(2)})
    found = read_runs(bits)
    assert found.read["loss_unit"] == "bits" and found.read["loss"] == "log2 ppl"
    np.testing.assert_allclose(found.table["loss"], bits["log2 ppl"])


def test_one_skill_that_rises_is_named() -> None:
    rising = SIZED.assign(skill="mmlu", loss=1 - RUNS["loss"] / 10)
    found = read_runs(pd.concat([SIZED.assign(skill="code"), rising, SIZED.assign(skill="math")]))
    assert any(note.startswith("mmlu: rises with compute") for note in found.notes)


@pytest.mark.parametrize("text", ["1e400", "10^400", "2 x 10^999", "0^-1"])
def test_numbers_that_no_float_holds_are_infinite(text: str) -> None:
    assert number(text) == math.inf
