"""The loop learns, repeats itself to the bit, resumes exactly, and says when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import loop
from trainables.config import Data, Model, Train, TrialConfig
from trainables.context import STATE
from trainables.loop import LocalContext, train
from trainables.shapes import solve

SHAPE = solve(7e3, Model())
DATA = Data(evaluation_documents=32)
CONFIG = TrialConfig(SHAPE, tokens=480 * 100 + 130, data=DATA, train=Train(checkpoint_every_s=0))


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return train(CONFIG, LocalContext())


def test_the_record_says_what_was_trained(record: dict[str, Any]) -> None:
    assert record["status"] == "finished"
    assert record["reason"] == ""
    assert record["steps"] == 101
    assert record["tokens"] == 480 * 100 + 120
    assert record["flops_6p"] == 6 * SHAPE.params_with_head * record["tokens"]
    assert record["flops_exact"] == SHAPE.flops_per_token("exact") * record["tokens"]
    assert record["params_total"] == SHAPE.params_total
    assert set(record["losses"]) == {"knowledge", "knowledge-qa", "code", "validation"}
    assert record["losses"]["validation"]["class"] == "aggregate"
    assert 0 < record["wall_s"] < 60
    json.dumps(record)


def test_the_loss_falls_well_below_chance(record: dict[str, Any]) -> None:
    chance = 5.5
    entry = record["losses"]["validation"]
    assert entry["nll"] / entry["tokens"] < chance - 1.5
    assert record["train_loss"] < chance - 1


@pytest.mark.parametrize("budget", [3e9, 1e10, 4e11])
def test_realised_flops_are_within_one_per_cent_of_the_budget(budget: float) -> None:
    for params in (7e3, 2e4, 6.8e4):
        shape = solve(params, Model())
        tokens = round(budget / (6 * params))
        trial = loop._Trial(TrialConfig(shape, tokens=tokens), LocalContext())
        trial.step = trial.steps
        assert trial.record()["flops_6p"] == pytest.approx(budget, rel=0.01)


def _without_clock(record: dict[str, Any]) -> dict[str, Any]:
    return {
        k: v for k, v in record.items() if k not in ("wall_s", "tokens_per_s", "first_step_at")
    }


def test_the_same_config_gives_the_same_bits(record: dict[str, Any]) -> None:
    train(replace(CONFIG, seed=9, tokens=4800), LocalContext())  # another trial ran in between
    assert _without_clock(train(CONFIG, LocalContext())) == _without_clock(record)


def test_another_seed_gives_other_losses(record: dict[str, Any]) -> None:
    other = train(replace(CONFIG, seed=1), LocalContext())
    assert other["losses"]["code"]["nll"] != record["losses"]["code"]["nll"]
    assert other["losses"]["code"]["tokens"] == record["losses"]["code"]["tokens"]


def test_a_stopped_trial_resumes_to_the_same_bits(record: dict[str, Any], tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    context = LocalContext(tmp_path, on_report=seen.append, stop=lambda: True)
    stopped = train(CONFIG, context)
    assert stopped["status"] == "stopped"
    assert stopped["losses"] == {}
    assert stopped["steps"] == seen[-1]["step"] == loop.CHECK_STEPS
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    resumed = train(CONFIG, LocalContext(tmp_path))
    assert _without_clock(resumed) == _without_clock(record)


def test_progress_and_checkpoints_come_with_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REPORT_EVERY_S", 0.0)
    seen: list[dict[str, Any]] = []
    timed = replace(CONFIG, train=Train(checkpoint_every_s=1e-6))
    train(timed, LocalContext(tmp_path, on_report=seen.append))
    assert [report["step"] for report in seen] == list(range(10, 101, 10))
    assert {"step", "steps", "tokens", "train_loss", "tokens_per_s"} == set(seen[0])
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 100


def test_a_checkpoint_of_another_trial_is_refused(tmp_path: Path) -> None:
    train(CONFIG, LocalContext(tmp_path, stop=lambda: True))
    with pytest.raises(ValueError, match="another trial"):
        train(replace(CONFIG, seed=1), LocalContext(tmp_path))


def test_a_loss_that_is_no_number_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = loop.token_nll
    monkeypatch.setattr(loop, "token_nll", lambda *args: honest(*args) * float("nan"))
    record = train(CONFIG, LocalContext())
    assert record["status"] == "diverged"
    assert "nan at step 10" in record["reason"]
    assert record["losses"] == {}
    assert record["tokens"] == 10 * 480


def test_a_loss_above_its_own_start_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "rate_at", lambda *_: 3.0)
    record = train(CONFIG, LocalContext())
    assert record["status"] == "diverged"
    assert "above the first" in record["reason"]
    assert record["steps"] == 101


def test_bad_input_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"model.vocabulary"):
        train(TrialConfig(solve(7e3, Model(vocabulary=100)), tokens=4800), LocalContext())
    with pytest.raises(ValueError, match="did you mean 'code'"):
        train(replace(CONFIG, skills=("cod",)), LocalContext())


def test_nothing_leaks_from_the_process_into_a_trial_or_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    try:
        train(replace(CONFIG, tokens=960), LocalContext())
        assert torch.get_num_threads() == 2
        assert torch.get_default_dtype() == torch.float64
        assert torch.equal(torch.rand(1), expected)
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)


WORKER = """
import json, os, sys
import torch
from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.loop import train

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.distributed.init_process_group("gloo", init_method=sys.argv[2], rank=rank, world_size=world)
context = LocalContext(device="cpu")
context.rank, context.world_size = rank, world
record = train(TrialConfig.from_dict(json.loads(sys.argv[1])), context)
if rank == 0:
    print(json.dumps(record))
torch.distributed.destroy_process_group()
"""


def test_two_workers_give_the_losses_of_one(tmp_path: Path) -> None:
    # 20 full batches and one of a single sequence, of which the first worker gets none.
    config = replace(CONFIG, tokens=480 * 20 + 60)
    record = train(config, LocalContext())
    arguments = [json.dumps(config.to_dict()), f"file://{tmp_path}/rendezvous"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    grouped = json.loads(outputs[0].splitlines()[-1])
    assert grouped["train_loss"] == pytest.approx(record["train_loss"], abs=1e-5)
    for name, entry in record["losses"].items():
        other = grouped["losses"][name]
        assert other["nll"] / other["tokens"] == pytest.approx(
            entry["nll"] / entry["tokens"], abs=1e-5
        )
