"""What to train next, from anybody's runs: the search without a sweep, a ledger or Ray.

Legend: k = flops / (params tokens) of the table, 6 by the usual convention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fitting import Runs, SkillFit, fit_skills
from fitting.errors import Status
from fitting.laws.bracket import LEAST_SIZES
from fitting.mixture.skills import FARTHEST
from fitting.reading.budgets import group_budgets
from fitting.values import Z90, FloatArray, check_positive
from sweeper.budget import Allocation, Space
from sweeper.errors import SpecError
from sweeper.search.adaptive import AdaptiveSearch
from sweeper.search.build import build
from sweeper.search.protocol import COLUMNS, Finished, Search
from sweeper.spec.search import SearchSettings
from sweeper.text import number
from trainables.foreign.ladder import read

FINENESS = 1.06
"""Ratio of neighbouring sizes where any size may be trained, as of a sweep's own ladder."""

REACH = 5.0
"""Factor beyond the sizes at hand, and beyond the guessed optima, that is looked at: as far as
the search reaches (`search.reach`)."""


@dataclass(frozen=True)
class Suggestion:
    """A trial worth training next.

    Attributes:
        allocation: what to train.
        skill: whose optimum it is expected to narrow most; "" while no law can be fitted.
        flops: on which budget: the largest, or the one asked for.
        before: half-width of that 90 % interval of ln p*, as `fitting.fit_skills` has it, with the
            suggestions before this one.
        after: the same with this one.
        status: why there is no such interval yet; both are NaN then.
    """

    allocation: Allocation
    skill: str = ""
    flops: float = math.nan
    before: float = math.nan
    after: float = math.nan
    status: Status = Status.OK


NEEDED = ("flops", "params", "tokens", "skill", "loss")
"""Columns of a table from which the next runs can be suggested."""


def next_of(
    table: pd.DataFrame | Runs,
    policy: Callable[[Sequence[str]], Search],
    space: Space,
    *,
    allowance: float,
    n: int,
    aims: Sequence[float] = (),
) -> list[Suggestion] | Finished:
    """What a search would train next beside the runs of a table, and what each should teach.

    Args:
        table: columns flops, params, tokens, skill, loss, and seed where known; rows without a
            loss are pending; or what `fitting.read_runs` returns.
        allowance: FLOPs that may be spent on these and on those that are pending.
        aims: budgets whose optima are wanted; by default what the policy wants.

    Raises:
        SpecError: ``n`` or the allowance is no positive number, it is no table, or a column is
            missing.
    """
    if not isinstance(n, int | np.integer) or n < 1 or not allowance > 0:
        raise SpecError(f"n={n!r}, allowance={allowance:g}: give numbers above 0, a whole n")
    table = table.table if isinstance(table, Runs) else table
    if not isinstance(table, pd.DataFrame):
        raise SpecError(f"table: give a data frame or fitting.read_runs(...), got {table!r:.60}")
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise SpecError(
            f"table: no column {', '.join(missing)}; fitting.read_runs(...).table has them all"
        )
    lossless = table["loss"].isna()
    pending = [_pending(row, space) for row in _trials(table[lossless])]
    known = table[~lossless]
    search, seen = policy(list(dict.fromkeys(known["skill"].astype(str)))), observed(known)
    if isinstance(search, AdaptiveSearch):  # nobody would score its proofs, or ask again soon
        search = replace(search, proves=False, aims=tuple(aims), ahead=math.inf)
    left, least = allowance - sum(a.flops for a in pending), min(space.budgets)
    if left < least:
        out = f", of which runs under way take {number(allowance - left)}," if pending else ""
        return Finished(
            "allowance",
            f"{number(allowance)} FLOPs{out} pay for no run: the smallest budget is "
            f"{number(least)}; raise the allowance, or name smaller budgets.",
        )
    chosen = search.propose(seen, pending, left, n)
    if isinstance(chosen, Finished):
        return chosen
    plain = [Suggestion(allocation) for allocation in chosen]
    if not chosen or not isinstance(search, AdaptiveSearch):
        return plain
    found = search.narrowing(seen, pending, chosen)
    if found is None:
        return plain
    fits, (ratios, skills) = fit_skills(known), found
    each = [fits[skill] for skill in skills]
    return _lessons(chosen, ratios[:, :, -1], each, float(search.targets[-1]))


def _lessons(
    chosen: Sequence[Allocation], ratios: FloatArray, fits: Sequence[SkillFit], flops: float
) -> list[Suggestion]:
    """Of every trial the skill whose optimum on one budget it narrows by the largest factor.

    Args:
        ratios: (n, S) widths after each trial over today's.
    """
    before, found = np.ones(len(fits)), []
    for allocation, after in zip(chosen, ratios, strict=True):
        s = int(np.argmin(after / before))
        now = fits[s].at(flops)
        width = Z90 * now.log_params_se if math.isfinite(now.params) else math.nan
        status = Status.OK if math.isfinite(width) else now.status
        ends = float(width * before[s]), float(width * after[s])
        found.append(Suggestion(allocation, fits[s].skill, flops, *ends, status))
        before = after
    return found


def _trials(rows: pd.DataFrame) -> list[Any]:
    """One row of each trial."""
    keys = ["trial_id"] if "trial_id" in rows else ["flops", "params", "tokens"]
    return list(rows.drop_duplicates(keys).itertuples())


