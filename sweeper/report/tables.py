"""The tables of a report as rows of text: what a template shows, it does not compute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fitting import Fits, Optimum, PowerLaw
from fitting.errors import Status
from sweeper.analysis.conclusions import exponent_interval, status_word
from sweeper.budget import Allocation
from sweeper.driver.faults import RESPONSES
from sweeper.spec.spec import AGGREGATE, Spec
from sweeper.text import between, number, percent, ratio, si, size
from trainables.data import Data

BEYOND = 10.0
"""How far beyond the largest budget the laws are shown (assumption: one decade is what people
plan ahead, and what the intervals of a short ladder still bear)."""

MAX_LOSS_CELLS = 12_000
"""Losses the table of trials holds, so that the file stays below 2 MB at about 70 bytes each."""

SHOWN_DETAIL = 200
"""Characters of an event that the report shows; the ledger has all."""

MAX_REASONS = 30
"""Kinds of excluded rows listed; the rest are counted."""


@dataclass(frozen=True)
class Column:
    """A heading, and the class of the cells below: "n" for numbers, "ci", "id"."""

    title: str
    style: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown.
        chip: kind of a state, shown as a coloured mark.
        note: small print beside it.
        key: the page's variable for a skill's colour, where the cell begins its rows.
        span: rows that the cell stands for; 0 where one above does.
        sort: the number to sort by; None sorts by the text.
    """

    text: str
    chip: str = ""
    note: str = ""
    key: str = ""
    span: int = 1
    sort: str | None = None

    def __str__(self) -> str:
        """The cell where there is no markup."""
        return f"{self.text}: {self.note}" if self.note else self.text


@dataclass(frozen=True)
class Table:
    """Columns, rows of as many cells, and the number of what did not fit in."""

    columns: list[Column]
    rows: list[list[Cell]]
    hidden: int = 0

    @property
    def lines(self) -> list[list[tuple[Column, Cell]]]:
        """Rows with their columns, without the cells that one above stands for."""
        pairs = (zip(self.columns, row, strict=True) for row in self.rows)
        return [[(column, cell) for column, cell in row if cell.span] for row in pairs]


def table(rows: Iterable[Iterable[object]], *heads: str | Column, hidden: int = 0) -> Table:
    """A table of cells and of whatever can be shown, under headings such as "budget|n"."""
    columns = [Column(*head.split("|")) if isinstance(head, str) else head for head in heads]
    cells = [[x if isinstance(x, Cell) else Cell(str(x)) for x in row] for row in rows]
    return Table(columns, cells, hidden)


def _status(found: Optimum | PowerLaw) -> Cell:
    """The status, and why a number is missing or doubtful."""
    kind = {Status.OK: "ok", Status.EDGE: "edge"}.get(found.status, "none")
    note = "" if found.ok else found.reason or found.status.advice
    return Cell(status_word(found.status), kind, note)


