"""A step does not depend on its cut into micro-batches, nor on memory running out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data import Data
from trainables.engine.loop import LocalContext, train
from trainables.engine.loss import Objective
from trainables.families import Model
from trainables.shapes import solve
from trainables.training import Train

CONFIG = TrialConfig(
    solve(7e3, Model()),
    tokens=480 * 10 + 180,
    data=Data(evaluation_documents=32),
    train=Train(checkpoint_every_s=0),
)


def trained(**settings: Any) -> float:
    changed = replace(CONFIG, train=replace(CONFIG.train, **settings))
    record = train(changed, LocalContext())
    assert record["status"] == "finished"
    entry = record["losses"]["validation"]
    return float(entry["nll"] / entry["tokens"])


@pytest.fixture(scope="module")
def plain() -> float:
    return trained()


@pytest.mark.parametrize("micro", [1, 3, 8, 100])
def test_micro_batches_do_not_change_a_training(plain: float, micro: int) -> None:
    assert trained(micro_batch=micro) == pytest.approx(plain, abs=1e-5)


def test_memory_running_out_halves_the_micro_batch(
    plain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    honest = Objective.forward

    def cramped(self: Objective, sequences: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        seen.append(len(sequences))
        # Memory runs out in the middle of the third step, with gradients of half of it made.
        if len(sequences) > 2 and len(seen) > 5:
            raise torch.OutOfMemoryError("no room")
        return honest(self, sequences, valid)

    monkeypatch.setattr(Objective, "forward", cramped)
    assert trained(micro_batch=4) == pytest.approx(plain, abs=1e-5)
    assert seen[:10] == [4, 4, 4, 4, 4, 4, 2, 2, 2, 2]


def test_memory_that_holds_no_sequence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Objective, sequences: Tensor, valid: int) -> tuple[Tensor, Tensor]:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Objective, "forward", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"train\.recompute"):
        trained()


def test_recomputing_activations_changes_nothing(plain: float) -> None:
    assert trained(recompute=True) == pytest.approx(plain, abs=1e-6)


def test_bfloat16_and_z_loss_train_as_well(plain: float) -> None:
    assert trained(dtype="bfloat16") == pytest.approx(plain, abs=0.05)
    assert trained(z_loss=1e-4) == pytest.approx(plain, abs=0.05)
    assert trained(z_loss=1e-4) != plain
