"""The console command: the verbs of `Sweep` and `Results`, file first."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fitting import Fits, Optimum
    from sweeper.results import Results
    from sweeper.spec import Sweep

app = typer.Typer(
    help="Find, for each skill of a language model, the size a compute budget is best spent on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SpecFile = Annotated[Path, typer.Argument(help="The sweep's YAML file.", metavar="SPEC")]
Where = Annotated[Path, typer.Argument(help="A sweep directory.", metavar="DIRECTORY")]
Source = Annotated[
    Path, typer.Argument(help="A sweep directory, or a CSV or Parquet table.", metavar="RUNS")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a field, e.g. --set data.shares.code=0.3.", metavar="K=V"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
MethodName = Annotated[
    str, typer.Option("--method", help="guarded, parabola or surface.", metavar="NAME")
]


def main() -> None:
    """Run the command line; mistakes end with one message and exit code 2, no traceback."""
    from sweeper.errors import IsoskillError

    try:
        app()
    except IsoskillError as error:
        _refuse(str(error))
    except ValueError as error:
        if not _is_fitting_error(error):
            raise
        _refuse(str(error))


def _is_fitting_error(error: ValueError) -> bool:
    errors = sys.modules.get("fitting.errors")
    return errors is not None and isinstance(error, errors.FittingError)


def _refuse(message: str) -> None:
    print(f"isoskill: {message}", file=sys.stderr)
    sys.exit(2)


@app.command()
def plan(
    spec: SpecFile,
    set_: Set = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Also say what intervals to expect (seconds).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep will train and cost; starts nothing."""
    result = _load(spec, set_).plan(simulate=simulate)
    print(result.to_json() if as_json else result)


@app.command()
def run(
    spec: SpecFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="Sweep directory; default sweeps/NAME.")
    ] = None,
    set_: Set = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress lines.")] = False,
) -> None:
    """Run a sweep on Ray, or go on with an interrupted one."""
    sweep = _load(spec, set_)
    results = sweep.run(out or Path("sweeps") / sweep.name, progress=not quiet)
    print(_closing(results))


@app.command()
def status(directory: Where, as_json: AsJson = False) -> None:
    """Show how far a sweep is: trials by state, FLOPs spent, what is in training."""
    values = _status(_results(directory))
    print(json.dumps(values, indent=2) if as_json else _lines(values))


@app.command()
def fit(runs: Source, method: MethodName = "guarded", as_json: AsJson = False) -> None:
    """Fit every skill's optima and law, from a sweep or from anybody's table of runs."""
    fits = _fits(runs, method)
    print(fits.to_json() if as_json else "\n".join([str(fits), *_remarks(fits)]))


@app.command()
def predict(
    runs: Source,
    flops: Annotated[float, typer.Option("--flops", help="Training budget in FLOPs.")],
    skill: Annotated[str | None, typer.Option("--skill", help="One skill; default all.")] = None,
    method: MethodName = "guarded",
    as_json: AsJson = False,
) -> None:
    """Say which size and token count a budget is best spent on, per skill."""
    from sweeper.errors import SpecError, did_you_mean

    if not flops > 0:
        raise SpecError(f"--flops {flops:g}: give a positive number of FLOPs")
    fits = _fits(runs, method)
    if skill is not None and skill not in fits:
        raise SpecError(f"--skill {skill!r} is unknown{did_you_mean(skill, fits)}")
    rows = {name: fits[name].at(flops) for name in ([skill] if skill else fits)}
    if as_json:
        print(json.dumps({name: _plain(optimum) for name, optimum in rows.items()}, indent=2))
        return
    for name, optimum in rows.items():
        print(f"{name:<24} {_sentence(optimum)}")


@app.command()
def report(
    directory: Where,
    out: Annotated[
        Path | None, typer.Option("--out", help="Default DIRECTORY/report.html.")
    ] = None,
) -> None:
    """Write the report as one HTML file."""
    print(_results(directory).report(out or directory / "report.html"))


