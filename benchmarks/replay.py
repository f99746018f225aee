"""Replay measured runs as a pool: how soon does each policy know the optima of all of them?

    OMP_NUM_THREADS=1 python benchmarks/replay.py [runs.csv ...] [--write]

Any table `fitting.prepare` reads will do; every trial may be asked for once, and only those that
were trained can be. The answer sought is the optimum of every budget and skill under the guarded
fit of the whole pool's sizes within a factor 5 of it: sizes farther off bend the fit (on Porian's
pools it lies .07 to .16, rms of ln p, from the published optima with all sizes and .08 to .12 with
those within a factor 3). Every policy is judged by the same fit of what it has seen. Compared are
the adaptive search, Optuna's TPE with six trials per budget, grid order (budgets ascending, sizes
spread first) and random order (median over seeds). Without a file: the two skills of Roberts et
al. 2025 (arXiv 2503.10061), and the isoFLOP points of Porian et al. 2024 (arXiv 2406.19146) if at
hand.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fitting.mixture.fit import fit_guarded
from fitting.reading.observations import prepare
from sweeper.budget import Allocation, Space, same_budget
from sweeper.search.build import build
from sweeper.search.protocol import COLUMNS, Finished
from sweeper.spec.search import SearchSettings
from trainables.progress import counted

HERE = Path(__file__).parent
PORIAN = HERE.parents[1] / "shared/data/porian/isoflop_points.csv"
SKILLS = HERE.parent / "fitting/reference/skills_paper/fig1_isoflop_points.csv"
WITHIN = 0.10
LEAST = 8  # trials before the first judgement
NEAR = 1.6  # in ln p: as far as the search reaches
CHECKPOINTS = np.geomspace(0.004, 1.0, 13)  # shares of the pool's FLOPs

Order = Iterator[tuple[float, int]]


@dataclass(frozen=True)
class PoolSpace(Space):
    """Only what was trained and not asked for yet."""

    left: frozenset[tuple[float, int]] = field(default=frozenset())

    def allowed(self, flops: float) -> list[int]:
        """Indices of the sizes left on a budget."""
        return [i for i, p in enumerate(self.params) if (flops, p) in self.left]


class Pool:
    """Measured trials by (flops, params)."""

    def __init__(self, table: pd.DataFrame) -> None:
        table = table.assign(params=table["params"].round().astype(int))
        mean = table.groupby(["flops", "params", "skill"], as_index=False)["loss"].mean()
        self.losses = {
            (float(c), int(p)): dict(zip(rows["skill"], rows["loss"], strict=True))
            for (c, p), rows in mean.groupby(["flops", "params"])
        }
        self.budgets = tuple(sorted({c for c, _ in self.losses}))
        self.sizes = tuple(sorted({p for _, p in self.losses}))
        self.skills = tuple(sorted(mean["skill"].unique()))
        self.total = sum(c for c, _ in self.losses)

    def rows(self, points: Sequence[tuple[float, int]]) -> pd.DataFrame:
        """The ledger's table of some trials."""
        return pd.DataFrame(
            [
                (i, c, p, c / 6 / p, 0, "base", s, loss, "finished", c)
                for i, (c, p) in enumerate(points)
                for s, loss in self.losses[c, p].items()
            ],
            columns=list(COLUMNS),
        )

    def search(self, settings: SearchSettings) -> Order:
        """What a policy asks for, one at a time, until it has no more wishes."""
        cost = tuple(6.0 * p for p in self.sizes)
        space = PoolSpace(self.budgets, self.sizes, cost, left=frozenset(self.losses))
        seen: list[tuple[float, int]] = []
        while space.left:
            policy = build(settings, space, self.skills)
            asked = policy.propose(self.rows(seen), [], 2 * self.total, 1)
            if isinstance(asked, Finished):
                return
            seen.append(self._same(asked[0]))
            space = replace(space, left=space.left - {seen[-1]})
            yield seen[-1]

    def _same(self, asked: Allocation) -> tuple[float, int]:
        budget = next(c for c in self.budgets if same_budget(c, asked.flops))
        return budget, asked.params

    def in_grid_order(self) -> Order:
        """Budgets ascending; on each the ends first, then halving the gaps."""
        for c in self.budgets:
            sizes = sorted(p for b, p in self.losses if b == c)
            done: list[int] = []
            while len(done) < len(sizes):
                rest = [p for p in sizes if p not in done]
                done.append(
                    max(rest, key=lambda p: min([abs(math.log(p / q)) for q in done], default=p))
                )
                yield c, done[-1]

    def in_random_order(self, seed: int) -> Order:
        """Any trial next."""
        points = sorted(self.losses)
        yield from (points[i] for i in np.random.default_rng(seed).permutation(len(points)))

    def optima(self, points: Sequence[tuple[float, int]]) -> np.ndarray:
        """Ln p* of every skill on every budget, (S, K), from trials near some optimum."""
        fit = fit_guarded(self.rows(points), ladder=self.budgets)
        first = dict(zip(self.budgets, fit.log_optimum(self.budgets)[0].T, strict=True))
        near = [(c, p) for c, p in points if np.abs(first[c] - math.log(p)).min() <= NEAR]
        if LEAST <= len(near) < len(points):
            fit = fit_guarded(self.rows(near), ladder=self.budgets)
        known = {s: i for i, s in enumerate(fit.skills)}
        mean = fit.log_optimum(self.budgets)[0]
        nothing = np.full(len(self.budgets), np.nan)
        return np.array([mean[known[s]] if s in known else nothing for s in self.skills])


