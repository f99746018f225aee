"""The tables of a report as rows of text: what a template shows, it does not compute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from fitting.errors import Status
from sweeper.analysis.conclusions import exponent_interval, status_word
from sweeper.budget import Allocation
from sweeper.driver.faults import RESPONSES
from sweeper.spec.spec import AGGREGATE, Spec
from sweeper.text import between, number, si, size

if TYPE_CHECKING:
    from fitting import Fits
    from trainables.data import Data

BEYOND = 10.0
"""How far beyond the largest budget the laws are shown (assumption: one decade is what people
plan ahead, and what the intervals of a short ladder still bear)."""

MAX_LOSS_CELLS = 12_000
"""Losses the table of trials holds, so that the file stays below 2 MB at about 60 bytes each."""

SHOWN_DETAIL = 200
"""Characters of an event that the report shows; the ledger has all."""

MAX_REASONS = 30
"""Kinds of excluded rows listed; the rest are counted."""


@dataclass(frozen=True)
class Cell:
    """One cell of the table of trials.

    Attributes:
        text: what is shown.
        sort: the number to sort by; None sorts by the text.
        chip: whether the text is a state, shown as a coloured mark.
    """

    text: str
    sort: str | None = None
    chip: bool = False


@dataclass(frozen=True)
class Column:
    """A heading of the table of trials."""

    title: str
    number: bool = True


def _advice(status: Status, reason: str) -> str:
    """Why a number is missing or doubtful; nothing for a sound one."""
    return "" if status is Status.OK else reason or status.advice


def _fixed(value: float) -> str:
    """An exponent: three decimals, a dash for NaN."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _kind(status: Status) -> str:
    return {Status.OK: "ok", Status.EDGE: "edge"}.get(status, "none")


def optima(fits: Fits, skills: Iterable[str], budgets: Iterable[float]) -> list[dict[str, Any]]:
    """One row per skill and budget: the optimum, its interval and its status."""
    ladder = list(budgets)
    rows = []
    for skill in skills:
        for i, flops in enumerate(ladder):
            best = fits[skill].at(flops)
            rows.append(
                {
                    "skill": skill,
                    "first": i == 0,
                    "span": len(ladder),
                    "budget": number(flops),
                    "params": size(best.params),
                    "interval": between(best.interval),
                    "tokens": size(best.tokens),
                    "ratio": number(best.tokens / best.params),
                    "kind": _kind(best.status),
                    "status": status_word(best.status),
                    "reason": _advice(best.status, best.reason),
                }
            )
    return rows


def laws(fits: Fits, skills: Iterable[str], beyond: float) -> list[dict[str, Any]]:
    """One row per skill: its law, the interval of its exponent, and its forecast."""
    rows = []
    for skill in skills:
        law, far = fits[skill].law, fits[skill].at(beyond)
        rows.append(
            {
                "skill": skill,
                "coefficient": number(law.coefficient),
                "exponent": _fixed(law.exponent),
                "interval": between(exponent_interval(law), "{:.3f}"),
                "tokens_exponent": _fixed(1 - law.exponent),
                "beyond": size(far.params),
                "beyond_interval": between(far.interval),
                "kind": _kind(law.status),
                "status": status_word(law.status),
                "reason": _advice(law.status, law.reason),
            }
        )
    return rows


def methods(fits: Fits, skills: Iterable[str]) -> dict[str, Any]:
    """Optima by every method, one row per skill and budget, and how far apart they are."""
    frame = fits.table()
    names = sorted(frame["method"].unique(), key=lambda name: name != fits.method)
    rows: list[dict[str, Any]] = []
    for skill in skills:
        budgets = frame[frame["skill"] == skill].groupby("flops")
        for i, (flops, found) in enumerate(budgets):
            by_name = found.set_index("method").to_dict(orient="index")
            rows.append(
                {
                    "skill": skill,
                    "first": i == 0,
                    "span": len(budgets),
                    "budget": number(float(flops)),
                    "cells": [_method_cell(by_name.get(name)) for name in names],
                    "spread": _spread(found),
                }
            )
    return {"names": names, "rows": rows}


def _method_cell(found: Mapping[str, Any] | None) -> dict[str, str]:
    if found is None:
        return {"text": "–", "interval": "", "status": ""}
    interval = between((found["low"], found["high"]))
    sound = found["status"] == Status.OK
    return {
        "text": size(found["params"]) if math.isfinite(found["params"]) or sound else "",
        "interval": "" if interval == "–" else interval,
        "status": "" if sound else status_word(found["status"]),
    }


def _spread(found: pd.DataFrame) -> str:
    sound = found.loc[found["status"] == Status.OK, "params"]
    return f"×{sound.max() / sound.min():.2f}" if len(sound) > 1 else "–"


def trials_of(table: pd.DataFrame) -> pd.DataFrame:
    """Trials of a simulated sweep, which has no ledger: one row each, from its observations."""
    columns = ["flops", "params", "tokens", "seed", "mix", "status", "reason", "spent_flops"]
    known = [name for name in columns if name in table]
    first: pd.DataFrame = table.groupby("trial_id", sort=False)[known].first().reset_index()
    return first.rename(columns={"status": "state"})


