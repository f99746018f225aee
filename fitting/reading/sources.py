"""Anybody's files as one raw table: delimited text, Parquet, JSON, Markdown, Excel, stdin."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import lzma
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fitting.errors import TableError
from fitting.reading.objects import flat, parse_json
from fitting.reading.terms import AMOUNTS
from fitting.reading.words import parse

LARGE = 20_000_000
"""Bytes from which a CSV is parsed from disk: a line that is no record ends it then."""

TITLES, LEAST_LINES = 3, 3
"""Lines above a header that may be titles, and those that a table has below them at least."""

STORES = ("wandb", "mlflow", "tensorboard", "hf")

_UNPACK: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
}
_SEPARATORS = (",", ";", "\t", "|", r"\s+")
_RULE = re.compile(r"^[\s|:+=-]*-[\s|:+=-]*$")  # |---|:--:|


@dataclass
class Raw:
    """A table as read.

    Attributes:
        frame: one row per record.
        decimal: the mark before decimals.
        rejected: lines that are no records: line number to reason.
        notes: what a reader should know of the reading.
    """

    frame: pd.DataFrame
    decimal: str = "."
    rejected: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load(source: pd.DataFrame | Mapping[str, Any] | str | Path) -> Raw:
    """Read a source.

    Args:
        source: a DataFrame, a mapping of columns, a path, "-" for stdin, or STORE:PLACE with one
            of wandb, mlflow, tensorboard, hf.

    Raises:
        TableError: it is missing, empty, or holds no table.
    """
    if isinstance(source, pd.DataFrame):
        return Raw(flat(source))
    if isinstance(source, Mapping):
        try:
            return Raw(pd.DataFrame(source))
        except ValueError as error:
            raise TableError(f"this is not a table of columns of one length: {error}") from error
    store, separator, place = str(source).partition(":")
    if separator and store in STORES:
        from fitting.reading import stores

        return Raw(flat(stores.READERS[store](place)))
    return _file(Path(source)) if str(source) != "-" else _parsed(sys.stdin.buffer.read(), "stdin")


def _file(path: Path) -> Raw:
    """A file, or a directory of TensorBoard's."""
    if not os.path.exists(path):  # False for names no system takes
        raise TableError(f"no such file: {path}")
    if path.is_dir():
        if (sweep := path / "observations.parquet").exists():
            return _file(sweep)
        if any(path.rglob("*tfevents*")):
            return load(f"tensorboard:{path}")
        raise TableError(
            f"{path} is a directory without runs: give a sweep's directory, a table, or a log "
            "directory of TensorBoard"
        )
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return Raw(flat(pd.read_parquet(path)))
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
    separator, decimal = _layout([line for line in head if not line.startswith("#")])
    frame = pd.read_csv(path, sep=separator, decimal=decimal, comment="#", encoding="utf-8-sig")
    return Raw(flat(frame), decimal)


def _parsed(content: bytes, name: str) -> Raw:
    """A table from bytes, whatever they hold."""
    for magic, unpack in _UNPACK.items():
        if content.startswith(magic):
            content = unpack(content)
    if content.startswith(b"PAR1"):
        return Raw(flat(pd.read_parquet(io.BytesIO(content))))
    if content.startswith(b"PK"):
        return _archive(content, name)
    text = _decoded(content)
    if not text.strip():
        raise TableError(f"cannot read {name}: it is empty")
    if text.lstrip()[0] in "{[":
        frame, rejected = parse_json(text, name)
        return Raw(frame, rejected=rejected)
    lines = [line for line in text.splitlines() if not re.match(r"\s*```|sep=.$", line)]
    return _markdown(lines) or _latex(lines) or _delimited(lines, name)


