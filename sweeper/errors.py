"""What a sweep may raise.

IsoskillError (Exception)
├── SpecError       a spec, file or argument is wrong: names the field, the value and the remedy
├── DirectoryError  a sweep directory cannot be used: another spec's, held by another driver
├── ClusterError    no Ray cluster can be reached, or it cannot hold a trial
└── TrialFailed     one training failed; the sweep goes on
"""

from __future__ import annotations

from pathlib import Path

from trainables.families.checks import did_you_mean as did_you_mean


class IsoskillError(Exception):
    """Base of all errors a user can cause or fix; the console prints it without a traceback."""


class SpecError(IsoskillError):
    """A spec, file or argument is wrong."""


class DirectoryError(IsoskillError):
    """A sweep directory cannot be used."""


class ClusterError(IsoskillError):
    """No Ray cluster can be reached, or it cannot hold a trial."""


class TrialFailed(IsoskillError):
    """One training failed; raise it from a loss function to simulate a failure."""


def named(path: str | Path) -> Path:
    """A path, if it is not empty: as of a variable that is not set, it would be ".".

    Raises:
        DirectoryError: it is.
    """
    if path == "":
        raise DirectoryError(
            "an empty path would be the current directory; name one, such as sweeps/a, or ."
        )
    return Path(path)
