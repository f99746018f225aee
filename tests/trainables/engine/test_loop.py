"""The loop learns, repeats itself to the bit, resumes exactly, and says when it fails."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from trainables.config import TrialConfig
from trainables.context import STOP, checkpoints, run_name
from trainables.data import Data
from trainables.engine import loop, loss, step
from trainables.engine.checkpoint import CheckpointError, read_progress
from trainables.engine.loop import EvaluationError, LocalContext, train
from trainables.families import Model
from trainables.shapes import solve
from trainables.trainer import evaluate
from trainables.training import Train

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
        k: v
        for k, v in record.items()
        if k
        not in ("wall_s", "tokens_per_s", "first_step_at", "resumed_at_step", "resumed_at_tokens")
    }


def test_the_same_config_gives_the_same_bits(record: dict[str, Any]) -> None:
    train(replace(CONFIG, seed=9, tokens=4800), LocalContext())  # another trial ran in between
    assert _without_clock(train(CONFIG, LocalContext())) == _without_clock(record)


def test_reading_ahead_changes_no_bit(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = loop.Ahead  # as on a GPU; the last batch is a short one
    monkeypatch.setattr(loop, "Ahead", lambda data, on: ahead(data, on=True))
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
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000000000010"]
    resumed = train(CONFIG, LocalContext(tmp_path))
    assert resumed["resumed_at_step"] == loop.CHECK_STEPS
    assert _without_clock(resumed) == _without_clock(record)


def test_progress_and_checkpoints_come_with_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REPORT_EVERY_S", 0.0)
    monkeypatch.setattr(loop, "SAVING_SHARE", math.inf)
    seen: list[dict[str, Any]] = []
    timed = replace(CONFIG, train=Train(checkpoint_every_s=1e-6))
    train(timed, LocalContext(tmp_path, on_report=seen.append))
    assert [report["step"] for report in seen] == [*range(10, 101, 10), 101]
    named = {"step", "steps", "tokens", "train_loss", "tokens_per_s", "resumed_at_tokens"}
    assert named == set(seen[0])
    kept = [read_progress(path)["step"] for path in checkpoints(tmp_path)]
    assert kept == [101, 100]


def damage(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


KILLED = """
import json, os, signal, sys
from pathlib import Path
from trainables.engine import loop
from trainables.config import TrialConfig

def killed(report):
    if report["step"] > 30:
        os.kill(os.getpid(), signal.SIGKILL)

