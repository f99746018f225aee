"""Why a row cannot be used, with the cell that says so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

FINISHED = frozenset(
    "ok done finished finish complete completed success succeeded terminated passed true".split()
)
"""First words of a status that let a row count; Ray calls its success TERMINATED."""

UNFINISHED = frozenset(
    "failed fail failure error errored crashed crash killed running diverged nan oom pending "
    "queued waiting timeout cancelled canceled aborted preempted scheduled stopped interrupted "
    "unfinished paused started submitted false incomplete".split()
)


def tells_endings(status: pd.Series) -> bool:
    """Whether a column's words say how runs ended; any other column refuses no row."""
    first = _first_words(status)
    known = float(first.isin(FINISHED | UNFINISHED).mean())
    return bool(first.isin(FINISHED).any()) or known >= 0.5


def mark_status(bad: npt.NDArray[np.object_], status: pd.Series) -> None:
    """Rows that did not finish."""
    state = status.fillna("ok").astype("str").str.strip().str.lower()
    left = (~_first_words(status).isin(FINISHED)).to_numpy()
    for value in state[left].unique():
        mark(bad, (state == value).to_numpy(), f"status is {value!r}")


def _first_words(status: pd.Series) -> pd.Series:
    state = status.fillna("ok").astype("str").str.strip().str.lower()
    return state.str.extract(r"^([a-z]+)", expand=False).fillna("")


def mark_numbers(
    bad: npt.NDArray[np.object_],
    role: str,
    values: npt.NDArray[np.float64],
    cells: pd.Series | None,
    *,
    positive: bool = True,
) -> None:
    """Reasons why numbers cannot be used, with the cell."""
    none = np.isnan(values)
    if none.any():
        blank = np.ones(len(values), dtype=bool) if cells is None else _blank(cells)
        mark(bad, none & blank, f"{role} is missing")
        for i in np.flatnonzero(none & ~blank):
            if bad[i] == "":
                bad[i] = f"{role} is not a number: {str(cells.iloc[i])[:40]!r}"  # type: ignore[union-attr]
    mark(bad, np.isinf(values), f"{role} is infinite")
    if positive:
        for i in np.flatnonzero(values <= 0):
            if bad[i] == "":
                bad[i] = f"{role} is not positive: {values[i]:g}"


def _blank(cells: pd.Series) -> npt.NDArray[np.bool_]:
    if pd.api.types.is_numeric_dtype(cells):
        return np.asarray(cells.isna())
    text = cells.astype("str").str.strip().str.lower()
    dashes = text.isin(["", "-", "–", "—", "nan", "none", "null", "n/a", "na", "<na>", "tbd", "?"])
    return np.asarray(cells.isna() | dashes)


def mark(bad: npt.NDArray[np.object_], where: npt.NDArray[np.bool_], reason: str) -> None:
    """Add a reason to rows that have none yet."""
    bad[where & (bad == "")] = reason
