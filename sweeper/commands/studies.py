"""The command that answers the paper's three questions of any runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sweeper.commands.console import NO_NUMBER, AsJson, Columns, Rows, app, items, opt, show
from sweeper.errors import SpecError

SAYS_NOTHING = {
    "rates": ("--wanted", "--candidates", "--mixes", "--out"),
    "datamix": ("--wanted", "--candidates"),
}
"""Options that a study would pass over."""


@app.command()
def study(
    name: Annotated[
        str, typer.Argument(help="datamix, validation, skills or rates.", metavar="NAME")
    ],
    runs: Annotated[
        str,
        typer.Argument(
            help="A sweep directory, a table as `fit` takes it, or `paper` for published points.",
            metavar="RUNS",
        ),
    ],
    first: Annotated[
        str,
        typer.Option(
            "--wanted", "--hypothesis", metavar="A,B",
            help="validation: skills the model is for; skills: those claims are made on.",
        ),
    ] = "",
    second: Annotated[
        str,
        typer.Option(
            "--candidates", "--held-out", metavar="A,B",
            help="validation: losses that may stand in; skills: those claims are confirmed on.",
        ),
    ] = "",
    mixes: Path | None = opt("--mixes", "YAML: shares of each class per mix, for a table."),
    out: Path | None = opt("--out", "Folder for tables, figures and JSON."),
    columns: Columns = None,
    where: Rows = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Study data mixes, validation sets, classes of skills or rates."""
    said = {"--wanted": first, "--candidates": second, "--mixes": mixes, "--out": out}
    for option in SAYS_NOTHING.get(name, ()):
        if said[option]:
            raise SpecError(f"{option} says nothing of a study of {name}: leave it out")
    if name == "rates":
        _rates(runs, columns, where or "", as_json=as_json)
        return
    from sweeper.analysis.studies import source
    from sweeper.analysis.studies.run import analyse, keep, to_json

    found = analyse(
        name,
        source.read(runs, name, mixes, columns=columns, where=where),
        first=_names(first),
        second=_names(second),
    )
    if as_json:
        print(to_json(found))
    else:
        head = [line for line in (found.source.title, found.source.note) if line]
        show([*head, *(f"* {said}" for said in found.sentences())])
    if out is not None:
        written = keep(found, out)
        if not as_json:
            print(f"{len(written)} files in {out}")


def _rates(runs: str, columns: str | None, where: str, *, as_json: bool) -> None:
    """The best learning rate of every size, and its law."""
    from fitting.reading.terms import parse_columns
    from fitting.values import plain
    from sweeper.analysis.rates import study_rates

    found = study_rates(runs, parse_columns(columns) if columns else None, where=where)
    if as_json:
        print(json.dumps(plain(found.to_dict()), indent=2))
    else:
        show(found.lines())
    if not any(point.ok for point in found.points):
        raise typer.Exit(NO_NUMBER)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in items(text) if name)
