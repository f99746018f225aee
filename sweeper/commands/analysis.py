"""The commands that fit laws and answer questions from them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.commands.console import AsJson, MethodName, Source, app, fits_of

if TYPE_CHECKING:
    from fitting import Fits, Optimum

DespiteAlarm = Annotated[
    bool,
    typer.Option(
        "--despite-alarm",
        help="Extrapolate although the cheaper budgets do not foretell the largest one.",
    ),
]


@app.command()
def fit(
    runs: Source,
    method: MethodName = "guarded",
    as_json: AsJson = False,
    despite_alarm: DespiteAlarm = False,
) -> None:
    """Fit every skill's optima and law, from a sweep or from anybody's table of runs."""
    fits = fits_of(runs, method)
    fits = fits.despite_alarm() if despite_alarm else fits
    print(fits.to_json() if as_json else "\n".join([str(fits), *_remarks(fits)]))


@app.command()
def predict(
    runs: Source,
    flops: Annotated[float, typer.Option("--flops", help="Training budget in FLOPs.")],
    skill: Annotated[str | None, typer.Option("--skill", help="One skill; default all.")] = None,
    method: MethodName = "guarded",
    as_json: AsJson = False,
    despite_alarm: DespiteAlarm = False,
) -> None:
    """Say which size and token count a budget is best spent on, per skill."""
    from sweeper.errors import SpecError, did_you_mean

    if not flops > 0:
        raise SpecError(f"--flops {flops:g}: give a positive number of FLOPs")
    fits = fits_of(runs, method)
    fits = fits.despite_alarm() if despite_alarm else fits
    if skill is not None and skill not in fits:
        raise SpecError(f"--skill {skill!r} is unknown{did_you_mean(skill, fits)}")
    rows = {name: fits[name].at(flops) for name in ([skill] if skill else fits)}
    if as_json:
        print(json.dumps({name: _plain(optimum) for name, optimum in rows.items()}, indent=2))
        return
    for name, optimum in rows.items():
        print(f"{name:<24} {_sentence(optimum)}")
    if any(optimum.status == "no-common-law" for optimum in rows.values()):
        print("note: --despite-alarm extrapolates all the same")


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
