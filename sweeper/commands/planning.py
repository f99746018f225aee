"""The command that says what a sweep will cost and find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.commands.console import (
    AsJson,
    Set,
    SpecFile,
    app,
    is_sweep,
    load,
    open_results,
    open_runs,
)

if TYPE_CHECKING:
    from fitting import Fits
    from sweeper.spec.sections import Cluster
    from sweeper.sweep import Results


@app.command()
def plan(
    spec: SpecFile,
    set_: Set = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Also say what intervals to expect (seconds).")
    ] = False,
    pilot: Annotated[
        str | None,
        typer.Option(
            "--pilot", help="Sweep already run (its speed, losses, noise), or a table of runs."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", help="Which allowance gives ln p* to so much, 90 %?"),
    ] = None,
    at: Annotated[
        float | None, typer.Option("--at", help="On this budget; default every one.")
    ] = None,
    ask_cluster: Annotated[
        bool, typer.Option("--ask-cluster", help="Join the cluster to count its devices.")
    ] = False,
    trials: Annotated[
        bool, typer.Option("--trials", help="Print the first trials as CSV, to submit by hand.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep will train and cost; starts nothing."""
    from sweeper.errors import SpecError

    if at is not None and tolerance is None:
        raise SpecError("--at: say by --tolerance how well p* is to be known there, e.g. 0.1")
    sweep = load(spec, set_)
    if trials:
        from sweeper.plan.trials import first_trials
        from sweeper.record.directory import safe_name

        place = Path("sweeps") / safe_name(sweep.name)
        print(first_trials(sweep, place).to_csv(index=False), end="")
        return
    found = sweep.plan(
        simulate=simulate,
        pilot=None if pilot is None else _pilot(pilot),
        tolerance=tolerance,
        at=at,
        devices=_asked(sweep.cluster) if ask_cluster else None,
    )
    print(found.to_json() if as_json else found)


def _pilot(pilot: str) -> Results | Fits:
    """A sweep's directory, or the fits of a table."""
    return open_results(Path(pilot)) if is_sweep(pilot) else open_runs(pilot, "guarded").fits


def _asked(cluster: Cluster) -> int:
    """Devices of the spec's kind on its Ray cluster, which is joined to ask it."""
    from sweeper.cluster.connect import connected

    with connected(cluster):
        import ray

        total = ray.cluster_resources()
    return int(total.get("GPU" if cluster.hardware.is_gpu else "CPU", 0))