loop.SAVING_SHARE = float("inf")
loop.REPORT_EVERY_S = 0.0
context = loop.LocalContext(Path(sys.argv[2]), on_report=killed)
loop.train(TrialConfig.from_dict(json.loads(sys.argv[1])), context)
"""


def test_a_killed_trial_resumes_to_the_same_weights(tmp_path: Path) -> None:
    config = replace(CONFIG, train=Train(checkpoint_every_s=1e-6))
    arguments = [json.dumps(config.to_dict()), str(tmp_path / "killed")]
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(checkpoints(tmp_path / "killed")) == 2
    resumed = train(config, LocalContext(tmp_path / "killed"))
    assert resumed["resumed_at_step"] == 40
    whole = train(config, LocalContext(tmp_path / "whole"))
    assert resumed["losses"] == whole["losses"]
    last = [checkpoints(tmp_path / name)[0] for name in ("killed", "whole")]
    one, other = (load_file(next(place.glob("*.safetensors"))) for place in last)
    assert one.keys() == other.keys() and "network.causal.model.norm.weight" in one
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("pattern", ["*.safetensors", "trial.json", "files-0.json", "absent"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    stops = iter([False, False, True])
    monkeypatch.setattr(loop, "SAVING_SHARE", math.inf)
    timed = replace(CONFIG, train=Train(checkpoint_every_s=1e-6))
    train(timed, LocalContext(tmp_path, stop=lambda: next(stops)))
    last, _ = checkpoints(tmp_path)
    if pattern == "absent":
        next(last.glob("*.safetensors")).unlink()
    else:
        damage(next(last.glob(pattern)))
    monkeypatch.setattr(loop, "SAVING_SHARE", 1e-9)
    resumed = train(timed, LocalContext(tmp_path))
    assert resumed["resumed_at_step"] == 20
    # A damaged number of steps may sort the checkpoint elsewhere, but never lets it be used.
    assert all(last.name in reason for reason in resumed["refused_checkpoints"])
    assert len(resumed["refused_checkpoints"]) == 1 or pattern == "trial.json"
    expected = _without_clock(record) | {"refused_checkpoints": resumed["refused_checkpoints"]}
    assert _without_clock(resumed) == expected


@pytest.mark.parametrize("name", ["C=1e18 p=124M t=1.3B seed=0", "../a/b"])
def test_what_a_worker_group_kept_is_found_whatever_its_run_was_called(
    record: dict[str, Any], tmp_path: Path, name: str
) -> None:
    train(CONFIG, LocalContext(tmp_path / "trial", stop=lambda: True))
    (kept,) = checkpoints(tmp_path / "trial")
    run = tmp_path / "trial" / run_name(name, tmp_path / "trial")
    assert run.parent == tmp_path / "trial" and " " not in run.name
    run.mkdir()
    kept.rename(run / "checkpoint_2026-11-22_12-00-00.000001")
    resumed = train(CONFIG, LocalContext(tmp_path / "trial"))
    assert resumed["resumed_at_step"] == loop.CHECK_STEPS
    assert resumed["losses"] == record["losses"]


def test_without_a_sound_checkpoint_a_trial_starts_over(
    record: dict[str, Any], tmp_path: Path
) -> None:
    train(CONFIG, LocalContext(tmp_path, stop=lambda: True))
    damage(next(tmp_path.glob("*/*.safetensors")))
    resumed = train(CONFIG, LocalContext(tmp_path))
    assert resumed["resumed_at_step"] == 0
    assert resumed["losses"] == record["losses"]


def test_a_stop_file_stops_a_trial(tmp_path: Path) -> None:
    (tmp_path / STOP).touch()
    assert train(CONFIG, LocalContext(tmp_path))["status"] == "stopped"
    assert checkpoints(tmp_path)


def test_a_failed_scoring_costs_no_training(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = replace(CONFIG, train=Train())
    with monkeypatch.context() as patch:
        patch.setattr(loop, "score_skills", lambda *_, **__: 1 / 0)
        with pytest.raises(EvaluationError, match="not scored"):
            train(kept, LocalContext(tmp_path))
    again = evaluate(kept, tmp_path)
    assert again["losses"] == record["losses"]
    assert again["questions"].keys() == record["questions"].keys()
    assert again["status"] == "finished"
    assert train(kept, LocalContext(tmp_path))["resumed_at_step"] == 101
    other = evaluate(replace(kept, skills=("code-1", "validation")), tmp_path)
    assert set(other["losses"]) == {"code-1", "validation"}


def test_only_a_trained_model_is_scored(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train it first"):
        evaluate(CONFIG, tmp_path)
    train(CONFIG, LocalContext(tmp_path, stop=lambda: True))
    with pytest.raises(CheckpointError, match="step 10 of 101"):
        evaluate(CONFIG, tmp_path)


def test_an_exported_model_is_the_librarys_own(tmp_path: Path) -> None:
    short = replace(CONFIG, tokens=4800, train=Train(export=True))
    train(short, LocalContext(tmp_path))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    trial = loop._Trial(short, LocalContext(tmp_path))
    trial.resume()
    for name, weight in trial.network.causal.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


def test_a_checkpoint_of_another_trial_is_refused(tmp_path: Path) -> None:
    train(CONFIG, LocalContext(tmp_path, stop=lambda: True))
    with pytest.raises(ValueError, match="another trial"):
        train(replace(CONFIG, seed=1), LocalContext(tmp_path))


def test_a_loss_that_is_no_number_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = loss.functional.cross_entropy
    monkeypatch.setattr(
        loss.functional, "cross_entropy", lambda *a, **k: honest(*a, **k) * float("nan")
    )
    record = train(CONFIG, LocalContext())
    assert record["status"] == "diverged"
    assert "nan at step 10" in record["reason"]
    assert record["losses"] == {}
    assert record["tokens"] == 10 * 480


def test_a_loss_above_its_own_start_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "rate_at", lambda *_: 3.0)
    record = train(CONFIG, LocalContext())
    assert record["status"] == "diverged"
    assert "above the first" in record["reason"]
    # Seen at the first look after the running loss has forgotten the warm-up, not at the end.
    assert record["steps"] == 60
    assert record["losses"] == {}


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
