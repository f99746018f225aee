"""What may be said about a training, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from trainables.config import TrialConfig
from trainables.data import PAPER_SHARES, SOURCES, Data
from trainables.families import Model
from trainables.shapes import solve
from trainables.training import Train

SHAPE = solve(2e4, Model())


def test_a_config_survives_json() -> None:
    config = TrialConfig(
        SHAPE,
        tokens=100_000,
        seed=3,
        data=Data(source="simulated", multipliers={"code": 2.0}, surface={"code": {"E": 1.0}}),
        skills=("code", "validation"),
        flops=1e11,
        params=2e4,
    )
    assert TrialConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trian": {}}, "trian"),
        ({"train": {"clipp": 1.0}}, "clipp"),
        ({"train": {"clip": -1.0}}, "train.clip must be positive"),
        ({"train": {"batch_tokens": 59}}, "raise it or lower model.context"),
        ({"train": {"attention": "flash"}}, "eager"),
        ({"data": {"shares": {"poetry": 1.0}}}, "knowledge, code, other"),
        (
            {"data": {"shares": dict.fromkeys(PAPER_SHARES, 0.0)}},
            "at least one class a positive share",
        ),
        ({"data": {"multipliers": {"code": -1.0}}}, "data.multipliers.code"),
        ({"data": {"qa_share": 1.0}}, "held out"),
        ({"data": {"source": "hub"}}, "use 'builtin' or 'prepared' or 'simulated'"),
        ({"data": {"noise": 0.1}}, "data.noise: only data.source: simulated has it"),
        ({"data": {"multiplier": {}}}, "unknown key .did you mean 'multipliers'"),
        ({"data": {"noise": "loud", "source": "simulated"}}, "valid number"),
        ({"data": {"source": "prepared"}}, "data.path"),
        ({"data": ["code"]}, "write a section"),
        ({"tokens": 59}, "less than one sequence"),
        ({"seed": -1}, "trial.seed"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], message: str) -> None:
    values = TrialConfig(SHAPE, tokens=1000).to_dict()
    with pytest.raises(ValueError, match=message):
        TrialConfig.from_dict({**values, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "model.layers"),
        ({"head_dim": 3}, "even"),
        ({"context": 1}, "model.context"),
        ({"widht": 3}, "widht"),
    ],
)
def test_models_refuse_what_cannot_be_built(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TypeAdapter(Model).validate_python(change)


def test_multipliers_move_the_mix_but_not_the_validation_set() -> None:
    data = Data(multipliers={"code": 2.0})
    assert sum(data.mix.values()) == pytest.approx(1)
    assert data.mix["code"] == pytest.approx(0.398 / 1.199)
    assert data.reference_mix == pytest.approx(PAPER_SHARES)


def test_the_learning_rate_falls_with_the_root_of_the_width() -> None:
    train = Train(learning_rate=8e-3, reference_width=32)
    assert train.peak_rate(32) == 8e-3
    assert train.peak_rate(128) == pytest.approx(4e-3)


@pytest.mark.parametrize("source", ["builtin", "simulated"])
def test_data_are_of_the_class_that_their_source_names(source: str) -> None:
    data = Data(source=source, shares={"code": 0.3}, world_seed=2)
    assert type(data) is SOURCES[source]
    assert pickle.loads(pickle.dumps(data)) == copy.deepcopy(data) == data
    assert replace(data, multipliers={"code": 2.0}).mix["code"] > data.mix["code"]


def test_a_section_written_before_the_sources_were_split_is_read() -> None:
    old = {
        "source": "builtin", "path": "", "shares": {}, "max_epochs": None, "grades": 3,
        "surface": {}, "noise": 0.01, "corpus": None,
    }  # fmt: skip
    assert TypeAdapter(Data).validate_python(old) == Data(grades=3)
    simulated = {**old, "source": "simulated", "grades": 6, "noise": 0.02}
    assert TypeAdapter(Data).validate_python(simulated) == Data(source="simulated", noise=0.02)
