"""Tables whose headers are numbers: losses by size across and by budget down."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.numbers import number
from fitting.reading.parts import bare
from fitting.reading.terms import Asked
from fitting.reading.words import parse

LEAST = 3
"""Columns with numbers as headers from which a table is a pivot."""


def unpivoted(frame: pd.DataFrame, asked: Asked | None = None) -> pd.DataFrame:
    """The long form of a pivot; any other table as it is.

    Raises:
        TableError: what the numbers above the columns count cannot be told, or the table is an
            export that holds no sizes.
    """
    _refuse_charts(frame)
    across = [c for c in frame.columns if np.isfinite(number(bare(c)))]
    down = [c for c in frame.columns if c not in across]
    if len(across) < LEAST or len(down) > 2 or not down:
        return frame
    rows, columns = _meaning(str(down[0]), [number(bare(c)) for c in across])
    if not columns:
        raise TableError(
            f"the headers {', '.join(map(repr, across[:4]))} are numbers, so this is a table of "
            f"losses by {down[0]!r} and by something: write what it is into the first header, "
            f"such as 'flops\\params'; a grid of learning rates by width is for `isoskill study "
            "rates`"
        )
    long = frame.melt(id_vars=down, value_vars=across, var_name=columns, value_name="loss")
    long[columns] = [number(bare(c)) for c in long[columns]]
    return long.rename(columns={down[0]: rows}).dropna(subset="loss", ignore_index=True)


def _meaning(corner: str, headers: list[float]) -> tuple[str, str]:
    """What goes down and what goes across, by the corner's words and the sizes of the numbers."""
    parts = [p for p in re.split(r"\s*(?:\\|/|\||×| by | vs\.? )\s*", corner) if p]
    roles = [role for part in parts if (role := parse(part).role)]
    if len(roles) == 2:
        return roles[0], roles[1]
    down = parse(corner).role
    middle = float(np.median(headers))
    if down == "flops" and 1e4 < middle < 1e14:
        return corner, "params"
    if down == "params" and middle > 1e16:
        return corner, "flops"
    if down == "params" and middle > 1e6:
        return corner, "tokens"
    if down == "tokens" and middle > 1e4:
        return corner, "params" if middle < 1e12 else "flops"
    return corner, ""


def _refuse_charts(frame: pd.DataFrame) -> None:
    """Refuse what a chart exports: curves without sizes."""
    names = [str(c) for c in frame.columns]
    if {n.strip().lower() for n in names} == {"wall time", "step", "value"}:
        raise TableError(
            "this is one curve as TensorBoard's chart exports it, without the run's size: read "
            "the log directory (tensorboard:DIR), or write a table with one row per run: params, "
            "tokens, loss"
        )
    if any(n.endswith(("__MIN", "__MAX")) for n in names):
        raise TableError(
            "this is a chart exported from W&B, curves without the runs' sizes: export the runs' "
            "table (the Runs page, download CSV), or read it by wandb:ENTITY/PROJECT"
        )
