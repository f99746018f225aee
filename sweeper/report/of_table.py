"""The report of somebody's table, which no sweep of ours trained."""

from __future__ import annotations

from pathlib import Path

from fitting import Fits
from sweeper.record.record import Outcome
from sweeper.report.report import write
from sweeper.search.suggest import observed
from sweeper.spec.sections import Cluster
from sweeper.spec.spec import Spec

SEED_DESIGNS = 100
"""Cheapest trials that the stand-in spec could pay for: any spec must pay for a few."""


class TableOutcome(Outcome):
    """Somebody's runs as the report reads an outcome.

    The spec is a stand-in that names the budgets and what was spent; the page shows what was read
    instead of it.

    Args:
        fits: of the table.
        name: for the heading.
        read: what was taken from where, in a line.
    """

    def __init__(self, fits: Fits, name: str, read: str) -> None:
        frame = fits.observations.frame
        trials = frame.drop_duplicates("trial_id")
        budgets = tuple(float(b) for b in sorted(frame["budget"].unique()))
        enough = max(float(trials["flops"].sum()), SEED_DESIGNS * budgets[0])
        spec = Spec(budgets, enough, name=name, cluster=Cluster(device="cpu-core"))
        table = observed(frame).assign(flops=frame["budget"], reason="")
        super().__init__(spec, table, None)
        self.read = read


def write_table(fits: Fits, path: Path, *, name: str, read: str) -> Path:
    """Write the report of a table.

    Args:
        path: an HTML, Markdown or JSON file.
        read: what was taken from where.

    Returns:
        ``path``.
    """
    return write(TableOutcome(fits, name, read), path, fits)