def budgets(sweep: Spec, trials: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per budget: trials, sizes and share of what was spent."""
    total = float(trials["spent_flops"].sum()) or 1.0
    rows = []
    for flops in sweep.budgets:
        here = trials[(trials["flops"] / flops - 1).abs() < 1e-9]
        states = here["state"].value_counts()
        rows.append(
            {
                "budget": number(flops),
                "trials": len(here),
                "finished": int(states.get("finished", 0)),
                "lost": int(states.get("failed", 0) + states.get("diverged", 0)),
                "sizes": here["params"].nunique(),
                "low": size(here["params"].min()),
                "high": size(here["params"].max()),
                "share": f"{here['spent_flops'].sum() / total:.0%}",
            }
        )
    return rows


def every_trial(trials: pd.DataFrame, table: pd.DataFrame, skills: list[str]) -> dict[str, Any]:
    """The table of trials, with the losses of as many skills as the file's size allows."""
    room = max(1, MAX_LOSS_CELLS // max(len(trials), 1))
    shown = sorted(skills, key=lambda name: name != AGGREGATE)[:room]
    losses = table.pivot_table(index="trial_id", columns="skill", values="loss", observed=True)
    timed = "wall_s" in trials
    heads = ["#", "budget", "params", "tokens", "tokens/param", "seed"]
    heads += ["steps", "seconds"] if timed else []
    columns = [Column(name) for name in heads]
    columns += [Column("state", number=False), *map(Column, shown), Column("id", number=False)]
    rows = []
    for i, trial in enumerate(trials.to_dict(orient="records"), start=1):
        known = losses.loc[trial["trial_id"]] if trial["trial_id"] in losses.index else {}
        rows.append(
            [
                *_trial_cells(i, trial, timed=timed),
                Cell(trial["state"], chip=True),
                *(_numeric(known.get(name, math.nan), ".4f") for name in shown),
                Cell(str(trial["trial_id"])),
            ]
        )
    return {"columns": columns, "rows": rows, "hidden": len(skills) - len(shown)}


def _trial_cells(place: int, trial: Mapping[str, Any], *, timed: bool) -> list[Cell]:
    cells = [
        _numeric(place, "d"),
        Cell(number(trial["flops"]), number(trial["flops"])),
        Cell(si(trial["params"]), f"{trial['params']:.0f}"),
        Cell(si(trial["tokens"]), f"{trial['tokens']:.0f}"),
        _numeric(trial["tokens"] / trial["params"], ".3g"),
        _numeric(trial["seed"], "d"),
    ]
    if timed:
        cells += [_numeric(trial["steps"], ".0f"), _numeric(trial["wall_s"], ".1f")]
    return cells


def _numeric(value: float | None, pattern: str) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell("", "")
    text = format(value, pattern)
    return Cell(text, text)


def failures(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Trials that ended without losses, with their reasons."""
    lost = trials[trials["state"].isin(["failed", "diverged"])]
    return [
        {
            "trial": str(trial["trial_id"]),
            "allocation": str(
                Allocation(*(trial[key] for key in ("flops", "params", "tokens", "seed")))
            ),
            "state": trial["state"],
            "attempts": trial.get("attempts", 1),
            "spent": number(trial["spent_flops"]),
            "reason": trial.get("reason") or "no reason was recorded",
        }
        for trial in lost.to_dict(orient="records")
    ]


def faults(events: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Faults that the sweep got over, by kind: how often, on how many trials, and the last one."""
    if events is None:
        return []
    seen = events[events["kind"].isin([*RESPONSES, "stopped", "reopened"])]
    return [
        {
            "kind": str(kind),
            "count": len(group),
            "trials": group["trial_id"].nunique(),
            "last": str(group["detail"].iloc[-1])[:SHOWN_DETAIL],
        }
        for kind, group in seen.groupby("kind", sort=False)
    ]


def excluded(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows left out of the fits, gathered by reason."""
    if rows.empty:
        return []
    found = []
    for reason, group in rows.groupby("reason", sort=False):
        trials = group["trial_id"].astype(str).unique()
        more = f" and {len(trials) - 5} more" if len(trials) > 5 else ""
        found.append(
            {
                "reason": str(reason),
                "count": len(group),
                "skills": ", ".join(sorted(group["skill"].astype(str).unique())[:8]),
                "trials": ", ".join(trials[:5]) + more,
            }
        )
    return found[:MAX_REASONS]


def corpus(manifest: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """A prepared corpus: its classes, and what of the held-out texts is in its training text."""
    classes = [
        (
            name,
            f"{100 * data.mix[name]:.1f}",
            f"{100 * data.token_mix[name]:.1f}",
            f"{entry['documents']:,}",
            si(entry["tokens"]),
            si(entry["validation"]["tokens"]),
        )
        for name, entry in manifest["classes"].items()
    ]
    found = manifest["contamination"]
    matches = [
        (name, n["examples"], n["too_short"], n["matched"], n["covered"])
        for name, n in found["sets"].items()
    ]
    return {"classes": classes, "ngram": found["ngram"], "matches": matches}
