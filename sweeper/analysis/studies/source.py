"""Where a study's losses come from: a sweep, somebody's table, or the paper's digitised points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sweeper.errors import SpecError
from sweeper.record.record import FITTED, Outcome
from sweeper.spec.presets import followed

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


def of_outcome(outcome: Outcome) -> Source:
    """The runs of a sweep, real or simulated."""
    table = outcome.table[outcome.table["status"] == "finished"]
    names = [str(skill) for skill in table["skill"].unique()]
    return Source(
        table[list(FITTED)],
        outcome.sweep.mix_shares,
        outcome.sweep.followed(names),
        outcome.aggregate,
        outcome.sweep.name,
    )


def of_table(table: pd.DataFrame, shares: Mapping[str, Mapping[str, float]]) -> Source:
    """Any table of runs.

    Args:
        table: see `fitting.prepare`.
        shares: of its mixes; empty: read from columns ``share_<class>``, or the paper's thirteen
            where the mixes have their names.
    """
    from fitting import prepare

    seen = prepare(table)
    frame = seen.frame.drop(columns="budget")
    shares = shares or _shares_of(table, frame)
    classes = {c for mix in shares.values() for c in mix}
    own = _column(table, "class")
    found = own or followed(seen.skills, classes or _prefixes(seen.skills))
    aggregate = next((s for s in ("validation", "aggregate", "ape") if s in seen.skills), None)
    return Source(frame, shares, found, aggregate)


def _shares_of(table: pd.DataFrame, frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Shares by mix, from the table's own columns or the paper's names."""
    from fitting.datamix.shares import paper_mixes

    columns = [c for c in table.columns if str(c).startswith("share_")]
    if columns and "mix" in table:
        means = table.groupby(table["mix"].astype(str), sort=False)[columns].mean()
        return {
            str(mix): {c.removeprefix("share_"): float(row[c]) for c in columns}
            for mix, row in means.iterrows()
        }
    names = set(frame["mix"].dropna().astype(str)) if "mix" in frame else set()
    paper = paper_mixes()
    return paper if names and names <= set(paper) else {}


def _column(table: pd.DataFrame, name: str) -> dict[str, str]:
    """Class of each skill, where the table says it."""
    if name not in table or "skill" not in table:
        return {}
    rows = table.dropna(subset=[name]).drop_duplicates("skill")
    return dict(zip(rows["skill"].astype(str), rows[name].astype(str), strict=True))


def _prefixes(skills: list[str]) -> set[str]:
    """Classes that skills are called after, such as code in code-3."""
    return {skill.replace("/", "-").split("-")[0] for skill in skills}


def read(runs: str | Path, study: str, mixes: Path | None = None) -> Source:
    """Read a sweep directory, a table, or ``paper``.

    Args:
        runs: the directory or file, or ``paper`` for the digitised points.
        study: which of the paper's figures is meant.
        mixes: YAML file, mix -> class -> share, for a table that does not say them.

    Raises:
        SpecError: there is nothing of that name, or the file of mixes is no such mapping.
    """
    from fitting import read_table

    if str(runs) == PAPER and not Path(runs).exists():
        return paper(study)
    path = Path(runs)
    if path.is_dir():
        from sweeper.record.record import Record

        return of_outcome(Record(path))
    return of_table(read_table(path), _read_mixes(mixes) if mixes else {})


def _read_mixes(path: Path) -> dict[str, dict[str, float]]:
    from sweeper.spec.reading import read_yaml

    values = read_yaml(path)
    if not all(isinstance(mix, dict) for mix in values.values()):
        raise SpecError(f"{path}: write a mapping of mixes, such as more-code: {{code: 0.5, ...}}")
    return {
        str(name): {str(c): float(share) for c, share in mix.items()}
        for name, mix in values.items()
    }


def paper(study: str) -> Source:
    """The points of arXiv 2503.10061, digitised: Figure 2 for the data mix, else Figure 1."""
    from fitting.datamix.shares import paper_mixes
    from fitting.reference import mix_table, skills_points

    classes = {"knowledge": "knowledge", "code": "code"}
    if study == "datamix":
        return Source(
            mix_table(),
            paper_mixes(),
            classes,
            title="arXiv 2503.10061, Figure 2",
            note="Points read off Figure 2 at 6e18 FLOPs: code under six mixes, knowledge under "
            "five; sizes above 494 M are under its legends, and two knowledge curves have six and "
            "eight points only.",
        )
    points = skills_points()
    points = points[points["visibility"] != "hidden"]
    return Source(
        points.assign(tokens=points["flops"] / 6 / points["params"]),
        {},
        classes,
        title="arXiv 2503.10061, Figure 1",
        note="Points read off Figure 1: averages over the held-out sets of each skill, so that "
        "there is one half only. Its aggregate is Llama 3's law, for which no losses are shown.",
    )
