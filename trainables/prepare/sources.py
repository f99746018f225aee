"""Documents of a source, in parts that processes take: local files, or the datasets library."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trainables.prepare.rows import COMPRESSED, PARQUET, Reading, Unreadable, kind_of, read_rows
from trainables.prepare.spec import Corpora, PrepareError, Source
from trainables.skills.benchmarks import first_line

PART_BYTES = 2**24
"""Bytes of local files in a part (assumption: seconds of work, so that progress shows)."""

PART_DOCUMENTS = 10_000
"""Fewest documents of a part where a source's are limited (assumption)."""

MOST_PARTS = 4096
"""Of one source: enough for the cores of a node, and few enough to list."""


class Local:
    """Rows of local files, one file after the other; as an `IterableDataset` of the datasets
    library, a place in it can be marked and found again.

    Attributes:
        place: file and place of the last row, for messages.
    """

    def __init__(self, files: list[str], reading: Reading) -> None:
        self._files, self._reading = files, reading
        self._file, self._taken = 0, 0
        self.place = ""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows from the place on."""
        skipped = self._taken
        for i in range(self._file, len(self._files)):
            self._file, self._taken = i, skipped
            rows = islice(read_rows(self._files[i], self._reading), skipped, None)
            for place, row in rows:
                self._taken += 1
                self.place = f"{self._files[i]}, {place}"
                yield row
            skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """The place after the last row."""
        return {"file": self._file, "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place."""
        self._file, self._taken = state["file"], state["taken"]


@dataclass(frozen=True)
class Part:
    """A share of one source's documents; what a process works on.

    Attributes:
        number: index among the class's parts; names its files.
        index: which of ``of`` parts of the source.
        weight: bytes on disk, or 1 where they are not known.
        plain: whether ``weight`` is about the bytes of its text.
        limit: most documents to take, None for all.
    """

    document_class: str
    source: Source
    number: int
    index: int
    of: int
    weight: float
    plain: bool
    limit: int | None = None

    @property
    def name(self) -> str:
        """How its files are called."""
        return f"{self.number:05d}"


def parts_of(corpora: Corpora) -> list[Part]:
    """All parts of a corpus, the same whenever the same sources are found.

    Raises:
        PrepareError: a source cannot be opened, or its first document has no text.
    """
    parts: list[Part] = []
    for name, entry in corpora.classes.items():
        count = 0
        for i, source in enumerate(entry.sources):
            found = _parts(f"classes.{name}.sources.{i}", name, source, count)
            parts, count = parts + found, count + len(found)
    return parts


