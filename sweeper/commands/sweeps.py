"""The commands that plan, tune, run and show a sweep."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sweeper.commands.console import (
    FIGURES,
    NO_NUMBER,
    REPORTS,
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
    overrides,
    place_of,
    quantity,
    show,
    written,
)
from sweeper.driver.output import calm_output, forget_output
from sweeper.errors import SpecError
from sweeper.text import fitted, plural, write_whole

if TYPE_CHECKING:
    from fitting import Fits
    from sweeper.spec.sections import Cluster
    from sweeper.sweep import Results, Sweep
    from sweeper.tuning.tuned import Tuned


STOPPED = 130
"""Exit code of a sweep that was asked to stop: what shells give for Ctrl-C."""


@app.command()
def plan(
    spec: SpecFile,
    set_: Set = None,
    simulate: bool = opt("--simulate", "Also say what intervals to expect (seconds).", False),
    pilot: str | None = opt(
        "--pilot", "Sweep already run (its speed, losses, noise), or a table of runs."
    ),
    tolerance: float | None = opt(
        "--tolerance", "Find the allowance that tells p* to within this: 0.1 is 10 %."
    ),
    at: float | None = opt("--at", "On this budget; default every one."),
    ask_cluster: bool = opt("--ask-cluster", "Join the cluster to count its devices.", False),
    trials: bool = opt("--trials", "Print the first trials as CSV, to submit by hand.", False),
    devices: str | None = opt("--devices", "Compare devices, such as h100,l40s,l4."),
    figure: Path | None = written(
        "--figure",
        "Simulate, and draw ladder, trials and intervals: plan.svg, .png, .pdf.",
        endings=FIGURES,
    ),
    minutes: float | None = quantity(
        "--minutes", "Choose budgets and allowance for this time; the machine is timed first."
    ),
    gpu_hours: float | None = quantity("--gpu-hours", "Or for this many device-hours."),
    money: float | None = quantity(
        "--money", "Or for this much money, by cluster.price_per_hour."
    ),
    out: Path | None = written("--out", "Write the spec with what was chosen to this file."),
    as_json: AsJson = False,
) -> None:
    """Show what a sweep will train and cost; starts nothing."""
    from sweeper.plan.estimate import side_by_side
    from sweeper.plan.plan import in_words

    if at is not None and tolerance is None:
        raise SpecError("--at: say by --tolerance how well p* is to be known there, e.g. 0.1")
    if any(given is not None for given in (minutes, gpu_hours, money)):
        _plan_within(spec, set_, out, as_json, minutes, gpu_hours, money)
        return
    if out is not None:
        raise SpecError("--out: writes what --minutes, --gpu-hours or --money choose; give one")
    sweep = load(spec, set_)
    if trials:
        from sweeper.plan.trials import first_trials

        print(first_trials(sweep, place_of(sweep, spec)).to_csv(index=False), end="")
        return
    if devices is not None:
        compared = side_by_side(sweep, devices.split(","))
        if as_json:
            print(compared.to_json(orient="records"))
        else:
            show([in_words(compared)])
        return
    found = sweep.plan(
        simulate=simulate or figure is not None,
        pilot=None if pilot is None else _pilot(pilot),
        tolerance=tolerance,
        at=at,
        devices=_asked(sweep.cluster) if ask_cluster else None,
    )
    if as_json:
        print(found.to_json())
    else:
        show([str(found)])
    if figure is not None:
        drawn = found.figure(figure)
        typer.echo(f"figure: {drawn}", err=as_json)


def _plan_within(
    spec: Path, set_: list[str] | None, out: Path | None, as_json: bool, *given: float | None
) -> None:
    """Choose budgets and allowance for what there is, show the plan, and write the spec."""
    from sweeper.plan.given import Given, choose
    from sweeper.spec.reading import read_yaml
    from sweeper.sweep import Sweep

    values = read_yaml(spec, overrides(set_))
    found = choose(values, Given(*given), Sweep, memory=_memory(spec))
    if out is not None:
        write_whole(out, found.written(values))
    if as_json:
        print(found.to_json())
        return
    use = f"wrote {out}: `isoskill run {out}`" if out else f"put these into {spec}, or give --out"
    show([str(found.plan), "", *found.lines(), use])


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


@app.command()
def tune(
    spec: SpecFile,
    out: Out = None,
    set_: Set = None,
    minutes: float | None = quantity("--minutes", "Train on as few tokens as fit into this time."),
    as_json: AsJson = False,
) -> None:
    """Tune learning rate and batch at a few small sizes."""
    from sweeper.record.directory import Directory

    sweep = load(spec, set_)
    directory = place_of(sweep, spec, out)
    if sweep.trainer is None:
        sweep = _tuned_within(sweep, minutes, _memory(spec), say=not as_json)
    found = sweep.tune(directory, progress=not as_json)
    if as_json:
        print(found.to_json())
        return
    tuned = Directory(directory).tuned
    show([f"\n{found}\n\nwrote {tuned}{_use(found, tuned, directory)}"])


def _memory(spec: Path) -> Path:
    """Where the speed of this machine is kept: in a sweep's directory, or beside a spec."""
    return spec / "speed.json" if spec.is_dir() else spec.with_suffix(".speed.json")


