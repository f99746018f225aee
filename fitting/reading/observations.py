"""The column contract: one row per (trial, skill), checked, with every excluded row listed.

Legend: C = flops, N or p = params, D or t = tokens; they are accepted as column names on input.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.budgets import BUDGET_TOLERANCE as BUDGET_TOLERANCE
from fitting.reading.budgets import group_budgets as group_budgets
from fitting.reading.doubts import named_again
from fitting.reading.reasons import left_out
from fitting.reading.runs import Runs, read_runs, tabulate
from fitting.reading.sources import Source, framed, load
from fitting.reading.terms import COLUMNS
from fitting.reading.text import Raw
from fitting.reading.units import conventions
from fitting.values import FLOPS_PER_PARAM_TOKEN, number, size

FEW = 0.1
"""Share of rows up to which those that contradict all others are left out (assumption)."""

_CONTRACT = frozenset(COLUMNS) - {"status"}


@dataclass(frozen=True)
class Observations:
    """A checked table of losses.

    Attributes:
        frame: columns flops, params, tokens, skill, loss, trial_id, seed, mix and budget (the
            nominal FLOPs shared by the rows of one budget); the index is that of the input.
        excluded: rows left out, columns row, trial_id, skill, reason.
        warnings: what a reader should know before trusting a fit.
        read: what was taken from where; see `fitting.read_runs`.
    """

    frame: pd.DataFrame
    excluded: pd.DataFrame
    warnings: tuple[str, ...]
    read: Mapping[str, Any]

    @property
    def skills(self) -> list[str]:
        """Names of the skills in order of appearance."""
        return [str(s) for s in self.frame["skill"].unique()]

    @property
    def budgets(self) -> list[float]:
        """Nominal budgets, ascending."""
        return [float(b) for b in np.sort(self.frame["budget"].unique())]

    def of_skill(self, skill: str) -> pd.DataFrame:
        """Rows of one skill."""
        rows = self.frame[self.frame["skill"] == skill]
        if rows.empty:
            near = difflib.get_close_matches(skill, self.skills, n=3)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise TableError(f"no observations of skill {skill!r}{hint}")
        return rows

    def curve(self, skill: str, budget: float) -> pd.DataFrame:
        """Rows of one skill on one budget (matched within the budget tolerance)."""
        rows = self.of_skill(skill)
        near = np.abs(np.log(rows["budget"].to_numpy() / budget)) <= BUDGET_TOLERANCE
        return rows[near]


Table: TypeAlias = Source | Runs | Observations
"""What `prepare` takes."""


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a file of any kind that `fitting.read_runs` takes, as it is.

    Raises:
        TableError: the file is missing, empty, or holds no table.
    """
    return load(path).frame


def prepare(table: Table) -> Observations:
    """Check a table against the column contract.

    Needs ``loss`` and two of ``flops``, ``params``, ``tokens`` (the third follows from
    C = 6 p t). Without ``skill`` all rows are one skill called "loss".

    Args:
        table: DataFrame, mapping of columns, list of records, what `fitting.read_runs` returned,
            or a source that it reads. A path is read as anybody's runs (checkpoints, experiments
            and units are recognised), a DataFrame as it stands. What is checked already is
            returned, of fits what they rest on.

    Raises:
        TableError: a column is missing or ambiguous, no row is usable, or flops, params and
            tokens contradict each other by a unit or by the factor 3 of forward-only FLOPs.
    """
    if isinstance(checked := getattr(table, "observations", table), Observations):
        return checked
    runs = _runs(table)
    frame, again = _once(runs.table)
    frame, odd = _agreeing(frame)
    excluded = pd.concat([runs.excluded, again, odd]) if len(again) + len(odd) else runs.excluded
    wrong, doubts = conventions(frame, runs.read)
    if wrong:
        raise TableError(" ".join(wrong))
    frame = _identified(frame)
    frame["budget"] = group_budgets(frame["flops"].to_numpy())
    apart = _apart(frame) if isinstance(table, Runs | str | Path) else frame
    notes = [*runs.notes, *doubts, *_budget_notes(frame)]
    notes += named_again(runs.table, "the last row counts") if len(again) else []
    notes += [] if apart is not frame else _mix_notes(frame)
    return Observations(apart, excluded, tuple(notes), runs.read)


def _runs(table: Source | Runs) -> Runs:
    """The table in the contract's columns."""
    if isinstance(table, Runs):
        return table
    if isinstance(table, str | Path):
        return read_runs(table)
    if not isinstance(table, pd.DataFrame):
        return tabulate(load(table), None, recognised=False)
    table = framed(table)
    if _is_clean(table):
        return Runs(table, {}, left_out(table.iloc[:0], []))
    return tabulate(Raw(table), None, recognised=False)


def _is_clean(table: pd.DataFrame) -> bool:
    """Whether a table, as a sweep hands it over at every decision, needs no reading."""
    if set(table.columns) - {"budget"} != _CONTRACT:
        return False
    values = table[["flops", "params", "tokens", "loss"]]
    if any(dtype.kind not in "if" for dtype in values.dtypes) or table["skill"].isna().any():
        return False
    numbers = values.to_numpy(float)
    return bool(np.isfinite(numbers).all() and (numbers > 0).all() and len(table))


