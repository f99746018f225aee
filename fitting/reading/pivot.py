"""Tables spread over their headers: by budget, size or seed across, or one column per run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.amounts import agree
from fitting.reading.numbers import number, numbers
from fitting.reading.parts import REPEAT, bare, by_size, by_words, middle
from fitting.reading.terms import Asked, listed
from fitting.reading.words import AMOUNTS, parse

LEAST = 3
"""Columns with numbers as headers from which a table is a pivot."""

COUNT = 1e6
"""From here up a number in a loss's header (loss@1e18, val_loss_125M) is a budget, size or token
count (assumption; smaller ones are steps, widths or versions)."""

BUDGET = 1e16
"""Larger numbers are FLOPs, where nothing else says so (assumption)."""

_AMOUNT = re.compile(r"(?<![A-Za-z0-9.])\d[\d.]*(?:e\+?\d+|[kmbt])?(?![A-Za-z0-9.])", re.I)

Spread = Mapping[str, tuple[str, float | str]]
"""Column to the name that it has in the long form, and what its header tells of its rows."""


def unpivoted(frame: pd.DataFrame, asked: Asked | None = None) -> pd.DataFrame:
    """The long form of a table that is spread over its headers; any other table as it is.

    Args:
        asked: columns that the caller names stay.

    Raises:
        TableError: what the numbers above the columns count cannot be told, or the table is an
            export that holds no sizes.
    """
    _refuse_charts(frame)
    frame = _upright(frame)
    named = {name for value in (asked or {}).values() for name in listed(value)}
    repeats = _repeats(frame)
    if repeats and not named & set(repeats):
        frame = _long(frame, repeats, "seed")
    across = _counted(frame)
    if not across or named & set(across):
        return frame
    rows, columns = _meaning(frame, across)
    return _long(frame, across, columns).rename(columns=rows)


def _long(frame: pd.DataFrame, across: Spread, name: str) -> pd.DataFrame:
    """One row for each row and each thing told by headers, which goes into column ``name``.

    As it is where another column holds that, or the figure that the headers name.
    """
    down = [c for c in frame.columns if c not in across]
    if {new for new, _ in across.values()} & set(down) or name in {parse(c).role for c in down}:
        return frame
    told = dict.fromkeys(value for _, value in across.values())
    parts = []
    for value in told:
        own = {c: new for c, (new, v) in across.items() if v == value}
        parts.append(frame[[*down, *own]].rename(columns=own).assign(**{name: value}))
    measured = list(dict.fromkeys(new for new, _ in across.values()))
    return pd.concat(parts).dropna(subset=measured, how="all", ignore_index=True)


def _upright(frame: pd.DataFrame) -> pd.DataFrame:
    """Turned, where the first column holds the names and each other column a run."""
    names = frame.iloc[:, 0].astype(str) if len(frame.columns) else pd.Series(dtype=str)
    roles = {parse(n).role for n in names.head(100)}
    of_headers = {parse(c).role for c in frame.columns}
    if (
        "loss" not in roles
        or not roles & set(AMOUNTS)
        or "loss" in of_headers
        or names.duplicated().any()
    ):
        return frame
    turned = frame.iloc[:, 1:].T.set_axis(names.tolist(), axis=1)
    return turned.reset_index(names="name").infer_objects()


def _repeats(frame: pd.DataFrame) -> dict[str, tuple[str, float | str]]:
    """Losses that differ by their seed alone (loss_seed1, loss_seed2, or loss_1 near loss_2)."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for column in map(str, frame.columns):
        found = REPEAT.search(column.lower())
        stem = column[: found.start()] + column[found.end() :] if found else ""
        if found and parse(stem).role == "loss":
            groups[stem.strip(" _-()/")][column] = found[1]
        elif numbered := re.fullmatch(r"(.*loss)[\s_]?(\d)", column, re.I):
            groups[numbered[1]][column] = numbered[2]
    return {
        column: (stem, seed)
        for stem, columns in groups.items()
        if len(columns) > 1 and _are_repeats(frame, columns)
        for column, seed in columns.items()
    }