def _tuned_within(sweep: Sweep, minutes: float | None, memory: Path, *, say: bool) -> Sweep:
    """The sweep with a tuning that fits a time, and what it takes, said before it begins."""
    from sweeper.plan.measured import timed
    from sweeper.tuning.cost import tuning_cost, within

    measured = timed(sweep, memory)
    if minutes is not None:
        sweep = within(sweep, 60 * minutes, measured)
    if say:
        show([str(tuning_cost(sweep, measured))])
    return sweep


def _use(found: Tuned, tuned: Path, directory: Path) -> str:
    """What the written spec is good for; trials by another rule go on in a directory of theirs."""
    from sweeper.record.directory import Directory

    if not any(law.ok for law in found.laws.values()):
        return ", the spec as it was: nothing was found to put in it; raise tuning.trials"
    trained = Directory(directory).ledger.exists() and len(open_results(directory).trials)
    place = directory.with_name(f"{directory.name}-tuned") if trained else directory
    return f": `isoskill run {shlex.join([str(tuned), '--out', str(place)])}` uses what was found"


@app.command()
def run(
    spec: SpecFile,
    out: Out = None,
    set_: Set = None,
    quiet: bool = opt("--quiet", "No progress lines.", False),
    study: str | None = opt("--study", "datamix, validation or skills: sets study in the spec."),
) -> None:
    """Run a sweep on Ray, or go on with an interrupted one."""
    sweep = load(spec, [*(set_ or []), *([f"study={study}"] if study else [])])
    directory = place_of(sweep, spec, out)
    carry_out(sweep, directory, f"isoskill run {spec} --out {directory}", quiet=quiet)


def carry_out(sweep: Sweep, directory: Path, again: str, *, quiet: bool = False) -> None:
    """Run a sweep and say what it found; ``again`` is the command that goes on with it."""
    with calm_output():  # a closed terminal costs lines, and no exit code
        results = sweep.run(directory, progress=not quiet)
        print(_closing(results))
        if sweep.study and results.fittable:
            show(_study_lines(results))
        stopped = results.finished is not None and results.finished.reason == "stopped"
        if stopped:
            print(f"Go on with: {again}")
    forget_output()
    if stopped:
        raise typer.Exit(STOPPED)
    if not results.fittable:
        raise typer.Exit(NO_NUMBER)


@app.command()
def repair(directory: Where) -> None:
    """Rebuild a lost or damaged ledger."""
    from sweeper.record.repair import repair

    found = repair(directory)
    by_hand = open_results(directory).by_hand
    verb = "`isoskill ask` and `isoskill tell` go on" if by_hand else "`isoskill run` goes on"
    print(f"{directory}: {found}; {verb} with it")


@app.command()
def status(
    directory: Where,
    as_json: AsJson = False,
    watching: bool = opt("--watch", "Refresh until the sweep's driver ends.", False),
    backup: Path | None = written("--backup", "Copy the ledger, whole, to this file."),
) -> None:
    """Show how far a sweep is, and where optima lie now."""
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
        wide = not sys.stdout.isatty()  # lines are broken at words on a terminal, never in a pipe
        Console(highlight=False, soft_wrap=wide, markup=False, emoji=False).print(render(values))


def _back_up(directory: Path, target: Path) -> None:
    from sweeper.record.directory import Directory
    from sweeper.record.ledger import Ledger

    with Ledger(Directory(directory).require().ledger, read_only=True) as ledger:
        ledger.backup(target)
        print(f"{target}: {plural(len(ledger.trials()), 'trial')}, integrity {ledger.check()}")


@app.command()
def report(
    runs: Source,
    out: Path | None = written(
        "--out", "Default DIRECTORY/report.html, or report.html of a table.", endings=REPORTS
    ),
    columns: Columns = None,
    where: Rows = None,
) -> None:
    """Write the report of a sweep or of a table of runs."""
    if is_sweep(runs):
        print(open_results(Path(runs)).report(out or Path(runs) / "report.html"))
        return
    from sweeper.report.of_table import write_table

    opened = open_runs(runs, "guarded", columns, where)
    line = opened.read.line if opened.read else ""
    show([f"read: {line}"])
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
    from sweeper.analysis.summary import summary
    from sweeper.analysis.weak import weak_in
    from sweeper.record.proof import proofs, sentences

    finished = results.finished
    why = f"{finished.reason}: {finished.detail}" if finished else "interrupted"
    if not results.fittable:
        return f"\n{results.nothing_finished} ({why})"
    fits = results.fit()
    found = [
        *conclusions(fits, results.aggregate, weak_in(results, fits)),
        *sentences(proofs(results.events, results.table)),
    ]
    said = [f"* {sentence}" for sentence in found]
    lines = [
        "", f"The search stopped ({why})", "", *summary(fits), "", *said, "",
        f"report: {results.directory.report}", f"data:   {results.directory.observations}",
    ]  # fmt: skip
    return "\n".join(map(fitted, lines))
