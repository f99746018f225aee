"""Where an allowance goes beside a table of runs: what `isoskill suggest` asks the search for.

Fifteen runs on three cheap budgets, then an allowance. Compared by the error of ln p* on the
largest budget, and ten times beyond it: the search asked for the optima of every budget, asked
for those of the largest alone, and a rule of thumb, all of it on the largest, round the optima
that the fit predicts there.

    python benchmarks/suggest.py [--draws 20]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from worlds import World, surface_world, world

from fitting import fit_skills
from sweeper.search.adaptive import AdaptiveSearch
from sweeper.search.protocol import Finished
from sweeper.search.suggest import observed, space_of
from sweeper.spec.search import SearchSettings

CHEAP = [6e18, 1e19, 3e19]
AT_ONCE = 8
CASES = {  # budgets that may be trained on, allowance
    "the table's own, 10 of the largest": (CHEAP, 3e20),
    "one more, 3 of it": ([*CHEAP, 1e20], 3e20),
    "one more, 10 of it": ([*CHEAP, 1e20], 1e21),
    "two larger ones, 5 of the largest": ([1e20, 3e20], 1.5e21),
}


def worlds() -> dict[str, World]:
    """One skill under a plain law, and three skills each in other worlds."""
    found = {"one skill": surface_world({"loss": (1.7, 400, 410, 0.34, 0.28)})}
    for name in ("bend", "lrbump"):
        whole = world(name)
        found[name] = replace(whole, truths=tuple(whole.truths[i] for i in (0, 1, 4)))
    return found


def true_optima(it: World, flops: float) -> np.ndarray:
    """Ln p* of every skill."""
    size = np.linspace(math.log(1e6), math.log(1e12), 20001)
    losses = it.expected(np.exp(size), flops / 6 / np.exp(size))
    return np.asarray(size[losses.argmin(axis=1)])


def train(it: World, table: pd.DataFrame, places: Sequence[tuple[float, float]],
          rng: np.random.Generator) -> pd.DataFrame:  # fmt: skip
    """The table with further runs; those that diverge have no loss and are left out."""
    flops, params = np.array(places).T
    new = it.table(flops, params, rng).dropna()
    return pd.concat([table, new.assign(trial_id=new["trial_id"] + 10_000 + len(table))])


def follow(it: World, table: pd.DataFrame, budgets: Sequence[float], allowance: float,
           aims: Sequence[float], rng: np.random.Generator) -> pd.DataFrame:  # fmt: skip
    """What the search asks for, eight runs at a time, until it ends."""
    while True:
        space = space_of(table, budgets=budgets, tokens_per_param=20.0)
        search = AdaptiveSearch(SearchSettings(), space, proves=False, aims=tuple(aims),
                                ahead=math.inf)  # fmt: skip
        found = search.propose(observed(table), [], allowance, AT_ONCE)
        if isinstance(found, Finished) or not found:
            return table
        allowance -= sum(each.flops for each in found)
        table = train(it, table, [(each.flops, each.params) for each in found], rng)


def centred(it: World, table: pd.DataFrame, flops: float, count: int,
            rng: np.random.Generator) -> pd.DataFrame:  # fmt: skip
    """Sizes from half the least to twice the greatest optimum that is predicted there."""
    optima = [fit.at(flops).params for fit in fit_skills(table).values()]
    known = [p for p in optima if math.isfinite(p)] or [math.sqrt(flops / 120)]
    sizes = np.geomspace(min(known) / 2, 2 * max(known), count)
    return train(it, table, [(flops, p) for p in sizes], rng)


def errors(it: World, table: pd.DataFrame, flops: float) -> list[float]:
    """Of ln p* of every skill; NaN where there is no number."""
    fits, truth = fit_skills(table), true_optima(it, flops)
    return [math.log(fits[s].at(flops).params) - x for s, x in zip(it.skills, truth, strict=True)]


def draw(it: World, case: str, seed: int) -> dict[str, tuple[list[float], list[float]]]:
    """Errors on the largest budget and ten times beyond it, by way of spending."""
    rng, (budgets, allowance) = np.random.default_rng(seed), CASES[case]
    factors = np.geomspace(0.3, 3.3, 5)
    places = [(c, math.sqrt(c / 120) * f * math.exp(0.3 * rng.normal()))
              for c in CHEAP for f in factors]  # fmt: skip
    start = train(it, pd.DataFrame(), places, rng)
    top = budgets[-1]
    told = {
        "before": start,
        "every budget": follow(
            it, start, budgets, allowance, budgets, np.random.default_rng(seed)
        ),
        "the largest": follow(it, start, budgets, allowance, (top,), np.random.default_rng(seed)),
        "centred": centred(it, start, top, round(allowance / top), np.random.default_rng(seed)),
    }
    return {way: (errors(it, t, top), errors(it, t, 10 * top)) for way, t in told.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    print("| world | budgets, allowance | before | every budget | the largest | centred |")
    print("|---|---|---|---|---|---|")
    for name, it in worlds().items():
        for case in CASES:
            found = [draw(it, case, seed) for seed in range(draws)]
            cells = []
            for way in found[0]:
                pairs = [[e for each in found for e in each[way][i]] for i in (0, 1)]
                cells.append(
                    ", ".join(f"{math.sqrt(np.nanmean(np.square(p))):.3f}" for p in pairs)
                )
            print(f"| {name} | {case} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
