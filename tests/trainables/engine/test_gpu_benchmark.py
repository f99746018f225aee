"""The benchmark of GPUs runs on a CPU, with tiny sizes, and writes both its pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_benchmark_of_gpus_runs_on_a_cpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny",
            "--out", str(tmp_path / "gpu"),
            "--only", "agreement", "speeds", "slices", "memory", "sharding",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert found["agreement"]["found"]["largest difference, nats"]["device"] == 0
    speeds = found["speeds"]["found"]
    assert {row["who"] for row in speeds} == {"ours, eager", "bare, eager", "Trainer"}
    assert all(row["tokens/s"] > 0 for row in speeds)
    assert len(found["slices"]["found"]) == 5
    assert not any("error" in row for row in found["slices"]["found"])
    assert found["sharding"]["found"]["largest difference, nats"] < 1e-5
    assert "GPUs only" in (tmp_path / "gpu.md").read_text()
