"""The report's section on the study a sweep was run for."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fitting.errors import FittingError
from fitting.plots import figure_multipliers
from sweeper.analysis.studies.figures import figures
from sweeper.analysis.studies.run import analyse
from sweeper.analysis.studies.source import of_outcome
from sweeper.analysis.variants import compare, of_sweep
from sweeper.errors import SpecError
from sweeper.record.record import Outcome
from sweeper.report.svg import skill_colours, style, svg
from sweeper.report.tables import Column, Table, table
from sweeper.search.build import compares
from sweeper.text import number

SHOWN_ROWS = 60
"""Rows of a table in the page; all are in `isoskill study NAME DIRECTORY --out FOLDER`."""


def sections(outcome: Outcome) -> list[dict[str, Any]]:
    """The studies that belong to a sweep: the one it names, and the mixes if it has several.

    Returns:
        What the template shows of each: ``name``, ``said``, ``figures`` (svg and caption),
        ``tables`` by name, or the ``reason`` why there is nothing to say; of a comparison also its
        ``answers``, which the page begins with.
    """
    named = [outcome.sweep.study] if outcome.sweep.study else []
    several = ["datamix"] if len(outcome.sweep.mixes) > 2 else []
    shown = [{"name": name, **_section(outcome, name)} for name in dict.fromkeys(named + several)]
    return [
        *shown,
        *([{"name": "compare", **_compared(outcome)}] if compares(outcome.sweep) else []),
    ]


def _compared(outcome: Outcome) -> dict[str, Any]:
    """Variants against the reference: verdicts, multipliers over compute, every budget."""
    settings = outcome.sweep.search
    try:
        found = compare(
            of_sweep("", outcome), level=settings.level, margin=settings.margin, anytime=True
        )
    except (FittingError, SpecError) as error:
        return {"reason": str(error), "said": (), "figures": (), "tables": {}}
    caption = "Compute multiplier over training FLOPs; grey: no difference that counts."
    with style():
        drawn = svg(figure_multipliers(found), "compare", caption, skill_colours())
    answers = [f"Compute multiplier of {one.variant} by {one}." for one in found.verdicts]
    said = (f"{found.rule[0].upper()}{found.rule[1:]}.", *found.notes)
    rows = found.frame.drop(columns=["reason"])
    return {"reason": "", "said": said, "figures": [(drawn, caption)], "answers": answers,
            "tables": {"Multipliers": _table(rows)}}  # fmt: skip


def _section(outcome: Outcome, name: str) -> dict[str, Any]:
    try:
        found = analyse(name, of_outcome(outcome))
    except (FittingError, SpecError) as error:
        return {"reason": str(error), "said": (), "figures": (), "tables": {}}
    with style():
        drawn = [
            (svg(d.figure, f"study-{name}-{i}", d.caption, skill_colours()), d.caption)
            for i, d in enumerate(figures(found))
        ]
    tables = {title: _table(rows) for title, rows in found.tables.items() if len(rows)}
    return {"reason": "", "said": found.sentences(), "figures": drawn, "tables": tables}


def _table(rows: pd.DataFrame) -> Table:
    shown = rows.head(SHOWN_ROWS)
    cells = [[_cell(v) for v in row] for row in shown.itertuples(index=False)]
    columns = [Column(str(c).replace("_", " ")) for c in rows.columns]
    return table(cells, *columns, hidden=len(rows) - len(shown))


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
