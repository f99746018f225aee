"""What every command shares: the application, its common arguments, and how inputs are read."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from sweeper.errors import SpecError, did_you_mean, named
from sweeper.text import fitted

if TYPE_CHECKING:
    import fitting
    from fitting import Fits
    from sweeper.sweep import Results, Sweep

ORDER = (
    "demo", "init", "plan", "run", "status", "fit", "predict", "report", "compare", "suggest",
    "prepare", "skills", "tune", "study", "ask", "tell", "score", "check", "monitor", "repair",
)  # fmt: skip
"""Commands as help lists them: those of the first minutes first."""


class InOrder(typer.core.TyperGroup):
    """Lists commands in the order of use; one that `ORDER` lacks comes last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in that order."""
        place = {name: i for i, name in enumerate(ORDER)}
        return sorted(self.commands, key=lambda name: place.get(name, len(place)))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Say what every command does, uncut however narrow the screen is."""
        rows = [(n, self.commands[n].get_short_help_str(200)) for n in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    cls=InOrder,
    help="Find, for each skill of a language model, the size a compute budget is best spent on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"isoskill {version('isoskill')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Options before any command."""


def opt(name: str, text: str, default: Any = None, **more: Any) -> Any:
    """An option with its help and its default; ``...`` for one that must be given."""
    return typer.Option(default, name, help=text, **more)


def quantity(name: str, text: str, default: float | None = None) -> Any:
    """An option for a number as people write it."""
    return opt(name, text, default, parser=amount)


def amount(text: str | float) -> float:
    """An option's number as people write it: 7B, 2T, 1e21, 1.5×10^21.

    Raises:
        BadParameter: it is none; the console then ends with exit code 2.
    """
    from fitting.reading.numbers import number

    value = number(str(text))
    if math.isnan(value):
        raise typer.BadParameter(f"{text!r} is not a number: write 7B, 2T or 1e21")
    return value


REPORTS = (".html", ".md", ".json")
"""What reports are written as."""

FIGURES = (".svg", ".png", ".pdf")
"""What figures are written as."""


def written(
    name: str, text: str, default: Path | None = None, *, endings: Sequence[str] = (),
    fresh: bool = False,
) -> Any:  # fmt: skip
    """An option for a file to write, refused before anything is read or computed for it.

    Args:
        endings: those it may have; any if empty.
        fresh: whether it must not be there yet.
    """

    def checked(path: Path | None) -> Path | None:
        if path is None:
            return None
        if endings and path.suffix not in endings:
            raise SpecError(f"{name} {path}: it is written as {', '.join(endings)}: choose one")
        if not path.parent.is_dir():
            raise SpecError(f"{name} {path}: there is no folder {path.parent}; make it first")
        if path.is_dir() or (fresh and path.exists()):
            raise SpecError(f"{name} {path}: there already; name another file")
        return path

    return opt(name, text, default, callback=checked)


SpecFile = Annotated[
    Path, typer.Argument(help="The sweep's YAML file.", metavar="SPEC", parser=named)
]
Where = Annotated[
    Path, typer.Argument(help="A sweep directory.", metavar="DIRECTORY", parser=named)
]
Source = Annotated[
    str,
    typer.Argument(
        help="A sweep directory; a table (CSV, Parquet, JSON, Markdown, Excel; - for stdin); "
        "TensorBoard's log directory; wandb:ENTITY/PROJECT, mlflow:URI#EXPERIMENT, hf:ID.",
        metavar="RUNS",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Sweep directory; default sweeps/NAME.", parser=named)
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        help="What to take from where: loss=eval/loss,params=N; also loss=log(ppl), "
        "flops=flops*3, tokens=2e9.",
        metavar="ROLE=COLUMN,...",
    ),
]
Rows = Annotated[
    str | None,
    typer.Option("--where", help="Only these rows: epochs<=4,tokenizer=32k.", metavar="COND,..."),
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

    return Sweep.load(spec, overrides(set_))


def place_of(sweep: Sweep, spec: Path, out: Path | None = None) -> Path:
    """Where a sweep lives: as was said, in the directory its spec was read from, or by name."""
    from sweeper.record.directory import safe_name

    return out or (spec if spec.is_dir() else Path("sweeps") / safe_name(sweep.name))


def show(lines: Iterable[str]) -> None:
    """Print lines, those of words no wider than the screen."""
    print("\n".join(map(fitted, lines)))


def open_results(directory: Path) -> Results:
    """Open a sweep directory."""
    from sweeper.sweep import Results

    return Results(directory)


NO_NUMBER = 3
"""Exit code of a command that was asked rightly and can give no number."""


def amounts(option: str, text: str | None) -> tuple[float, ...]:
    """An option's numbers, separated by commas.

    Raises:
        SpecError: one is none.
    """
    from fitting.reading.numbers import number

    values = tuple(number(item) for item in text.split(",")) if text else ()
    if any(math.isnan(value) for value in values):
        raise SpecError(f"{option} {text!r}: write numbers separated by commas, e.g. 1e18,3e18")
    return values


def items(text: str) -> list[str]:
    """What stands between an option's commas; in double quotes a name keeps its own."""
    rows = csv.reader([" ".join(text.splitlines())], skipinitialspace=True)
    return [item.strip() for item in next(rows, None) or [""]]


@dataclass(frozen=True)
class Runs:
    """What a command was given: a sweep directory, opened, or a table.

    Attributes:
        fits: by the method that was asked for.
        results: the directory; None for a table.
        read: what was taken from where in a table; None for a directory.
    """

    fits: Fits
    results: Results | None = None
    read: fitting.Runs | None = None

    def line(self) -> list[str]:
        """What was read, for a terminal."""
        return [f"read: {self.read.line}"] if self.read else []

    def to_dict(self) -> Mapping[str, Any]:
        """What was read and left out, for JSON."""
        if self.read is None:
            return {}
        return {"read": dict(self.read.read) | {"line": self.read.line}}


def is_sweep(runs: str) -> bool:
    """Whether a source is a sweep directory; other directories may hold TensorBoard's logs."""
    path = Path(runs)
    return path.is_dir() and ((path / "sweep.yaml").exists() or not any(path.rglob("*tfevents*")))


def read_table(runs: str, columns: str | None, where: str | None) -> fitting.Runs:
    """Read a table with the options that say how."""
    from fitting import read_runs
    from fitting.reading.terms import parse_columns

    return read_runs(runs, parse_columns(columns) if columns else None, where=where or "")


def open_runs(
    runs: str, method: str, columns: str | None = None, where: str | None = None
) -> Runs:
    """Open a sweep directory or a table, once, and fit it by a named method."""
    from fitting import fit_skills

    methods = ("guarded", "parabola", "surface")
    if method not in methods:
        near = did_you_mean(method, methods)
        raise SpecError(
            f"--method {method!r} is unknown{near}; choose one of {', '.join(methods)}"
        )
    if not is_sweep(runs):
        table = read_table(runs, columns, where)
        return Runs(fit_skills(table, method=method), read=table)  # type: ignore[arg-type]
    if columns or where:
        raise SpecError(f"--columns and --where are for tables; {runs} is a sweep directory")
    results = open_results(Path(runs))
    return Runs(results.fit(method), results)  # type: ignore[arg-type] # checked above
