"""What each process does: read a part's documents, tokenise, split and write them.

A shard is written under another name, flushed to disk, and renamed; then its record is, which
says its hash and where in the part to go on. A shard with a record is finished, whatever happens
next; one without is written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.corpora.prepared import token_type
from trainables.manifest import file_hash
from trainables.prepare.files import FULL, flush, partial, write_bytes
from trainables.prepare.rows import REPLACEMENT
from trainables.prepare.sources import Part, open_part, texts
from trainables.prepare.spec import PrepareError
from trainables.prepare.tokenizer import open_tokenizer, pieces, vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORK = "work"
"""Directory of records and of held-out documents before they are merged."""

BATCH_DOCUMENTS, BATCH_BYTES = 256, 2**20
"""Documents tokenised at a time, and the bytes from which fewer do (assumption: keeps every
thread of the tokenizer busy, and a shard from growing far beyond its size)."""

ENCODED_CHARACTERS = 2**18
"""Of a text tokenised at a time: the library needs some hundred bytes for each (assumption)."""

Told = Callable[[int, int], None]
"""Called with bytes of text and tokens after each batch."""


class DiskFull(PrepareError):
    """A file could not be written for want of room."""


@dataclass(frozen=True)
class Job:
    """What all parts of one preparation share.

    Attributes:
        begin: token after each document.
        validation: share of documents held out.
        seed: of the hash that decides it.
    """

    root: Path
    begin: int
    validation: float
    seed: int
    shard_tokens: int


@dataclass
class _Counts:
    """What went into a shard."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    replaced: int = 0
    held_out: list[tuple[str, int, int]] = field(default_factory=list)


def write_part(job: Job, part: Part, told: Told) -> None:
    """Write what is missing of the shards of a part that has not ended.

    Raises:
        DiskFull: there is no room; finished shards are kept.
        PrepareError: the source cannot be read.
    """
    records = records_of(job.root, part)
    dataset, where = open_part(part), f"classes.{part.document_class}"
    if records:
        dataset.load_state_dict(records[-1]["state"])
    taken = sum(record["taken"] for record in records)
    rows = texts(dataset, part.source, where=where)
    if part.limit is not None:
        rows = islice(rows, max(0, part.limit - taken))
    tokenizer, dtype = open_tokenizer(job.root), token_type(vocabulary_size(job.root))
    ended, number = False, len(records)
    while not ended:
        with _Shard(job, part, number) as shard:
            ended = _fill(shard, rows, job=job, tokenizer=tokenizer, dtype=dtype, told=told)
            state = None if ended else dataset.state_dict()
            shard.finish(ended=ended, state=state)
        number += 1


def _fill(
    shard: _Shard,
    rows: Iterator[str],
    *,
    job: Job,
    tokenizer: Tokenizer,
    dtype: np.dtype[Any],
    told: Told,
) -> bool:
    """Write documents until the shard is full; returns whether there are no more."""
    while shard.counts.tokens < job.shard_tokens:
        batch = _batch(rows)
        if not batch:
            return True
        before = shard.counts.tokens
        for data, ids in zip(batch, _encoded(batch, tokenizer), strict=True):
            tokens = np.array([*ids, job.begin], dtype=dtype)
            key = text_hash(data, job.seed)
            shard.add(tokens, key, len(data), held_out=is_held_out(key, job.validation))
            shard.counts.replaced += data.count(REPLACEMENT.encode())
        told(sum(map(len, batch)), shard.counts.tokens - before)
    return False


def _encoded(batch: list[bytes], tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Token ids of each text; a long one is tokenised piece by piece."""
    parts = [list(pieces(data.decode(), ENCODED_CHARACTERS)) for data in batch]
    flat = [part for document in parts for part in document]
    found = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
    for document in parts:
        yield [token for encoding in islice(found, len(document)) for token in encoding.ids]


def _batch(rows: Iterator[str]) -> list[bytes]:
    """The next documents, as UTF-8."""
    batch: list[bytes] = []
    while len(batch) < BATCH_DOCUMENTS and sum(map(len, batch)) < BATCH_BYTES:
        text = next(rows, None)
        if text is None:
            break
        batch.append(as_bytes(text))
    return batch


def as_bytes(text: str) -> bytes:
    """A text as UTF-8; half a surrogate pair, which JSON can spell, counts as replaced."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def text_hash(data: bytes, seed: int) -> str:
    """Hash of a document's text."""
    return hashlib.blake2b(data, digest_size=16, key=str(seed).encode()).hexdigest()


def is_held_out(key: str, share: float) -> bool:
    """Whether a document belongs to the validation set: its hash alone decides."""
    return int(key[:15], 16) < share * 16**15


class _Shard:
    """A training file and its held-out documents, under other names until they are whole.

    As a context it removes what was not finished, and says a full disk in words.
    """

    def __init__(self, job: Job, part: Part, number: int) -> None:
        name = f"{part.name}-{number:05d}"
        self._root, self._record = job.root, records_directory(job.root, part) / f"{name}.json"
        self._file = job.root / "shards" / part.document_class / f"{name}.bin"
        self._held_out = self._record.with_name(f"{name}.held-out.bin")
        for path in (self._file, self._record):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._open = [partial(path).open("wb") for path in (self._file, self._held_out)]
        self._sha256 = hashlib.sha256()
        self._taken = 0
        self.counts = _Counts()

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for file in self._open:
            with contextlib.suppress(OSError):  # what is left in the buffer has no room either
                file.close()
        for path in (self._file, self._held_out):
            partial(path).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFull(f"no room to write in {self._root}: {error.strerror}") from error

    def add(self, tokens: np.ndarray[Any, Any], key: str, size: int, *, held_out: bool) -> None:
        """Append one document."""
        self._taken += 1
        data = tokens.tobytes()
        self._open[held_out].write(data)
        if held_out:
            self.counts.held_out.append((key, tokens.size, size))
            return
        self._sha256.update(data)
        self.counts.documents += 1
        self.counts.tokens += tokens.size
        self.counts.bytes += size

    def finish(self, *, ended: bool, state: dict[str, Any] | None) -> None:
        """Give the files their names, then write the record that makes them count."""
        for file, path in zip(self._open, (self._file, self._held_out), strict=True):
            flush(file)
            partial(path).replace(path)
        record = {
            "file": str(self._file.relative_to(self._root)),
            "held_out_file": str(self._held_out.relative_to(self._root)), **vars(self.counts),
            "sha256": self._sha256.hexdigest(), "taken": self._taken, "ended": ended,
            "state": state,
        }  # fmt: skip
        write_bytes(self._record, json.dumps(record).encode())


def records_directory(root: Path, part: Part) -> Path:
    """Where the records of a part's class are."""
    return root / WORK / part.document_class


def records_of(root: Path, part: Part) -> list[dict[str, Any]]:
    """Records of a part's finished shards, in order."""
    found = sorted(records_directory(root, part).glob(f"{part.name}-*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def forget_from(root: Path, part: Part, file: str) -> None:
    """Forget a shard and those after it in its part, so that they are written again."""
    for path in sorted(records_directory(root, part).glob(f"{part.name}-*.json")):
        if path.stem >= Path(file).stem:
            path.unlink()


def verify(root: Path, record: dict[str, Any]) -> bool:
    """Whether a finished shard is what its record says."""
    path = root / record["file"]
    return path.is_file() and file_hash(path) == str(record["sha256"])
