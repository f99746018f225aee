"""What branching trials from common trunks saves, at equal FLOPs, in worlds with known optima.

    OMP_NUM_THREADS=1 python benchmarks/branches.py [--replicates 5] [--write]

With a constant learning rate and a cooldown over the last fifth, a branch costs what its trunk
lacks and its own cooldown, but shares the trunk's luck: a part of the variance of its noise, the
correlation below, is common to all branches of one size and seed. Compared are the adaptive search
with every trial from scratch and the same search with `SearchSettings(cooldown=0.2)`, one slot,
W = FLOPs over those of the usual grid; and the same branched trials fitted as if independent. What
a cooldown does to the loss itself is not modelled: branches and whole trainings mean the same.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
from search_efficiency import GRID_FLOPS, RESULTS, SPACE

from fitting.mixture.fit import fit_guarded
from fitting.synthetic import LADDER, World, world
from fitting.values import Z90
from sweeper.budget import Allocation
from sweeper.search.branches import with_trunks
from sweeper.search.build import build
from sweeper.search.simulation import LossFunction, run
from sweeper.spec.search import SearchSettings
from trainables.progress import counted

COOLDOWN = 0.2
STEPS = (0.03, 0.05)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)


def shared(truth: World, correlation: float, seed: int) -> LossFunction:
    """Losses whose noise is shared, to a part of its variance, by trials of one size and seed."""
    clean = replace(truth, bad_share=0.0)

    def loss(allocation: Allocation, rng: np.random.Generator) -> dict[str, float]:
        p, t = allocation.params, allocation.tokens
        own = truth.loss(p, t, rng)
        trunk = clean.loss(p, t, np.random.default_rng([seed, p, allocation.seed]))
        expected = truth.expected(np.array([p]), np.array([t]))[:, 0]
        return {
            skill: float(
                e + math.sqrt(1 - correlation) * (own[skill] - e)
                + math.sqrt(correlation) * (trunk[skill] - e)
            )
            for skill, e in zip(truth.skills, expected, strict=True)
        }  # fmt: skip

    return loss


def sweep(truth: World, correlation: float, seed: int, cooldown: float | None) -> pd.DataFrame:
    """One simulated sweep."""
    settings = SearchSettings(tolerance=0.03, cooldown=cooldown)
    return run(
        build(settings, SPACE, truth.skills), SPACE, shared(truth, correlation, seed),
        skills=truth.skills, allowance=STEPS[-1] * GRID_FLOPS, seed=seed, cooldown=cooldown,
    )  # fmt: skip


def judged(
    table: pd.DataFrame, truth: World, about: dict[str, object], *, trunks: bool
) -> Iterator[dict[str, object]]:
    """Squared errors on the ladder and coverage after each step of spending."""
    trials = table.drop_duplicates("trial_id")
    spent = trials["spent_flops"].cumsum() / GRID_FLOPS
    sound = table[table["loss"].notna()]
    sound = with_trunks(sound) if trunks else sound
    wanted = np.array([[truth.log_optimum(s, c) for c in LADDER] for s in truth.skills])
    for step in STEPS:
        kept = trials["trial_id"][spent <= step * 1.0001]
        fit = fit_guarded(sound[sound["trial_id"].isin(kept)], ladder=LADDER)
        mean, se = fit.log_optimum(LADDER)
        error = (mean - wanted)[[fit.skills.index(s) for s in truth.skills]]
        for skill, one, width in zip(truth.skills, error, se, strict=True):
            yield about | {
                "W": step, "skill": skill, "square": float((one**2).mean()),
                "cover": float((np.abs(one) <= Z90 * width).mean()), "trials": len(kept),
                "trunks": trials.loc[kept.index, "params"].nunique(),
                "found": fit.trunk_correlation,
            }  # fmt: skip


def measure(worlds: Sequence[str], replicates: int) -> pd.DataFrame:
    """All sweeps."""
    rows: list[dict[str, object]] = []
    for name in worlds:
        truth = world(name)
        for seed in counted(range(replicates), f"sweeps of {name}"):
            whole: dict[str, object] = {"world": name, "seed": seed, "correlation": math.nan}
            whole["trials are"] = "from scratch"
            rows += judged(sweep(truth, 0.0, seed, None), truth, whole, trunks=False)
            for correlation in CORRELATIONS:
                table = sweep(truth, correlation, seed, COOLDOWN)
                about = {"world": name, "seed": seed, "correlation": correlation}
                for label, trunks in (("branches", True), ("branches, as independent", False)):
                    rows += judged(table, truth, about | {"trials are": label}, trunks=trunks)
    return pd.DataFrame(rows)


def report(rows: pd.DataFrame, args: argparse.Namespace) -> str:
    """The table in Markdown."""
    by = ["world", "W", "trials are", "correlation"]
    skills = rows.groupby([*by, "skill"], dropna=False, sort=False).agg(
        error=("square", lambda x: math.sqrt(x.mean())), cover=("cover", "mean"),
        trials=("trials", "mean"), trunks=("trunks", "mean"), found=("found", "mean"),
    )  # fmt: skip
    table = skills.groupby(by, dropna=False, sort=False).agg(
        mean=("error", "mean"), worst=("error", "max"), cover=("cover", "mean"),
        trials=("trials", "mean"), trunks=("trunks", "mean"), found=("found", "mean"),
    ).reset_index().sort_values(["world", "W"], kind="stable")  # fmt: skip
    lines = [
        "# Branches of common trunks against trials from scratch", "",
        f"Written {date.today()} by `OMP_NUM_THREADS=1 python benchmarks/branches.py --replicates "
        f"{args.replicates} --worlds {' '.join(args.worlds)}`, seeds 0-{args.replicates - 1}, one "
        "slot, 2 CPU cores. Errors are root mean squares of ln p* on the ladder.", "",
        "| world | W | trials are | correlation | found | trials | sizes | mean | worst | cover |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in table.to_dict(orient="records"):
        given = "–" if math.isnan(r["correlation"]) else f"{r['correlation']:g}"
        found = f"{r['found']:.2f}" if r["trials are"] == "branches" else "–"
        lines.append(
            f"| {r['world']} | {r['W']:g} | {r['trials are']} | {given} | {found} "
            f"| {r['trials']:.0f} | {r['trunks']:.0f} | {r['mean']:.3f} | {r['worst']:.3f} "
            f"| {r['cover']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--worlds", nargs="+", default=["fail"])
    parser.add_argument("--write", action="store_true", help="keep the table in results/")
    args = parser.parse_args()
    text = report(measure(args.worlds, args.replicates), args)
    print(text)
    if args.write:
        (RESULTS / "branches.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