def _pending(row: Any, space: Space) -> Allocation:
    """A run that is under way, on the budget it is nearest to."""
    budget = min(space.budgets, key=lambda c: abs(math.log(c / row.flops)))
    return Allocation(budget, round(row.params), round(row.tokens), 0, space.mix)


def observed(table: pd.DataFrame) -> pd.DataFrame:
    """Somebody's runs as the search reads them.

    Args:
        table: columns flops, params, tokens, skill, loss, trial_id, and seed, mix where known.
    """
    frame = table.reindex(columns=[*COLUMNS]).assign(
        status="finished", spent_flops=table["flops"], mix="base"
    )
    if table.empty:
        return frame
    repeats = table.groupby(["flops", "params", "skill"], sort=False).cumcount()
    seeds = pd.to_numeric(frame["seed"], errors="coerce")
    frame["seed"] = seeds.fillna(repeats).astype(int)
    named = frame["trial_id"].notna()
    rows = frame.groupby(["flops", "params", "tokens", "seed"], sort=False).ngroup()
    frame["trial_id"] = frame["trial_id"].where(named, "row " + rows.astype(str))
    for name in ("params", "tokens"):
        frame[name] = frame[name].round().astype("int64")
    return frame


def space_of(
    table: pd.DataFrame,
    *,
    budgets: Sequence[float],
    tokens_per_param: float,
    ladder: Sequence[tuple[int, float | None]] = (),
) -> Space:
    """What can be trained beside somebody's runs.

    Args:
        table: flops, params, tokens of the runs; its own k holds for what is to come.
        budgets: ascending.
        tokens_per_param: guess of t / p at the optimum.
        ladder: params and FLOPs per token of the sizes there are; any size without it.
    """
    k = 6.0
    if len(table):
        k = float((table["flops"] / table["params"] / table["tokens"]).median())
    sizes = list(ladder) or [(p, None) for p in _fine(table, budgets, tokens_per_param)]
    cost = tuple(k * p if each is None else each for p, each in sizes)
    return Space(tuple(budgets), tuple(p for p, _ in sizes), cost)


def _fine(table: pd.DataFrame, budgets: Sequence[float], tokens_per_param: float) -> list[int]:
    guesses = [math.sqrt(c / 6 / tokens_per_param) for c in (budgets[0], budgets[-1])]
    known = [float(table["params"].min()), float(table["params"].max())] if len(table) else []
    low, high = min(guesses + known) / REACH, max(guesses + known) * REACH
    count = math.ceil(math.log(high / low) / math.log(FINENESS))
    values = low * np.exp(np.linspace(0, math.log(high / low), count + 1))
    return sorted({max(1, round(float(f"{v:.3g}"))) for v in values})


def suggest_for(
    table: pd.DataFrame,
    *,
    budgets: Sequence[float],
    allowance: float,
    n: int,
    ladder: str | Path | None = None,
    tolerance: float = 0.10,
    at: float | None = None,
) -> list[Suggestion] | Finished:
    """What to train next, from a table and a few numbers.

    Args:
        table: see `next_of`.
        budgets: FLOPs of runs to come; empty for those that sizes of the table share.
        allowance: FLOPs that may be spent on these and on those that are pending.
        ladder: CSV of the sizes there are; any size without it.
        tolerance: wanted half-width of the 90 % interval of ln p*.
        at: a budget whose optima alone are wanted, instead of those of every budget alike.
            Neither is better everywhere (benchmarks/suggest.py).

    Raises:
        SpecError: there are no budgets, or the ladder cannot be read.
    """
    check_positive(allowance=allowance, tolerance=tolerance, at=1.0 if at is None else at)
    settings = SearchSettings(tolerance=tolerance)
    wanted = list(budgets) or shared_budgets(table)
    if not wanted:
        raise SpecError(
            f"budgets: no {LEAST_SIZES} sizes of the table share one; write FLOPs such as "
            "1e18,3e18"
        )
    sizes = []
    if ladder is not None:
        try:
            rows = read(str(Path(ladder).resolve()), str(Path.cwd()))
        except ValueError as error:
            raise SpecError(str(error).replace("sizes.ladder", "ladder")) from None
        per_token = [row.get("flops_per_token") for row in rows]
        sizes = [
            (int(row["params"]), None if each is None else float(each))
            for row, each in zip(rows, per_token, strict=True)
        ]
    _check_near(wanted, table)
    guess = settings.tokens_per_param
    space = space_of(table, budgets=wanted, tokens_per_param=guess, ladder=sizes)
    return next_of(
        table, lambda skills: build(settings, space, skills), space, allowance=allowance, n=n,
        aims=() if at is None else (at,),
    )  # fmt: skip


def _check_near(budgets: Sequence[float], table: pd.DataFrame) -> None:
    """Refuse budgets so far from the runs that those say nothing of them."""
    low, high = table["flops"].min(), table["flops"].max()
    for flops in budgets:
        if flops < low / FARTHEST or flops > high * FARTHEST:  # never of an empty table
            raise SpecError(
                f"--budgets: {number(flops)} FLOPs lie more than {number(FARTHEST)} times from "
                f"any run there is, {number(low)} to {number(high)}; name nearer ones"
            )


def shared_budgets(table: pd.DataFrame) -> list[float]:
    """Budgets that several sizes of a table share; none of an empty one."""
    if table.empty:
        return []
    nominal = group_budgets(table["flops"].to_numpy(float))
    sizes = table["params"].groupby(nominal).nunique()
    return [float(c) for c in sizes.index[sizes >= LEAST_SIZES]]