def _are_repeats(frame: pd.DataFrame, columns: Mapping[str, str]) -> bool:
    """Whether headers say seed, or figures say that they are of the same."""
    if all(REPEAT.search(c.lower()) for c in columns):
        return True
    first, *others = (numbers(frame[c]) for c in columns)
    return all(agree(first, other) for other in others)


def _counted(frame: pd.DataFrame) -> dict[str, tuple[str, float | str]]:
    """Columns whose headers are counts, or hold one beside the name of a loss or an amount."""
    plain = {c: number(bare(c)) for c in frame.columns}
    plain = {c: value for c, value in plain.items() if np.isfinite(value)}
    if len(plain) >= LEAST and len(plain) < len(frame.columns) <= len(plain) + 2:
        return {c: ("loss", value) for c, value in plain.items()}
    found: dict[str, tuple[str, float | str]] = {}
    for column in map(str, frame.columns):
        count = _AMOUNT.search(column)
        if count is not None and number(count[0]) >= COUNT and (name := _beside(column, count)):
            found[column] = name, number(count[0])
    names = {name for name, _ in found.values()}
    several = len({value for _, value in found.values()}) > 1
    return found if several and any(parse(n).role == "loss" for n in names) else {}


def _beside(column: str, count: re.Match[str]) -> str:
    """The loss or amount that a header names beside a count, "" where it names none."""
    name = f"{column[: count.start()]} {column[count.end() :]}".strip(" @_=(),:/[]-")
    for own in (re.sub(r"(?i)\W*\b(?:flops?|params?|tokens?|[cnd]\s*=)\W*$", "", name), name):
        if parse(own).role in ("loss", *AMOUNTS):
            return own
    return ""


def _meaning(frame: pd.DataFrame, across: Spread) -> tuple[dict[str, str], str]:
    """New names of columns that go down, and what goes across; by words, then by magnitude.

    Raises:
        TableError: it cannot be told.
    """
    down = [str(c) for c in frame.columns if c not in across]
    told = {c: parse(across[c][0] if c in across else c).role for c in map(str, frame.columns)}
    corner = next((c for c in told if told[c] in AMOUNTS), down[0] if down else "")
    parts = [p for p in re.split(r"\s*(?:\\|/|\||×| by | vs\.? )\s*", corner) if p]
    roles = [role for part in parts if (role := parse(part).role)]
    if len(roles) == 2:
        return {corner: roles[0]}, roles[1]
    if found := by_words(across):
        return {}, found
    role = told.get(corner, "")
    counts = [float(value) for _, value in across.values()]
    if role not in AMOUNTS and corner and numbers(frame[corner]).min() > COUNT:
        large = numbers(frame[corner]).min() > BUDGET
        role = "flops" if large else "params" if min(counts) > BUDGET else ""
    if role in AMOUNTS and (found := by_size(counts, {role: middle(frame, parse(corner))})):
        return ({corner: role} if told[corner] != role else {}), found
    shown = ", ".join(map(repr, list(across)[:4]))
    raise TableError(
        f"the headers {shown} are numbers, so this is a table of losses by {corner!r} and by "
        "something: write what it is into the first header, such as 'flops\\params'; a grid "
        "of learning rates by width is for `isoskill study rates`"
    )


def _refuse_charts(frame: pd.DataFrame) -> None:
    """Refuse what a chart exports: curves without sizes."""
    names = [str(c) for c in frame.columns]
    if {n.strip().lower() for n in names} == {"wall time", "step", "value"}:
        raise TableError(
            "this is one curve as TensorBoard's chart exports it, without the run's size: read "
            "the log directory (tensorboard:DIR), or write a table with one row per run: params, "
            "tokens, loss"
        )
    curves = len(names) > 2 and all(" - " in n for n in names[1:])
    if curves or any(n.endswith(("__MIN", "__MAX")) for n in names):
        raise TableError(
            "this is a chart exported from W&B, curves without the runs' sizes: export the runs' "
            "table (the Runs page, download CSV), or read it by wandb:ENTITY/PROJECT"
        )
