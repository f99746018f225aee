"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write says when there is no room."""

CACHES = {
    "XDG_CACHE_HOME": ".",
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
"""Variables that say where libraries keep what they can make again, by default below HOME."""


def partial(path: Path) -> Path:
    """Where a file is until it is whole."""
    return path.with_name(f".partial-{path.name}")


def flush(file: BinaryIO) -> None:
    """See what was written onto the disk, and close."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file at once: what was there before stays until the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial(path).open("wb") as file:
            file.write(data)
            flush(file)
        partial(path).replace(path)
    finally:
        partial(path).unlink(missing_ok=True)


def caches_below(place: Path) -> bool:
    """Keep libraries' caches in a directory where the home directory cannot be written.

    Service accounts and containers often have none, or a read-only one.

    Returns:
        Whether they are kept there.
    """
    try:
        with tempfile.TemporaryFile(dir=Path.home()):
            return False
    except (OSError, RuntimeError):  # of a user without an entry
        pass
    for name, part in CACHES.items():
        os.environ.setdefault(name, str(place.absolute() / part))
    return True
