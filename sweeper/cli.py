"""The console command: the verbs of `Sweep` and `Results`, file first."""

from __future__ import annotations

import errno
import io
import sys

# Their commands register themselves.
from sweeper.commands import (  # noqa: F401
    analysis,
    by_hand,
    comparing,
    monitoring,
    prepare,
    starting,
    studies,
    sweeps,
)
from sweeper.commands.console import NO_NUMBER, app
from sweeper.driver.output import calm_output, forget_output
from sweeper.errors import IsoskillError

LONGEST = 1000
"""Characters of a line of a message that are printed: enough for any that a person wrote."""

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
"""What a write says to an output that is on a full disk, or gone."""


def main() -> None:
    """Run the command line; what cannot be done ends with one message and no traceback.

    The exit code is 2, or `NO_NUMBER` where the question was right and the data hold no answer.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of a terminal that knows no such character
    try:
        app()
    except IsoskillError as error:
        _refuse(str(error))
    except OSError as error:
        if error.filename is not None:
            _refuse(f"{error.filename}: {error.strerror}")
        if error.errno not in UNWRITABLE:
            raise
        _refuse(f"the output cannot be written: {error.strerror}")
    except ValueError as error:
        errors = sys.modules.get("fitting.errors")  # one of its own was raised by it
        if errors is None or not isinstance(error, errors.FittingError):
            raise
        _refuse(str(error), NO_NUMBER if isinstance(error, errors.FitError) else 2)


def _refuse(message: str, code: int = 2) -> None:
    lines = [line if len(line) <= LONGEST else f"{line[:LONGEST]} ..." for line in
             message.splitlines()]  # fmt: skip
    with calm_output():
        print("isoskill: " + "\n".join(lines), file=sys.stderr)
    forget_output()
    sys.exit(code)