@app.command()
def skills(as_json: AsJson = False) -> None:
    """List the skills a sweep can measure."""
    from trainables.skills.catalog import catalog

    rows = [
        {
            "name": s.name,
            "class": s.skill_class,
            "default": s.default,
            "description": s.description,
        }
        for s in catalog()
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        mark = "*" if row["default"] else " "
        print(f"{mark} {row['name']:<24} {row['class']:<12} {row['description']}")
    print("* measured unless the spec names others")


def _load(spec: Path, overrides: list[str] | None) -> Sweep:
    from sweeper.errors import SpecError
    from sweeper.spec import Sweep

    pairs = {}
    for item in overrides or []:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise SpecError(f"--set {item!r}: write KEY=VALUE, such as data.shares.code=0.3")
        pairs[key] = value
    return Sweep.load(spec / "sweep.yaml" if spec.is_dir() else spec, pairs)


def _results(directory: Path) -> Results:
    from sweeper.results import Results

    return Results(directory)


def _fits(runs: Path, method: str) -> Fits:
    from fitting import fit_skills, read_table
    from sweeper.errors import SpecError, did_you_mean

    methods = ("guarded", "parabola", "surface")
    if method not in methods:
        raise SpecError(f"--method {method!r} is unknown{did_you_mean(method, methods)}")
    if runs.is_dir():
        return _results(runs).fit(method)  # type: ignore[arg-type] # checked above
    return fit_skills(read_table(runs), method=method)  # type: ignore[arg-type]


SHOWN_ROWS = 10
"""Excluded rows printed to a terminal; `--json` has all."""


def _remarks(fits: Fits) -> list[str]:
    """What was left out and why, and what to know before trusting the numbers."""
    rows = [
        f"  row {row.row}: {row.reason}" for row in fits.excluded.head(SHOWN_ROWS).itertuples()
    ]
    more = len(fits.excluded) - len(rows)
    lines = ["left out:", *rows, *([f"  and {more} more"] if more else [])] if rows else []
    return lines + [f"note: {warning}" for warning in fits.warnings]


def _plain(optimum: Optimum) -> dict[str, Any]:
    """An optimum as JSON values; NaN becomes null."""
    return {
        "params": _finite(optimum.params),
        "tokens": _finite(optimum.tokens),
        "interval": [_finite(bound) for bound in optimum.interval],
        "status": str(optimum.status),
        "method": optimum.method,
        "extrapolates": optimum.extrapolates,
        "reason": optimum.reason,
    }


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _sentence(optimum: Optimum) -> str:
    from sweeper.budget import si

    if not optimum.ok:
        return f"no number: {optimum.status} ({optimum.reason or optimum.status.advice})"
    low, high = optimum.interval
    beyond = f", {optimum.extrapolates:.3g}x beyond the data" if optimum.extrapolates > 1 else ""
    return (
        f"{si(optimum.params)} params on {si(optimum.tokens)} tokens "
        f"(90 %: {si(low)} to {si(high)}; {optimum.method}{beyond})"
    )


def _status(results: Results) -> dict[str, Any]:
    running = results.trials[results.trials["state"] == "running"]
    return {
        "name": results.sweep.name,
        "trials": {str(k): int(v) for k, v in results.trials["state"].value_counts().items()},
        "allowance_flops": results.sweep.allowance,
        "spent_flops": results.spent_flops,
        "reserved_flops": float(results.trials["reserved_flops"].sum()),
        "in_training": [
            f"C={t.flops:.3g} p={t.params} t={t.tokens} seed={t.seed}"
            for t in running.itertuples()
        ],
        "finished": results.finished.reason if results.finished else None,
        "detail": results.finished.detail if results.finished else "",
    }


def _lines(values: dict[str, Any]) -> str:
    share = (values["spent_flops"]) / values["allowance_flops"]
    states = ", ".join(f"{n} {state}" for state, n in values["trials"].items()) or "none yet"
    lines = [
        f"sweep      {values['name']}",
        f"trials     {states}",
        f"spent      {values['spent_flops']:.3g} of {values['allowance_flops']:.3g} FLOPs "
        f"({share:.0%}), {values['reserved_flops']:.3g} reserved",
    ]
    lines += [f"training   {name}" for name in values["in_training"]]
    if values["finished"]:
        lines.append(f"finished   {values['finished']}: {values['detail']}")
    return "\n".join(lines)


def _closing(results: Results) -> str:
    from sweeper.words import conclusions

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
