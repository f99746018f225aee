"""The console command: the verbs of `Sweep` and `Results`, file first."""

from __future__ import annotations

import sys

# Their commands register themselves.
from sweeper.commands import (  # noqa: F401
    analysis,
    by_hand,
    monitoring,
    planning,
    prepare,
    skills,
    studies,
    sweeps,
    tune,
)
from sweeper.commands.console import app

LONGEST = 1000
"""Characters of a line of a message that are printed: enough for any that a person wrote."""


def main() -> None:
    """Run the command line; mistakes end with one message and exit code 2, no traceback."""
    from sweeper.errors import IsoskillError

    try:
        app()
    except IsoskillError as error:
        _refuse(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}")
    except ValueError as error:
        if not _is_fitting_error(error):
            raise
        _refuse(str(error))


def _is_fitting_error(error: ValueError) -> bool:
    errors = sys.modules.get("fitting.errors")
    return errors is not None and isinstance(error, errors.FittingError)


def _refuse(message: str) -> None:
    lines = [line if len(line) <= LONGEST else f"{line[:LONGEST]} ..." for line in
             message.splitlines()]  # fmt: skip
    print("isoskill: " + "\n".join(lines), file=sys.stderr)
    sys.exit(2)
