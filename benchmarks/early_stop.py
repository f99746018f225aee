"""Does it pay to stop trainings early by their loss so far? Measured on our own, all of them kept.

    OMP_NUM_THREADS=1 python benchmarks/early_stop.py [--write]

The 660 trainings of benchmarks/dense.py, their running training loss along the way. On each budget
trainings are stopped as by successive halving: at a quarter of its tokens each shows its loss, the
worse half ends; at half of them again. The fit then sees what was trained to the end. Its rival
spends the same FLOPs on whole trainings, the sizes spread evenly. Truth is the valley through all
trainings of a world (benchmarks/live.py); all sweeps are read by the same fit.
Asked, too, is how the order of losses on the way agrees with that at the end, by skill.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from dense import CURVES, LOSSES
from live import worlds
from scipy.stats import spearmanr

from fitting.mixture.fit import fit_guarded

PAGE = Path(__file__).parent / "results/early_stop.md"
HALVINGS = (0.25, 0.5)
"""Shares of a training's tokens at which the worse half of a budget's trainings ends."""

DRAWS = 40
"""Halves of the trainings, drawn at random, that every way is tried on."""

Way = Callable[[pd.DataFrame], tuple[pd.DataFrame, float]]


def on_the_way(curves: pd.DataFrame, share: float) -> pd.Series:
    """Running training loss at a share of the steps, by world, budget and seed."""
    at = (curves["step"] / curves["steps"] - share).abs()
    keys = ["world", "flops", "seed"]
    nearest = curves.assign(away=at).sort_values("away").drop_duplicates(keys)
    return nearest.set_index(keys)["train_loss"]


def halved(trials: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """What successive halving trains to the end, and the FLOPs of all."""
    kept, spent = [], 0.0
    for flops, some in trials.groupby("flops"):
        done = 0.0
        for share in HALVINGS:
            spent += flops * (share - done) * len(some)
            some, done = some.nsmallest(max(3, math.ceil(len(some) / 2)), f"at {share}"), share
        spent += flops * (1 - done) * len(some)
        kept.append(some)
    return pd.concat(kept), spent


def whole(trials: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """As many whole trainings of each budget, evenly spread, as the FLOPs of halving pay for."""
    share = halved(trials)[1] / trials["flops"].sum()
    kept = []
    for _, some in trials.groupby("flops"):
        count = max(3, round(share * len(some)))
        at = np.linspace(0, len(some) - 1, count).round().astype(int)
        kept.append(some.sort_values("params").iloc[at])
    found = pd.concat(kept)
    return found, float(found["flops"].sum())


def everything(trials: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """All of them."""
    return trials, float(trials["flops"].sum())


WAYS: dict[str, Way] = {
    "all, to the end": everything,
    "halved at .25 and .5": halved,
    "as many FLOPs, to the end": whole,
}


def judge() -> pd.DataFrame:
    """Squared errors of ln p* by way, world and draw."""
    losses, curves = pd.read_parquet(LOSSES), pd.read_parquet(CURVES)
    keys = ["world", "flops", "seed"]
    trials = losses.drop_duplicates(keys)[[*keys, "params", "tokens"]].set_index(keys)
    for share in HALVINGS:
        trials[f"at {share}"] = on_the_way(curves, share)
    rows = []
    for (name, some), world in zip(
        trials.reset_index().groupby("world"), worlds("dense"), strict=True
    ):
        skills = list(world.valleys)
        mine = losses[(losses["world"] == name) & losses["skill"].isin(skills)]
        for draw in range(DRAWS):
            half = some.groupby("flops").sample(frac=0.5, random_state=draw)
            for way, choose in WAYS.items():
                kept, spent = choose(half)
                table = mine.merge(kept[["flops", "seed"]]).assign(mix="base")
                table["trial_id"] = table["flops"].astype(str) + " " + table["seed"].astype(str)
                fit = fit_guarded(table, ladder=world.space.budgets)
                found = dict(zip(fit.skills, fit.log_optimum(world.space.budgets)[0], strict=True))
                for skill in skills:
                    square = float(((found[skill] - world.valleys[skill].optima) ** 2).mean())
                    share = spent / half["flops"].sum()
                    rows.append((name, way, draw, skill, len(kept), share, square))
    columns = ["world", "way", "draw", "skill", "trainings", "share", "square"]
    return pd.DataFrame(rows, columns=columns)


def agreement() -> pd.DataFrame:
    """Rank correlation over sizes of the training loss on the way and a skill's at the end."""
    losses, curves = pd.read_parquet(LOSSES), pd.read_parquet(CURVES)
    rows = []
    for share in (0.1, *HALVINGS, 0.75, 1.0):
        early = on_the_way(curves, share).rename("early").reset_index()
        both = losses.merge(early, on=["world", "flops", "seed"])
        for (world, skill), some in both.groupby(["world", "skill"]):
            each = [spearmanr(r["early"], r["loss"])[0] for _, r in some.groupby("flops")]
            best = [
                [r.loc[r[name].idxmin(), "params"] for name in ("early", "loss")]
                for _, r in some.groupby("flops")
            ]
            away = [abs(math.log(first / last)) for first, last in best]
            rows.append((world, skill, share, np.mean(each), np.mean(away)))
    return pd.DataFrame(rows, columns=["world", "skill", "at", "rank", "away"])


def page(found: pd.DataFrame, ranks: pd.DataFrame) -> Iterator[str]:
    """Both tables in Markdown."""
    yield "# Stopping trainings early\n"
    yield f"{date.today()}, `python benchmarks/early_stop.py --write`, 2 shared CPU cores; {DRAWS}"
    yield "random halves of the trainings of each dense world, seeds from 0.\n"
    yield "| world | way | trained to the end | share of FLOPs | rms of ln p* | worst skill |"
    yield "|---|---|---|---|---|---|"
    for (world, way), some in found.groupby(["world", "way"], sort=False):
        worst = some.groupby("draw")["square"].max().mean()
        yield (
            f"| {world} | {way} | {some['trainings'].mean():.0f} | {some['share'].mean():.2f} "
            f"| {math.sqrt(some['square'].mean()):.3f} | {math.sqrt(worst):.3f} |"
        )
    yield "\nRank correlation over the sizes of a budget, of the running training loss at a share"
    yield "of the tokens with the skill's loss at the end (mean of four budgets); in brackets how"
    yield "far apart the two losses' best sizes lie, in ln p.\n"
    wide = ranks.assign(
        cell=[f"{r:.2f} ({a:.1f})" for r, a in zip(ranks["rank"], ranks["away"], strict=True)]
    )
    table = wide.pivot(index=["world", "skill"], columns="at", values="cell")
    yield "| world | skill | " + " | ".join(f"{at:g}" for at in table.columns) + " |"
    yield "|---" * (table.shape[1] + 2) + "|"
    for (world, skill), cells in table.iterrows():
        yield f"| {world} | {skill} | " + " | ".join(cells) + " |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the page in results/")
    args = parser.parse_args()
    text = "\n".join(page(judge(), agreement()))
    print(text)
    if args.write:
        reading = "".join(PAGE.read_text().partition("## Reading")[1:]) if PAGE.exists() else ""
        PAGE.write_text(text + "\n" + reading)


if __name__ == "__main__":
    main()
