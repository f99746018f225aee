"""The search on real trainings, with sizes free and repeats allowed: a live judge.

    OMP_NUM_THREADS=1 python benchmarks/live.py train --minutes 15
    OMP_NUM_THREADS=1 python benchmarks/live.py judge --write

`train` trains the demo's models (built-in corpus, four skills) densely: every size of the ladder
on three budgets, two seeds each; rows go to results/live.csv, and what is there is skipped.
`judge` draws whole sweeps from them: a trial's losses are each skill's quartic in ln p through its
budget's trainings, plus the residuals of one of that budget's trainings, drawn at random and of
all skills together. The truth is the quartic's minimum. Each policy has the same allowance, in
shares W of eight sizes on every budget, and is judged by the same fit.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from fitting.mixture.fit import fit_guarded
from sweeper import Sweep
from sweeper.budget import Allocation, Space
from sweeper.plan.starter import DEMO
from sweeper.search.build import build
from sweeper.search.simulation import run
from sweeper.spec.search import SearchSettings
from trainables.progress import counted

RESULTS = Path(__file__).parent / "results"
CSV, PAGE = RESULTS / "live.csv", RESULTS / "live.md"
BUDGETS = (2.5e10, 5e10, 1e11)
SEEDS = (0, 1)
ALLOWANCES = (0.3, 0.5, 1.0)
GRID_FLOPS = 8 * sum(BUDGETS)
SKILLS = ("knowledge", "knowledge-qa", "code", "validation")
POLICIES = ("adaptive", "zoom", "grid")
PARTS = (0.25, 0.5, 0.75, 1.0)
"""Shares of its tokens at which a training's running loss is kept: would it do to stop there?"""

DEGREE = 4
FREE_SIZES = 60


def dense() -> Sweep:
    """The demo's spec on cheaper budgets."""
    spec = Sweep.load(DEMO).to_dict()
    return Sweep.from_dict(spec | {"budgets": list(BUDGETS), "allowance": 100 * GRID_FLOPS})


def train_all(minutes: float) -> None:
    """Train what is not in the file yet, until the CPU time is up: seed by seed, budgets mixed."""
    sweep = dense()
    done = (
        set(pd.read_csv(CSV)[["flops", "params", "seed"]].itertuples(index=False, name=None))
        if CSV.exists()
        else set()
    )
    todo = [
        sweep.space.allocation(flops, sweep.space.params[i], seed)
        for seed in SEEDS
        for flops in BUDGETS
        for i in sweep.space.allowed(flops)
    ]
    todo = [a for a in todo if (a.flops, a.params, a.seed) not in done]
    start, fresh = time.process_time(), not CSV.exists()
    with CSV.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            columns = ["flops", "params", "tokens", "seed", "cpu_s", *SKILLS]
            writer.writerow([*columns, *(f"train {part}" for part in PARTS)])
        for a in counted(todo, "trainings"):
            began = time.process_time()
            losses = train_one(sweep, a)
            took = round(time.process_time() - began, 2)
            writer.writerow(
                [a.flops, a.params, a.tokens, a.seed, took, *(f"{v:.4f}" for v in losses)]
            )
            file.flush()
            if time.process_time() - start > 60 * minutes:
                return


def train_one(sweep: Sweep, a: Allocation) -> list[float]:
    """Losses of the skills, and the running training loss after each of `PARTS`."""
    from trainables.engine import loop

    loop.REPORT_EVERY_S = 0.0  # every ten steps
    seen: list[tuple[float, float]] = []
    context = loop.LocalContext(
        device="cpu", on_report=lambda m: seen.append((m["tokens"] / a.tokens, m["train_loss"]))
    )
    record = loop.train(sweep.trial(a), context)
    losses = [record["losses"][s]["nll"] / record["losses"][s]["tokens"] for s in SKILLS]
    seen.append((1.0, record["train_loss"]))
    return losses + [next(loss for at, loss in seen if at >= part) for part in PARTS]


@dataclass(frozen=True)
class Surrogate:
    """Curves of every budget, and what its trainings leave over.

    Attributes:
        curves: budget -> coefficients (skills, `DEGREE` + 1) in ln p less ``centre``.
        rests: budget -> residuals (trainings, skills), nats.
        centre: ln p.
        sizes: least and largest size trained.
    """

    curves: dict[float, np.ndarray]
    rests: dict[float, np.ndarray]
    centre: float
    sizes: tuple[int, int]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Surrogate:
        """Fit the dense trainings."""
        centre = float(np.log(table["params"]).mean())
        curves, rests = {}, {}
        for flops, rows in table.groupby("flops"):
            design = np.vander(np.log(rows["params"].to_numpy()) - centre, DEGREE + 1)
            losses = rows[list(SKILLS)].to_numpy()
            line = np.linalg.lstsq(design, losses, rcond=None)[0]
            spare = len(rows) / (len(rows) - DEGREE - 1)
            curves[float(flops)] = line.T
            rests[float(flops)] = (losses - design @ line) * math.sqrt(spare)
        return cls(curves, rests, centre, (int(table["params"].min()), int(table["params"].max())))

    @property
    def space(self) -> Space:
        """Any size between the least and the largest."""
        sizes = tuple(int(p) for p in np.geomspace(*self.sizes, FREE_SIZES))
        return Space(BUDGETS, sizes, tuple(6.0 * p for p in sizes))

    def loss(self, a: Allocation, rng: np.random.Generator) -> Mapping[str, float]:
        """What one trial measures."""
        mean = self.curves[a.flops] @ np.vander([math.log(a.params) - self.centre], DEGREE + 1)[0]
        rest = self.rests[a.flops]
        drawn = rest[rng.integers(len(rest))]
        return dict(zip(SKILLS, mean + drawn, strict=True))

    def optima(self) -> np.ndarray:
        """True ln p*, (skills, budgets); NaN where a curve has no minimum between the ends."""
        x = np.linspace(math.log(self.sizes[0]), math.log(self.sizes[1]), 2001)
        found = np.full((len(SKILLS), len(BUDGETS)), math.nan)
        for k, flops in enumerate(BUDGETS):
            for i, line in enumerate(self.curves[flops]):
                at = int(np.argmin(np.polyval(line, x - self.centre)))
                if 0.02 < at / len(x) < 0.98:
                    found[i, k] = x[at]
        return found


