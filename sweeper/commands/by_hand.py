"""The commands for trainers of one's own: suggest, ask, tell, score."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.commands.console import (
    AsJson,
    Out,
    Rows,
    Set,
    SpecFile,
    Where,
    amount,
    amounts,
    app,
    items,
    load,
    open_results,
    opt,
    place_of,
    quantity,
    show,
)
from sweeper.errors import SpecError
from sweeper.text import grid, number, si, within
from trainables.progress import to_stderr

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.search.suggest import Suggestion
    from sweeper.sweep import Results, Sweep

UNDER_WAY = r"loss is missing|status is '(?:running|pending|queued|scheduled|started|submitted)'"
"""Reasons for which a row has no loss yet."""

Count = Annotated[int, typer.Option("-n", help="How many at most.")]


@app.command()
def suggest(
    runs: Annotated[
        str,
        typer.Argument(
            help="Runs of any kind `fit` reads; pending without a loss, or out in a sweep."
        ),
    ],
    allowance: float = opt(
        "--allowance", "FLOPs to spend on these and on the pending runs.", ..., parser=amount
    ),
    budgets: str | None = opt(
        "--budgets", "FLOPs per run: 1e18,3e18; default those of the table."
    ),
    n: Count = 8,
    ladder: Path | None = opt("--ladder", "CSV of the sizes there are; default any."),
    columns: str | None = opt("--columns", "Columns to take: loss=eval/loss,params=N."),
    where: Rows = None,
    at: float | None = quantity(
        "--at", "A budget whose best sizes alone are wanted; default those of every budget."
    ),
    tolerance: float = opt("--tolerance", "Wanted precision of the best size: 0.1 is 10 %.", 0.10),
    as_json: AsJson = False,
    as_csv: bool = opt("--csv", "Print CSV.", False),
) -> None:
    """Say what to train next, from the runs you have."""
    from sweeper.record.directory import Directory
    from sweeper.search.protocol import Finished
    from sweeper.search.suggest import next_of, suggest_for

    results = open_results(Path(runs)) if Directory(runs).ledger.exists() else None
    sweep = results.sweep if results else None
    source = _with_those_out(results) if results else runs
    table, chosen = _table(source, columns, where or ""), _budgets(budgets)
    if not sweep and not chosen and table.empty:
        raise SpecError(f"{runs}: holds no run yet: say --budgets, FLOPs such as 1e18,3e18")
    if sweep and ladder is None:  # its own sizes, budgets and search
        search = replace(sweep.search, tolerance=tolerance)
        sweep = replace(sweep, search=search, budgets=tuple(chosen) or sweep.budgets)
        aims = () if at is None else (at,)
        found = next_of(table, sweep.policy, sweep.space, allowance=allowance, n=n, aims=aims)
    else:
        found = suggest_for(
            table, budgets=chosen, allowance=allowance, n=n, ladder=ladder, tolerance=tolerance,
            at=at,
        )  # fmt: skip
    if isinstance(found, Finished):
        typer.echo(f"nothing to train next ({found.reason}): {found.detail}", err=True)
        found = []
    elif not found:
        typer.echo("nothing now: the search would wait for the runs under way", err=True)
    elif len(found) < n:
        left = "before their losses are known no other run is worth its FLOPs, or affordable"
        typer.echo(f"note: {len(found)} of {n}: {left}", err=True)
    rows = [_row(each) for each in found]
    if as_json:
        print(json.dumps(rows, indent=2))
    elif as_csv:
        print(_csv(rows), end="")
    else:
        show(_lines(found))


def _table(source: str | pd.DataFrame, columns: str | None, where: str) -> pd.DataFrame:
    """The runs that have losses, and those under way: without one, or said to be running."""
    import pandas as pd

    from fitting.errors import TableError
    from fitting.reading.conditions import kept_rows
    from fitting.reading.runs import read_runs
    from fitting.reading.sources import load
    from fitting.reading.terms import parse_columns

    raw = kept_rows(load(source), where).frame
    asked = parse_columns(columns) if columns else {}
    parts, out = [], raw.index
    try:
        seen = read_runs(raw, asked)
    except TableError:
        if asked:
            raise
    else:
        typer.echo(f"read: {seen.line}", err=True)
        for note in seen.notes:
            typer.echo(f"note: {note}", err=True)
        parts = [_one_experiment(seen.table)]
        reasons = seen.excluded["reason"].astype(str)
        out = seen.excluded.loc[reasons.str.match(UNDER_WAY), "row"].unique()
    if len(out):
        stated = {**asked, "loss": "loss", "status": "none"}
        waiting = read_runs(raw.loc[out].assign(loss=1.0), stated).table
        names = waiting["trial_id"] if "trial_id" in waiting else waiting.index
        parts.append(waiting.assign(loss=float("nan"), trial_id=[f"out {n}" for n in names]))
    if not parts:
        return pd.DataFrame(columns=["flops", "params", "tokens", "skill", "loss"])
    return pd.concat(parts, ignore_index=True)


def _with_those_out(results: Results) -> pd.DataFrame:
    """What a sweep's ledger knows, the trials that are out as rows under way."""
    import pandas as pd

    columns = ["trial_id", "flops", "params", "tokens", "seed", "mix"]
    out = results.trials.loc[results.trials["state"] == "running", columns]
    rows = out.assign(skill=results.sweep.measured[0], status="running")
    return pd.concat([results.table, rows], ignore_index=True)


