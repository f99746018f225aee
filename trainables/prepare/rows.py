"""Rows of local files, read strictly: a file that is not what it seems is refused with the place.

Text is decoded here rather than by the libraries underneath, which replace, cut or skip what they
cannot read: a half-copied archive must not become training text.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BYTES = 2**30
"""Of one document (assumption: what is longer is many documents in one file)."""

REPLACEMENT = "\ufffd"
"""Stands for what could not be decoded."""

PARQUET = "parquet"

KINDS = {
    ".parquet": PARQUET, ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json",
    ".json": "json",
}  # fmt: skip
"""Files that hold a document per row, by suffix; any other is one document."""

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")

MAGIC = {
    b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "compressed by gzip",
    b"BZh91AY": "compressed by bzip2", b"\xfd7zXZ\x00": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd", b"7z\xbc\xaf": "a 7z archive",
    b"Rar!\x1a": "a rar archive", b"PAR1\x15": "a parquet file", b"ARROW1\0\0": "an Arrow file",
    b"%PDF-": "a PDF", b"\x89PNG": "a picture", b"\x7fELF": "a program",
    b"SQLite format 3": "a database", b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text",
}  # fmt: skip
"""First bytes of what is no UTF-8 text, whatever a file is called."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

HOLE = bytes(8)
"""Zeros in a row that are a hole in a copy rather than a text's own."""

_DAMAGED = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""What the decompressors raise."""


class Unreadable(ValueError):
    """A file is not what it seems: its name, the place, the cause and the remedy."""


@dataclass(frozen=True)
class Reading:
    """How text is decoded.

    Attributes:
        columns: the columns that are asked for; others of a column store are not read.
    """

    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None


Row = tuple[str, dict[str, Any]]
"""Where a row stands, such as "line 3", and its columns."""


def kind_of(file: str) -> str:
    """What a file holds by its name: parquet, csv, json, or text."""
    return KINDS.get(_suffix(file), "text")


def _suffix(file: str) -> str:
    suffixes = [s.lower() for s in Path(file).suffixes if s.lower() not in COMPRESSED]
    return suffixes[-1] if suffixes else ""


def read_rows(file: str, reading: Reading) -> Iterator[Row]:
    """The rows of a file; a file of any other kind than those of `KINDS` is one row, ``text``.

    Raises:
        Unreadable: it is damaged, cut off, or not what its name says.
    """
    kind, opened = kind_of(file), _Text(file, reading)
    try:
        if kind == PARQUET:
            yield from _columns(file, reading)
            return
        with _open(file) as raw:
            yield from _READERS[kind](opened, raw)
    except _DAMAGED as error:
        cut = isinstance(error, EOFError) or "runcated" in str(error)
        cause = "ends too early" if cut else f"is damaged ({error})"
        raise Unreadable(f"{file} {cause}; copy it again") from error
    except UnicodeDecodeError as error:
        raise opened.undecodable(error) from error


def _open(file: str) -> IO[bytes]:
    """A file's bytes, decompressed by its name."""
    suffix = Path(file).suffix.lower()
    if suffix == ".zst":
        import pyarrow as pa  # its own zstd: no further library

        return io.BufferedReader(pa.input_stream(file, compression="zstd"))
    openers: dict[str, Callable[[str], Any]] = {
        ".gz": gzip.open,
        ".xz": lzma.open,
        ".bz2": bz2.open,
    }
    opened: IO[bytes] = openers[suffix](file) if suffix in openers else open(file, "rb")
    return opened


@dataclass
class _Text:
    """Lines of a text file, with the place for messages."""

    file: str
    reading: Reading
    line: int = 0
    before: int = 0
    ending: str = ""
    _wide: bool = field(init=False)

    def __post_init__(self) -> None:
        self._wide = "\n".encode(self.reading.encoding) != b"\n"

    def lines(self, raw: IO[bytes]) -> Iterator[str]:
        """Decoded lines, each with its end."""
        if self._wide:
            raw = io.BytesIO(self.decode(self._first(raw.read(MOST_BYTES + 1))).encode())
        while data := raw.readline(MOST_BYTES + 1):
            self.line += 1
            if len(data) > MOST_BYTES:
                raise self.refuse(f"is longer than {MOST_BYTES:,} bytes")
            if self.line == 1:
                data = self._first(data)
            text = data.decode() if self._wide else self.decode(data)
            self.before, self.ending = self.before + len(data), text[-2:]
            yield text

    def decode(self, data: bytes) -> str:
        """Text of bytes that are text."""
        if b"\0" in data and not self._wide:
            at = data.index(b"\0")
            raise Unreadable(
                f"{self.file}, line {self.line or 1 + data.count(10, 0, at)}, byte "
                f"{self.before + at}: a NUL byte, which no text has; the file is binary or was "
                "not copied whole: copy it again, or leave it out"
            )
        return data.decode(self.reading.encoding)

    def _first(self, data: bytes) -> bytes:
        """The first bytes of a file, seen to be text."""
        if data.startswith(BYTE_ORDER_MARK):
            return data[len(BYTE_ORDER_MARK) :]
        what = next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)
        if data[257:262] == b"ustar":
            what = "a tar archive"
        if what == "UTF-16 text" and self._wide:
            return data
        if what is None:
            return data
        remedy = {
            "UTF-16 text": "say encoding: utf-16 for this source",
            "a parquet file": "name it .parquet",
            "an Arrow file": "write it as parquet, or give its folder as hub: FOLDER",
        }.get(what, "unpack it and give the files in it, or leave it out")
        raise Unreadable(f"{self.file} is {what} rather than text; {remedy}")

    def document(self, raw: IO[bytes]) -> str:
        """The whole file as text."""
        data = raw.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Unreadable(
                f"{self.file} is more than {MOST_BYTES:,} bytes, and a text file is one document; "
                "write JSON lines, a document on each"
            )
        return self.decode(self._first(data))

    def refuse(self, cause: str) -> Unreadable:
        """A complaint about the current line."""
        return Unreadable(f"{self.file}, line {self.line}: {cause}")

    def undecodable(self, error: UnicodeDecodeError) -> Unreadable:
        """A complaint about bytes that are not of the encoding."""
        data = bytes(error.object)
        line = self.line or 1 + data.count(b"\n", 0, error.start)
        return Unreadable(
            f"{self.file}, line {line}, byte {self.before + error.start}: "
            f"{data[error.start : error.start + 1].hex()} is not {self.reading.encoding}; say "
            "encoding: for this source (such as latin-1 or cp1252), or fix the file"
        )


