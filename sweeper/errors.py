"""What a sweep may raise.

IsoskillError (Exception)
├── SpecError       a spec, file or argument is wrong: names the field, the value and the remedy
├── DirectoryError  a sweep directory cannot be used: another spec's, held by another driver
├── ClusterError    no Ray cluster can be reached, or it cannot hold a trial
└── TrialFailed     one training failed; the sweep goes on
"""

from __future__ import annotations

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
