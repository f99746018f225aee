"""Documents of a source, in parts that processes take, through the datasets library."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.prepare.spec import Corpora, PrepareError, Source

if TYPE_CHECKING:
    from datasets import IterableDataset

PART_BYTES = 2**24
"""Bytes of local files in a part (assumption: seconds of work, so that progress shows)."""

PART_DOCUMENTS = 10_000
"""Fewest documents of a part where a source's are limited (assumption)."""

MOST_PARTS = 4096
"""Of one source: enough for the cores of a node, and few enough to list."""

ROWS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".ndjson": "json"}
"""Files that hold a document per row, by suffix, and the builder that reads them."""

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")


@dataclass(frozen=True)
class Part:
    """A share of one source's documents; what a process works on.

    Attributes:
        document_class: name of the class.
        source: what it is a part of.
        number: index among the class's parts; names its files.
        index: which of ``of`` parts of the source.
        of: parts of the source.
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
    dataset = open_source(source, where=where)
    if next(texts(dataset, source, where=where), None) is None:
        raise PrepareError(
            f"{where}: {source} has no document with text"
            + (f" where {source.where}" if source.where else "")
        )
    files = _files(source)
    sizes = sum(Path(file).stat().st_size for file in files)
    wanted = sizes // PART_BYTES if files else MOST_PARTS
    count = max(1, min(wanted, dataset.num_shards, MOST_PARTS))
    limits: list[int | None] = [None] * count
    if source.limit is not None:
        count = min(count, max(1, source.limit // PART_DOCUMENTS))
        limits = [source.limit // count + (i < source.limit % count) for i in range(count)]
    plain = bool(files) and _builder(source, where=where)[0] != "parquet"
    plain = plain and not files[0].endswith(COMPRESSED)
    weight = sizes / count if files else 1.0
    return [
        Part(name, source, first + i, i, count, weight, plain, limits[i]) for i in range(count)
    ]


def open_part(part: Part) -> IterableDataset:
    """The rows of a part; ``state_dict`` and ``load_state_dict`` mark and find a place."""
    dataset = open_source(part.source, where=f"classes.{part.document_class}")
    return dataset if part.of == 1 else dataset.shard(num_shards=part.of, index=part.index)


def open_source(source: Source, *, where: str) -> IterableDataset:
    """The rows of a source, streamed.

    Args:
        source: what to open.
        where: its field in the spec, for messages.

    Raises:
        PrepareError: no file matches or is of its kind, or the Hub does not know or reach it.
    """
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    if source.hub is None:
        builder, options = _builder(source, where=where)
        try:
            return load_dataset(
                builder, data_files=_files(source), split="train", streaming=True, **options
            )
        except (OSError, ValueError) as error:
            files = ", ".join(source.files)
            raise PrepareError(f"{where}.files: {files}: {_first_line(error)}") from error
    try:
        return load_dataset(
            source.hub, source.config, split=source.split, revision=source.revision, streaming=True
        )
    except (OSError, ValueError) as error:  # what datasets raises for the Hub and for a split
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
    found = {file for pattern in source.files for file in glob.glob(pattern, recursive=True)}
    return sorted(file for file in found if Path(file).is_file())


def _builder(source: Source, *, where: str) -> tuple[str, dict[str, Any]]:
    """Which builder of datasets reads a source's files, with its options."""
    kinds = {ROWS.get(_suffix(file), "text") for file in _files(source)}
    if not kinds:
        raise PrepareError(
            f"{where}.files: no file matches {', '.join(source.files)} (from {Path.cwd()})"
        )
    if len(kinds) > 1:
        raise PrepareError(
            f"{where}.files: {', '.join(source.files)} matches files of several kinds "
            f"({', '.join(sorted(kinds))}); make a source of each"
        )
    kind = kinds.pop()
    if kind == "text":
        return kind, {"sample_by": "document", "encoding_errors": "replace"}
    return kind, {}


def _suffix(file: str) -> str:
    suffixes = [s for s in Path(file).suffixes if s not in COMPRESSED]
    return suffixes[-1] if suffixes else ""


def texts(dataset: IterableDataset, source: Source, *, where: str) -> Iterator[str]:
    """The texts of a source's rows, empty ones left out.

    Raises:
        PrepareError: a row has no such column, the column is no text, or a file cannot be read.
    """
    try:
        for row in dataset:
            if all(_cell(row, name, where) == value for name, value in source.where.items()):
                text = _cell(row, "text" if _whole(source) else source.text, where)
                if not isinstance(text, str | None):
                    raise PrepareError(
                        f"{where}.text: column {source.text!r} holds {type(text).__name__}, "
                        "not text"
                    )
                if text:
                    yield text
    except PrepareError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise PrepareError(f"{where}: {source} cannot be read: {_first_line(error)}") from error


def _whole(source: Source) -> bool:
    """Whether each file is a document."""
    return bool(source.files) and _suffix(_files(source)[0]) not in ROWS


def _cell(row: dict[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise PrepareError(f"{where}: no column {name!r}; there are {', '.join(sorted(row))}")
    return row[name]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
