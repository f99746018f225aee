"""Compiled blocks, for many sizes in one process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.data import Data
from trainables.engine import compiling
from trainables.engine.loop import train
from trainables.families import Model
from trainables.shapes import solve
from trainables.training import Train

SIZES = tuple(7e3 * 1.21**k for k in range(10))

CONFIG = TrialConfig(
    solve(SIZES[0], Model()),
    tokens=480 * 3 + 60,  # the last batch is a smaller one
    data=Data(evaluation_documents=8),
    train=Train(checkpoint_every_s=0, compile=True),
)


@pytest.fixture
def dynamo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only what dynamo does is looked at: the code it makes is run as it is."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **settings: compile_(self, backend="aot_eager", **settings),
    )
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def _trained(params: float) -> float:
    return float(
        train(replace(CONFIG, shape=solve(params, Model())), LocalContext())["train_loss"]
    )


@pytest.mark.filterwarnings("ignore")  # of dynamo's own, which errors would break it
@pytest.mark.usefixtures("dynamo")
def test_ten_sizes_are_compiled_once_each_and_never_fall_back() -> None:
    plain = replace(CONFIG, train=Train(checkpoint_every_s=0))
    assert _trained(SIZES[0]) == pytest.approx(
        train(plain, LocalContext())["train_loss"], abs=1e-5
    )
    for params in SIZES[1:]:
        _trained(params)
    made = counters["stats"]["unique_graphs"]
    assert made >= len(SIZES)
    _trained(SIZES[0])
    _trained(SIZES[5])
    assert counters["stats"]["unique_graphs"] == made
    assert not counters["graph_break"]
    assert not any("recompile_limit" in reason for reason in counters["unimplemented"])


def test_what_was_compiled_is_left_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, taken = CONFIG.shape, []
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (b"code", None))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", taken.append)
    compiling.keep(tmp_path, shape)
    compiling.load(tmp_path, shape)
    assert taken == []  # made here
    monkeypatch.setattr(compiling, "_loaded", set())
    compiling.load(tmp_path, shape)
    compiling.load(tmp_path, shape)
    compiling.load(tmp_path, solve(5e4, Model()))
    assert taken == [b"code"]
    assert len(list(tmp_path.iterdir())) == 1
