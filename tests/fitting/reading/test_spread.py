"""Tables spread over their headers: by budget, by seed, or a column for each run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fitting.errors import TableError
from fitting.reading.observations import prepare
from fitting.reading.runs import read_runs

BUDGETS = ("1e18", "3e18", "1e19")
SIZES = np.geomspace(5e7, 8e8, 5).round(-4)


def runs(seed: int = 0) -> pd.DataFrame:
    """The same five sizes on three budgets."""
    flops = np.repeat([float(b) for b in BUDGETS], 5)
    params = np.tile(SIZES, 3)
    loss = 1.7 + 400 / params**0.34 + 410 / (flops / 6 / params) ** 0.28 + 0.001 * seed
    return pd.DataFrame({"flops": flops, "params": params, "loss": loss.round(4)})


RUNS = runs()


def same(table: pd.DataFrame | Path, expected: pd.DataFrame = RUNS) -> list[str]:
    """The runs in any order; returns the skills."""
    found = prepare(read_runs(table))
    columns = ["flops", "params", "loss"]
    ours, theirs = (t[columns].sort_values(columns) for t in (found.frame, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    return found.skills


@pytest.mark.parametrize(
    "header",
    ["loss@{}", "val_loss_{}", "loss ({} FLOPs)", "C={}", "{} FLOPs", "loss at C={}", "{}"],
)
def test_budgets_across(header: str) -> None:
    losses = {header.format(b): RUNS.loc[RUNS["flops"] == float(b), "loss"].to_numpy()
              for b in BUDGETS}  # fmt: skip
    same(pd.DataFrame({"params": SIZES, **losses}))


def test_several_losses_and_sizes_across() -> None:
    parts = []
    for budget in BUDGETS:
        part = RUNS[RUNS["flops"] == float(budget)].reset_index(drop=True)
        columns = {"params": part["params"], "code_loss": part["loss"], "math_loss": part["loss"]}
        parts.append(pd.DataFrame(columns).add_prefix(f"{budget} "))
    both = pd.concat([RUNS, RUNS])
    assert same(pd.concat(parts, axis=1), both) == ["code_loss", "math_loss"]


def test_budgets_across_for_each_skill() -> None:
    wide = RUNS.assign(flops=RUNS["flops"].map("{:g}".format), skill="code")
    wide = wide.pivot(index=["skill", "params"], columns="flops", values="loss").reset_index()
    assert same(wide) == ["code"]


def test_losses_beside_those_at_a_count_are_the_runs_own() -> None:
    for early in ("loss@1e9", "loss@2e9"), ("val_loss_1B", "val_loss_2B"):
        same(RUNS.assign(**{early[0]: 4.0, early[1]: 3.9}))


def test_sizes_inside_budgets_in_json(tmp_path: Path) -> None:
    inside: dict[str, dict[str, float]] = {b: {} for b in BUDGETS}
    for flops, params, loss in RUNS.to_numpy():
        inside[BUDGETS[[float(b) for b in BUDGETS].index(flops)]][f"{params:.0f}"] = loss
    (tmp_path / "runs.json").write_text(json.dumps(inside))
    same(tmp_path / "runs.json")


SEEDS = pd.concat([runs(seed) for seed in range(3)])


@pytest.mark.parametrize("header", ["loss_seed{}", "val loss (seed {})", "loss run {}", "loss_{}"])
def test_losses_by_seed_are_repeats(header: str) -> None:
    table = RUNS[["flops", "params"]].assign(
        **{header.format(s): runs(s)["loss"] for s in range(3)}
    )
    assert len(same(table, SEEDS)) == 1
    found = read_runs(table, {"loss": header.format(1)})
    assert len(found.table) == 15 and found.read["loss"] == header.format(1)


def test_a_mean_beside_its_repeats_is_taken() -> None:
    same(RUNS.assign(loss_seed1=RUNS["loss"] + 1, loss_seed2=RUNS["loss"] - 1))


def test_numbered_losses_that_differ_are_asked_about() -> None:
    table = RUNS.rename(columns={"loss": "loss_1"}).assign(loss_2=3.0)
    with pytest.raises(TableError, match=r"'loss_1', 'loss_2' could each be the loss"):
        read_runs(table)


def test_levels_of_a_benchmark_are_skills() -> None:
    table = RUNS.rename(columns={"loss": "level1_loss"}).assign(level2_loss=RUNS["loss"] + 1)
    assert len(prepare(read_runs(table)).skills) == 2


def test_a_column_for_each_run(tmp_path: Path) -> None:
    turned = RUNS.set_index(pd.Index([f"run {i}" for i in range(15)])).T
    turned.to_csv(tmp_path / "runs.csv")
    same(tmp_path / "runs.csv")
    turned.T.to_json(tmp_path / "runs.json")
    same(tmp_path / "runs.json")


def test_curves_of_a_chart_are_refused() -> None:
    curves = pd.DataFrame({f"run-{i} - eval/loss": [4.0, 3.5] for i in range(3)})
    curves.insert(0, "Step", [100, 200])
    with pytest.raises(TableError, match="a chart exported from W&B"):
        read_runs(curves)


def test_lists_by_size_in_json(tmp_path: Path) -> None:
    lists = {f"{p:.0f}": part[["flops", "loss"]].to_dict("records")
             for p, part in RUNS.groupby("params")}  # fmt: skip
    (tmp_path / "runs.json").write_text(json.dumps(lists))
    same(tmp_path / "runs.json")


def small(over: str) -> pd.DataFrame:
    """Four sizes on three budgets of a laptop, or on three token counts."""
    params = np.tile([1e4, 2e4, 4e4, 8e4], 3)
    count = np.repeat([1e11, 2e11, 4e11] if over == "flops" else [1e9, 2e9, 4e9], 4)
    if over == "tokens":
        params *= 5e3
    flops = count if over == "flops" else 6 * params * count
    loss = (1.7 + 40 / params**0.34 + 41 / (flops / 6 / params) ** 0.28).round(4)
    return pd.DataFrame({"flops": flops, "params": params, "loss": loss, "count": count})


@pytest.mark.parametrize(
    ("over", "form"), [("flops", "{:g}"), ("tokens", "{:g}"), ("tokens", "{:g} tokens")]
)
def test_counts_above_tables_and_columns_are_told_by_what_is_there(
    over: str, form: str, tmp_path: Path
) -> None:
    table = small(over)
    wide = table.pivot(index="params", columns="count", values="loss").reset_index()
    same(wide.rename(columns={c: form.format(c) for c in wide.columns[1:]}), table)
    lists = {form.format(count): part[["params", "loss"]].to_dict("records")
             for count, part in table.groupby("count")}  # fmt: skip
    (tmp_path / "runs.json").write_text(json.dumps(lists))
    same(tmp_path / "runs.json", table)