def _decoded(content: bytes) -> str:
    """Text in UTF-8, UTF-16, or Windows' alphabet."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if content[1:40:2].count(0) > 15:
        return content.decode("utf-16-le", errors="replace")
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
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None)
    except ImportError as error:
        raise TableError(
            f"{name} is a workbook: pip install openpyxl, or save it as CSV"
        ) from error
    filled = {title: sheet for title, sheet in sheets.items() if len(sheet)}
    if not filled:
        raise TableError(f"cannot read {name}: its sheets are empty")
    title = max(filled, key=lambda t: filled[t].size)
    notes = [f"of sheets {', '.join(sheets)}, {title} was read"] if len(sheets) > 1 else []
    return Raw(flat(filled[title]), notes=notes)


# --- text with separators ---


def _delimited(lines: list[str], name: str) -> Raw:
    """CSV and its relatives: any separator, comments, decimal commas, cut lines."""
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    body = [(i, line) for i, line in numbered if not _is_comment(line)]
    if not body:
        raise TableError(f"cannot read {name}: it holds comments only")
    titles = _titles([line for _, line in body[:200]])
    body = body[titles:]
    separator, decimal = _layout([line for _, line in body[:200]])
    comments = [line for i, line in numbered if i < body[0][0]] if not titles else []
    if comments and _is_header(
        _cells(comments[-1].lstrip("# "), separator), body[0][1], separator
    ):
        body = [(0, comments[-1].lstrip("# ")), *body]  # as gnuplot and numpy.savetxt write it
    head = _cells(body[0][1], separator)
    _refuse_twice(head)
    if _index_unnamed([line for _, line in body[:200]], separator):
        head = ["", *head]
        body = [
            (body[0][0], (separator if len(separator) == 1 else "row ") + body[0][1]),
            *body[1:],
        ]
    text = "\n".join(line for _, line in body)
    rejected: dict[int, str] = {}
    width = len(head)

    def reject(cells: list[str]) -> list[str] | None:
        if not any(cell.strip() for cell in cells[width:]):
            return cells[:width]
        shown = separator.join(cells)[:60] if len(separator) == 1 else " ".join(cells)[:60]
        rejected[len(rejected)] = f"{len(cells)} cells under {width} headers: {shown!r}"
        return None

    options: dict[str, Any] = {"sep": separator, "decimal": decimal, "skipinitialspace": True}
    if decimal == ",":
        options["thousands"] = "."
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(io.StringIO(text), **options, index_col=False)
        except (pd.errors.ParserError, pd.errors.ParserWarning, UserWarning):
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # longer rows are listed
            options |= {"engine": "python", "on_bad_lines": reject}
            frame = pd.read_csv(io.StringIO(text), **options, index_col=False)
    last = len(_cells(body[-1][1], separator)) if len(separator) == 1 else width
    if last < width and len(frame) > 1 and _is_cut(body[-1][1], frame.iloc[:-1, last:]):
        rejected[body[-1][0]] = f"the last line is cut off: {body[-1][1][:60]!r}"
        frame = frame.iloc[:-1]
    return Raw(flat(frame), decimal, rejected)


def _titles(lines: list[str]) -> int:
    """Lines of one cell above the header of a table whose rows have several."""
    starts = range(min(TITLES, len(lines) - LEAST_LINES) + 1)
    regular = [max(_regularity(lines[k:], s) for s in _SEPARATORS) for k in starts]
    if not regular:
        return 0
    best = max(starts, key=lambda k: regular[k])
    separator = _layout(lines[best:])[0]
    single = all(len(_cells(line, separator)) == 1 for line in lines[:best])
    return best if regular[best] > 2 * regular[0] and single else 0


def _is_comment(line: str) -> bool:
    """A line after # or %, unless it begins with a run's number (#12,...)."""
    return bool(re.match(r"\s*[#%](?!\d+\s*[,;\t|])", line))


def _is_cut(line: str, missing: pd.DataFrame) -> bool:
    """Whether a last line lacks cells that other rows have, and is not the end of a quoted one."""
    return line.count('"') % 2 == 0 and bool(missing.notna().mean().max() > 0.5)


def _index_unnamed(lines: list[str], separator: str) -> bool:
    """Whether rows have one cell more than the header: an index, as R and print(frame) write."""
    head, *rows = (_cells(line, separator) for line in lines)
    longer = [len(row) == len(head) + 1 and row[-1] != "" for row in rows]
    return len(head) > 1 and sum(longer) * 2 > len(longer)


