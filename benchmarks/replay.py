"""Replay measured runs as a pool: how soon does each policy know the optima of all of them?

    OMP_NUM_THREADS=1 python benchmarks/replay.py [runs.csv ...] [--only NAME ...] [--write]

Every order that ends is appended to results/replay.csv.gz, and those that are there are not run
again: delete the file after a change of the fit or the search. The section "Reading" of the page
is written by hand and kept.

Pools are the isoFLOP tables of `public_tables` and any table given; each trial may be asked for
once, and only those that were trained can be. The truth is the local minimum of every budget and
skill (`public_tables.local_optima`), of skills that the whole pool's fit finds, too; every policy
is judged by the same fit of what it has seen. Compared are the adaptive search, the local zoom,
Optuna's TPE with six trials per budget, grid order (budgets ascending, sizes spread first), random
order, and on request an oracle that knows the truth and takes the trial that lowers the error most
per FLOP (of 12 drawn each time): the room that is left. Each replicate sees a random nine tenths
of the trials. Orders end at a quarter of the pool's FLOPs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import public_tables
from zoom import ZoomSearch

import fitting
from sweeper.budget import Allocation, Space, same_budget
from sweeper.search.build import build
from sweeper.search.protocol import COLUMNS, Finished, Search
from sweeper.spec.search import SearchSettings
from trainables.progress import counted

HERE = Path(__file__).parent
RESULT = HERE / "results" / "replay.md"
KEPT_ORDERS = HERE / "results" / "replay.csv.gz"
CHECKPOINTS = np.array([0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25])
"""Shares of the pool's FLOPs at which the optima known so far are judged."""

WITHIN = (0.20, 0.10, 0.05)
MOST_SKILLS = 8
"""Skills of a table that are used, evenly spaced by name: 27 take three times as long."""

LEAST_TRIALS, LEAST_BUDGETS = 50, 3
KEPT = 0.9
UNKNOWN = 0.6
"""Error in ln p* where nothing can be fitted yet: about that of a guess of 20 tokens per param."""

SOUND = 0.3
"""Rms error of the fit of the whole pool from which a skill says nothing of a search: near chance
(one of eight in l2l_slim, refused or missed by a factor of three, made up all of the error)."""

DRAWN = 12
NEITHER = ("gadre_c4", "xlstm_llama_ctx2048_raw", "chinchilla")
"""No isoFLOP tables, and one that holds diverged runs twice."""

Order = Iterator[tuple[float, int]]


@dataclass(frozen=True)
class PoolSpace(Space):
    """Only what was trained and not asked for yet."""

    left: frozenset[tuple[float, int]] = field(default=frozenset())

    def allowed(self, flops: float) -> list[int]:
        """Indices of the sizes left on a budget."""
        return [i for i, p in enumerate(self.params) if (flops, p) in self.left]


@dataclass(frozen=True)
class Pool:
    """Measured trials by (budget, params), and where the optima lie."""

    name: str
    losses: dict[tuple[float, int], dict[str, float]]
    truth: pd.DataFrame

    @classmethod
    def of(cls, table: public_tables.Table) -> Pool | None:
        """The trials and local minima of a table; None where these are too few."""
        frame = table.frame.assign(params=table.frame["params"].round().astype(int))
        truth = public_tables.local_optima(frame)
        names = sorted(truth["skill"].unique())
        picked = (
            {names[i] for i in np.linspace(0, len(names) - 1, MOST_SKILLS).round().astype(int)}
            if names
            else set()
        )
        truth, frame = (part[part["skill"].isin(picked)] for part in (truth, frame))
        mean = frame.groupby(["budget", "params", "skill"], as_index=False)["loss"].mean()
        losses = {
            (float(c), int(p)): dict(zip(rows["skill"], rows["loss"], strict=True))
            for (c, p), rows in mean.groupby(["budget", "params"])
        }
        if len(losses) < LEAST_TRIALS or truth["budget"].nunique() < LEAST_BUDGETS:
            return None
        pool = cls(table.name, losses, truth)
        square = pool.misses(sorted(losses)) ** 2
        sound = np.sqrt(square.groupby(truth["skill"]).mean()) <= SOUND
        truth = truth[truth["skill"].map(sound)]
        return replace(pool, truth=truth) if len(truth) else None

    def sample(self, seed: int) -> Pool:
        """A random part of the trials, judged by the same truth."""
        rng = np.random.default_rng(seed)
        points = sorted(self.losses)
        kept = rng.permutation(len(points))[: math.ceil(KEPT * len(points))]
        return replace(self, losses={points[i]: self.losses[points[i]] for i in sorted(kept)})

    @property
    def budgets(self) -> tuple[float, ...]:
        """Ascending."""
        return tuple(sorted({c for c, _ in self.losses}))

    @property
    def total(self) -> float:
        """FLOPs of all trials."""
        return sum(c for c, _ in self.losses)

    @property
    def skills(self) -> tuple[str, ...]:
        """Those that have optima."""
        return tuple(sorted(self.truth["skill"].unique()))

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

    def error(self, points: Sequence[tuple[float, int]]) -> float:
        """Root mean square of ln p* over skills and budgets by the default fit of some trials."""
        return float(np.sqrt((self.misses(points) ** 2).mean()))

    def misses(self, points: Sequence[tuple[float, int]]) -> pd.Series:
        """Errors of ln p* for every row of the truth."""
        if len(points) < 5:
            return pd.Series(UNKNOWN, self.truth.index)
        fits = fitting.fit_skills(
            self.rows(points)[["trial_id", "flops", "params", "tokens", "skill", "loss"]]
        )
        miss = []
        for skill, budget, truth in self.truth[["skill", "budget", "log_params"]].itertuples(
            index=False
        ):
            best = fits[skill].at(budget).params if skill in fits else math.nan
            miss.append(math.log(best) - truth if best > 0 and math.isfinite(best) else UNKNOWN)
        return pd.Series(miss, self.truth.index)


