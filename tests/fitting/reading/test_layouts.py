"""Where a table is within its file: packed, boxed, in parts, under titles, with merged cells."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from fitting.errors import TableError
from fitting.reading.observations import Observations, prepare
from fitting.reading.runs import read_runs

BUDGETS = ("1e18", "3e18", "1e19")


def runs() -> pd.DataFrame:
    """Five sizes on three budgets."""
    flops = np.repeat([float(b) for b in BUDGETS], 5)
    params = np.round((flops / 120) ** 0.5 * np.tile(np.geomspace(0.25, 4, 5), 3))
    tokens = np.round(flops / 6 / params)
    loss = np.round(1.7 + 400 / params**0.34 + 410 / tokens**0.28, 4)
    return pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss})


RUNS = runs()
SIZED = RUNS[["params", "tokens", "loss"]]
TEXTS = SIZED.astype(str)


def write(folder: Path, content: str | bytes, name: str = "runs.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def same(path: Path) -> Observations:
    """The runs, in any order."""
    found = prepare(read_runs(path))
    columns = ["params", "tokens", "loss"]
    ours = found.frame[columns].sort_values(columns)
    np.testing.assert_allclose(ours, RUNS[columns].sort_values(columns), rtol=1e-3)
    return found


def test_packed_by_zstd_and_feather(tmp_path: Path) -> None:
    text = RUNS.to_csv(index=False).encode()
    same(write(tmp_path, pa.compress(text, "zstd", asbytes=True), "runs.csv.zst"))
    RUNS.to_feather(tmp_path / "runs.feather")
    same(tmp_path / "runs.feather")


def test_what_is_binary_is_said_to_be(tmp_path: Path) -> None:
    RUNS.to_pickle(tmp_path / "runs.pkl")
    for path in (tmp_path / "runs.pkl", write(tmp_path, b"SQLite format 3\0\1\2", "runs.db")):
        with pytest.raises(TableError, match=r"it is binary .*write it as CSV"):
            read_runs(path)


def test_yaml(tmp_path: Path) -> None:
    rows = [dict(zip(SIZED, map(float, row), strict=True)) for row in SIZED.to_numpy()]
    named = {"runs": {f"run {i}": row for i, row in enumerate(rows)}}
    for text in (yaml.safe_dump(rows), yaml.safe_dump(named), yaml.safe_dump_all(rows)):
        same(write(tmp_path, text, "runs.yaml"))
    with pytest.raises(TableError, match="is not YAML"):
        read_runs(write(tmp_path, "a: [", "runs.yml"))


def ruled(rule: str, edge: str, bar: str, types: bool = False) -> str:
    """A box with lines under its header."""
    widths = [max(map(len, [name, *TEXTS[name]])) for name in TEXTS]
    names = [list(TEXTS), ["double"] * 3] if types else [list(TEXTS)]
    head, rows = (
        [edge + bar.join(f" {c:<{w}} " for c, w in zip(row, widths, strict=True)) + edge
         for row in part] for part in (names, TEXTS.to_numpy())
    )  # fmt: skip
    line = "+" + "+".join(rule * (w + 2) for w in widths) + "+"
    return "\n".join([line, *head, line, *rows, line, "15 rows in set"])


def test_boxes_of_databases(tmp_path: Path) -> None:
    for rule, edge, bar in itertools.product("-─", "|│┃", "|┆"):
        same(write(tmp_path, ruled(rule, edge, bar)))
    same(write(tmp_path, ruled("─", "│", "│", types=True)))
    simple = [line for line in ruled("=", " ", "  ").replace("+", " ").splitlines()[:-1]]
    same(write(tmp_path, "\n".join(simple), "runs.rst"))


def test_names_with_spaces_in_columns_of_spaces(tmp_path: Path) -> None:
    names = ["model params", "train tokens", "val loss"]
    same(write(tmp_path, SIZED.set_axis(names, axis=1).to_string(index=False)))
    same(write(tmp_path, SIZED.set_axis(names, axis=1).to_string()))


def test_a_table_of_a_page(tmp_path: Path) -> None:
    page = SIZED.to_html(index=False)
    same(write(tmp_path, f"<html><table><tr><td>menu</td></tr></table>{page}</html>", "runs.html"))


@pytest.mark.parametrize(
    "above", ["All runs,,\n,,\n", "size,,eval\n", "size,size,eval\n", "All\nruns\n"]
)
def test_lines_above_the_header(above: str, tmp_path: Path) -> None:
    same(write(tmp_path, above + SIZED.to_csv(index=False)))


@pytest.mark.parametrize("units", ["M,B,nats", "[millions],[billions],[nats/token]"])
def test_units_in_a_line_of_their_own(units: str, tmp_path: Path) -> None:
    table = SIZED.assign(params=SIZED["params"] / 1e6, tokens=SIZED["tokens"] / 1e9)
    body = table.to_csv(index=False, header=False)
    same(write(tmp_path, f"params,tokens,loss\n{units}\n{body}"))


def markdown(table: pd.DataFrame, title: str) -> str:
    rows = [list(table), ["---"] * table.shape[1], *table.astype(str).to_numpy()]
    return f"### {title}\n\n" + "\n".join("| " + " | ".join(r) + " |" for r in rows) + "\n\n"


def by_budget(write_part: Callable[[pd.DataFrame, str], str]) -> str:
    parts = [RUNS[RUNS["flops"] == float(b)] for b in BUDGETS]
    return "".join(write_part(p, b) for p, b in zip(parts, BUDGETS, strict=True))


def test_a_table_for_each_budget(tmp_path: Path) -> None:
    same(write(tmp_path, by_budget(markdown), "runs.md"))
    text = by_budget(lambda part, b: markdown(part[["params", "loss"]], f"{b} FLOPs"))
    found = same(write(tmp_path, text, "runs.md"))
    assert found.read is not None and found.read["flops"] == "budget"


def test_tables_of_the_same_runs_are_skills(tmp_path: Path) -> None:
    other = SIZED.assign(loss=SIZED["loss"] - 0.5)
    text = markdown(SIZED, "Validation") + markdown(other, "Code")
    assert prepare(read_runs(write(tmp_path, text, "runs.md"))).skills == ["Validation", "Code"]
    lists = {"validation": SIZED, "code": other}
    content = json.dumps({name: table.to_dict("records") for name, table in lists.items()})
    assert prepare(read_runs(write(tmp_path, content, "runs.json"))).skills == list(lists)


def test_tables_with_other_columns_are_said_to_be_left(tmp_path: Path) -> None:
    text = markdown(SIZED, "Runs") + markdown(pd.DataFrame({"lr": ["3e-4"]}), "Settings")
    found = same(write(tmp_path, text, "runs.md"))
    assert found.warnings[0].startswith("1 of 2 tables in the text read (Runs)")


def test_sheets_of_one_kind_are_read_together(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = tmp_path / "runs.xlsx"
    with pd.ExcelWriter(path) as book:
        pd.DataFrame({"made by": ["ada"]}).to_excel(book, sheet_name="about")
        for budget in BUDGETS:
            part = RUNS[RUNS["flops"] == float(budget)][["params", "loss"]]
            part.to_excel(book, sheet_name=budget, index=False, startrow=2)
            book.sheets[budget]["A1"] = "Sweep of March"
    same(path)


def test_cells_given_once_for_each_block(tmp_path: Path) -> None:
    merged = RUNS[["flops", "params", "loss"]].astype({"flops": object})
    merged.loc[merged["flops"].duplicated(), "flops"] = ""
    for table in (merged, merged.assign(run=range(15))[["run", *merged]]):
        found = same(write(tmp_path, table.to_csv(index=False)))
        assert found.warnings[0].startswith("flops is given once for each block of rows")
    rows = [" & ".join(map(str, row)) for row in merged.to_numpy()]
    rows = [rf"\multirow{{5}}{{*}}{{{row}".replace(" &", "} &", 1) if row[0] != " " else row
            for row in rows]  # fmt: skip
    lines = [r"\begin{tabular}{lrr}", r"FLOPs & Params & Loss \\", *(rf"{r} \\" for r in rows)]
    same(write(tmp_path, "\n".join(lines), "runs.tex"))


def test_summaries_by_other_names(tmp_path: Path) -> None:
    named = TEXTS.assign(run=[f"r{i}" for i in range(15)])[["run", *TEXTS]]
    text = named.to_csv(index=False) + "Std. dev.,1e8,1e9,0.3\nMean (all),1e8,1e9,3.1\n"
    assert len(same(write(tmp_path, text)).excluded) == 2


@pytest.mark.parametrize("rows", [[0, 7, 8], [0, 4, 6], [1, 5, 10]])
def test_an_amount_known_for_few_rows_is_not_filled(rows: list[int], tmp_path: Path) -> None:
    known = RUNS.assign(flops=RUNS["flops"].where(RUNS.index.isin(rows)))
    found = prepare(read_runs(write(tmp_path, known.to_csv(index=False))))
    assert len(found.frame) == 3 and len(found.excluded) == 12


def test_the_mark_before_decimals_is_that_of_the_losses(tmp_path: Path) -> None:
    """A decimal comma in a Markdown table; a list of devices beside losses with points."""
    comma = RUNS[["loss"]].map("{:.3f}".format).map(lambda cell: cell.replace(".", ","))
    for name, unit in (("tokens", "B"), ("params", "M")):
        scaled = RUNS[name] / {"B": 1e9, "M": 1e6}[unit]
        comma.insert(0, name, [f"{v:.3f}{unit}".replace(".", ",") for v in scaled])
    same(write(tmp_path, markdown(comma, "Runs"), "runs.md"))
    point = SIZED.assign(params=SIZED["params"] / 1e6, gpus="0,1").round(3)
    table = point.rename(columns={"params": "params (M)"})
    same(write(tmp_path, table.to_csv(index=False, sep="\t"), "runs.tsv"))


def test_a_mean_below_each_of_several_tables_is_left_out(tmp_path: Path) -> None:
    def part(table: pd.DataFrame, budget: str) -> str:
        named = table[["params", "loss"]].assign(run=range(5))[["run", "params", "loss"]]
        return markdown(named, budget) + "| mean | 1e8 | 3.1 |\n\n"

    text = by_budget(part).replace("|\n\n| mean", "|\n| mean")
    assert len(same(write(tmp_path, text, "runs.md")).excluded) == 3


def test_evaluations_on_the_way_of_a_trainer_are_checkpoints(tmp_path: Path) -> None:
    """A list of the states that the Hugging Face trainer saves, with sizes beside the log."""
    states = [
        {"num_params": n, "num_input_tokens_seen": t, "log_history": [
            {"loss": 5.0, "step": 10}, {"eval_loss": loss + 0.5, "step": 50},
            {"loss": loss - 0.1, "step": 100}, {"eval_loss": loss, "step": 100}]}
        for n, t, loss in SIZED.to_numpy()
    ]  # fmt: skip
    found = same(write(tmp_path, json.dumps(states), "runs.json"))
    assert found.frame["trial_id"].nunique() == 15
