"""Amounts and losses that are had by multiplying or dividing columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fitting.errors import TableError
from fitting.reading.observations import prepare
from fitting.reading.runs import read_runs
from fitting.reading.terms import parse_columns

BATCH, LENGTH, ACCUMULATED = 8, 2048, 32


def runs() -> pd.DataFrame:
    """Five sizes on three budgets, with the steps of each run."""
    flops = np.repeat([1e18, 3e18, 1e19], 5)
    params = np.round((flops / 120) ** 0.5 * np.tile(np.geomspace(0.25, 4, 5), 3))
    tokens = flops / 6 / params
    loss = np.round(1.7 + 400 / params**0.34 + 410 / tokens**0.28, 4)
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})


RUNS = runs()
SIZES = RUNS[["params", "loss"]]


def tokens(table: pd.DataFrame, columns: str = "") -> None:
    """The tokens of the runs are read, in their order."""
    found = prepare(read_runs(table, parse_columns(columns) if columns else None))
    np.testing.assert_allclose(found.frame["tokens"], RUNS["tokens"])
    np.testing.assert_allclose(found.frame["loss"], RUNS["loss"])


def remedies(table: pd.DataFrame) -> list[str]:
    """What a refusal says to type."""
    with pytest.raises(TableError) as caught:
        prepare(read_runs(table))
    return [part.split("'")[0] for part in str(caught.value).split("--columns '")[1:]]


@pytest.mark.parametrize(
    ("columns", "asked"),
    [
        ({"steps": 524288}, "tokens=steps*524288"),
        ({"steps": 524288}, "tokens = 524288 * steps"),
        ({"examples": 1024, "window": 2}, "tokens=examples*window*512"),
        ({"bytes/run": 4.0}, "tokens=bytes/run*16/4/16"),
    ],
)
def test_columns_and_numbers_are_multiplied(columns: dict[str, float], asked: str) -> None:
    table = SIZES.assign(**dict.fromkeys(columns, 1.0))
    first, *others = columns
    table[others] = [columns[c] for c in others]
    size = {"steps": 524288, "examples": 1024, "bytes/run": 0.25}[first]
    table[first] = RUNS["tokens"] / size
    tokens(table, asked)


def test_a_sum_divided_by_a_column() -> None:
    counted = np.arange(15) + 100_000
    table = RUNS[["params", "tokens"]].assign(nll_sum=RUNS["loss"] * counted, eval_tokens=counted)
    said = remedies(table)
    assert said == ["loss=nll_sum/eval_tokens"]
    tokens(table, said[0])


def test_steps_without_a_batch_say_what_to_type() -> None:
    assert remedies(SIZES.assign(steps=100.0)) == ["tokens=steps*524288"]
    table = SIZES.assign(steps=RUNS["tokens"] / BATCH / LENGTH, batch_size=BATCH)
    tokens(table, remedies(table)[0])


@pytest.mark.parametrize("batch", ["batch_size", "micro_batch_size"])
def test_parts_of_a_step_are_asked_about(batch: str) -> None:
    steps = RUNS["tokens"] / BATCH / LENGTH / ACCUMULATED
    table = SIZES.assign(steps=steps, seq_len=LENGTH, grad_accum=ACCUMULATED, **{batch: BATCH})
    tokens(table, remedies(table)[0])
    table = table.assign(steps=steps * ACCUMULATED, global_batch_size=BATCH)
    tokens(table)


def test_epochs_of_a_data_set() -> None:
    tokens(SIZES.assign(epochs=RUNS["tokens"] / 1e9, unique_tokens=1e9))


@pytest.mark.parametrize("size", ["batch_size", "Batch (k tokens)", "0.5M tokens"])
def test_a_batch_that_counts_tokens_is_not_multiplied_by_the_sequence(size: str) -> None:
    name, batch = {"batch_size": (size, 524288), "0.5M tokens": ("batch", "0.524288M tokens"),
                   "Batch (k tokens)": (size, 524.288)}[size]  # fmt: skip
    tokens(SIZES.assign(steps=RUNS["tokens"] / 524288, seq_len=LENGTH, **{name: batch}))
    small = {"Batch (M tokens)": 0.016384}  # fewer than a batch may have sequences
    tokens(SIZES.assign(steps=RUNS["tokens"] / 16384, seq_len=LENGTH, **small))


@pytest.mark.parametrize("name", ["Dataset size (tokens)", "data_tokens"])
def test_a_data_set_seen_several_times_is_asked_about(name: str) -> None:
    table = SIZES.assign(**{name: RUNS["tokens"] / 4, "epochs": 4})
    said = remedies(table)
    tokens(table, said[0])
    tokens(RUNS[["params", "loss"]].assign(**{name: RUNS["tokens"]}, epochs=4), said[1])
    tokens(RUNS.rename(columns={"tokens": name}).assign(epochs=1))


def test_tokens_of_a_mixture_of_experts_from_its_flops_are_doubted() -> None:
    table = SIZES.assign(flops=6 * RUNS["params"] * RUNS["tokens"], num_experts=8)
    assert any("mixture of experts" in note for note in read_runs(table).notes)
    active = table.rename(columns={"params": "active_params"})
    assert not read_runs(active).notes


@pytest.mark.parametrize(
    ("cells", "times"),
    [
        ({"batch_tokens": "512K"}, 1.024),
        ({"batch_size": "0.5M tokens"}, 1.048576),
        ({"batch_size": 256, "seq_len": "2k"}, 1.024),
    ],
)
def test_thousands_of_a_batch_that_may_be_1024_are_said(
    cells: dict[str, object], times: float
) -> None:
    table = SIZES.assign(steps=RUNS["tokens"] / 2**19, **cells)
    option = f"tokens=steps*{'*'.join(cells)}*{times}"
    assert f"--columns '{option}'" in read_runs(table).notes[0]
    tokens(table, option)
    assert not read_runs(table.replace({"512K": "500K", "2k": "2000", "0.5M tokens": "5e5"})).notes