def _one_experiment(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the experiment with most of them."""
    counts = table["mix"].value_counts()
    if len(counts) < 2:
        return table
    name = counts.index[0]
    typer.echo(f"note: suggestions are for {name!r}, {counts.iloc[0]} rows", err=True)
    return table[table["mix"] == name]


def _budgets(text: str | None) -> list[float]:
    values = amounts("--budgets", text)
    if any(not 0 < value < math.inf for value in values):
        raise SpecError(f"--budgets {text!r}: write FLOPs above 0, such as 1e18,3e18")
    return sorted(values)


def _row(each: Suggestion) -> dict[str, Any]:
    from fitting.values import plain

    allocation = each.allocation
    row = {"flops": allocation.flops, "params": allocation.params, "tokens": allocation.tokens}
    if not each.skill:
        return row | {"seed": allocation.seed, "teaches": None}
    gain = {"skill": each.skill, "flops": each.flops, "status": str(each.status)}
    width = {"before": each.before, "after": each.after}
    return dict(plain({**row, "seed": allocation.seed, "teaches": gain | width}))


def _csv(rows: list[dict[str, Any]]) -> str:
    import pandas as pd

    flat = [
        {k: v for k, v in row.items() if k != "teaches"}
        | {f"teaches_{k}": v for k, v in (row["teaches"] or {}).items()}
        for row in rows
    ]
    return str(pd.DataFrame(flat).to_csv(index=False))


def _lines(found: list[Suggestion]) -> list[str]:
    from fitting.errors import Status
    from sweeper.analysis.conclusions import status_word

    rows = []
    for each in found:
        a = each.allocation
        said = "opens the search: no law can be fitted yet"
        if each.skill:
            before, after = within(each.before), within(each.after)
            said = f"{each.skill} at {number(each.flops)} from {before} to {after}"
        if each.status is not Status.OK:
            said = f"{each.skill}, which has no optimum yet ({status_word(each.status)})"
        rows.append((number(a.flops), si(a.params), si(a.tokens), said))
    return grid(("budget", "params", "tokens", "narrows most"), rows, right="rrrl") if rows else []


@app.command()
def ask(
    spec: SpecFile, out: Out = None, n: Count = 1, set_: Set = None, as_json: AsJson = False
) -> None:
    """Reserve the next trials for you to launch."""
    from sweeper.search.protocol import Finished

    sweep = load(spec, set_)
    place = place_of(sweep, spec, out)
    found = sweep.ask(place, n)
    over = found if isinstance(found, Finished) else None
    trials = [] if isinstance(found, Finished) else [each.to_dict() for each in found]
    if as_json:
        print(json.dumps({"trials": trials, "finished": over and asdict(over)}, indent=2))
    elif over:
        show([f"finished ({over.reason}): {over.detail}"])
    else:
        import shlex

        for each in trials:
            print(f"{each['id']}  {shlex.join(each['command']) or _plainly(each)}")
        if not trials:
            typer.echo("none now: the search waits for those that are out", err=True)


def _plainly(trial: dict[str, Any]) -> str:
    hidden = ("id", "command", "attempt")
    return " ".join(f"{k}={v}" for k, v in trial.items() if k not in hidden)


@app.command()
def tell(
    directory: Where,
    trial: Annotated[str, typer.Argument(help="Its id, as `ask` said.", metavar="ID")],
    losses: Annotated[
        list[str] | None,
        typer.Argument(
            help="code=2.31 validation=2.95; left out, read from its losses.json.",
            metavar="SKILL=NATS",
        ),
    ] = None,
    failed: str = opt("--failed", "Why there are no losses.", ""),
    kind: str = opt(
        "--kind", "Of the failure; node-lost and interrupted are asked again.", "error"
    ),
    tokens: float | None = quantity("--tokens", "It was trained on when it failed."),
    correct: bool = opt("--correct", "Replace what was told of it before.", False),
) -> None:
    """Record what became of a trial that was asked for."""
    sweep = open_results(directory).sweep
    given = _losses(losses) if losses else None
    if failed and given:
        raise SpecError("--failed: a trial that failed has no losses: give one or the other")
    state = sweep.tell(
        directory, trial, given, failed=failed, kind=kind, tokens=tokens, correct=correct
    )
    print(f"{trial}: {state}" + ", to be launched again" * (state == "running"))


def _losses(items: list[str]) -> dict[str, float]:
    found = {}
    for item in items:
        name, separator, value = item.rpartition("=")
        if name in found:
            raise SpecError(f"{item!r}: {name} is told twice")
        try:
            found[name] = float(value)
        except ValueError:
            separator = ""
        if not separator or not name:
            raise SpecError(f"{item!r}: write SKILL=NATS, such as code=2.31")
    return found


@app.command()
def score(
    directory: Where,
    skills: str = opt(
        "--skills",
        "Names of skills, those with commas in double quotes; with their classes, "
        "math=knowledge, for trainer.evaluate.",
        ...,
    ),
    set_: Set = None,
) -> None:
    """Measure new skills of kept trials, without training."""
    from sweeper.driver.score import score as measure

    spec = load(open_results(directory).directory.root, set_)
    if spec.trainer is None:
        raise typer.Exit(_score_own(spec, directory, skills))
    pairs = [item.partition("=") for item in items(skills)]
    if any(not (name and kind) for name, _, kind in pairs):
        raise SpecError(f"--skills {skills!r}: write SKILL=CLASS, such as math=knowledge")
    wanted = {name.strip(): kind.strip() for name, _, kind in pairs}
    if measure(spec, directory, wanted):
        raise typer.Exit(1)


def _score_own(spec: Sweep, directory: Path, skills: str) -> int:
    """Score trials of our own loop; returns the exit code."""
    from sweeper.cluster.score import score

    values = spec.to_dict()
    values["data"].pop("corpus", None)  # read again: the corpus may have further skills
    values["skills"] = list(dict.fromkeys([*spec.measured, *items(skills)]))
    scored = score(type(spec).from_dict(values), directory, say=to_stderr)
    print(scored)
    open_results(directory).export()
    return 1 if scored.failed else 0
