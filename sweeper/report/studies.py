"""The report's section on the study a sweep was run for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from fitting.errors import FittingError
from sweeper.errors import SpecError
from sweeper.report.svg import skill_colours, style, svg

if TYPE_CHECKING:
    from sweeper.record.record import Outcome

SHOWN_ROWS = 60
"""Rows of a table in the page; all are in `isoskill study NAME DIRECTORY --out FOLDER`."""


@dataclass(frozen=True)
class Table:
    """One table: column titles and cells as text."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    hidden: int


@dataclass(frozen=True)
class Section:
    """One study of the page.

    Attributes:
        name: of the study.
        said: sentences.
        figures: (svg, caption) pairs.
        tables: what they rest on.
        reason: why there is nothing to say.
    """

    name: str
    said: tuple[str, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    reason: str = ""


def sections(outcome: Outcome) -> list[Section]:
    """The studies that belong to a sweep: the one it names, and the mixes if it has several."""
    named = [outcome.sweep.study] if outcome.sweep.study else []
    several = ["datamix"] if len(outcome.sweep.mixes) > 2 else []
    return [_section(outcome, name) for name in dict.fromkeys([*named, *several])]


def _section(outcome: Outcome, name: str) -> Section:
    from sweeper.analysis.studies.figures import figures
    from sweeper.analysis.studies.run import analyse
    from sweeper.analysis.studies.source import of_outcome

    try:
        found = analyse(name, of_outcome(outcome))
    except (FittingError, SpecError) as error:
        return Section(name, reason=str(error))
    with style():
        drawn = tuple(
            (svg(d.figure, f"study-{name}-{i}", d.caption, skill_colours()), d.caption)
            for i, d in enumerate(figures(found))
        )
    tables = tuple(_table(title, rows) for title, rows in found.tables.items() if len(rows))
    return Section(name, tuple(found.sentences()), drawn, tables)


def _table(title: str, rows: pd.DataFrame) -> Table:
    shown = rows.head(SHOWN_ROWS)
    cells = tuple(tuple(_cell(v) for v in row) for row in shown.itertuples(index=False))
    names = tuple(str(c).replace("_", " ") for c in rows.columns)
    return Table(title, names, cells, len(rows) - len(shown))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if math.isfinite(value) else "–"
    return str(value)
