"""The command that tunes hyperparameters before a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeper.commands.console import AsJson, Set, SpecFile, app, load


@app.command()
def tune(
    spec: SpecFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="Sweep directory; default sweeps/NAME.")
    ] = None,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Tune learning rate, batch and more at a few small allocations, and fit their laws."""
    from sweeper.directory import Directory

    sweep = load(spec, set_)
    directory = out or Path("sweeps") / sweep.name
    found = sweep.tune(directory, progress=not as_json)
    if as_json:
        print(found.to_json())
        return
    tuned = Directory(directory).tuned
    print(f"\n{found}\n\nwrote {tuned}: `isoskill run {tuned} --out {directory}` uses it")
