"""A dense truth of our own trainings: 660 of them, on four budgets, in three worlds.

    OMP_NUM_THREADS=1 python benchmarks/dense.py FOLDER [--workers 2]

Two worlds are of the built-in corpora (`WORLDS`, used nowhere else), one of real text, Python's
own library. Sizes are spread evenly in ln p, each trained once with a seed of its own, more of
them on cheap budgets; the built-in worlds, whose knowledge scatters most, have more between
(`PASSES`). Losses of all skills are kept in results/dense.parquet, the running training
loss along the way in results/dense_curves.parquet; both are written anew after each training, and
what they hold is not trained again.
`benchmarks/live.py` draws sweeps from them, `benchmarks/early_stop.py` stops them early.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from own_text import PYTHON, corpora_of, write_python

from sweeper import Sizes, Sweep
from sweeper.commands.prepare import load_corpora
from trainables.context import LocalContext
from trainables.data import Data
from trainables.families import Model
from trainables.prepare.run import prepare as prepare_corpus
from trainables.progress import counted
from trainables.training import Train

RESULTS = Path(__file__).parent / "results"
LOSSES, CURVES = RESULTS / "dense.parquet", RESULTS / "dense_curves.parquet"
WORLDS = {"built-in": 9502, "built-in, again": 8841}
"""Seeds of the built-in corpora: the next digits of pi after those of examples/07_confirm.py and
07_confirm_python.py. The second was trained last: the opening's cut where sizes end, its share,
the check with three trials and that curves lean were chosen on it, too."""

COUNTS = {3e10: 26, 6e10: 22, 1.2e11: 16, 2.4e11: 12}
"""Trainings by budget, of each pass over a world."""

PASSES = dict.fromkeys(WORLDS, 4) | {"python": 1}
"""Passes over a world: one tells the optima of built-in knowledge to +-.22 to .44 only."""

SHIFTS = (0.0, 0.5, 0.25, 0.75)
"""Of a pass's sizes, in steps from one to the next."""

FLOPS = sum(flops * count for flops, count in COUNTS.items())

AHEAD = 1.5
"""Sizes reach so far in ln p to both sides of `MIDDLE`, less where no model is so small."""

MIDDLE = dict.fromkeys(WORLDS, 30.0) | {"python": 15.0}
"""Tokens per parameter in the middle of each budget's sizes: about the optima of
examples/07_confirm and of examples/14_own_text."""


def worlds(folder: Path) -> dict[str, Sweep]:
    """What is trained: model and recipe as in examples/07_confirm.py and 05_python_source.yaml."""
    built_in = {
        name: Sweep(
            name=name, budgets=tuple(COUNTS), allowance=FLOPS, sizes=Sizes(low=5e3, high=3e5),
            data=Data(world_seed=seed),
            skills=("knowledge", "knowledge-qa", "code", "validation", "validation/knowledge",
                    "validation/code", "validation/other"),
        )
        for name, seed in WORLDS.items()
    }  # fmt: skip
    python = Sweep(
        name="python", budgets=tuple(COUNTS), allowance=FLOPS, sizes=Sizes(low=5e3, high=3e5),
        model=Model(vocabulary=1024, context=128),
        train=Train(batch_tokens=1024, learning_rate=1.6e-2),
        data=Data(source="prepared", path=str(folder / "python"), max_epochs=4,
                  evaluation_documents=256),
        skills=(*PYTHON, "validation"),
    )  # fmt: skip
    return built_in | {"python": python}


def prepare(folder: Path) -> None:
    """Make the text of Python's library."""
    if not (folder / "python/manifest.json").exists():
        write_python(folder / "python-text")
        say = folder / "python.yaml"
        say.write_text(yaml.safe_dump(corpora_of("python", folder / "python-text", PYTHON)))
        prepare_corpus(load_corpora(say), folder / "python")


def wanted(folder: Path) -> list[tuple[str, Path, float, float, int]]:
    """World, folder, budget, params and seed of each training, cheap ones first."""
    found = []
    for flops, count in COUNTS.items():
        for name, sweep in worlds(folder).items():
            middle = 0.5 * np.log(flops / 6 / MIDDLE[name])
            can = np.log([sweep.space.params[i] for i in sweep.space.allowed(flops)])
            ends = max(middle - AHEAD, can[0]), min(middle + AHEAD, can[-1])
            step = (ends[1] - ends[0]) / (count - 1)
            for i, shift in enumerate(SHIFTS[: PASSES[name]]):
                sizes = np.exp(ends[0] + step * (np.arange(count - (shift > 0)) + shift))
                first = 5000 + 1000 * i
                found += [(name, folder, flops, float(p), first + k) for k, p in enumerate(sizes)]
    return found


def one(job: tuple[str, Path, float, float, int]) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """One training: losses by skill, and the training loss along the way."""
    import trainables.engine.loop as loop

    name, folder, flops, params, seed = job
    sweep = worlds(folder)[name]
    allocation = sweep.space.allocation(flops, params, seed=seed)
    seen: list[dict[str, Any]] = []
    loop.REPORT_EVERY_S = 0.0  # at every look: the curve is what is wanted
    trial = sweep.own_trial(allocation)
    trial = replace(trial, train=replace(trial.train, threads=1))
    record = loop.train(trial, LocalContext(on_report=seen.append))
    about = {"world": name, "flops": flops, "seed": seed, "params": allocation.params,
             "tokens": allocation.tokens}  # fmt: skip
    rows = [
        about | {"skill": skill, "loss": loss["nll"] / loss["tokens"], "wall_s": record["wall_s"]}
        for skill, loss in record["losses"].items()
    ]
    curve = pd.DataFrame(seen, columns=["step", "steps", "train_loss"]).astype(
        {"train_loss": "f4"}
    )
    return rows, curve.assign(world=name, flops=flops, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the corpus of Python's library is kept")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trained at a time")
    args = parser.parse_args()
    prepare(args.folder)
    losses = pd.read_parquet(LOSSES) if LOSSES.exists() else pd.DataFrame()
    curves = pd.read_parquet(CURVES) if CURVES.exists() else pd.DataFrame()
    keys = ["world", "flops", "seed"]
    done = set(losses[keys].itertuples(index=False, name=None)) if len(losses) else set()
    todo = [job for job in wanted(args.folder) if (job[0], job[2], job[4]) not in done]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        for ended in counted([pool.submit(one, job) for job in todo], "trainings"):
            rows, curve = ended.result()
            losses = pd.concat([losses, pd.DataFrame(rows)], ignore_index=True)
            curves = pd.concat([curves, curve], ignore_index=True)
            losses.to_parquet(LOSSES)
            curves.to_parquet(CURVES)


if __name__ == "__main__":
    main()
