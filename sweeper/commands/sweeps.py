"""The commands that plan, run and show a sweep."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sweeper.commands.console import (
    AsJson,
    Columns,
    Out,
    Rows,
    Set,
    Source,
    SpecFile,
    Where,
    app,
    is_sweep,
    load,
    open_results,
    open_runs,
    opt,
    place_of,
)

if TYPE_CHECKING:
    from sweeper.sweep import Results


STOPPED = 130
"""Exit code of a sweep that was asked to stop: what shells give for Ctrl-C."""


@app.command()
def run(
    spec: SpecFile,
    out: Out = None,
    set_: Set = None,
    quiet: bool = opt("--quiet", "No progress lines.", False),
    study: str | None = opt("--study", "datamix, validation or skills: sets study in the spec."),
) -> None:
    """Run a sweep on Ray, or go on with an interrupted one."""
    from sweeper.driver.output import calm_output, forget_output

    sweep = load(spec, [*(set_ or []), *([f"study={study}"] if study else [])])
    with calm_output():  # a closed terminal costs lines, and no exit code
        results = sweep.run(place_of(sweep, out), progress=not quiet)
        print(_closing(results))
        if sweep.study and results.fittable:
            print("\n".join(_study_lines(results)))
        stopped = results.finished is not None and results.finished.reason == "stopped"
        if stopped:
            print(f"Go on with: isoskill run {spec} --out {results.directory.root}")
    forget_output()
    if stopped:
        raise typer.Exit(STOPPED)


@app.command()
def repair(directory: Where) -> None:
    """Make a lost or damaged ledger anew, from the export and the checkpoints."""
    from sweeper.record.repair import repair

    print(f"{directory}: {repair(directory)}; `isoskill run` goes on with it")


@app.command()
def status(
    directory: Where,
    as_json: AsJson = False,
    watching: bool = opt("--watch", "Show it anew until the sweep's driver ends.", False),
    backup: Path | None = opt("--backup", "Copy the ledger, whole, to this file."),
) -> None:
    """Show how far a sweep is: trials, FLOPs, what trains now, where the optima lie, alarms."""
    from rich.console import Console

    from sweeper.commands.status import render, snapshot, watch

    if backup is not None:
        _back_up(directory, backup)
        return
    if watching:
        with contextlib.suppress(KeyboardInterrupt):
            watch(lambda: open_results(directory))
        return
    found = open_results(directory)
    values = snapshot(found, found.fit() if found.fittable else None)
    if as_json:
        print(json.dumps(values, indent=2))
    else:
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print(render(values))


def _back_up(directory: Path, target: Path) -> None:
    from sweeper.record.directory import Directory
    from sweeper.record.ledger import Ledger

    ledger = Ledger(Directory(directory).require().ledger, read_only=True)
    ledger.backup(target)
    print(f"{target}: {len(ledger.trials())} trials, integrity {ledger.check()}")
    ledger.close()


@app.command()
def report(
    runs: Source,
    out: Path | None = opt("--out", "Default DIRECTORY/report.html, or report.html of a table."),
    columns: Columns = None,
    where: Rows = None,
) -> None:
    """Write the report of a sweep or of any table of runs, as HTML, Markdown or JSON."""
    if is_sweep(runs):
        print(open_results(Path(runs)).report(out or Path(runs) / "report.html"))
        return
    from sweeper.report.of_table import write_table

    opened = open_runs(runs, "guarded", columns, where)
    line = opened.read.line if opened.read else ""
    print(f"read: {line}")
    name = Path(runs).stem if runs != "-" else "runs"
    print(write_table(opened.fits, out or Path("report.html"), name=name, read=line))


def _study_lines(results: Results) -> list[str]:
    """What the sweep's study found, or why it cannot say anything."""
    from fitting.errors import FittingError
    from sweeper.analysis.studies.run import analyse
    from sweeper.analysis.studies.source import of_outcome

    try:
        said = analyse(results.sweep.study, of_outcome(results)).sentences()
    except FittingError as error:
        return [f"\nstudy {results.sweep.study}: {error}"]
    return [f"\nstudy {results.sweep.study}:", *(f"* {sentence}" for sentence in said)]


def _closing(results: Results) -> str:
    from sweeper.analysis.conclusions import conclusions

    finished = results.finished
    if not results.fittable:
        return (
            f"\nNo trial has finished ({finished.reason if finished else 'interrupted'}); "
            f"`isoskill status {results.directory.root}` and the ledger's events say why"
        )
    fits = results.fit()
    said = "\n".join(f"* {sentence}" for sentence in conclusions(fits, results.aggregate))
    why = f"{finished.reason}: {finished.detail}" if finished else "interrupted"
    return (
        f"\nThe search stopped ({why}).\n{fits}\n\n{said}\n\n"
        f"report: {results.directory.report}\n"
        f"data:   {results.directory.observations}"
    )