def searched(pool: Pool, make: Callable[[PoolSpace], Search]) -> Order:
    """What a policy asks for, one at a time, until it asks for no more."""
    sizes = tuple(sorted({p for _, p in pool.losses}))
    space = PoolSpace(
        pool.budgets, sizes, tuple(6.0 * p for p in sizes), left=frozenset(pool.losses)
    )
    seen: list[tuple[float, int]] = []
    while space.left:
        asked = make(space).propose(pool.rows(seen), [], 2 * pool.total, 1)
        if isinstance(asked, Finished):
            return
        seen.append(_same(pool, asked[0]))
        space = replace(space, left=space.left - {seen[-1]})
        yield seen[-1]


def _same(pool: Pool, asked: Allocation) -> tuple[float, int]:
    return next(c for c in pool.budgets if same_budget(c, asked.flops)), asked.params


def in_grid_order(pool: Pool) -> Order:
    """Budgets ascending; on each the ends first, then halving the gaps."""
    for c in pool.budgets:
        sizes = sorted(p for b, p in pool.losses if b == c)
        done: list[int] = []
        while len(done) < len(sizes):
            rest = [p for p in sizes if p not in done]
            done.append(
                max(rest, key=lambda p: min([abs(math.log(p / q)) for q in done], default=p))
            )
            yield c, done[-1]


def in_random_order(pool: Pool, seed: int) -> Order:
    """Any trial next."""
    points = sorted(pool.losses)
    yield from (points[i] for i in np.random.default_rng(seed).permutation(len(points)))


def oracle(pool: Pool, seed: int) -> Order:
    """Greedy with hindsight, after five spread sizes on the cheapest budget."""
    rng, order = np.random.default_rng(seed), in_grid_order(pool)
    seen = [next(order) for _ in range(5)]
    yield from seen
    error = pool.error(seen)
    while left := sorted(set(pool.losses) - set(seen)):
        some = [left[i] for i in rng.permutation(len(left))[:DRAWN]]
        errors = [pool.error([*seen, point]) for point in some]
        gain = [
            (math.log(error) - math.log(e)) / c for e, (c, _) in zip(errors, some, strict=True)
        ]
        best = int(np.argmax(gain))
        seen.append(some[best])
        error = errors[best]
        yield seen[-1]


COLUMNS_OF_ERRORS = [f"at {share:.1%}" for share in CHECKPOINTS]


def share_to(errors: np.ndarray, wanted: float) -> float:
    """Share of the FLOPs from which the error stays within reach; twice the last, if never."""
    bad = np.flatnonzero(~(errors <= wanted))
    last = bad[-1] + 1 if len(bad) else 0
    return float(np.append(CHECKPOINTS, 2 * CHECKPOINTS[-1])[last])


def follow(pool: Pool, order: Order) -> dict[str, float]:
    """The errors of an order at every checkpoint, and shares of trials near an optimum."""
    errors: list[float] = []
    seen: list[tuple[float, int]] = []
    spent = 0.0
    for point in order:
        while (
            len(errors) < len(CHECKPOINTS)
            and spent + point[0] > CHECKPOINTS[len(errors)] * pool.total
        ):
            errors.append(pool.error(seen))
        if len(errors) == len(CHECKPOINTS):
            break
        seen.append(point)
        spent += point[0]
    errors += [pool.error(seen)] * (len(CHECKPOINTS) - len(errors))
    away = _distances(pool, seen)
    within = {f"within {d}": float(np.nanmean(away <= d)) for d in (0.3, 1.0)}
    return dict(zip(COLUMNS_OF_ERRORS, errors, strict=True)) | within


def _distances(pool: Pool, seen: Sequence[tuple[float, int]]) -> np.ndarray:
    known = pool.truth.groupby("budget")["log_params"].apply(np.array).to_dict()
    return np.array(
        [np.abs(known[c] - math.log(p)).min() if c in known else math.nan for c, p in seen]
    )


