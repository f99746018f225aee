"""Benchmarks prepared with a corpus are measured beside its validation sets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from typer.testing import CliRunner

from sweeper import Sizes, SpecError, Sweep
from sweeper.cli import app
from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.data import Data
from trainables.engine.loop import train
from trainables.families import Model
from trainables.prepare import Corpora
from trainables.prepare.run import prepare
from trainables.prepare.spec import spelled_out
from trainables.shapes import solve
from trainables.skills.encode import Encoded
from trainables.training import Train

SPEC: dict[str, Any] = {
    "tokenizer": {"train": "bpe", "vocabulary": 300},
    "classes": {
        "prose": {"share": 0.75, "sources": [{"files": "prose.jsonl"}]},
        "code": {"share": 0.25, "sources": [{"files": "code.jsonl"}]},
    },
    "validation": 0.3,
    "skills": [
        {"name": "colours", "path": "colours.jsonl", "class": "facts", "target_delimiter": " "},
        {"name": "humaneval", "path": "humaneval.jsonl"},
    ],
}
COLOURS = ["red", "green", "blue", "grey"]


def _lines(path: str, rows: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(root / "cache"))
        said = [f"the sky of day {i} is {COLOURS[i % 4]}. " * 9 for i in range(60)]
        _lines("prose.jsonl", [{"text": text} for text in said])
        _lines(
            "code.jsonl", [{"text": f"def f{i}(x):\n    return x + {i}\n" * 5} for i in range(60)]
        )
        rows = [
            {
                "id": f"day-{i}",
                "context": f"the sky of day {i} is",
                "target": list(rng.permutation(COLOURS)[:2]),
            }
            for i in range(20)
        ]
        _lines("colours.jsonl", [*rows, {"id": "empty", "context": "x", "target": [""]}])
        solved = {"prompt": "def g(x):\n" * 40, "canonical_solution": "    return x\n"}
        _lines("humaneval.jsonl", [{"task_id": f"H/{i}", **solved} for i in range(5)])
        spec = TypeAdapter(Corpora).validate_python(spelled_out(SPEC))
        prepare(spec, root / "out", workers=0, say=lambda line: None)
    return root / "out"


def _config(corpus: Path, context: int = 24, **changes: Any) -> TrialConfig:
    return TrialConfig(
        solve(1e4, Model(vocabulary=384, context=context)),
        tokens=40 * 480,
        data=Data(source="prepared", path=str(corpus), evaluation_documents=8),
        train=Train(checkpoint_every_s=0),
        **changes,
    )


@pytest.fixture(scope="module")
def record(corpus: Path) -> dict[str, Any]:
    return train(_config(corpus), LocalContext(device="cpu"))


def test_the_defaults_are_every_benchmark_and_the_aggregate(record: dict[str, Any]) -> None:
    losses = record["losses"]
    assert {name: entry["class"] for name, entry in losses.items()} == {
        "colours": "facts",
        "humaneval": "code",
        "validation": "aggregate",
    }
    assert losses["colours"]["examples"] == 20 and losses["humaneval"]["examples"] == 5
    for entry in losses.values():
        assert 0 < entry["nll"] / entry["tokens"] < math.log(384) + 1
    solution = len("    return x\n")
    assert losses["humaneval"]["bytes"] == 5 * solution
    assert len(record["questions"]["colours"]["nll"]) == 20


def test_the_aggregate_weighs_the_classes(corpus: Path) -> None:
    names = ("validation/prose", "validation/code", "validation")
    config = _config(corpus, skills=names)
    losses = train(config, LocalContext(device="cpu"))["losses"]
    mean = {name: losses[name]["nll"] / losses[name]["tokens"] for name in names}
    mix = config.data.reference_mix
    weighted = mix["prose"] * mean["validation/prose"] + mix["code"] * mean["validation/code"]
    assert mean["validation"] == pytest.approx(weighted)
    assert losses["validation/code"]["examples"] == 8
    assert losses["validation/code"]["bytes"] > losses["validation/code"]["tokens"]


def test_a_context_that_holds_no_target_is_refused_before_training(corpus: Path) -> None:
    encoded = Encoded.load(corpus / "skills" / "humaneval.npz")
    shortest = int(encoded.target_tokens.min())
    assert encoded.within(shortest).truncated == len(encoded.ids)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    with pytest.raises(ValueError, match=r"no target of 'humaneval' fits model.context: 2"):
        train(_config(corpus, context=2), LocalContext(device="cpu"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_sweep_names_its_corpus_s_skills(corpus: Path) -> None:
    common: dict[str, Any] = {
        "data": Data(source="prepared", path=str(corpus)),
        "model": Model(vocabulary=384, context=24),
        "sizes": Sizes(1e4, 3e4),
    }
    sweep = Sweep([2e10, 4e10], 1e12, **common)
    assert sweep.measured == ("colours", "humaneval", "validation")
    assert sweep.plan().scoring is not None
    with pytest.raises(SpecError, match=r"'colors' is unknown \(did you mean 'colours'\?\)"):
        Sweep([2e10, 4e10], 1e12, skills=("colors",), **common)
    rows = json.loads(CliRunner().invoke(app, ["skills", str(corpus), "--json"]).output)
    assert [row["name"] for row in rows if row["default"]] == [
        "colours",
        "humaneval",
        "validation",
    ]
