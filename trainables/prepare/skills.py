"""Benchmarks encoded beside the shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.manifest import file_hash
from trainables.prepare.files import partial
from trainables.prepare.rows import Reading, Unreadable, kind_of, read_rows
from trainables.prepare.spec import PrepareError, SkillSource
from trainables.skills.benchmarks import Benchmark, BenchmarkError, Loaded, convert, load
from trainables.skills.encode import encode
from trainables.skills.paper import NINETEEN, find

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DIRECTORY = "skills"

ANY_LENGTH = 2**31
"""Context of encoding: trials cut examples to their own."""


def write_skill(source: SkillSource, tokenizer: Tokenizer, root: Path) -> dict[str, Any]:
    """Encode one skill's examples and keep them; returns its entry in the manifest.

    Raises:
        PrepareError: the examples cannot be had, or lack a field.
    """
    loaded = examples(source)
    encoded = encode(loaded.examples, tokenizer, context=ANY_LENGTH)
    if not encoded.ids:
        raise PrepareError(f"skills.{source.name}: the tokenizer leaves nothing of its targets")
    path = root / DIRECTORY / f"{source.name}.npz"
    path.parent.mkdir(exist_ok=True)
    encoded.save(partial(path))
    partial(path).replace(path)
    return {
        "class": skill_class(source), "examples": len(encoded.ids),
        "tokens": len(encoded.tokens), "target_tokens": int(encoded.target_tokens.sum()),
        "without_target": loaded.skipped + encoded.left_out, "note": loaded.note,
        "file": str(path.relative_to(root)), "sha256": file_hash(path),
    }  # fmt: skip


def skill_class(source: SkillSource) -> str:
    """The class of a skill: the spec's, else its benchmark's, else its own name."""
    known = NINETEEN.get(source.name)
    return source.skill_class or (known.skill_class if known else source.name)


def examples(source: SkillSource) -> Loaded:
    """Examples of a skill, from the hub, a file or the harness.

    Raises:
        PrepareError: they cannot be had, lack a column, or have no target.
    """
    try:
        if source.lm_eval is not None:
            from trainables.skills.harness import load_task

            return load_task(
                source.lm_eval,
                doc_to_target=source.doc_to_target,
                include_path=source.include_path,
                limit=source.limit,
            )
        of_catalog = source.dataset_path is None and (
            source.name in NINETEEN or source.path is None
        )
        benchmark = find(source.name) if of_catalog else _own(source)
        if source.path is None:
            return load(benchmark, limit=source.limit)
        local = replace(
            benchmark,
            dataset_kwargs={"data_files": source.path},
            note="",  # it speaks of the hub's dataset
        )
        return convert(local, _Table(source.path), limit=source.limit)
    except Unreadable as error:
        raise PrepareError(f"skills.{source.name}: {error}") from error
    except BenchmarkError as error:
        raise PrepareError(str(error)) from error


class _Table:
    """The rows of a local file."""

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise Unreadable(f"there is no file {path}; give JSON lines, CSV or parquet")
        if kind_of(path) == "text":
            raise Unreadable(f"{path} is no table; give JSON lines, CSV or parquet")
        self._rows = [row for _, row in read_rows(path, Reading())]
        names: dict[str, None] = {}
        for row in self._rows:
            names |= dict.fromkeys(row)
        self.column_names = list(names)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, column: str) -> list[Any]:
        return [row.get(column) for row in self._rows]

    def select(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        return [dict.fromkeys(self.column_names) | self._rows[row] for row in rows]


def _own(source: SkillSource) -> Benchmark:
    """A benchmark that is no one's but the spec's."""
    templates = source.doc_to_text, source.doc_to_target or "target"
    return Benchmark(
        task=source.name, dataset_path=source.dataset_path or "json",
        dataset_name=source.dataset_name, test_split=source.test_split, doc_to_text=templates[0],
        doc_to_target=templates[1], target_delimiter=source.target_delimiter,
        skill_class=skill_class(source),
        columns=tuple(name for name in templates if name.isidentifier()),
    )  # fmt: skip
