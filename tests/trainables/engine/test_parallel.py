"""One worker, two with copies of the model and two with shards of it train the same model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainables.config import TrialConfig
from trainables.context import LocalContext, checkpoints
from trainables.data import Data
from trainables.engine.checkpoint import read_progress
from trainables.engine.loop import train
from trainables.families import Model
from trainables.shapes import solve
from trainables.trainer import evaluate
from trainables.training import Train

# 20 full batches and one of a single sequence, of which the first worker gets none.
CONFIG = TrialConfig(
    solve(7e3, Model()),
    tokens=480 * 20 + 60,
    data=Data(evaluation_documents=32),
    train=Train(checkpoint_every_s=0),
)
PLAIN = Train(checkpoint_every_s=0)
SHARDED = replace(CONFIG, train=replace(PLAIN, parallel="fsdp"))
CASES = {
    "ddp": CONFIG,
    "fsdp": SHARDED,
    "micro": replace(CONFIG, train=replace(PLAIN, micro_batch=3)),
    "micro-fsdp": replace(
        CONFIG, train=Train(checkpoint_every_s=0, micro_batch=3, parallel="fsdp")
    ),
    "bf16-ddp": replace(CONFIG, train=replace(PLAIN, dtype="bfloat16")),
    "bf16-fsdp": replace(CONFIG, train=replace(PLAIN, dtype="bfloat16", parallel="fsdp")),
    "stopped": SHARDED,
    "resumed": SHARDED,
    "kept": replace(CONFIG, train=Train(parallel="fsdp", export=True)),
}

NARROW = ("bf16-ddp", "bf16-fsdp")

WORKER = """
import json, os, shutil, sys
from pathlib import Path
import torch
from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.engine.loop import train

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
root = Path(sys.argv[2])

class Shared(LocalContext):
    # As Ray Train does: every worker fills a directory of its own, then their files are joined.
    def scratch(self):
        place = root / f"part-{rank}"
        place.mkdir()
        return place

    def report(self, metrics, checkpoint=None):
        if checkpoint is not None:
            place = self.directory / f"checkpoint_{metrics['step']}"
            place.mkdir(parents=True, exist_ok=True)
            for path in checkpoint.iterdir():
                shutil.copy(path, place)
            shutil.rmtree(checkpoint)
            torch.distributed.barrier()

torch.distributed.init_process_group(
    "gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=world
)
records = {}
for name, config in json.loads(sys.argv[1]).items():
    home = root / {"stopped": "halted", "resumed": "halted"}.get(name, name)
    stop = (lambda: True) if name == "stopped" else None
    context = Shared(home, device="cpu", stop=stop)
    context.rank, context.world_size = rank, world
    records[name] = train(TrialConfig.from_dict(config), context)
    records[name].pop("questions", None)
if rank == 0:
    print(json.dumps(records), flush=True)
torch.distributed.barrier()
os._exit(0)  # gloo's threads may abort a process that has ended well
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("group")


@pytest.fixture(scope="module")
def records(root: Path) -> dict[str, Any]:
    """Records of every case, each trained by the same two processes."""
    arguments = [json.dumps({k: v.to_dict() for k, v in CASES.items()}), str(root)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, *arguments],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    return dict(json.loads(outputs[0].splitlines()[-1]))


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return train(CONFIG, LocalContext())


def assert_same(one: dict[str, Any], other: dict[str, Any], *, within: float = 1e-5) -> None:
    assert one["train_loss"] == pytest.approx(other["train_loss"], abs=within)
    for name, entry in one["losses"].items():
        loss = other["losses"][name]["nll"] / other["losses"][name]["tokens"]
        assert entry["nll"] / entry["tokens"] == pytest.approx(loss, abs=within)


@pytest.mark.parametrize("case", [name for name in CASES if name not in ("stopped", *NARROW)])
def test_two_workers_give_the_losses_of_one(
    records: dict[str, Any], alone: dict[str, Any], case: str
) -> None:
    assert records[case]["status"] == "finished"
    assert_same(alone, records[case])


def test_workers_agree_in_bfloat16(records: dict[str, Any]) -> None:
    alone = train(CASES["bf16-ddp"], LocalContext())
    for case in NARROW:
        assert_same(alone, records[case], within=2e-3)


def test_a_sharded_trial_resumes_to_the_same_bits(records: dict[str, Any], root: Path) -> None:
    assert records["stopped"]["status"] == "stopped"
    assert records["resumed"]["resumed_at_step"] == 10
    # The weights: the running loss was kept as a sum, not as each worker's share of it.
    assert records["resumed"]["losses"] == records["fsdp"]["losses"]


def test_one_process_goes_on_with_what_two_wrote(
    records: dict[str, Any], alone: dict[str, Any], root: Path
) -> None:
    assert read_progress(root / "halted" / "checkpoint_10")["workers"] == 2
    resumed = train(CONFIG, LocalContext(root / "halted"))
    assert resumed["resumed_at_step"] == 10
    assert_same(alone, resumed)


def test_one_process_scores_what_two_trained(records: dict[str, Any], root: Path) -> None:
    assert len(checkpoints(root / "kept")) == 1
    assert_same(records["kept"], evaluate(CASES["kept"], root / "kept"))
    assert (root / "kept" / "export" / "model.safetensors").exists()
