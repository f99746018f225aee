"""Other people's trainers: short specs, losses as by hand, and the loop for Slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sweeper import Sweep
from sweeper.sweep import Results
from trainables.foreign.command import Place, run

EXAMPLES = Path(__file__).parents[3] / "examples" / "12_trainers"


@pytest.mark.parametrize("name", ["plain", "torchrun", "depth", "hf", "slurm"])
def test_specs_are_short_and_can_be_planned(name, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    assert len((EXAMPLES / f"{name}.yaml").read_text().splitlines()) < 20
    plan = Sweep.load(f"{name}.yaml").plan()
    assert plan.trials[0] >= 6


def test_losses_are_those_of_the_script_by_hand_bit_for_bit(monkeypatch, tmp_path):
    monkeypatch.chdir(EXAMPLES)
    sweep = Sweep.load("plain.yaml")
    allocation = sweep.space.allocation(sweep.budgets[0], 7000)
    trial = sweep.foreign_trial(allocation)
    short = type(trial)(**{**vars(trial), "tokens": 512 * 24})
    said = []
    record = run(short, Place(tmp_path, {}, {}), report=said.append)
    assert record["status"] == "finished", record["reason"]
    row = trial.row
    arguments = [f"--layers={row['layers']}", f"--width={row['width']}", f"--tokens={512 * 24}"]
    by_hand = tmp_path / "by_hand"
    subprocess.run(
        [sys.executable, "plain.py", *arguments, "--lr=3e-3", "--seed=0", f"--out={by_hand}"],
        check=True, capture_output=True,
    )  # fmt: skip
    names, values = (by_hand / "log.csv").read_text().splitlines()
    right = dict(zip(names.split(","), map(float, values.split(",")), strict=True))
    found = {name: loss["nll"] for name, loss in record["losses"].items()}
    assert found == {
        "validation": right["val_loss"],
        "code": right["code"],
        "prose": right["prose"],
    }
    assert record["train_loss"] > 0


SBATCH = """#!/bin/sh
for a; do case "$a" in --wrap=*) sh -c "${a#--wrap=}" >/dev/null 2>&1 & esac; done; echo $!
"""
SQUEUE = """#!/bin/sh
for a; do case "$a" in --jobs=*) kill -0 "${a#--jobs=}" 2>/dev/null && echo here; esac; done; true
"""
SLURM = {
    "budgets": [1e15],
    "allowance": 2e16,
    "search": {"policy": "grid", "sizes_per_budget": 4},
    "trainer": {
        "command": ["sh", "-c", "cd {directory}; test -e tried || {{ touch tried; exit 3; }}; "
                    "printf 'code\\n{seed}.5\\n' > log.csv"],
        "skills": {"code": "code"},
        "losses": {"file": "log.csv"},
    },
    "sizes": {"ladder": [{"params": 10**6 * d} for d in (1, 2, 3, 5, 8)]},
    "cluster": {"device": "cpu-core"},
}  # fmt: skip


def test_the_loop_for_slurm_goes_on_after_failed_jobs(monkeypatch, tmp_path):
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(SLURM))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "slurm.py"), "out", "0.1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}",
             "PYTHONPATH": str(EXAMPLES.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = Results(tmp_path / "out")
    assert set(results.trials["state"]) == {"finished"}
    assert set(results.trials["attempts"]) == {2}
    assert set(results.table["loss"]) == {0.5}
    assert "complete" in done.stdout
