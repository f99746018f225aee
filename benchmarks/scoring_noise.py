"""What the number of held-out documents does to a skill's loss, beside the noise between seeds.

    python benchmarks/scoring_noise.py --budgets 1e11 4e11 --seeds 0 1

Trains sizes around each budget's optimum and scores 2048 documents of every set. All trials of a
sweep are scored on the same documents, so what counts is how much the *difference* between two
sizes changes with the draw of documents: its standard deviation over random subsets, divided by
sqrt(2), is the noise per trial. Beside it stands the standard deviation between seeds.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from trainables.config import TrialConfig
from trainables.data import Data
from trainables.engine.loop import LocalContext, train
from trainables.families import Model
from trainables.shapes import solve
from trainables.training import Train

DOCUMENTS = 2048
SUBSETS = (16, 32, 64, 128, 256, 512)
DRAWS = 200
SKILLS = ("knowledge", "knowledge-qa", "code")
CLASSES = ("knowledge", "code", "other")


def measure(flops: float, params: float, seed: int) -> dict[str, np.ndarray]:
    """Train one allocation; (documents, 2) sums of NLL and target tokens by skill."""
    shape = solve(params, Model())
    config = TrialConfig(
        shape,
        tokens=round(flops / shape.flops_per_token()),
        seed=seed,
        data=Data(evaluation_documents=DOCUMENTS),
        train=Train(checkpoint_every_s=0),
        skills=(*SKILLS, *(f"validation/{name}" for name in CLASSES)),
    )
    questions = train(config, LocalContext(device="cpu"))["questions"]
    sums = {name: _by_document(columns) for name, columns in questions.items()}
    shares = Data().reference_mix
    parts = {name: sums.pop(f"validation/{name}") for name in CLASSES}
    # The aggregate of equally long documents: its mean over them is the classes' means by share.
    weighted = [
        shares[name] * np.stack([part[:, 0] / part[:, 1], np.ones(DOCUMENTS)], axis=1)
        for name, part in parts.items()
    ]
    sums["validation"] = np.sum(weighted, axis=0)
    return sums


def _by_document(columns: dict[str, list[Any]]) -> np.ndarray:
    document = np.array([int(name.split("/")[0]) for name in columns["example"]])
    return np.stack(
        [
            np.bincount(document, columns[key], minlength=DOCUMENTS)
            for key in ("nll", "target_tokens")
        ],
        axis=1,
    )


def noise(one: np.ndarray, other: np.ndarray, documents: int) -> float:
    """Standard deviation per trial of the difference of two losses, over draws of documents."""
    rng = np.random.default_rng(documents)
    rows = rng.integers(DOCUMENTS, size=(DRAWS, documents))
    loss = [part[rows].sum(axis=1) for part in (one, other)]
    difference = loss[0][:, 0] / loss[0][:, 1] - loss[1][:, 0] / loss[1][:, 1]
    return float(difference.std() / np.sqrt(2))


def table(flops: float, sizes: list[float], seeds: list[int]) -> pd.DataFrame:
    """One row per skill: noise by number of documents, and between seeds."""
    runs = {(p, s): measure(flops, p, s) for p in sizes for s in seeds}
    rows = []
    for skill in (*SKILLS, "validation"):
        found = {key: run[skill] for key, run in runs.items()}
        pairs = [
            (found[a], found[b])
            for a, b in combinations(found, 2)
            if a[0] != b[0] and a[1] == b[1]
        ]
        means = pd.Series({k: v[:, 0].sum() / v[:, 1].sum() for k, v in found.items()})
        rows.append(
            {"budget": f"{flops:.0e}", "skill": skill}
            | {str(n): np.sqrt(np.mean([noise(*pair, n) ** 2 for pair in pairs])) for n in SUBSETS}
            | {"seeds": np.sqrt(means.groupby(level=0).var(ddof=1).mean())}
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=float, nargs="+", default=[1e11, 4e11])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.35, 0.7, 1.4, 2.8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    for flops in options.budgets:
        # The demo's optimum of validation loss: 41 k at 4e11, growing as C^0.6.
        sizes = [41e3 * (flops / 4e11) ** 0.6 * ratio for ratio in options.ratios]
        print(table(flops, sizes, options.seeds).round(4).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
