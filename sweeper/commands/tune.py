"""The command that tunes hyperparameters before a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.commands.console import (
    AsJson,
    Out,
    Set,
    SpecFile,
    app,
    load,
    place_of,
)

if TYPE_CHECKING:
    from sweeper.tuning.tuned import Tuned


@app.command()
def tune(
    spec: SpecFile,
    out: Out = None,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Tune learning rate and batch at a few small allocations, and fit their laws."""
    from sweeper.record.directory import Directory

    sweep = load(spec, set_)
    directory = place_of(sweep, out)
    found = sweep.tune(directory, progress=not as_json)
    if as_json:
        print(found.to_json())
        return
    tuned = Directory(directory).tuned
    print(f"\n{found}\n\nwrote {tuned}{_use(found, tuned, directory)}")


def _use(found: Tuned, tuned: Path, directory: Path) -> str:
    """What the written spec is good for."""
    if not any(law.ok for law in found.laws.values()):
        return ", the spec as it was: nothing was found to put in it; raise tuning.trials"
    return f": `isoskill run {tuned} --out {directory}` uses what was found"
