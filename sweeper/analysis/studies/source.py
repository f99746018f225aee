"""Where a study's losses come from: a sweep, somebody's table, or the paper's digitised points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from fitting import prepare, read_runs
from fitting.datamix.shares import paper_mixes
from fitting.reading.sources import load
from fitting.reading.terms import parse_columns
from fitting.reference import mix_table, skills_points
from sweeper.errors import SpecError, did_you_mean
from sweeper.record.record import FITTED, Outcome
from sweeper.spec.presets import followed
from sweeper.spec.reading import read_yaml

PAPER = "paper"
"""Name by which a console command asks for the points of arXiv 2503.10061."""


@dataclass(frozen=True)
class Source:
    """Losses, and what a study must know of them.

    Attributes:
        table: one row per trial and skill; finished trials only.
        shares: mix -> class -> share of documents; the first is the reference.
        classes: skill -> class: what it belongs to, or whose share it follows.
        aggregate: the skill that stands for the whole validation set, if there is one.
        title: for headings.
        note: what a reader must know of the data.
    """

    table: pd.DataFrame
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    aggregate: str | None = None
    title: str = ""
    note: str = ""

    @property
    def reference(self) -> pd.DataFrame:
        """The rows of the reference mix."""
        if "mix" not in self.table or len(self.shares) < 2:
            return self.table
        return self.table[self.table["mix"] == next(iter(self.shares))]


@dataclass(frozen=True)
class Study:
    """What a study found; its fields that are tables are kept, shown and exported by name."""

    source: Source

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Everything found, by name."""
        values = {f.name.replace("_", "-"): getattr(self, f.name) for f in fields(self)}
        return {name: each for name, each in values.items() if isinstance(each, pd.DataFrame)}

    def sentences(self) -> list[str]:
        """What the intervals allow one to say."""
        raise NotImplementedError


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as mappings."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict(orient="records")]


def require_measured(names: Sequence[str], skills: Sequence[str]) -> None:
    """Refuse a skill that was not measured.

    Raises:
        SpecError: names it and the nearest known one.
    """
    for name in names:
        if name not in skills:
            near = did_you_mean(name, skills)
            raise SpecError(f"{name!r} was not measured{near}; measured: {', '.join(skills)}")


def of_outcome(outcome: Outcome) -> Source:
    """The runs of a sweep, real or simulated."""
    table = outcome.table[outcome.table["status"] == "finished"]
    classes = outcome.sweep.followed([str(skill) for skill in table["skill"].unique()])
    shares, name = outcome.sweep.mix_shares, outcome.sweep.name
    return Source(table[list(FITTED)], shares, classes, outcome.aggregate, name)


def of_table(table: pd.DataFrame, shares: Mapping[str, Mapping[str, float]]) -> Source:
    """Any table of runs.

    Args:
        table: see `fitting.prepare`; a column ``class`` says what skills belong to, or else their
            names do, such as code-3.
        shares: of its mixes; empty: read from columns ``share_<class>``, or the paper's thirteen
            where the mixes have their names.
    """
    seen = prepare(table)
    frame, skills = seen.frame.drop(columns="budget"), seen.skills
    shares = shares or _shares_of(table, frame)
    classes = {c for mix in shares.values() for c in mix}
    own: Mapping[str, str] = {}
    if {"class", "skill"} <= set(table.columns):
        rows = table.dropna(subset=["class"]).drop_duplicates("skill")
        own = dict(zip(rows["skill"].astype(str), rows["class"].astype(str), strict=True))
    called = {skill.replace("/", "-").split("-")[0] for skill in skills}
    aggregate = next((s for s in ("validation", "aggregate", "ape") if s in skills), None)
    return Source(frame, shares, own or followed(skills, classes or called), aggregate)


def _shares_of(table: pd.DataFrame, frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Shares by mix, from the table's own columns or the paper's names."""
    columns = [c for c in table.columns if str(c).startswith("share_")]
    if columns and "mix" in table:
        means = table.groupby(table["mix"].astype(str), sort=False)[columns].mean()
        means.columns = means.columns.str.removeprefix("share_")
        return {str(mix): dict(row) for mix, row in means.to_dict(orient="index").items()}
    names = set(frame["mix"].dropna().astype(str)) if "mix" in frame else set()
    paper = paper_mixes()
    return paper if names and names <= set(paper) else {}


def read(
    runs: str | Path,
    study: str,
    mixes: Path | None = None,
    *,
    columns: str | None = None,
    where: str | None = None,
) -> Source:
    """Read a sweep directory, a table, or ``paper``.

    Args:
        runs: the directory or file, or ``paper`` for the digitised points.
        mixes: YAML file, mix -> class -> share, for a table that does not say them.
        columns: of a table, where the rules would take others; see `fitting.read_runs`.

    Raises:
        SpecError: there is nothing of that name, or the file of mixes is no such mapping.
    """
    if str(runs) == PAPER and not Path(runs).exists():
        return paper(study)
    if Path(runs).is_dir():
        from sweeper.record.record import Record

        return of_outcome(Record(runs))
    raw = load(str(runs)).frame
    asked = parse_columns(columns) if columns else None
    table = read_runs(raw, asked, where=where or "").table
    # Beside the runs themselves a study reads shares of mixes and classes of skills.
    extras = [c for c in raw.columns if str(c).startswith("share_") or c == "class"]
    return of_table(table.join(raw[extras]), _read_mixes(mixes) if mixes else {})


def _read_mixes(path: Path) -> dict[str, dict[str, float]]:
    values = read_yaml(path)
    if not all(isinstance(mix, dict) for mix in values.values()):
        raise SpecError(f"{path}: write a mapping of mixes, such as more-code: {{code: 0.5, ...}}")
    return {str(m): {str(c): float(s) for c, s in mix.items()} for m, mix in values.items()}


def paper(study: str) -> Source:
    """The points of arXiv 2503.10061, digitised: Figure 2 for the data mix, else Figure 1."""
    classes = {"knowledge": "knowledge", "code": "code"}
    if study == "datamix":
        note = (
            "Points read off Figure 2 at 6e18 FLOPs: code under six mixes, knowledge under "
            "five; sizes above 494 M are under its legends, and two knowledge curves have six and "
            "eight points only."
        )
        figure = "arXiv 2503.10061, Figure 2"
        return Source(mix_table(), paper_mixes(), classes, title=figure, note=note)
    points = skills_points().query("visibility != 'hidden'")
    points = points.assign(tokens=points["flops"] / 6 / points["params"])
    note = (
        "Points read off Figure 1: averages over the held-out sets of each skill, so that "
        "there is one half only. Its aggregate is Llama 3's law, for which no losses are shown."
    )
    return Source(points, {}, classes, title="arXiv 2503.10061, Figure 1", note=note)