def _fixed(value: float) -> str:
    """An exponent: three decimals, a dash for NaN."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _skill(name: str, colours: Mapping[str, str], i: int, rows: int) -> Cell:
    """The skill of this many rows, beside the first of them."""
    return Cell(name, key=colours[name], span=0 if i else rows)


def optima(fits: Fits, colours: Mapping[str, str], budgets: list[float]) -> Table:
    """One row per skill and budget: the optimum, its interval and its status."""
    rows = []
    for skill in colours:
        for i, flops in enumerate(budgets):
            best = fits[skill].at(flops)
            rows.append((
                _skill(skill, colours, i, len(budgets)), number(flops), size(best.params),
                between(best.interval), size(best.tokens), ratio(best.tokens / best.params),
                _status(best),
            ))  # fmt: skip
    return table(rows, "skill", "budget|n", "params p*|n", "90 % interval|n ci", "tokens t*|n",
                 "t*/p*|n", "status")  # fmt: skip


def laws(fits: Fits, colours: Mapping[str, str], beyond: float) -> Table:
    """One row per skill: its law, the interval of its exponent, and its forecast."""
    rows = []
    for skill in colours:
        law, far = fits[skill].law, fits[skill].at(beyond)
        rows.append((
            _skill(skill, colours, 0, 1), number(law.coefficient), _fixed(law.exponent),
            between(exponent_interval(law), "{:.3f}"), _fixed(1 - law.exponent),
            size(far.params), between(far.interval), _status(law),
        ))  # fmt: skip
    return table(rows, "skill", "a|n", "b|n", "90 % of b|n ci", "tokens grow as C^(1−b)|n",
                 f"p* at {number(beyond)}|n", "90 % interval|n ci", "status")  # fmt: skip


def methods(fits: Fits, colours: Mapping[str, str]) -> Table:
    """Optima by every method, one row per skill and budget, and how far apart they are."""
    frame = fits.table()
    names = sorted(frame["method"].unique(), key=lambda name: name != fits.method)
    rows = []
    for skill in colours:
        budgets = frame[frame["skill"] == skill].groupby("flops")
        for i, (flops, found) in enumerate(budgets):
            by_name = found.set_index("method").to_dict(orient="index")
            cells = [_method_cell(by_name.get(name)) for name in names]
            head = _skill(skill, colours, i, len(budgets)), number(float(flops))
            rows.append((*head, *cells, _spread(found)))
    heads = ("skill", "budget|n", *(f"{name}|n" for name in names), "largest / smallest|n")
    return table(rows, *heads)


def _method_cell(found: Mapping[str, Any] | None) -> Cell:
    if found is None:
        return Cell("–")
    sound, interval = found["status"] == Status.OK, between((found["low"], found["high"]))
    known = [size(found["params"])] if math.isfinite(found["params"]) or sound else []
    known += [f"({interval})"] if interval != "–" else []
    return Cell(" ".join(known), note="" if sound else status_word(found["status"]))


def _spread(found: pd.DataFrame) -> str:
    sound = found.loc[found["status"] == Status.OK, "params"]
    return f"×{sound.max() / sound.min():.2f}" if len(sound) > 1 else "–"


def trials_of(table: pd.DataFrame) -> pd.DataFrame:
    """Trials of a simulated sweep, which has no ledger: one row each, from its observations."""
    columns = ["flops", "params", "tokens", "seed", "mix", "status", "reason", "spent_flops"]
    known = [name for name in columns if name in table]
    first: pd.DataFrame = table.groupby("trial_id", sort=False)[known].first().reset_index()
    return first.rename(columns={"status": "state"})


def budgets(sweep: Spec, trials: pd.DataFrame) -> Table:
    """One row per budget: trials, sizes and share of what was spent."""
    total = float(trials["spent_flops"].sum()) or 1.0
    rows = []
    for flops in sweep.budgets:
        here = trials[(trials["flops"] / flops - 1).abs() < 1e-9]
        states, params = here["state"].value_counts(), here["params"]
        lost = states.get("failed", 0) + states.get("diverged", 0)
        rows.append((
            number(flops), len(here), states.get("finished", 0), lost, params.nunique(),
            size(params.min()), size(params.max()), percent(here['spent_flops'].sum() / total),
        ))  # fmt: skip
    heads = "budget trials finished failed/diverged sizes from to share-of-FLOPs".split()
    return table(rows, *(f"{head.replace('-', ' ')}|n" for head in heads))


def every_trial(trials: pd.DataFrame, seen: pd.DataFrame, skills: list[str]) -> Table:
    """The table of trials, with the losses of as many skills as the file's size allows."""
    room = max(1, MAX_LOSS_CELLS // max(len(trials), 1))
    shown = sorted(skills, key=lambda name: name != AGGREGATE)[:room]
    losses = seen.pivot_table(index="trial_id", columns="skill", values="loss", observed=True)
    losses = losses.reindex(index=trials["trial_id"], columns=shown)
    rows = [
        [
            *_trial_cells(i, trial),
            Cell(trial["state"], chip=trial["state"]),
            *(_numeric(loss, ".4f") for loss in own),
            trial["trial_id"],
        ]
        for i, (trial, own) in enumerate(
            zip(trials.to_dict(orient="records"), losses.to_numpy(), strict=True), start=1
        )
    ]
    heads = ["#", "budget", "params", "tokens", "tokens/param", "seed"]
    heads += ["steps", "seconds"] if "wall_s" in trials else []
    first, last = ([Column(name, "n") for name in names] for names in (heads, shown))
    return table(rows, *first, "state", *last, "id|id", hidden=len(skills) - len(shown))


def _trial_cells(place: int, trial: Mapping[str, Any]) -> list[Cell]:
    each = trial["tokens"] / trial["params"]
    cells = [
        _numeric(place, "d"),
        Cell(number(trial["flops"])),
        Cell(si(trial["params"]), sort=f"{trial['params']:.0f}"),
        Cell(si(trial["tokens"]), sort=f"{trial['tokens']:.0f}"),
        Cell(ratio(each), sort=f"{each:.6g}"),
        _numeric(trial["seed"], "d"),
    ]
    if "wall_s" in trial:
        cells += [_numeric(trial["steps"], ".0f"), _numeric(trial["wall_s"], ".1f")]
    return cells


def _numeric(value: float | None, pattern: str) -> Cell:
    return Cell("" if value is None or not math.isfinite(value) else format(value, pattern))


def failures(trials: pd.DataFrame) -> Table:
    """Trials that ended without losses, with their reasons."""
    lost = trials[trials["state"].isin(["failed", "diverged"])]
    rows = []
    for trial in lost.to_dict(orient="records"):
        where = Allocation(*(trial[key] for key in ("flops", "params", "tokens", "seed")))
        reason = trial.get("reason") or "no reason was recorded"
        state = Cell(trial["state"], chip=trial["state"])
        ending = trial.get("attempts", 1), number(trial["spent_flops"]), reason
        rows.append((trial["trial_id"], where, state, *ending))
    return table(rows, "trial|id", "allocation", "state", "attempts|n", "FLOPs spent|n", "reason")


def faults(events: pd.DataFrame | None) -> Table:
    """Faults that the sweep got over, by kind: how often, on how many trials, and the last one."""
    rows: list[tuple[object, ...]] = []
    if events is not None:
        seen = events[events["kind"].isin([*RESPONSES, "stopped", "reopened"])]
        for kind, group in seen.groupby("kind", sort=False):
            last = str(group["detail"].iloc[-1])[:SHOWN_DETAIL]
            rows.append((kind, len(group), group["trial_id"].nunique(), last))
    return table(rows, "fault", "times|n", "trials|n", "the last one")


def excluded(rows: pd.DataFrame) -> Table:
    """Rows left out of the fits, gathered by reason."""
    found = []
    for reason, group in rows.groupby("reason", sort=False) if len(rows) else ():
        trials = group["trial_id"].astype(str).unique()
        more = f" and {len(trials) - 5} more" if len(trials) > 5 else ""
        skills = ", ".join(sorted(group["skill"].astype(str).unique())[:8])
        found.append((reason, len(group), skills, ", ".join(trials[:5]) + more))
    return table(found[:MAX_REASONS], "reason", "rows left out|n", "skills", "trials|id")


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
    keys = ("examples", "too_short", "matched", "covered")
    matches = [(name, *(n[key] for key in keys)) for name, n in found["sets"].items()]
    return {
        "classes": table(classes, "class", "% of documents|n", "% of tokens|n", "documents|n",
                         "tokens|n", "held out|n"),
        "ngram": found["ngram"],
        "matches": table(matches, "set", "examples|n", "too short to check|n", "matched|n",
                         "covered to four fifths|n"),
    }  # fmt: skip
