"""The column contract: one row per (trial, skill), checked, with every excluded row listed.

Legend: C = flops, N or p = params, D or t = tokens; they are accepted as column names on input.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import TableError
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

COLUMNS = ("flops", "params", "tokens", "skill", "loss", "trial_id", "seed", "mix", "status")

# Names met in public tables (Chinchilla and Llama 3 digitisations, W&B exports), normalised.
_ALIASES: Mapping[str, frozenset[str]] = {
    name: frozenset(aliases.split())
    for name, aliases in {
        "flops": "c flop compute compute_budget training_flop training_flops train_flops budget",
        "params": "n p parameters num_params n_params model_size size param_count",
        "tokens": "d t training_tokens train_tokens num_tokens n_tokens",
        "skill": "task dataset eval benchmark domain eval_set",
        "loss": "l nll target_nll val_loss validation_loss eval_loss test_loss",
        "trial_id": "trial run run_id run_name",
        "seed": "",
        "mix": "data_mix mixture",
        "status": "state",
    }.items()
}

_FINISHED = frozenset({"ok", "done", "finished", "finish", "complete", "completed", "success"})

BUDGET_TOLERANCE = 0.01
"""Budgets closer than this are one budget (assumption; our shapes realise a budget within 1 %)."""

_CONVENTION_SLACK = 1.6
"""flops / (6 p t) up to this factor from 1 is a matter of convention: attention FLOPs and the
vocabulary head make at most about +54 % at the smallest sizes met in practice (measured)."""

_CONVENTION_LIMIT = 4.0
"""Up to this factor the difference is only told: params without embeddings make a factor 2.3 at
the smallest sizes met in practice (measured)."""

_UNIT_SLIPS = {1e3: "thousands", 1e6: "millions", 1e9: "billions", 1e12: "trillions"}


@dataclass(frozen=True)
class Observations:
    """A checked table of losses.

    Attributes:
        frame: columns flops, params, tokens, skill, loss, trial_id, seed, mix and budget (the
            nominal FLOPs shared by the rows of one budget); the index is that of the input.
        excluded: rows left out, columns row, trial_id, skill, reason.
        warnings: what a reader should know before trusting a fit.
    """

    frame: pd.DataFrame
    excluded: pd.DataFrame
    warnings: tuple[str, ...] = ()

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


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV, TSV, JSON-lines or Parquet file.

    Raises:
        TableError: the file is missing, empty, or of an unknown kind.
    """
    path = Path(path)
    readers = {
        ".csv": pd.read_csv,
        ".tsv": lambda p: pd.read_csv(p, sep="\t"),
        ".jsonl": lambda p: pd.read_json(p, lines=True),
        ".parquet": pd.read_parquet,
    }
    if not os.path.exists(path):  # False for names no system takes
        raise TableError(f"no such file: {path}")
    if path.suffix.lower() not in readers:
        kinds = ", ".join(readers)
        raise TableError(f"cannot read {path.name}: expected a file ending in {kinds}")
    try:
        table: pd.DataFrame = readers[path.suffix.lower()](path)
    except (ValueError, OSError) as error:
        raise TableError(f"cannot read {path}: {error}") from error
    return table


def prepare(
    table: pd.DataFrame | Mapping[str, Any] | str | Path,
    *,
    check_units: bool = True,
    budget_tolerance: float = BUDGET_TOLERANCE,
) -> Observations:
    """Check a table against the column contract.

    Needs ``loss`` and two of ``flops``, ``params``, ``tokens`` (the third follows from
    C = 6 p t). Without ``skill`` all rows are one skill called "loss".

    Args:
        table: DataFrame, mapping of columns, or path of a file.
        check_units: raise where flops, params and tokens contradict each other by a unit
            or by the factor 3 of forward-only FLOPs; with False such findings are warnings.
        budget_tolerance: relative distance under which two budgets are one.

    Raises:
        TableError: a column is missing or ambiguous, no row is usable, or units slip.
    """
    try:
        raw = read_table(table) if isinstance(table, str | Path) else pd.DataFrame(table)
    except TableError:
        raise
    except ValueError as error:
        raise TableError(f"this is not a table of columns of one length: {error}") from error
    frame = _named_columns(raw)
    if frame.empty:
        raise TableError("the table has no rows")
    reasons = _reasons(frame)
    excluded = _excluded(frame, reasons)
    frame = frame[[not r for r in reasons]]
    if frame.empty:
        first = excluded["reason"].iloc[0]
        raise TableError(f"no usable row: all {len(excluded)} are excluded, the first: {first}")
    slips, doubts = _unit_slips(frame)
    if slips and check_units:
        raise TableError(" ".join(slips) + " (check_units=False lets it pass)")
    frame = _complete(frame)
    frame["budget"] = group_budgets(frame["flops"].to_numpy(), tolerance=budget_tolerance)
    frame = frame.drop(columns="status")
    notes = [*slips, *doubts, *_budget_notes(frame), *_mix_notes(frame)]
    return Observations(frame, excluded, tuple(notes))