def policies(with_oracle: bool) -> dict[str, Callable[[Pool, int], Order]]:
    """Orders by name, each of a pool and a seed."""
    named: dict[str, Callable[[Pool, int], Order]] = {
        name: partial(_settled, settings)
        for name, settings in {
            "adaptive": SearchSettings(tolerance=0.02),
            "TPE": SearchSettings("optuna", sizes_per_budget=6, half_width=2.3),
        }.items()
    }
    named["zoom"] = lambda pool, _: searched(pool, partial(ZoomSearch, SearchSettings()))
    named |= {"grid order": lambda pool, _: in_grid_order(pool), "random": in_random_order}
    return named | ({"oracle": oracle} if with_oracle else {})


def _settled(settings: SearchSettings, pool: Pool, seed: int) -> Order:
    seeded = replace(settings, seed=seed)
    return searched(pool, lambda space: build(seeded, space, pool.skills))


def pools(files: Sequence[Path], only: Sequence[str] | None) -> list[Pool]:
    """The tables asked for, or all of `public_tables.tables` that are isoFLOP pools."""
    given = (public_tables.Table.of(path.stem, path) for path in files)
    tables = given if files else (t for t in public_tables.tables() if t.name not in NEITHER)
    wanted = (t for t in tables if not only or t.name.startswith(tuple(only)))
    return [pool for table in wanted if (pool := Pool.of(table))]


def tables(frame: pd.DataFrame) -> Iterator[str]:
    """Means over pools of one skill and of many, then each pool, in Markdown."""
    errors = frame[COLUMNS_OF_ERRORS].to_numpy()
    for wanted in WITHIN:
        frame = frame.assign(**{f"to {wanted:.2f}": [share_to(e, wanted) for e in errors]})
    shares = [f"to {wanted:.2f}" for wanted in WITHIN]
    frame[shares] = np.log(frame[shares])
    names = ["pool", "policy"]
    values = [*shares, *COLUMNS_OF_ERRORS, "within 0.3", "within 1.0"]
    by_pool = frame.groupby(names, sort=False)[["skills", *values]].mean()
    for title, some in (
        ("Pools of one loss", by_pool[by_pool["skills"] == 1]),
        ("Pools of many skills", by_pool[by_pool["skills"] > 1]),
    ):
        if len(some):
            yield f"\n## {title}: {some.index.unique('pool').size}\n"
            mean = some.groupby("policy", sort=False)[values].mean()
            yield from _markdown(mean.assign(**np.exp(mean[shares])))
    yield "\n## By pool\n"
    yield from _markdown(by_pool[values].assign(**np.exp(by_pool[shares])))


def _markdown(frame: pd.DataFrame) -> Iterator[str]:
    head = [*map(str, frame.index.names), *map(str, frame.columns)]
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for key, row in frame.iterrows():
        names = key if isinstance(key, tuple) else (key,)
        yield "| " + " | ".join([*map(str, names), *(f"{v:.3f}" for v in row)]) + " |"


def run(args: argparse.Namespace) -> None:
    """Run the orders that are not kept yet, replicate by replicate, until the time is up."""
    begin, names = time.monotonic(), policies(args.oracle)
    done = set()
    if KEPT_ORDERS.exists():
        old = pd.read_csv(KEPT_ORDERS)
        done = set(zip(old["pool"], old["policy"], old["replicate"], strict=True))
    todo = [
        (pool, name, seed)
        for pool, seed in itertools.product(pools(args.files, args.only), range(args.replicates))
        for name in args.policies or names
        if (pool.name, name, seed) not in done
    ]
    for pool, name, seed in counted(sorted(todo, key=lambda each: each[2]), "orders"):
        sample = pool.sample(seed)
        found = follow(sample, names[name](sample, seed))
        row = {"pool": pool.name, "policy": name, "replicate": seed, "skills": len(pool.skills)}
        frame = pd.DataFrame([row | {k: round(v, 4) for k, v in found.items()}])
        frame.to_csv(KEPT_ORDERS, mode="a", header=not KEPT_ORDERS.exists(), index=False)
        if time.monotonic() - begin > args.seconds:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--only", nargs="+", help="pools whose name begins so")
    parser.add_argument("--policies", nargs="+", help="some of them")
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--oracle", action="store_true", help="the oracle too: slow")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this long")
    parser.add_argument("--write", action="store_true", help="keep the tables in results/")
    args = parser.parse_args()
    run(args)
    frame = pd.read_csv(KEPT_ORDERS)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    text = [
        "# Replays of measured runs\n",
        f"{date.today()}, `python benchmarks/{' '.join(sys.argv).rpartition('/')[2]}`, commit "
        f"{commit.stdout.strip()}, 2 shared CPU cores; seeds 0-{frame['replicate'].max()}.",
        *tables(frame),
    ]
    print("\n".join(text))
    if args.write:
        reading = "".join(RESULT.read_text().partition("## Reading")[1:])
        RESULT.write_text("\n".join(text) + "\n\n" + reading)


if __name__ == "__main__":
    main()
