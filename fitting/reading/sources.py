"""Anybody's files as one raw table: text, Parquet, Feather, JSON, YAML, Excel, stdin."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pandas as pd

from fitting.errors import TableError
from fitting.reading.objects import flat, parse_json, parse_yaml
from fitting.reading.parts import unmerged
from fitting.reading.text import Raw, delimited, joined_raws, read_text, sampled

LARGE = 20_000_000
"""Bytes from which a CSV is parsed from disk: a line that is no record ends it then."""

STORES = ("wandb", "mlflow", "tensorboard", "hf")


class ToPandas(Protocol):
    """A table of polars, pyarrow and others."""

    def to_pandas(self) -> pd.DataFrame:
        """The same as a DataFrame."""


Source: TypeAlias = (
    pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]] | ToPandas | str | Path
)
"""What `load` takes."""


def _zstandard(content: bytes) -> bytes:
    """What zstd packed."""
    import pyarrow

    packed = pyarrow.input_stream(pyarrow.BufferReader(content), compression="zstd")
    return bytes(packed.read())


_UNPACK: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"\x28\xb5\x2f\xfd": _zstandard,
}


def load(source: Source) -> Raw:
    """Read a source, merged cells filled down.

    Args:
        source: see `framed`; or a path, "-" for stdin, or STORE:PLACE with one of wandb, mlflow,
            tensorboard, hf.

    Raises:
        TableError: it is missing, empty, or holds no table.
    """
    raw = _loaded(source)
    frame, notes = unmerged(flat(raw.frame))
    return replace(raw, frame=frame, notes=[*raw.notes, *notes])


def framed(source: object) -> pd.DataFrame:
    """A table in memory as a DataFrame, the named levels of its index as columns.

    Args:
        source: a DataFrame, a mapping of columns, a list of records, or what has ``to_pandas``
            (polars, pyarrow).

    Raises:
        TableError: it is none of these, or its columns differ in length.
    """
    if hasattr(source, "to_pandas"):
        source = source.to_pandas()
    records = isinstance(source, list) and all(isinstance(row, Mapping) for row in source)
    if isinstance(source, Mapping) or records:
        try:
            source = pd.DataFrame(source)
        except ValueError as error:
            raise TableError(f"this is not a table of columns of one length: {error}") from error
    if isinstance(source, pd.DataFrame):
        return _with_index(source)
    raise TableError(
        f"type {type(source).__name__} is no table: give a DataFrame (pandas, polars, pyarrow), a "
        "mapping of columns, a list of records, or a path"
    )


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """With the named levels of its index as columns; of several levels rows are only counted."""
    names = frame.index.names
    if len(names) == 1 and names[0] is None:
        return frame
    # A name that is a level and a column is ambiguous to pandas.
    rows = pd.RangeIndex(len(frame)) if len(names) > 1 else frame.index.rename(None)
    named = [name for name in names if name is not None and name not in frame.columns]
    return frame.reset_index(level=named).set_axis(rows)


def _loaded(source: Source) -> Raw:
    """The table as it stands in its source."""
    if not isinstance(source, str | os.PathLike):
        return Raw(framed(source))
    store, separator, place = str(source).partition(":")
    if separator and store in STORES:
        from fitting.reading import stores

        return Raw(stores.READERS[store](place))
    return _file(Path(source)) if str(source) != "-" else _parsed(sys.stdin.buffer.read(), "stdin")


def _file(path: Path) -> Raw:
    """A file, or a directory of TensorBoard's."""
    if not os.path.exists(path):  # False for names no system takes
        raise TableError(f"no such file: {path}")
    if path.is_dir():
        if (sweep := path / "observations.parquet").exists():
            return _file(sweep)
        if any(path.rglob("*tfevents*")):
            return _loaded(f"tensorboard:{path}")
        raise TableError(
            f"{path} is a directory without runs: give a sweep's directory, a table, or a log "
            "directory of TensorBoard"
        )
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return Raw(pd.read_parquet(path))
        if path.suffix.lower() in (".csv", ".tsv") and path.stat().st_size > LARGE:
            return _large(path)
        return _parsed(path.read_bytes(), path.name)
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"cannot read {path}: {error}") from error


def _large(path: Path) -> Raw:
    """A large clean file, parsed in columns without holding its text."""
    with path.open(encoding="utf-8-sig") as file:
        head = [line for line in itertools.islice(file, 50) if line.strip()]
    separator, decimal = sampled([line for line in head if not line.startswith("#")])
    frame = pd.read_csv(path, sep=separator, decimal=decimal, comment="#", encoding="utf-8-sig")
    return Raw(frame, decimal)


def _parsed(content: bytes, name: str) -> Raw:
    """A table from bytes, whatever they hold."""
    for magic, unpack in _UNPACK.items():
        if content.startswith(magic):
            content = unpack(content)
    if content.startswith(b"PAR1"):
        return Raw(pd.read_parquet(io.BytesIO(content)))
    if content.startswith(b"PK"):
        return _archive(content, name)
    if content.startswith((b"ARROW1", b"FEA1")):
        return Raw(pd.read_feather(io.BytesIO(content)))
    text = _decoded(content)
    if not text.strip():
        raise TableError(f"cannot read {name}: it is empty")
    if "\0" in text or content.startswith(b"\x80"):
        raise TableError(
            f"cannot read {name}: it is binary and none of Parquet, Feather, Excel, gzip, bzip2, "
            "xz or zstd (a pickle is not opened, as it may run programs): write it as CSV"
        )
    if name.lower().removesuffix(".zst").endswith((".yaml", ".yml")):
        return Raw(parse_yaml(text, name))
    if text.lstrip()[0] in "{[":
        frame, rejected = parse_json(text, name)
        return Raw(frame, rejected=rejected)
    return read_text(text, name)


def _decoded(content: bytes) -> str:
    """Text in UTF-8, UTF-16, or Windows' alphabet."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    for first, order in ((1, "le"), (0, "be")):
        if content[first:40:2].count(0) > 15:
            return content.decode(f"utf-16-{order}", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _archive(content: bytes, name: str) -> Raw:
    """A workbook, or the one table of a zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [m for m in archive.namelist() if not m.endswith("/") and "__MACOSX" not in m]
        if "[Content_Types].xml" not in members:
            if len(members) != 1:
                raise TableError(f"{name} holds {len(members)} files: give one of them")
            return _parsed(archive.read(members[0]), members[0])
    try:
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None)
    except ImportError as error:
        raise TableError(
            f"{name} is a workbook: pip install openpyxl, or save it as CSV"
        ) from error
    raws = [
        (title, delimited(sheet.to_csv(index=False, header=False).splitlines(), name))
        for title, sheet in sheets.items()
        if len(sheet)
    ]
    if not raws:
        raise TableError(f"cannot read {name}: its sheets are empty")
    return joined_raws(raws, "sheets")