def _once(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Without a trial's earlier rows of one skill, seed and mix, and those rows."""
    if "trial_id" not in frame:
        return frame, left_out(frame.iloc[:0], [])
    key = ["trial_id", "skill", *(c for c in ("seed", "mix") if c in frame)]
    again = frame[key].duplicated(keep="last")  # of a resumed run the last row counts
    twice = (again & frame["trial_id"].notna()).to_numpy()
    said = "trial_id and skill occur again: duplicate, the last row counts"
    return frame[~twice], left_out(frame[twice], [said] * int(twice.sum()))


def _agreeing(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Without the few rows whose flops belong to other params and tokens, and those rows."""
    work = FLOPS_PER_PARAM_TOKEN * frame["params"] * frame["tokens"]
    away = np.log(frame["flops"] / work)
    odd = ((away - away.median()).abs() > math.log(30)).to_numpy()
    odd = odd & (odd.mean() <= FEW)
    usual = number(math.exp(away.median()))
    said = [f"flops are {number(math.exp(v))} times 6 params tokens, {usual} times in the other "
            "rows" for v in away[odd]]  # fmt: skip
    return frame[~odd].copy(), left_out(frame[odd], said)


def _identified(frame: pd.DataFrame) -> pd.DataFrame:
    """With a trial identity, where none is given, in the contract's order."""
    if "trial_id" not in frame:
        # Rows of different skills at one allocation are one trial; of one skill, repeats.
        key = ["flops", "params", "tokens", "seed", "mix"]
        frame["_repeat"] = frame.groupby([*key, "skill"], dropna=False).cumcount()
        frame["trial_id"] = frame.groupby([*key, "_repeat"], dropna=False, sort=False).ngroup()
        frame = frame.drop(columns="_repeat")
    nameless = frame["trial_id"].isna()
    if nameless.any():
        frame["trial_id"] = frame["trial_id"].astype(object)
        frame.loc[nameless, "trial_id"] = [f"row {i}" for i in frame.index[nameless]]
    if (frame.groupby("trial_id")["mix"].nunique() > 1).any():  # names begin again in each mix
        frame["trial_id"] = frame["trial_id"].astype(str) + " [" + frame["mix"].astype(str) + "]"
    frame = frame[[c for c in COLUMNS if c in frame]].copy()
    frame["skill"] = frame["skill"].astype(str)
    return frame


def _apart(frame: pd.DataFrame) -> pd.DataFrame:
    """With the experiment in the skill's name where the table holds several."""
    mix = frame["mix"].astype(str)
    if mix.nunique() < 2:
        return frame
    return frame.assign(skill=frame["skill"] + " [" + mix + "]")


def _budget_notes(frame: pd.DataFrame) -> list[str]:
    """Say when there are no isoFLOP budgets, or only one."""
    sizes = frame.groupby("budget")["params"].nunique()
    usable = sizes.index[sizes >= 3]
    share = float(frame["budget"].isin(usable).mean())
    if share < 0.5:
        return [
            _inseparable(frame)
            or "few budgets hold three sizes: this is not an isoFLOP table, and its optima rest "
            "on a surface through all rows, not on the least loss of each budget."
        ]
    if len(sizes) == 1:
        return [
            f"one budget only ({number(usable[0])} FLOPs): an optimum can be had, a law cannot."
        ]
    if len(usable) == 1:
        return [
            f"one budget only ({number(usable[0])} FLOPs) has three sizes: a law rests on fewer "
            "on the others, if there is one."
        ]
    thin = [number(b) for b in sizes.index[sizes < 3]]
    return [f"fewer than three sizes on budgets of {', '.join(thin[:6])} FLOPs."] if thin else []


def _inseparable(frame: pd.DataFrame) -> str:
    """What a table cannot tell as params and tokens never vary by themselves, and what would."""
    params, tokens = (frame[name].to_numpy(float) for name in ("params", "tokens"))
    if len(frame[["params", "tokens"]].drop_duplicates()) < 2:
        return "one training tells no optimum: train five sizes on each of three budgets."
    ratio = tokens / params
    if np.ptp(np.log(tokens)) < BUDGET_TOLERANCE:
        return (
            f"every row has {size(tokens[0])} tokens: what size gives can be told, what "
            "tokens give cannot. Train three of the sizes again on a quarter and on four times "
            "the tokens."
        )
    if np.ptp(np.log(params)) < BUDGET_TOLERANCE:
        return (
            f"every row has {size(params[0])} params: what tokens give can be told, what size "
            "gives cannot. Train a quarter and four times the size on the same tokens."
        )
    if np.ptp(np.log(ratio)) < 5 * BUDGET_TOLERANCE:
        return (
            f"every row has {ratio[0]:.3g} tokens per param: what size gives and what tokens give "
            f"cannot be told apart. Train three of the sizes again on {ratio[0] / 4:.3g} and on "
            f"{ratio[0] * 4:.3g} tokens per param."
        )
    return ""


def _mix_notes(frame: pd.DataFrame) -> list[str]:
    """Say when several data mixes are in one table."""
    mixes = frame["mix"].astype(str).unique()
    if len(mixes) < 2:
        return []
    return [f"{len(mixes)} data mixes in one table: fit one mix at a time, or use datamix."]
