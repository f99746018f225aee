"""Whether a prepared corpus is what its manifest says: sizes at every opening, contents once.

A corpus that was copied in part, or a disk that lost a block, would be trained on in silence: a
token is as good as another. Contents are hashed once a day on every node, and again when a file's
size or time has changed; which were is remembered in the node's temporary directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from trainables.manifest import TOKEN_BYTES, CorpusError, file_hash
from trainables.progress import Countdown

REMEMBERED_S = 86_400.0
"""Seconds that a check of contents holds (assumption: a node's disks do not rot within a day)."""

READERS = 4
"""Files hashed at a time (assumption: enough for a disk or a network file system)."""

_seen: set[str] = set()
"""Checked by this process: holds where nothing can be written to the temporary directory."""


class _File(NamedTuple):
    """A file by its manifest; without a size or hash where that says none."""

    path: Path
    size: int | None
    sha256: str | None


def check_whole(
    root: Path, manifest: dict[str, Any], *, say: Callable[[str], None] | None = None
) -> None:
    """See that a prepared corpus's files are what its manifest says.

    Raises:
        CorpusError: a file is missing, of another size, or of other contents.
    """
    files = list(_files(root, manifest))
    for file in files:
        _check_size(file)
    mark = _mark(root, files)
    with _alone(mark):
        if str(mark) in _seen or _fresh(mark):
            return
        _check_contents([file for file in files if file.sha256], say)
        _seen.add(str(mark))
        with suppress(OSError):
            mark.touch()


def _files(root: Path, manifest: dict[str, Any]) -> Iterator[_File]:
    """All files of a corpus."""
    vocabulary = manifest["tokenizer"]["vocabulary"]
    width = 2 if vocabulary <= 2**16 else 4
    yield _File(root / TOKEN_BYTES, 2 * vocabulary, None)
    for entry in manifest["classes"].values():
        for part in (*entry["shards"], entry["validation"]):
            yield _File(root / part["file"], width * part["tokens"], part["sha256"])
    for entry in manifest["skills"].values():
        yield _File(root / entry["file"], None, entry["sha256"])


def _check_size(file: _File) -> None:
    try:
        size = file.path.stat().st_size
    except OSError as error:
        raise CorpusError(
            f"data.path: {file.path} cannot be read ({error.strerror}); copy the corpus again, or "
            "run the same `isoskill prepare` again"
        ) from error
    if file.size is not None and size != file.size:
        raise CorpusError(
            f"data.path: {file.path} has {size:,} bytes, {file.size:,} by the manifest: it "
            "was cut, or not copied whole; copy the corpus again, or run the same `isoskill "
            "prepare` again"
        )


def _check_contents(files: list[_File], say: Callable[[str], None] | None) -> None:
    countdown = Countdown(say or (lambda line: None))
    sizes = [file.path.stat().st_size for file in files]
    total, done = max(1, sum(sizes)), 0
    with ThreadPoolExecutor(READERS) as pool:
        for file, size, found in zip(files, sizes, pool.map(_sha256, files), strict=True):
            if found != file.sha256:
                raise CorpusError(
                    f"data.path: {file.path} does not hold what the manifest says (its SHA-256 "
                    "differs): it was damaged or replaced; copy it again, or run the same "
                    "`isoskill prepare` again"
                )
            done += size
            countdown.tell(done / total, f"checking the corpus: {done / 1e9:.1f} GB")


def _sha256(file: _File) -> str:
    try:
        return file_hash(file.path)
    except OSError as error:
        raise CorpusError(f"data.path: {file.path} cannot be read ({error.strerror})") from error


def _mark(root: Path, files: list[_File]) -> Path:
    """The file that remembers a check of just these files as they are now."""
    stats = [file.path.stat() for file in files]
    known = [
        [str(f.path), f.sha256, s.st_size, s.st_mtime_ns]
        for f, s in zip(files, stats, strict=True)
    ]
    key = hashlib.sha256(json.dumps([str(root.resolve()), known]).encode()).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"isoskill-{os.getuid()}" / key


def _fresh(mark: Path) -> bool:
    try:
        stat = mark.stat()
    except OSError:
        return False
    return stat.st_uid == os.getuid() and 0 <= time.time() - stat.st_mtime < REMEMBERED_S


@contextmanager
def _alone(mark: Path) -> Iterator[None]:
    """Let one process of a node check while others wait; each for itself if none can write."""
    try:
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        file = mark.with_suffix(".lock").open("a")
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
