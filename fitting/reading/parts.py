"""Several tables of one kind as one: sheets, tables of a text, lists in JSON; merged cells."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fitting.reading.numbers import number
from fitting.reading.reasons import FINISHED, UNFINISHED
from fitting.reading.words import parse

AMOUNTS = ("flops", "params", "tokens")
Part = tuple[str, pd.DataFrame]
"""A table and its title: a sheet's name, a heading, a key."""

REPEAT = re.compile(
    r"(?<![a-z])(?:seed|rep|replicate|repeat|run|trial)[\s_#=-]*(\d{1,5}|[a-z])(?![a-z0-9])"
)
"""What says which of several repeats a title or a header is of."""


def joined(parts: Sequence[Part], what: str) -> tuple[pd.DataFrame, list[str]]:
    """All tables with the columns of the largest one, and a note on the others.

    Args:
        what: what the tables are, for the note.
    """
    largest = max((frame for _, frame in parts), key=lambda frame: frame.size)
    same = [part for part in parts if list(part[1].columns) == list(largest.columns)]
    names = ", ".join(title for title, _ in same if title)
    note = f"{len(same)} of {len(parts)} {what} read ({names}), the others have other columns"
    frame = titled(same) if len(same) > 1 else same[0][1]
    return frame, [note] if len(same) < len(parts) else []


def titled(parts: Sequence[Part]) -> pd.DataFrame:
    """One table of several, with a column of their titles, named by what these tell."""
    whole = pd.concat([frame for _, frame in parts], ignore_index=True)
    titles = [title for title, _ in parts]
    name = _meaning(titles, whole)
    if name == "seed":
        titles = [found[1] for t in titles if (found := REPEAT.search(t.lower()))]
    if name in whole or len(set(titles)) < len(titles):
        return whole
    cells = np.repeat(np.array(titles, dtype=object), [len(frame) for _, frame in parts])
    whole.insert(0, name, cells)
    return whole


def _meaning(titles: Sequence[str], whole: pd.DataFrame) -> str:
    """What titles tell apart: budgets, endings, repeats; skills where allocations return."""
    if all(math.isfinite(number(bare(title))) for title in titles):
        return "budget"
    if {title.lower() for title in titles} <= FINISHED | UNFINISHED:
        return "status"
    if all(REPEAT.search(title.lower()) for title in titles):
        return "seed"
    amounts = [c for c in whole if parse(c).role in AMOUNTS]
    again = bool(amounts) and whole.duplicated(amounts).sum() * 2 >= len(whole) - len(whole) / len(
        titles
    )
    return "skill" if again else "name"


def bare(header: object) -> str:
    """A header without what it counts: "124M params", "N=124M"."""
    text = re.sub(
        r"(?i)^\s*(?:n|d|c|params|tokens|flops|budget|compute)\s*[=:]\s*", "", str(header)
    )
    return text if re.search(r"\d", text) and not re.match(r"[a-zA-Z]", text.strip()) else ""


def unmerged(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """With a first column filled down that is given once for each block, as merged cells are."""
    if frame.empty or parse(frame.columns[0]).role not in (*AMOUNTS, "skill"):
        return frame, []
    first, others = frame.iloc[:, 0], frame.iloc[:, 1:].notna().any(axis=1)
    given = first.notna()
    lone = given.to_numpy()[:-1] & given.to_numpy()[1:]
    if not given.iloc[0] or given[others].mean() > 0.5 or lone.any():
        return frame, []
    name = frame.columns[0]
    filled = frame.assign(**{str(name): first.ffill().where(others)})
    return filled, [f"{name} is given once for each block of rows: taken for all rows of it"]
