"""The command that compares variants of a training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.commands.console import (
    FIGURES,
    NO_NUMBER,
    AsJson,
    Columns,
    Rows,
    amounts,
    app,
    is_sweep,
    items,
    open_results,
    opt,
    read_table,
    show,
    written,
)
from sweeper.errors import SpecError
from sweeper.spec.search import SearchSettings
from sweeper.text import grid, number

if TYPE_CHECKING:
    from fitting import Answer, Multipliers
    from sweeper.analysis.variants import Variant


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="The reference and its variants: sweep directories or tables, as `fit` takes "
            "them, or NAME=RUNS. One that holds several experiments is compared within.",
            metavar="RUNS...",
        ),
    ],
    flops: str | None = opt(
        "--flops", "Budgets to report, the verdict on the first. Default the largest in common.",
        metavar="C,...",
    ),
    skills: str | None = opt(
        "--skills", "Only these, names with commas in double quotes.", metavar="A,B"
    ),
    margin: float | None = opt(
        "--margin", "`no difference` means surely less than this. Default 1.1, or one sweep's own."
    ),
    level: float | None = opt(
        "--level", "Chance of any false better or worse. Default .05, or one sweep's own."
    ),
    anytime: bool = opt("--anytime", "Valid at every look while runs come in.", False),
    figure: Path | None = written(
        "--figure", "Draw multipliers over compute: SVG, PNG or PDF.", endings=FIGURES
    ),
    columns: Columns = None,
    where: Rows = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say how much compute a variant of a training is worth, per skill, and whether it is real."""
    from sweeper.analysis.variants import compare as compared

    variants = [one for each in runs for one in _variants(each, columns, where, len(runs))]
    names = [name for name in items(skills) if name] if skills else None
    asked = amounts("--flops", flops) or None
    bounds = _bounds(runs, level, margin)
    found = compared(variants, flops=asked, skills=names, anytime=anytime, **bounds)
    if figure is not None:
        from fitting.plots import figure_multipliers
        from fitting.plots.drawing import save

        if note := save(figure_multipliers(found), figure):
            typer.echo(f"note: {note}", err=True)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        show(_lines(found, asked or ()))
    if not any(math.isfinite(one.multiplier) for one in found.verdicts):
        raise typer.Exit(NO_NUMBER)


def _bounds(runs: list[str], level: float | None, margin: float | None) -> dict[str, float]:
    """As asked, or as the spec of a sweep that is compared within: its report says the same."""
    one = len(runs) == 1 and is_sweep(runs[0])
    settings = open_results(Path(runs[0])).sweep.search if one else SearchSettings()
    return {
        "level": settings.level if level is None else level,
        "margin": settings.margin if margin is None else margin,
    }


def _variants(source: str, columns: str | None, where: str | None, many: int) -> list[Variant]:
    """The variants of one argument, NAME=RUNS or RUNS."""
    from sweeper.analysis.variants import of_runs, of_sweep

    name, said, runs = source.partition("=")
    if not said or Path(source).exists():
        runs, name = source, Path(source).stem if many > 1 else ""
    if is_sweep(runs):
        if columns or where:
            raise SpecError(f"--columns and --where are for tables; {runs} is a sweep directory")
        return of_sweep(name, open_results(Path(runs)))
    return of_runs(name, read_table(runs, columns, where))


def _lines(found: Multipliers, asked: Sequence[float]) -> list[str]:
    """For a terminal: verdicts and the other budgets asked about, and what to know of them."""
    doubts = [
        f"  {one.variant}, {one.skill}: {one.reason}" for one in found.verdicts if one.reason
    ]
    excluded = [f"  {variant}, {skill}: {reason}" for variant, skill, reason in found.excluded]
    return [
        *(line for variant in found.variants for line in _table(found, variant, asked)),
        found.rule,
        *(["no verdict:", *doubts] if doubts else []),
        *_checks(found),
        *(["not compared:", *excluded] if excluded else []),
        *(f"note: {note}" for note in found.notes),
    ]


def _table(found: Multipliers, variant: str, asked: Sequence[float]) -> list[str]:
    """A variant's verdicts, a row per skill, and a row for each other budget asked about."""
    from fitting.compare.answers import times

    head = ("skill", "FLOPs", "multiplier", "90 %", "loss", "best size", "verdict")
    rows = [
        (
            one.skill, number(one.flops) + _beyond(one), times(one.multiplier),
            f"{times(one.low)} to {times(one.high)}", f"{one.loss[0]:+.4f}",
            f"{one.optimum[0]:.2f}x", one.verdict,
        )
        for one in found.answers
        if one.variant == variant and (one.verdict or one.flops in asked)
    ]  # fmt: skip
    return [f"{variant} against {found.reference}", *grid(head, rows, right="lrrrrrl"), ""]


def _beyond(one: Answer) -> str:
    return f", {number(one.beyond, 2)} times beyond" if one.beyond > 1 else ""


def _checks(found: Multipliers) -> list[str]:
    """What a fit without the top budget predicted of it: those that failed, and how many stand."""
    told = [one for one in found.verdicts if one.held_out is not None]
    if not told:
        return ["no check of its own: too few budgets to hold one out"]
    shown = (
        [one for one in told if one.held_out and not one.held_out.held] if len(told) > 3 else told
    )
    held = sum(one.held_out is not None and one.held_out.held for one in told)
    return [
        f"its own check, the top budget predicted without it: {held} of {len(told)} stand",
        *(f"  {one.variant}, {one.skill}: {one.held_out}" for one in shown),
    ]