def policy(name: str, share: float) -> SearchSettings:
    """A policy's settings; a grid has as many sizes as the allowance pays for."""
    if name == "grid":
        return SearchSettings("grid", sizes_per_budget=max(3, round(8 * share)))
    return SearchSettings(name, tolerance=0.02)  # type: ignore[arg-type]


def judge(world: Surrogate, replicates: int) -> pd.DataFrame:
    """Squared errors of ln p* by policy, allowance, replicate and skill."""
    space, truth, rows = world.space, world.optima(), []
    todo = [(n, w, r) for r in range(replicates) for w in ALLOWANCES for n in POLICIES]
    for name, share, seed in counted(todo, "sweeps"):
        table = run(
            build(policy(name, share), space, SKILLS), space, world.loss, skills=SKILLS,
            allowance=share * GRID_FLOPS, seed=seed,
        )  # fmt: skip
        fit = fit_guarded(table, ladder=BUDGETS)
        order = [fit.skills.index(s) for s in SKILLS]
        square = (fit.log_optimum(BUDGETS)[0][order] - truth) ** 2
        trials = table.drop_duplicates("trial_id")
        away = [np.nanmin(np.abs(truth[:, BUDGETS.index(c)] - math.log(p)))
                for c, p in trials[["flops", "params"]].itertuples(index=False)]  # fmt: skip
        within = float(np.mean(np.array(away) <= 1))
        each = zip(SKILLS, np.nanmean(square, axis=1), strict=True)
        rows += [(name, share, seed, skill, float(value), within) for skill, value in each]
    return pd.DataFrame(rows, columns=["policy", "W", "replicate", "skill", "square", "within"])


def stopped(table: pd.DataFrame) -> Iterator[str]:
    """Where the training loss is least after parts of the trainings, in Markdown."""
    yield "\n## Stopped early\n\nln p of the least running training loss after a part of each "
    yield "training, less that at its end (the learning rate falls over the whole of it).\n"
    yield "| budget | " + " | ".join(f"{part:.0%} of the tokens" for part in PARTS[:-1]) + " |"
    yield "|---" * len(PARTS) + "|"
    for flops, rows in table.groupby("flops"):
        x = np.log(rows["params"].to_numpy())
        grid = np.linspace(x.min(), x.max(), 2001) - x.mean()
        lines = [np.polyfit(x - x.mean(), rows[f"train {part}"], DEGREE) for part in PARTS]
        least = [grid[np.argmin(np.polyval(line, grid))] for line in lines]
        cells = " | ".join(f"{at - least[-1]:+.2f}" for at in least[:-1])
        yield f"| {flops:.3g} | {cells} |"


def page(found: pd.DataFrame, trainings: int) -> Iterator[str]:
    """Errors with 90 % intervals over replicates, in Markdown."""
    yield f"# Live on real trainings\n\n{date.today()}, `python benchmarks/live.py judge`; "
    yield f"{trainings} trainings behind the curves, {found['replicate'].nunique()} replicates.\n"
    yield "| W | policy | rms of ln p*, all skills | worst skill | within 1 of an optimum |"
    yield "|---|---|---|---|---|"
    for (share, name), rows in found.groupby(["W", "policy"], sort=False):
        wide = rows.pivot(index="replicate", columns="skill", values="square").to_numpy()
        rng = np.random.default_rng(0)
        drawn = wide[rng.integers(len(wide), size=(1000, len(wide)))].mean(1)
        cells = []
        for value, each in (
            (np.nanmean(wide), np.nanmean(drawn, axis=1)),
            (np.nanmax(wide.mean(0)), np.nanmax(drawn, axis=1)),
        ):
            low, high = np.sqrt(np.quantile(each, [0.05, 0.95]))
            cells.append(f"{math.sqrt(value):.3f} [{low:.3f}, {high:.3f}]")
        yield f"| {share} | {name} | {cells[0]} | {cells[1]} | {rows['within'].mean():.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    trainer = commands.add_parser("train", help="train what is missing")
    trainer.add_argument("--minutes", type=float, default=math.inf, help="of CPU time")
    trainer.set_defaults(do=lambda args: train_all(args.minutes))
    judged = commands.add_parser("judge", help="sweeps drawn from the trainings")
    judged.add_argument("--replicates", type=int, default=12)
    judged.add_argument("--write", action="store_true", help="keep the page in results/")
    judged.set_defaults(do=_judge)
    args = parser.parse_args()
    args.do(args)


def _judge(args: argparse.Namespace) -> None:
    table = pd.read_csv(CSV)
    found = judge(Surrogate.of(table), args.replicates)
    text = "\n".join([*page(found, len(table)), *stopped(table)])
    print(text)
    if args.write:
        PAGE.write_text(text + "\n")


if __name__ == "__main__":
    main()