def group_budgets(flops: npt.ArrayLike, *, tolerance: float = BUDGET_TOLERANCE) -> FloatArray:
    """Nominal budget of each row: neighbours within ``tolerance`` are one budget.

    A group never spreads over more than three tolerances, so that flops strewn over a
    continuum (Chinchilla's figure 4) do not chain into one budget.

    Returns:
        The geometric mean of each row's group, rounded to four digits.
    """
    ln_c = np.log(np.asarray(flops, dtype=float))
    values, inverse = np.unique(ln_c, return_inverse=True)
    step, label = np.log1p(tolerance), 0
    labels = np.zeros(len(values), dtype=int)
    start = values[0]
    for i in range(1, len(values)):
        if values[i] - values[i - 1] > step or values[i] - start > 3 * step:
            label, start = label + 1, values[i]
        labels[i] = label
    rows = labels[inverse]
    mean = np.bincount(rows, weights=ln_c) / np.bincount(rows)
    nominal = np.array([float(f"{v:.4g}") for v in np.exp(mean)])
    return nominal[rows]


def _named_columns(raw: pd.DataFrame) -> pd.DataFrame:
    """Rename aliases, add what is optional, and refuse what is missing.

    A column that has the contract's own name wins over its aliases: exported tables carry a
    summed ``nll`` beside their ``loss``.
    """
    found: dict[str, list[str]] = {}
    for column in raw.columns:
        name = _canonical(str(column))
        if name:
            found.setdefault(name, []).append(column)
    chosen: dict[str, Any] = {}
    for name, columns in found.items():
        exact = [c for c in columns if c == name]
        if len(columns) > 1 and len(exact) != 1:
            listed = ", ".join(map(repr, columns))
            raise TableError(f"columns {listed} could all be {name!r}: rename the one meant")
        chosen[name] = raw[(exact or columns)[0]]
    _require(chosen, raw.columns)
    frame = pd.DataFrame(chosen, index=raw.index)
    for name, value in (("skill", "loss"), ("seed", pd.NA), ("mix", ""), ("status", "ok")):
        if name not in frame:
            frame[name] = value
    return frame


def _canonical(column: str) -> str | None:
    """The contract's name for a column, if it has one."""
    key = re.sub(r"[^a-z0-9]+", "_", column.strip().lower()).strip("_")
    for name, aliases in _ALIASES.items():
        if key == name or key in aliases:
            return name
    return None


def _require(chosen: Mapping[str, Any], present: Iterable[Any]) -> None:
    """Raise unless there is a loss and two of flops, params, tokens."""
    missing = [] if "loss" in chosen else ["loss"]
    amounts = [n for n in ("flops", "params", "tokens") if n in chosen]
    if len(amounts) < 2:
        missing += [n for n in ("flops", "params", "tokens") if n not in chosen]
    if not missing:
        return
    names = [str(c) for c in present]
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
        hints.append(f"{name!r}" + (f" (nearest: {', '.join(near)})" if near else ""))
    need = "loss and two of flops, params, tokens are needed"
    raise TableError(f"missing columns {', '.join(hints)}; {need}; the table has {names}")


def _reasons(frame: pd.DataFrame) -> list[str]:
    """Why each row cannot be used; empty string where it can. Converts columns to numbers."""
    bad = np.full(len(frame), "", dtype=object)
    for name in ("flops", "params", "tokens", "loss"):
        if name not in frame:
            continue
        given = frame[name]
        number = pd.to_numeric(given, errors="coerce").astype(float)
        frame[name] = number
        value = number.to_numpy()
        _mark(bad, np.isnan(value), f"{name} is missing or not a number")
        _mark(bad, np.isinf(value), f"{name} is infinite")
        _mark(bad, value <= 0, f"{name} is not positive")
    state = frame["status"].fillna("ok").astype(str).str.strip().str.lower()
    unfinished = ~state.isin(_FINISHED).to_numpy()
    for value in state[unfinished].unique():
        _mark(bad, (state == value).to_numpy(), f"status is {value!r}")
    _mark(bad, frame["skill"].isna().to_numpy(), "skill is missing")
    if "trial_id" in frame:
        keys = ["trial_id", "skill"]
        usable = np.flatnonzero((bad == "") & frame["trial_id"].notna().to_numpy())
        again = usable[frame[keys].iloc[usable].duplicated().to_numpy()]
        bad[again] = "trial_id and skill occur before: duplicate"
    return list(bad)


