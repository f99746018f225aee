"""The recipe that a plan opens with: what trials are trained with, and what is doubtful in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper import Sweep
from sweeper.spec.defaults import context_of
from sweeper.spec.devices import DEVICES
from trainables.data import Data

Make = Callable[..., dict[str, str]]


@pytest.fixture
def corpus(tmp_path: Path, write_corpus: Callable[..., Path]) -> Path:
    classes = {"prose": (0.5, 100, [50_000, 50_000]), "code": (0.5, 400, [80_000])}
    return write_corpus(tmp_path / "corpus", classes, vocabulary=512, context=2000)


@pytest.fixture
def doubts(corpus: Path) -> Make:
    """Doubts by part, of a sweep on the corpus with some fields changed."""

    def make(**changes: Any) -> dict[str, str]:
        values = {"budgets": [1e9, 1e10], **changes}
        values["allowance"] = 20 * values["budgets"][-1]
        data = {"source": "prepared", "path": str(corpus), "evaluation_documents": 2}
        sweep = Sweep.from_dict({**values, "data": data})
        return {line.name: line.doubt for line in sweep.plan().recipe}

    return make


def test_a_plan_opens_with_the_recipe(corpus: Path) -> None:
    data = {"source": "prepared", "path": str(corpus)}
    found = Sweep.from_dict({"budgets": [1e9, 1e10], "allowance": 1e11, "data": data}).plan()
    lines = str(found).splitlines()
    assert lines[0] == "budgets   1e9 to 1e10 FLOPs, a factor of 10"
    names = ["budgets", "data", "model", "context", "batch", "rate", "steps", "t/p"]
    assert [line["name"] for line in json.loads(found.to_json())["recipe"]] == names
    head = " ".join(str(found).split("\n\n")[0].split())
    assert (
        "prose 83 % of tokens (50 % of documents), code 17 % of tokens (50 % of documents)" in head
    )
    assert "untuned here" in head


def test_what_is_left_out_follows_the_corpus_and_the_budgets(corpus: Path) -> None:
    data = {"source": "prepared", "path": str(corpus)}
    spec = {"budgets": [1e9, 1e10], "allowance": 1e11, "data": data}
    small = Sweep.from_dict(spec)
    assert small.model.vocabulary == 512
    # Documents of prose are of 1000 tokens: the longest context of a core.
    assert small.model.context == context_of(small.data, DEVICES["cpu-core"]) == 256
    # DeepSeek's batch at 1e9 FLOPs is 256.7 tokens; the rate goes with its root: 8e-3 (256/480)^.5
    assert (small.train.rule, small.train.batch_tokens) == ("width", 256)
    assert small.train.learning_rate == pytest.approx(5.8e-3)
    given = Sweep.from_dict({**spec, "train": {"batch_tokens": 120, "learning_rate": 0.01}})
    assert (given.train.batch_tokens, given.train.learning_rate) == (120, 0.01)
    assert given.model.context == 120
    # Resolved specs say everything, and come back as they were.
    assert Sweep.from_dict(small.to_dict()) == small
    assert Sweep(budgets=[1e11, 2e11], allowance=5e12).train.batch_tokens == 480


@pytest.mark.parametrize(
    ("budgets", "rule"), [([1e15, 5e15], "width"), ([1e17, 1e18], "deepseek"), ([1e20], "llama3")]
)
def test_large_budgets_take_published_rules(corpus: Path, budgets: list[float], rule: str) -> None:
    data = {"source": "prepared", "path": str(corpus), "evaluation_documents": 2}
    spec = {"budgets": budgets, "allowance": 40 * budgets[-1], "data": data}
    sweep = Sweep.from_dict({**spec, "cluster": {"device": "h100", "gpus": 8}})
    assert sweep.train.rule == rule
    doubts = {line.name: line.doubt for line in sweep.plan().recipe}
    assert ("a toy's at these budgets" in doubts["model"]) == (rule != "width")
    assert "the corpus is too small for this ladder" in doubts["data"]


@pytest.mark.parametrize(
    ("changes", "part", "said"),
    [
        ({"train": {"learning_rate": 0.024}}, "rate", "4.1 times above the rule's"),
        ({"train": {"learning_rate": 0.0015}}, "rate", "3.9 times below the rule's"),
        ({}, "rate", "isoskill tune"),
        (
            {"train": {"rule": "steplaw"}, "budgets": [1e14, 1e15]},
            "rate",
            "outside the 2e8 to 1.1e9",
        ),
        ({"model": {"context": 32}}, "context", "set model.context: 256"),
        ({"model": {"context": 200}}, "context", ""),
        (
            {"train": {"batch_tokens": 800}, "budgets": [5e9, 5e10]},
            "steps",
            "fewer than 200 at an optimum",
        ),
        ({"budgets": [5e9, 5e10]}, "t/p", "at the edge of the sizes (6.81k"),
        ({"budgets": [3e9, 1e10]}, "budgets", "less than a factor of 10"),
    ],
)
def test_what_is_doubtful_is_named_with_its_field(
    doubts: Make, changes: Any, part: str, said: str
) -> None:
    found = doubts(**changes)[part]
    assert (said in found) if said else not found


def test_builtin_data_with_its_own_numbers_are_in_no_doubt() -> None:
    plan = Sweep(budgets=[1e11, 1e12], allowance=1e13, data=Data()).plan()
    assert not [line for line in plan.recipe if line.doubt]
