"""What every command shares: the application, its common arguments, and how inputs are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fitting import Fits
    from sweeper.sweep import Results, Sweep

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


def overrides(items: list[str] | None) -> dict[str, str]:
    """The fields that ``--set`` names, with their YAML values."""
    from sweeper.errors import SpecError

    pairs = {}
    for item in items or []:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise SpecError(f"--set {item!r}: write KEY=VALUE, such as data.shares.code=0.3")
        pairs[key] = value
    return pairs


def load(spec: Path, set_: list[str] | None) -> Sweep:
    """Read the spec a command was given, a file or a sweep directory, with its overrides."""
    from sweeper.sweep import Sweep

    return Sweep.load(spec / "sweep.yaml" if spec.is_dir() else spec, overrides(set_))


def open_results(directory: Path) -> Results:
    """Open a sweep directory."""
    from sweeper.sweep import Results

    return Results(directory)


@dataclass(frozen=True)
class Runs:
    """What a command was given: a sweep directory, opened, or a table.

    Attributes:
        fits: by the method that was asked for.
        results: the directory; None for a table.
    """

    fits: Fits
    results: Results | None = None


def open_runs(runs: Path, method: str) -> Runs:
    """Open a sweep directory or a table, once, and fit it by a named method."""
    from fitting import fit_skills, read_table
    from sweeper.errors import SpecError, did_you_mean

    methods = ("guarded", "parabola", "surface")
    if method not in methods:
        near = did_you_mean(method, methods)
        raise SpecError(
            f"--method {method!r} is unknown{near}; choose one of {', '.join(methods)}"
        )
    if not runs.is_dir():
        return Runs(fit_skills(read_table(runs), method=method))  # type: ignore[arg-type]
    results = open_results(runs)
    return Runs(results.fit(method), results)  # type: ignore[arg-type] # checked above