def _documents(text: _Text, raw: IO[bytes]) -> Iterator[Row]:
    yield "the file", {"text": text.document(raw)}


def _json(text: _Text, raw: IO[bytes]) -> Iterator[Row]:
    """Objects, one a line or as one list."""
    lines = text.lines(raw)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise Unreadable(f"{text.file} is empty; copy it again, or leave it out")
    if first.lstrip().startswith("["):
        yield from _json_list(text, first + "".join(lines))
        return
    for line in itertools.chain([first], lines):
        if line.strip():
            yield f"line {text.line}", _object(text, line)


def _object(text: _Text, line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not text.ending.endswith("\n"):
            raise text.refuse("is cut off: the file ends within it; copy it again") from None
        raise text.refuse(f"is not JSON ({_first(error)}); write one object a line") from None
    if not isinstance(values, dict):
        raise text.refuse('is not an object such as {"text": "..."}')
    return values


def _first(error: Exception) -> str:
    """A complaint of the parser, with the column and without a line of its own counting."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return str(error)


def _json_list(text: _Text, everything: str) -> Iterator[Row]:
    try:
        found = json.loads(everything)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{text.file} is no JSON list ({error}); was it copied whole?") from None
    for i, values in enumerate(found):
        if not isinstance(values, dict):
            raise Unreadable(f"{text.file}, entry {i + 1}: is not an object")
        yield f"entry {i + 1}", values


def _csv(text: _Text, raw: IO[bytes]) -> Iterator[Row]:
    """Rows under a heading."""
    csv.field_size_limit(MOST_BYTES)
    delimiter = "\t" if _suffix(text.file) == ".tsv" else ","
    rows = _strict(text, csv.reader(text.lines(raw), strict=True, delimiter=delimiter))
    names = next(rows, None)
    if not names:
        raise Unreadable(f"{text.file} has no heading; copy it again, or leave it out")
    if len(set(names)) < len(names):
        raise text.refuse(f"two columns have the same name ({', '.join(names)}); rename one")
    for cells in rows:
        if len(cells) != len(names):
            raise text.refuse(
                f"{len(cells)} fields where the heading has {len(names)}; was the file cut off, "
                "or is a field with commas not quoted?"
            )
        if not text.ending.endswith(("\n", '"')):
            raise text.refuse(
                "the last line has no end, so that it may be cut off; copy the file again, or add "
                "a line end if it is whole"
            )
        yield f"line {text.line}", dict(zip(names, cells, strict=True))


def _strict(text: _Text, rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """Rows that hold something, complaints in words."""
    try:
        yield from (row for row in rows if row)
    except csv.Error as error:
        cause = "the file ends within a quoted field" if "end of data" in str(error) else error
        raise text.refuse(f"{cause}; was it copied whole?") from None


_READERS: dict[str, Callable[[_Text, IO[bytes]], Iterator[Row]]] = {
    "json": _json,
    "csv": _csv,
    "text": _documents,
}


def _columns(file: str, reading: Reading) -> Iterator[Row]:
    """Rows of a parquet file; text is decoded here, as its writers need not have checked it."""
    number = 0
    try:
        for batch in _batches(file, reading.columns):
            names = batch.schema.names
            cells = [_values(file, column, number) for column in batch.columns]
            for row in zip(*cells, strict=True):
                number += 1
                yield f"row {number}", dict(zip(names, row, strict=True))
    except (OSError, ValueError) as error:  # Arrow's own are ValueErrors
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(
            f"{file} is no sound parquet file ({str(error).splitlines()[0]}); copy it again"
        ) from error


def _batches(file: str, columns: tuple[str, ...] | None) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
        known = opened.schema_arrow.names
        wanted = [n for n in known if columns is None or n in columns]
        # With none of them there are rows without a column, and so a word about it.
        yield from opened.iter_batches(columns=wanted or known[:1])


def _values(file: str, column: pa.Array, before: int) -> list[Any]:
    """A column's cells."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        wide = pa.types.is_large_string(column.type)
        column = column.view(pa.large_binary() if wide else pa.binary())
        column.validate(full=True)  # of the offsets: damaged ones would point anywhere
        cells = enumerate(column.to_pylist(), before + 1)
        return [None if c is None else _cell(file, c, row) for row, c in cells]
    column.validate(full=True)
    return list(column.to_pylist())


def _cell(file: str, data: bytes, row: int) -> str:
    if HOLE in data:
        raise Unreadable(f"{file}, row {row}: NUL bytes, which no text has; copy it again")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"{file}, row {row}, byte {error.start}: not UTF-8; write the file again as UTF-8"
        ) from None
