"""The command that says what a sweep will cost and find."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.commands.console import (
    AsJson,
    Set,
    SpecFile,
    app,
    is_sweep,
    load,
    open_results,
    open_runs,
    opt,
    place_of,
)

if TYPE_CHECKING:
    from fitting import Fits
    from sweeper.spec.sections import Cluster
    from sweeper.sweep import Results


@app.command()
def plan(
    spec: SpecFile,
    set_: Set = None,
    simulate: bool = opt("--simulate", "Also say what intervals to expect (seconds).", False),
    pilot: str | None = opt(
        "--pilot", "Sweep already run (its speed, losses, noise), or a table of runs."
    ),
    tolerance: float | None = opt("--tolerance", "Which allowance gives ln p* to so much, 90 %?"),
    at: float | None = opt("--at", "On this budget; default every one."),
    ask_cluster: bool = opt("--ask-cluster", "Join the cluster to count its devices.", False),
    trials: bool = opt("--trials", "Print the first trials as CSV, to submit by hand.", False),
    as_json: AsJson = False,
) -> None:
    """Show what a sweep will train and cost; starts nothing."""
    from sweeper.errors import SpecError

    if at is not None and tolerance is None:
        raise SpecError("--at: say by --tolerance how well p* is to be known there, e.g. 0.1")
    sweep = load(spec, set_)
    if trials:
        from sweeper.plan.trials import first_trials

        place = place_of(sweep)
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
