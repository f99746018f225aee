"""What a Ray of our own needs of its surroundings: put right where it can be, else named."""

from __future__ import annotations

import errno
import os
import resource
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeper.errors import ClusterError

SOCKET_BYTES = 107 - 66
"""Longest name of Ray's temporary directory: a socket's is 107 bytes on Linux, of which
``/session_<date>_<pid>/sockets/plasma_store`` takes up to 66 (ray 2.60)."""

SHORT = ("/tmp", "/var/tmp", "/dev/shm")
"""Where a directory of our own is made if Ray's usual one cannot serve."""

FILES = 65_536
"""Open files asked for (Ray's documentation advises as many)."""

FEW_FILES = 1024
"""Open files below which their want is named as the likely cause (the usual soft limit; a small
Ray has been seen to start with 120)."""

SMALL_BYTES = 2**30
"""Free memory below which a Ray that did not start probably had too little (assumption)."""


def before_ray_is_imported() -> None:
    """Set what Ray reads when it is imported.

    Raises:
        ClusterError: Ray cannot be imported by this Python.
    """
    if sys.flags.optimize >= 2:
        raise ClusterError(
            "python -OO takes the docstrings away, and Ray cannot be imported without them: use "
            "python -O, or unset PYTHONOPTIMIZE"
        )
    # Under `uv run` Ray would pack the working directory for its workers, whatever is in it; ours
    # are on this machine, or have the same files.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


def temporary_directory() -> str | None:
    """A directory for a Ray of our own, None for its usual one.

    The usual one may be too long for the name of a socket, or another user's.

    Raises:
        ClusterError: there is none; says why the usual one cannot be used.
    """
    usual = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"
    cause = _unusable(usual)
    if not cause:
        return None
    own = [Path(parent) / f"ray-{os.getuid()}" for parent in SHORT]
    for place in own:
        if not _unusable(place):
            return str(place)
    raise ClusterError(
        f"Ray has no place for its files: {usual} {cause}, and {own[0]} {_unusable(own[0])}; set "
        f"RAY_TMPDIR to a directory of yours of at most {SOCKET_BYTES - 4} characters"
    )


@contextmanager
def short_temporary_names(place: str | None) -> Iterator[None]:
    """Let processes that are started meanwhile keep their sockets where names are short.

    Ray's dashboard starts others through a socket in Python's temporary directory.

    Args:
        place: Ray's own directory, None for its usual one.
    """
    before = os.environ.get("TMPDIR")
    if before is None or len(os.fsencode(before)) <= SOCKET_BYTES:
        yield
        return
    short = place or next(p for p in SHORT if not _unusable(Path(p, "x")))
    Path(short).mkdir(mode=0o700, exist_ok=True)
    os.environ["TMPDIR"] = short
    try:
        yield
    finally:
        os.environ["TMPDIR"] = before


def own_temporary_directory() -> Path:
    """A directory of this user's alone, for what no sweep keeps."""
    return Path(tempfile.gettempdir()) / f"isoskill-{os.getuid()}"


def _unusable(place: Path) -> str:
    """Why Ray cannot keep its files and sockets there; "" if it can."""
    if len(os.fsencode(place)) > SOCKET_BYTES:
        return "is too long a name for a socket"
    try:
        if place.exists() and place.stat().st_uid != os.getuid():
            return "belongs to another user"
        with tempfile.TemporaryFile(dir=place if place.exists() else place.parent):
            return ""
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def allow_files() -> None:
    """Raise this process's limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def token_below(place: Path) -> None:
    """Keep a Ray's token in a directory of the sweep where the home directory cannot take it.

    Ray would write a new token to ``~/.ray``, and does not start if it cannot.
    """
    named = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    path = place / "auth_token"
    if named:
        return
    if not path.exists():
        place.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path.resolve())


def remedy(error: Exception, logs: Path) -> str:
    """The cause of a Ray that did not start, as far as it can be told, and what to do."""
    said, hard = str(error), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    number = error.errno if isinstance(error, OSError) else None
    few_files = (
        f"this process may open {hard:,} files, which is few: raise the limit (ulimit -n {FILES}, "
        "or LimitNOFILE= of a service)"
    )
    if number == errno.EMFILE or "Too many open files" in said:
        return few_files
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in said:
        return f"there is no room in {logs.parents[1]}: free some, or set RAY_TMPDIR"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        name = getattr(error, "filename", None) or logs.parents[1]
        return f"{name} cannot be written: set RAY_TMPDIR to a directory of yours"
    free = _free_bytes()
    if free is not None and free < SMALL_BYTES:
        return f"{free / 1e6:.0f} MB of memory are free: end other programs, or take more"
    if 0 < hard < FEW_FILES:
        return few_files
    return f"the machine may be busy: try again, or lower cluster.cpus; {logs} says more"


def _free_bytes() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * int(found[0]) if found else None
