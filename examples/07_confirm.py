"""Is knowledge's optimal size above code's on the built-in corpora? Fresh worlds, and a control.

    python examples/07_confirm.py FOLDER       # an hour of one CPU core; goes on if interrupted

Trains what 07_confirm_protocol.md says, one training after the other in this process: the same
search, ledger and training loop as `isoskill run`, without Ray, so that a busy machine can be
left alone with it. `isoskill fit FOLDER/3141-base` and `isoskill report` read its directories.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from sweeper import Allocation, Finished, SearchSettings, Sizes, Sweep
from sweeper.driver.driver import Driver
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from sweeper.search.build import build
from sweeper.search.protocol import Search
from sweeper.sweep import Results
from trainables.context import LocalContext
from trainables.data import Data
from trainables.engine.loop import train

WORLDS = (3141, 5926, 5358, 9793, 2384)
"""World seeds: the digits of pi in fours; none was used while building."""

CHECK_WORLD = 6264
"""World of the learning-rate check: the next four digits."""

BASE, SWAP = "base", "swap"
MULTIPLIERS: dict[str, dict[str, float]] = {
    BASE: {},
    # Knowledge gets code's share and code knowledge's; the aggregate keeps its weights.
    SWAP: {"knowledge": 0.199 / 0.584, "code": 0.584 / 0.199},
}
ORDER = (
    *((world, BASE) for world in WORLDS[:3]),
    *((world, SWAP) for world in WORLDS[:3]),
    *((world, arm) for world in WORLDS[3:] for arm in (BASE, SWAP)),
)
"""Three base arms, their swaps, then pairs: what the clock may cut short is still a whole."""

DECISIVE = ("knowledge", "knowledge-qa", "code", "validation")
"""Skills the search looks at; the others are only recorded."""

SKILLS = (
    *DECISIVE, "code-1", "code-2", "code-3", "code-4", "code-5", "code-6",
    "validation/knowledge", "validation/code", "validation/other",
)  # fmt: skip
RATES, CHECK_FLOPS, CHECK_PARAMS = (4e-3, 8e-3, 1.6e-2), 1e11, (8e3, 1.6e4, 3.2e4, 6.4e4, 1.28e5)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for world, arm in ORDER[:4]:
        run_here(sweep(world, arm), folder / f"{world}-{arm}")
    check_rates(folder / "rates.csv", seed=0)
    for world, arm in ORDER[4:]:
        run_here(sweep(world, arm), folder / f"{world}-{arm}")
    check_rates(folder / "rates.csv", seed=1)


def sweep(world: int, arm: str) -> Sweep:
    """The ends of the demo's ladder and its sizes, with half of its allowance."""
    return Sweep(
        name=f"{world}-{arm}",
        budgets=(1e11, 4e11),
        allowance=3.1e12,
        skills=SKILLS,
        sizes=Sizes(low=7e3, high=2.5e5),
        data=Data(world_seed=world, multipliers=MULTIPLIERS[arm]),
        search=SearchSettings(tolerance=0.05),
    )


class Focused:
    """A search that is shown some skills only."""

    def __init__(self, search: Search, decisive: Sequence[str]) -> None:
        self.search, self.decisive = search, decisive

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Hand the decisive skills on."""
        seen = observations[observations["skill"].isin(["", *self.decisive])]
        return self.search.propose(seen, pending, remaining_flops, n)


def run_here(plan: Sweep, path: Path, decisive: Sequence[str] = DECISIVE) -> None:
    """Run a sweep in this process, or go on with it."""
    directory = Directory(path)
    with directory.driven():
        directory.claim(plan)
        ledger = Ledger(directory.ledger)
        search = Focused(build(plan.search, plan.space, plan.measured), decisive)
        driver = Driver(plan, ledger, search)
        while not isinstance(start := driver.next(), Finished):
            assert start is not None  # nothing else is in training
            driver.begin(start)
            context = LocalContext(directory.trials / start.trial_id)
            record = train(plan.trial(start.allocation), context)
            driver.ended(start.trial_id, record | {"ended_at": time.time()})
            print(plan.name, start.allocation, f"{record['wall_s']:.1f} s", flush=True)
        ledger.set_meta("finished", json.dumps({"reason": start.reason, "detail": start.detail}))
        ledger.close()
    Results(path).export()


def check_rates(path: Path, *, seed: int) -> None:
    """Train each size at half, once and twice the rate; rows already there are kept."""
    plan = sweep(CHECK_WORLD, BASE)
    kept = read_rows(path)
    for params in reversed(CHECK_PARAMS):
        trial = plan.trial(plan.space.allocation(CHECK_FLOPS, params, seed))
        for rate in RATES:
            if any(row["params"] == str(trial.params) and row["rate"] == str(rate)
                   and row["seed"] == str(seed) for row in kept):  # fmt: skip
                continue
            record = train(
                replace(trial, train=replace(trial.train, learning_rate=rate)), LocalContext()
            )
            loss = {k: v["nll"] / v["tokens"] for k, v in record["losses"].items()}
            row = {"params": trial.params, "rate": rate, "seed": seed} | loss
            append_row(path, row)
            print("rates", trial.params, rate, f"{record['wall_s']:.1f} s", flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