def curve(pool: Pool, order: Order, truth: np.ndarray) -> np.ndarray:
    """Error at each checkpoint: root mean square of ln p* over skills and budgets."""
    errors = np.full(len(CHECKPOINTS), np.nan)
    seen: list[tuple[float, int]] = []
    spent, reached = 0.0, 0
    for point in order:
        while reached < len(CHECKPOINTS) and spent + point[0] > CHECKPOINTS[reached] * pool.total:
            errors[reached] = _error(pool, seen, truth)
            reached += 1
        seen.append(point)
        spent += point[0]
    errors[reached:] = _error(pool, seen, truth)
    return errors


def _error(pool: Pool, seen: Sequence[tuple[float, int]], truth: np.ndarray) -> float:
    if len(seen) < LEAST or len({p for _, p in seen}) < 4:
        return math.inf
    return float(np.sqrt(np.nanmean((pool.optima(seen) - truth) ** 2)))


def needed(errors: np.ndarray) -> tuple[float, float]:
    """Shares of the pool's FLOPs where the error first is, and then stays, within reach."""
    good = errors <= WITHIN
    bad = np.flatnonzero(~good)
    lasting = bad[-1] + 1 if len(bad) else 0
    shares = np.append(CHECKPOINTS, math.inf)
    return float(shares[np.argmax(good)] if good.any() else math.inf), float(shares[lasting])


def replay(pool: Pool, seeds: int) -> dict[str, list[np.ndarray]]:
    """Error curves of each policy, one per seed where it has any."""
    truth = pool.optima(sorted(pool.losses))
    ours = SearchSettings(tolerance=WITHIN)
    tpe = SearchSettings("optuna", sizes_per_budget=6, half_width=2.3)
    orders: dict[str, list[Callable[[], Order]]] = {
        "adaptive": [lambda: pool.search(ours)],
        "TPE": [lambda: pool.search(tpe)],
        "grid order": [pool.in_grid_order],
        "random order": [partial(pool.in_random_order, s) for s in range(seeds)],
    }
    return {
        name: [curve(pool, order(), truth) for order in variants]
        for name, variants in orders.items()
    }


def pools(files: Sequence[str]) -> Iterator[tuple[str, Pool]]:
    """The tables asked for, or the skills paper and Porian's settings with a validation loss."""
    for name in files:
        frame = prepare(name).frame
        yield Path(name).stem, Pool(frame.assign(flops=frame["budget"]))
    if not files:
        table = pd.read_csv(SKILLS).rename(columns={"target_nll": "loss"})
        yield "knowledge and code", Pool(table)
    if not files and PORIAN.exists():
        table = pd.read_csv(PORIAN)
        table = table[table["val"] == "val"]
        for (dataset, setting), rows in table.groupby(["dataset", "setting"]):
            about = rows.iloc[0]
            label = (
                f"{dataset} {setting} ({about['hparams']}, {about['warmup']}, {about['decay']})"
            )
            frame = rows[["flops", "loss"]].assign(params=rows["n"], skill="loss")
            yield label, Pool(frame)


def tables(found: dict[str, dict[str, list[np.ndarray]]]) -> list[str]:
    """FLOPs needed, and the errors on the way, in Markdown."""
    names = next(iter(found.values())).keys()
    head = ["| pool | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines = [
        f"## Share of the pool's FLOPs until all optima are within {WITHIN:.0%}", "",
        "Where the root mean square error first is within reach / from which it stays so; inf: "
        "never.", "", *head,
    ]  # fmt: skip
    for pool, curves in found.items():
        values = [np.median([needed(c) for c in cs], axis=0) for cs in curves.values()]
        lines.append(f"| {pool} | " + " | ".join(f"{a:.3f} / {b:.3f}" for a, b in values) + " |")
    at = [int(np.abs(CHECKPOINTS - share).argmin()) for share in (0.01, 0.03, 0.1, 0.3)]
    shown = ", ".join(f"{CHECKPOINTS[i]:.1%}" for i in at)
    lines += ["", f"## Root mean square error of ln p* after {shown} of the FLOPs", "", *head]
    for pool, curves in found.items():
        values = [np.median(cs, axis=0)[at] for cs in curves.values()]
        shares = (" ".join(f"{v:.2f}" for v in value) for value in values)
        lines.append(f"| {pool} | " + " | ".join(shares) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--seeds", type=int, default=5, help="random orders")
    parser.add_argument("--write", action="store_true", help="keep the tables in results/")
    args = parser.parse_args()
    found = {}
    for name, pool in counted(list(pools(args.files)), "pools"):
        found[f"{name}, {len(pool.losses)} trials"] = replay(pool, args.seeds)
    text = [
        "# Replays of measured runs", "",
        f"Written {date.today()} by `python benchmarks/replay.py {' '.join(args.files)}`; random "
        f"order: median of seeds 0-{args.seeds - 1}.", "", *tables(found),
    ]  # fmt: skip
    print("\n".join(text))
    if args.write:
        (HERE / "results/replay.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
