"""What can go wrong with a fit, as exceptions for misuse and as statuses for data.

FittingError (ValueError)
├── TableError   the table breaks the column contract: names column, rows and remedy
└── FitError     one fit has no usable answer (raised only with ``throw=True``)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


class FittingError(ValueError):
    """Base of all errors of this package."""


class TableError(FittingError):
    """The table of observations breaks the column contract."""


class FitError(FittingError):
    """A single fit has no usable answer; carries the status that says why."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


class Status(StrEnum):
    """Outcome of a fit. Only ``OK`` carries a number one may plan with."""

    OK = "ok"
    EDGE = "edge"
    GAP = "no-size-near"
    CONCAVE = "concave"
    TOO_FEW_SIZES = "too-few-sizes"
    FLAT = "not-distinguishable-from-flat"
    NO_INTERIOR_MINIMUM = "no-interior-minimum"
    NOT_IDENTIFIED = "not-identified"
    UNREACHABLE = "unreachable"
    NO_COMMON_LAW = "no-common-law"
    MISFIT = "misfit"

    @property
    def advice(self) -> str:
        """One sentence a user can act on."""
        return _ADVICE[self]


_ADVICE = {
    Status.OK: "Interior minimum, usable.",
    Status.EDGE: "The optimum lies at the edge of the sizes or beyond: train sizes there.",
    Status.GAP: "No size near the optimum was trained on this budget: train some there.",
    Status.CONCAVE: "The curve bends downwards: its extremum is a maximum; train more sizes "
    "or check the losses.",
    Status.TOO_FEW_SIZES: "Train three sizes or more on a budget.",
    Status.FLAT: "Sizes cannot be told apart: widen their range, or repeat trials.",
    Status.NO_INTERIOR_MINIMUM: "No minimum among the sizes trained: train beyond them, on the "
    "falling side.",
    Status.NOT_IDENTIFIED: "The data do not determine this quantity: add budgets or sizes.",
    Status.UNREACHABLE: "No amount of compute gives what was asked for: ask for less.",
    Status.NO_COMMON_LAW: "The fit without the top budget failed to predict it, so nothing beyond "
    "is predicted: train on larger budgets.",
    Status.MISFIT: "The data do not have the law's form: fit another law, or a narrower range.",
}
