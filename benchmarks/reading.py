"""How fast anybody's runs are read, and how often a header or a cell misleads.

    python benchmarks/reading.py

* 72,000 rows of 12 skills in a CSV: read and fitted.
* A history of 2,000,000 log lines of 40 trainings: recognised as checkpoints.
* 2,000 tables of random headers, cells and distracting columns over a planted truth
  (`tests/fitting/reading/test_fuzz.py`): read right, asked about, or wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fitting import fit_skills, read_runs

FUZZ = Path(__file__).resolve().parents[1] / "tests/fitting/reading/test_fuzz.py"


def large(folder: Path) -> Path:
    """6,000 trainings, the losses of 12 skills each, on 20 budgets of 12 sizes and 25 seeds."""
    rng = np.random.default_rng(0)
    flops = np.geomspace(1e18, 1e21, 20)
    grid = [(c, (c / 120) ** 0.5 * f, s) for c in flops for f in np.geomspace(0.2, 5, 12)
            for s in range(25)]  # fmt: skip
    c, p, seed = (np.array(v) for v in zip(*grid, strict=True))
    parts = []
    for k in range(12):
        loss = 1.5 + 0.1 * k + 400 / p**0.34 + 410 / (c / 6 / p) ** 0.28
        frame = {"run": np.arange(len(c)), "N": p, "FLOPs": c, "task": f"task {k}", "seed": seed,
                 "val_loss": loss + 0.003 * rng.normal(size=len(c))}  # fmt: skip
        parts.append(pd.DataFrame(frame))
    path = folder / "large.csv"
    pd.concat(parts).to_csv(path, index=False)
    return path


def history(folder: Path) -> Path:
    """50,000 log lines of each of 40 trainings, with what a logger puts beside the loss."""
    rng = np.random.default_rng(0)
    steps = np.arange(1, 50_001)
    path = folder / "history.csv"
    for i, p in enumerate(np.geomspace(1e7, 2e9, 40)):
        tokens = steps * 5e5
        frame = pd.DataFrame({
            "run_id": f"run-{i:02d}", "_step": steps, "params": p, "tokens": tokens,
            "train/loss": 1.7 + 400 / p**0.34 + 410 / tokens**0.28, "lr": 3e-4,
            "grad_norm": rng.uniform(0.1, 2, len(steps)).round(4),
        })  # fmt: skip
        frame.to_csv(path, index=False, mode="w" if i == 0 else "a", header=i == 0)
    return path


def timed(what: str, work: Callable[[], Any]) -> Any:
    """Do it and print how long it took and the most memory that was held until then."""
    start = time.process_time()
    found = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{what}: {time.process_time() - start:.1f} CPU s, {peak:.2f} GB at most")
    return found


def fuzz(cases: int, folder: Path) -> None:
    """Read so many random tables; a wrong value raises."""
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked = module.read_cases(1, cases, folder)
    print(f"{cases} random tables: {cases - len(asked)} read right, {len(asked)} asked about")
    for columns, message in asked[:5]:
        print(f"  {columns}: {message[:120]}")


def main() -> None:
    """All three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = history(folder)
        found = timed("2,000,000 log lines recognised", lambda: read_runs(log))
        print(f"  {len(found.table)} runs; {found.notes[0]}")
        path = large(folder)
        fits = timed("72,000 rows x 12 skills read and fitted", lambda: fit_skills(path))
        print(f"  {sum(fit.ok for fit in fits.values())} of {len(fits)} skills have optima")
        timed(f"{options.cases} tables", lambda: fuzz(options.cases, folder))


if __name__ == "__main__":
    main()
