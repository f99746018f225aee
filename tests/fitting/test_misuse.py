"""What is given in the wrong form is refused by name, with what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fitting
from fitting import FittingError

P, LOSS = [1e8, 2e8, 4e8, 8e8, 1.6e9], [2.61, 2.52, 2.48, 2.50, 2.57]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = [
        (flops, params, flops / 6 / params, skill)
        for flops in (1e18, 3e18, 1e19)
        for skill in ("code", "facts")
        for params in (flops / 120) ** 0.5 * np.geomspace(0.2, 5.0, 7)
    ]
    made = pd.DataFrame(rows, columns=["flops", "params", "tokens", "skill"])
    scale = np.where(made["skill"] == "code", 400, 500)
    return made.assign(loss=1.7 + scale / made["params"] ** 0.34 + 410 / made["tokens"] ** 0.28)


@pytest.fixture(scope="module")
def code(table: pd.DataFrame) -> fitting.SkillFit:
    return fitting.fit_skills(table)["code"]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda t, f: f.at(np.array([1e20, 1e21])), "flops: an array; give one number"),
        (lambda t, f: f.loss(np.array([1e8, 2e8]), 1e10), "params: an array; give one number"),
        (lambda t, f: f.losses([-1.0], [1e10]), "params must be finite and positive"),
        (lambda t, f: f.losses([1e8, 1e9, 2e9], [1e10, 1e9]), "params, tokens must have one len"),
        (lambda t, f: fitting.fit_isoflop(P, LOSS, flops=[6e18]), "flops: an array"),  # type: ignore[arg-type]
        (lambda t, f: fitting.bootstrap_surface(P, P, LOSS, n=2.5), "n=2.5: give a whole"),  # type: ignore[arg-type]
        (lambda t, f: fitting.bootstrap_surface(P, P, LOSS, n="9"), "n='9': give a whole"),  # type: ignore[arg-type]
        (lambda t, f: fitting.share_sweep(t, "code", "facts", draws=-1), "draws=-1: give a whole"),
        (lambda t, f: fitting.composition_range(t, draws=0), "draws=0: give a whole"),
        (
            lambda t, f: fitting.fit_guarded(t, ladder=[-1e18]),
            "ladder must be finite and positive",
        ),
        (lambda t, f: fitting.compose(t, ["code"]), "weights: give each skill its own"),  # type: ignore[arg-type]
        (lambda t, f: fitting.compose(t, {"code": "much"}), "weights: give numbers"),  # type: ignore[dict-item]
        (lambda t, f: fitting.compare_runs({"a": t, "b": t}, margin="2"), "margin='2': give a"),  # type: ignore[arg-type]
        (
            lambda t, f: fitting.compare_optima(f.optima, f.law.tokens_law()),
            "aggregate: a law of tokens",
        ),
    ],
)
def test_the_argument_is_named(
    ask: Callable[[pd.DataFrame, fitting.SkillFit], Any],
    said: str,
    table: pd.DataFrame,
    code: fitting.SkillFit,
) -> None:
    with pytest.raises(FittingError) as refused:
        ask(table, code)
    assert str(refused.value).startswith(said.split(":")[0]) and said in str(refused.value)


def test_names_of_variants_may_be_numbers(table: pd.DataFrame) -> None:
    found = fitting.compare_runs({1e-3: table, 3e-3: table})  # type: ignore[dict-item]
    assert found.variants == ("0.003",) and found["code"].multiplier == pytest.approx(1.0)


def test_losses_take_lists_and_series_of_any_index(code: fitting.SkillFit) -> None:
    series = pd.Series([1e8, 2e8], index=[7, 3])
    np.testing.assert_allclose(
        code.losses(series, pd.Series([1e10, 1e10])),
        [code.loss(p, 1e10).value for p in (1e8, 2e8)],
    )