def _refuse_twice(head: list[str]) -> None:
    """Refuse two columns of one name, which one cannot choose between."""
    twice = {h for h in head if head.count(h) > 1 and parse(h).role in ("loss", *AMOUNTS)}
    if twice:
        shown = ", ".join(map(repr, sorted(twice)))
        raise TableError(f"columns {shown} occur twice: rename one of each")


def _layout(lines: list[str]) -> tuple[str, str]:
    """Separator, and the mark before decimals."""
    separator = max(_SEPARATORS, key=lambda s: (_regularity(lines, s), -_SEPARATORS.index(s)))
    inside = [cell for line in lines[1:] for cell in _cells(line, separator)]
    grouped = r"-?\d{1,3}(,\d{3})+"
    comma = separator != "," and any(
        re.fullmatch(r"-?\d+,\d+", c) and not re.fullmatch(grouped, c) for c in inside
    )
    return separator, "," if comma or _losses_in_thousands(lines, separator) else "."


def _losses_in_thousands(lines: list[str], separator: str) -> bool:
    """Whether losses are written 2,788: no thousands, as no loss is so large."""
    rows = [_cells(line, separator) for line in lines]
    heads = [parse(h) for h in rows[0]]
    at = [i for i, h in enumerate(heads) if h.role == "loss" and h.kind != "perplexity"]
    cells = [row[i] for row in rows[1:] for i in at if i < len(row) and row[i]]
    return bool(cells) and all(re.fullmatch(r"\d,\d{3}", c) for c in cells)


def _is_header(cells: list[str], first: str, separator: str) -> bool:
    """Whether a comment above the data is its header: as many cells, and names we know."""
    known = [c for c in cells if parse(c).role in ("params", "tokens", "flops", "loss")]
    return len(cells) == len(_cells(first, separator)) and len(known) >= 2


def _cells(line: str, separator: str) -> list[str]:
    """The cells of one line, quotes respected."""
    if len(separator) > 1:
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line.strip(" \r\n")], delimiter=separator))]


def _regularity(lines: list[str], separator: str) -> float:
    """Share of lines that a separator cuts into as many cells as the header, by how many."""
    counts = [len(_cells(line, separator)) for line in lines]
    if counts[0] < 2:
        return 0.0
    weight = 0.5 if len(separator) > 1 else 1.0
    return weight * sum(c == counts[0] for c in counts) / len(counts) * min(counts[0], 4)


def _markdown(lines: list[str]) -> Raw | None:
    """The largest table with a rule under its header; None where there is no rule."""
    rules = [i for i, line in enumerate(lines) if "|" in line and _RULE.match(line) and i]
    tables = []
    for i in rules:
        rows = [_row(lines[i - 1])]
        for line in lines[i + 1 :]:
            if "|" not in line:
                break
            if not _RULE.match(line):
                rows.append(_row(line))
        tables.append(rows)
    if not tables:
        return None
    head, *rows = max(tables, key=len)
    width = len(head)
    rows = [(row + [""] * width)[:width] for row in rows]
    frame = pd.DataFrame(rows, columns=_unique([re.sub(r"[*`]", "", h).strip() for h in head]))
    notes = (
        [f"of {len(tables)} tables in the text the longest was read"] if len(tables) > 1 else []
    )
    return Raw(frame.replace("", pd.NA), notes=notes)


def _latex(lines: list[str]) -> Raw | None:
    """The rows of a LaTeX tabular; None where there is none."""
    rows = [re.split(r"(?<!\\)&", re.sub(r"\\\\(\[.*?\])?|\\(?:hline|\w*rule)", "", line))
            for line in lines if re.search(r"(?<!\\)&.*\\\\", line)]  # fmt: skip
    if len(rows) < 3 or not any("tabular" in line for line in lines):
        return None
    head, *body = ([cell.strip() for cell in row] for row in rows)
    whole = [row for row in body if len(row) == len(head)]
    return Raw(pd.DataFrame(whole, columns=_unique(head)).replace("", pd.NA))


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _unique(names: list[str]) -> list[str]:
    return [n or f"column {i}" for i, n in enumerate(names, 1)]
