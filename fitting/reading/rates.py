"""Tables of learning rates: a grid of rates by size, long or as a pivot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.amounts import find_amounts
from fitting.reading.columns import find_losses
from fitting.reading.conditions import kept_rows
from fitting.reading.numbers import number
from fitting.reading.parts import bare
from fitting.reading.sources import load
from fitting.reading.terms import Asked, Choice, Sheet, known_roles, quoted
from fitting.reading.words import Header, parse

_WIDTHS = ("width", "d_model", "dmodel", "n_embd", "hidden_size", "model_dim", "dim", "hidden",
           "depth", "layers", "n_layers", "n_layer", "num_layers")  # fmt: skip
_OTHER_RATES = frozenset("min minimum final end warmup decay schedule".split())


@dataclass(frozen=True)
class Rates:
    """Losses by learning rate and size.

    Attributes:
        table: params (or what stands for them), tokens (1 where unknown), learning_rate, loss.
        size: what the column params holds: "params", or the header of a width.
        line: what was read from where.
    """

    table: pd.DataFrame
    size: str
    line: str


def read_rates(
    source: str | Path | pd.DataFrame, columns: Asked | None = None, *, where: str = ""
) -> Rates:
    """Read a table of learning rates.

    Args:
        source: see `fitting.read_runs`; also a pivot, rates down and sizes across or the reverse.
        columns: role to column for loss, params and tokens; see `fitting.read_runs`.
        where: rows to keep, likewise.

    Raises:
        TableError: there is no rate, no loss, or no size in it.
    """
    asked = dict(columns or {})
    known_roles(asked)
    raw = kept_rows(load(source), where)
    sheet, choice = Sheet(_unpivoted(raw.frame), raw.decimal), Choice()
    rate = _one(sheet, [h for h in sheet.headers if _is_rate(h)], "learning rate")
    for role in ("params", "tokens"):
        if role in asked:
            choice.amounts[role] = sheet.term(role, asked[role])
    find_losses(sheet, choice, asked)
    find_amounts(sheet, choice, asked)
    term = next(iter(choice.losses.values()))
    table = pd.DataFrame({
        "learning_rate": sheet.numbers(rate), "loss": term.values(sheet.frame, raw.decimal),
    })  # fmt: skip
    if "params" in choice.amounts:
        size = "params"
        table["params"] = choice.amounts["params"].values(sheet.frame, raw.decimal)
    else:
        width = _one(sheet, [h for h in sheet.headers if h.key in _WIDTHS], "size (params, width)")
        size = width.column
        table["params"] = sheet.numbers(width)
    tokens = choice.amounts.get("tokens")
    table["tokens"] = tokens.values(sheet.frame, raw.decimal) if tokens else 1.0
    usable = table[(np.isfinite(table) & (table > 0)).all(axis=1)].reset_index(drop=True)
    if usable.empty:
        raise TableError("no row has a rate, a size and a loss")
    shown = str(choice.amounts["params"]) if size == "params" else size
    line = f"rate = {rate.column}, loss = {term}, size = {shown}; {len(usable)} trainings"
    return Rates(usable, size, line)


def _is_rate(header: Header) -> bool:
    words = set(header.words)
    return {"learning", "rate"} <= words and not words & _OTHER_RATES


def _one(sheet: Sheet, found: list[Header], what: str) -> Header:
    """The one column of its kind."""
    found = [h for h in found if sheet.numeric(h)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise TableError(f"no column is a {what}; the table has {quoted(sheet.names[:30])}")
    raise TableError(
        f"{quoted(h.column for h in found)} could each be the {what}: drop the others"
    )


def _unpivoted(frame: pd.DataFrame) -> pd.DataFrame:
    """Long, where sizes or rates are headers."""
    across = [c for c in frame.columns if np.isfinite(number(bare(c)))]
    down = [c for c in frame.columns if c not in across]
    if len(across) < 2 or len(down) != 1:
        return frame
    name = "width" if _is_rate(parse(down[0])) else "learning_rate"
    long = frame.melt(id_vars=down, value_vars=across, var_name=name, value_name="loss")
    return long.assign(**{name: [number(bare(c)) for c in long[name]]})
