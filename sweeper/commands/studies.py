"""The command that answers the paper's three questions of any runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeper.commands.console import AsJson, app


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="datamix, validation or skills.", metavar="NAME")],
    runs: Annotated[
        str,
        typer.Argument(
            help="A sweep directory, a CSV or Parquet table, or `paper` for the published points.",
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
    mixes: Annotated[
        Path | None,
        typer.Option("--mixes", help="YAML: shares of each class per mix, for a table."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for tables, figures and JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """How optima follow the data mix, the validation set, and the skill; see --help."""
    from sweeper.analysis.studies import source
    from sweeper.analysis.studies.run import analyse, keep, to_json

    found = analyse(
        name, source.read(runs, name, mixes), first=_names(first), second=_names(second)
    )
    if as_json:
        print(to_json(found))
    else:
        head = [line for line in (found.source.title, found.source.note) if line]
        print("\n".join([*head, *(f"* {said}" for said in found.sentences())]))
    if out is not None:
        written = keep(found, out)
        if not as_json:
            print(f"{len(written)} files in {out}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