def _parts(where: str, name: str, source: Source, first: int) -> list[Part]:
    """The parts of one source."""
    files = _files(source)
    _check_kinds(files, source, where)
    opened: Any = _open_local(source, files) if files else _open_hub(source, where=where)
    if next(texts(opened, source, where=where), None) is None:
        raise PrepareError(
            f"{where}: {source} has no document with text"
            + (f" where {source.where}" if source.where else "")
        )
    sizes = sum(Path(file).stat().st_size for file in files)
    count = min(sizes // PART_BYTES, len(files)) if files else opened.num_shards
    count = max(1, min(count, MOST_PARTS))
    limits: list[int | None] = [None] * count
    if source.limit is not None:
        count = min(count, max(1, source.limit // PART_DOCUMENTS))
        limits = [source.limit // count + (i < source.limit % count) for i in range(count)]
    plain = bool(files) and kind_of(files[0]) != PARQUET and not files[0].endswith(COMPRESSED)
    weight = sizes / count if files else 1.0
    return [
        Part(name, source, first + i, i, count, weight, plain, limits[i]) for i in range(count)
    ]


def open_part(part: Part) -> Any:
    """The rows of a part."""
    files = _files(part.source)
    if files:
        first, last = (len(files) * k // part.of for k in (part.index, part.index + 1))
        return _open_local(part.source, files[first:last])
    dataset = _open_hub(part.source, where=f"classes.{part.document_class}")
    return dataset.shard(num_shards=part.of, index=part.index) if part.of > 1 else dataset


def _open_local(source: Source, files: list[str]) -> Local:
    names = (source.text, *source.where)
    outer = (name.partition(".")[0] for name in names)  # a dotted name is within a column
    return Local(files, Reading(source.encoding, (*names, *outer)))


def _open_hub(source: Source, *, where: str) -> Any:
    """The rows of a dataset, streamed: an `IterableDataset`.

    Raises:
        PrepareError: the Hub does not know or reach it.
    """
    from datasets import Dataset, disable_progress_bars, load_dataset

    disable_progress_bars()
    try:
        if Path(source.hub or "", "state.json").is_file():  # one split, by `Dataset.save_to_disk`
            saved = Dataset.load_from_disk(source.hub or "")
            return saved.to_iterable_dataset(num_shards=max(1, len(saved.cache_files)))
        return load_dataset(
            source.hub, source.config, split=source.split, revision=source.revision, streaming=True
        )
    except (OSError, ValueError, RuntimeError) as error:  # of the Hub, a split, a loading script
        raise PrepareError(_no_hub(where, source, error)) from error


def _no_hub(where: str, source: Source, error: Exception) -> str:
    name = f"{source.hub}" + (f" ({source.config})" if source.config else "")
    text = str(error).splitlines()[0]
    if isinstance(error, ConnectionError) or "offline" in text.lower():
        return (
            f"{where}.hub: {name} cannot be reached: {text} This machine seems to be offline, or "
            "the id is wrong; a copy on disk goes by hub: DIRECTORY or files: GLOB"
        )
    return f"{where}.hub: {name}, split {source.split!r}, cannot be opened: {text}"


def _files(source: Source) -> list[str]:
    """Local files of a source, sorted."""
    found: set[str] = set()
    for pattern in source.files:  # a file's own name may have brackets
        found |= {pattern} if Path(pattern).is_file() else {*glob.glob(pattern, recursive=True)}
    return sorted(file for file in found if Path(file).is_file())


def _check_kinds(files: list[str], source: Source, where: str) -> None:
    """See that a source's files are there, and can be read alike."""
    folders = [pattern for pattern in source.files if Path(pattern).is_dir()]
    if folders and not files:
        raise PrepareError(
            f"{where}.files: {folders[0]} is a folder: write {Path(folders[0]) / '**' / '*.txt'}, "
            "or whatever its files are called (hub: FOLDER for what `datasets` has saved)"
        )
    if source.files and not files:
        raise PrepareError(
            f"{where}.files: no file matches {', '.join(source.files)} (from {Path.cwd()})"
        )
    kinds = {kind_of(file) for file in files}
    if len(kinds) > 1:
        raise PrepareError(
            f"{where}.files: {', '.join(source.files)} matches files of several kinds "
            f"({', '.join(sorted(kinds))}); make a source of each"
        )


def texts(rows: Any, source: Source, *, where: str) -> Iterator[str]:
    """The texts of a source's rows, empty ones left out.

    Raises:
        PrepareError: a row has no such column, the column is no text, or a file cannot be read.
    """
    column = "text" if source.files and kind_of(_files(source)[0]) == "text" else source.text
    try:
        for row in rows:
            there = getattr(rows, "place", "") or str(source)
            wanted = source.where.items()
            if all(_same(_cell(row, name, where, there), value) for name, value in wanted):
                text = _cell(row, column, where, there)
                if not isinstance(text, str | None):
                    raise PrepareError(
                        f"{where}.text: {there}: column {source.text!r} holds "
                        f"{type(text).__name__} ({str(text)[:40]}), not text"
                    )
                if text:
                    yield text
    except PrepareError:
        raise
    except Unreadable as error:
        raise PrepareError(f"{where}: {error}") from error
    except Exception as error:  # the datasets library passes on whatever its readers raise
        raise PrepareError(f"{where}: {source} cannot be read: {first_line(error)}") from error


def _same(cell: Any, value: Any) -> bool:
    """Whether a cell holds a value; the cells of a CSV file are all text."""
    if isinstance(cell, str) and not isinstance(value, str):
        return cell.lower() == str(value).lower()
    return bool(cell == value)


def _cell(row: dict[str, Any], name: str, where: str, there: str) -> Any:
    """A column's value; of a dotted name, such as meta.text, the one within a column."""
    outer, _, inner = name.partition(".")
    if name not in row and inner and isinstance(row.get(outer), dict):
        return _cell(row[outer], inner, where, f"{there}, {outer}")
    if name not in row:
        raise PrepareError(
            f"{where}: {there}: no column {name!r}; there are "
            f"{', '.join(f'{column:.40}' for column in sorted(map(str, row)))}. Say text: COLUMN "
            "for this source (OUTER.INNER within an object), or mend the row"
        )
    return row[name]