def _mark(bad: npt.NDArray[np.object_], where: npt.NDArray[np.bool_], reason: str) -> None:
    """Add a reason to rows that have none yet."""
    bad[where & (bad == "")] = reason


def _excluded(frame: pd.DataFrame, reasons: list[str]) -> pd.DataFrame:
    """The list of rows left out."""
    out = np.flatnonzero([bool(r) for r in reasons])
    trial = frame["trial_id"].to_numpy()[out] if "trial_id" in frame else [""] * len(out)
    return pd.DataFrame(
        {
            "row": frame.index[out],
            "trial_id": trial,
            "skill": frame["skill"].to_numpy()[out],
            "reason": [reasons[i] for i in out],
        }
    )


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the third of flops, params and tokens, and a trial identity, where not given."""
    frame = frame.copy()
    frame["skill"] = frame["skill"].astype(str)
    if "flops" not in frame:
        frame["flops"] = FLOPS_PER_PARAM_TOKEN * frame["params"] * frame["tokens"]
    if "tokens" not in frame:
        frame["tokens"] = frame["flops"] / (FLOPS_PER_PARAM_TOKEN * frame["params"])
    if "params" not in frame:
        frame["params"] = frame["flops"] / (FLOPS_PER_PARAM_TOKEN * frame["tokens"])
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
    return frame[[c for c in COLUMNS if c in frame]]


def _unit_slips(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Contradictions between flops, params and tokens, and mere differences of convention."""
    if not {"flops", "params", "tokens"} <= set(frame.columns):
        return [], []
    work = FLOPS_PER_PARAM_TOKEN * frame["params"] * frame["tokens"]
    ratio = (frame["flops"] / work).to_numpy()
    size = np.abs(np.log(ratio))
    kinds = [("flops = 2 params tokens, forward-only FLOPs, multiply them by 3", 1 / 3, 1.3)]
    kinds += [
        (
            f"flops / (6 params tokens) is about {factor:.0e}, are params or tokens in {unit}?",
            factor,
            3,
        )
        for factor, unit in _UNIT_SLIPS.items()
    ]
    left = size > math.log(_CONVENTION_SLACK)
    slips = []
    for what, factor, width in kinds:
        hit = left & (np.abs(np.log(ratio / factor)) < math.log(width))
        left &= ~hit
        slips += _in_rows(what, frame, hit)
    odd = left & (size > math.log(_CONVENTION_LIMIT))
    slips += _in_rows(
        "flops / (6 params tokens) is far from 1, the three columns contradict each other: drop "
        "one of them and it is computed",
        frame,
        odd,
    )
    doubts = _in_rows(
        "flops are not 6 params tokens (embeddings left out of params, or attention counted?)",
        frame,
        left & ~odd,
    )
    return slips, doubts


def _in_rows(what: str, frame: pd.DataFrame, where: npt.NDArray[np.bool_]) -> list[str]:
    """A finding with the rows it concerns, or nothing."""
    count = int(where.sum())
    if not count:
        return []
    labels = ", ".join(str(i) for i in frame.index[where][:3]) + (" ..." if count > 3 else "")
    return [f"{what} ({count} of {len(frame)} rows: {labels})."]


def _budget_notes(frame: pd.DataFrame) -> list[str]:
    """Say when there are no isoFLOP budgets, or only one."""
    sizes = frame.groupby("budget")["params"].nunique()
    usable = sizes.index[sizes >= 3]
    share = float(frame["budget"].isin(usable).mean())
    if share < 0.5:
        return [
            f"only {share:.0%} of the rows share a budget with two other sizes: this is not an "
            "isoFLOP table; fit_surface needs no budgets, per-budget methods do."
        ]
    if len(usable) == 1:
        return [f"one budget only ({usable[0]:.3g} FLOPs): an optimum can be had, a law cannot."]
    thin = [f"{b:.3g}" for b in sizes.index[sizes < 3]]
    return [f"fewer than three sizes on budgets {', '.join(thin[:6])}."] if thin else []


def _mix_notes(frame: pd.DataFrame) -> list[str]:
    """Say when several data mixes are in one table."""
    mixes = frame["mix"].astype(str).unique()
    if len(mixes) < 2:
        return []
    return [f"{len(mixes)} data mixes in one table: fit one mix at a time, or use datamix."]
