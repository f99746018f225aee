"""Several tables of one kind as one: sheets, tables of a text, lists in JSON; merged cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from fitting.reading.numbers import number, numbers
from fitting.reading.reasons import FINISHED, UNFINISHED
from fitting.reading.words import AMOUNTS, Header, parse

SIZES = 1e13
"""Larger numbers in titles are budgets, no params (assumption)."""

RATIO = (0.05, 1e4)
"""Tokens per param of any table (assumption): what else would be outside is FLOPs."""

_KINDS = {"flops": r"flop|\bc\s*=", "params": r"param|\bn\s*=", "tokens": r"tok|\bd\s*="}

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
    names = f" ({names})" if names else ""
    note = f"{len(same)} of {len(parts)} {what} read{names}, the others have other columns"
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
    return whole.assign(**{name: cells})


def _meaning(titles: Sequence[str], whole: pd.DataFrame) -> str:
    """What titles tell apart: amounts, endings, repeats; skills where allocations return."""
    counts = [number(bare(title)) for title in titles]
    held = {h.role: h for h in map(parse, whole) if h.role in AMOUNTS}
    if all(map(math.isfinite, counts)):
        middles = {role: middle(whole, header) for role, header in held.items()}
        role = by_words(titles) or by_size(counts, middles) or "flops"
        return "budget" if role == "flops" else role
    if {title.lower() for title in titles} <= FINISHED | UNFINISHED:
        return "status"
    if all(REPEAT.search(title.lower()) for title in titles):
        return "seed"
    again = whole.duplicated([h.column for h in held.values()]).sum() if held else 0
    return "skill" if held and again * 2 >= len(whole) - len(whole) / len(titles) else "name"


def by_words(names: Iterable[str]) -> str:
    """The amount that numbers in titles or headers count, by the words beside all of them."""
    kinds = ({role for role, p in _KINDS.items() if re.search(p, n, re.I)} for n in names)
    return min(set.intersection(*kinds), default="")


def by_size(counts: Sequence[float], held: Mapping[str, float]) -> str:
    """The amount that numbers count, by their size; "" where it is held already.

    Args:
        held: amounts that columns hold, with their middle.
    """
    count = float(np.median(counts))
    if "params" in held and "tokens" not in held:
        found = "tokens" if RATIO[0] < count / held["params"] < RATIO[1] else "flops"
    elif "tokens" in held and "params" not in held:
        found = "params" if RATIO[0] < held["tokens"] / count < RATIO[1] else "flops"
    else:
        found = "params" if count < SIZES and "params" not in held else "flops"
    return found if found not in held else ""


def middle(frame: pd.DataFrame, header: Header) -> float:
    """The median of a column, in its header's unit."""
    return float(pd.Series(numbers(frame[header.column], unit=header.unit)).median())


def bare(header: object) -> str:
    """A header without what it counts: "124M params", "N=124M"."""
    text = re.sub(
        r"(?i)^\s*(?:n|d|c|params|tokens|flops|budget|compute)\s*[=:]\s*", "", str(header)
    )
    return text if re.search(r"\d", text) and not re.match(r"[a-zA-Z]", text.strip()) else ""


def unmerged(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """With amounts and skills filled down that are given once for each block, as merged cells."""
    notes = []
    for name in frame.columns[[parse(c).role in (*AMOUNTS, "skill") for c in frame.columns]]:
        cells = frame[name]
        if not isinstance(cells, pd.Series):  # two columns of one name, refused later
            continue
        held = frame.drop(columns=name).notna().any(axis=1)
        given = cells.notna()[held].to_numpy()
        blocks = np.bincount(np.cumsum(given))[1:] if len(given) and given[0] else np.array([1])
        if blocks.min() > 1 and blocks.max() <= 2 * blocks.min():
            frame = frame.assign(**{str(name): cells.ffill().where(held)})
            notes.append(f"{name} is given once for each block of rows: taken for all rows of it")
    return frame, notes
