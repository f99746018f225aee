"""Benchmarks encoded beside the shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.prepare.files import file_hash, partial
from trainables.prepare.spec import PrepareError, SkillSource
from trainables.skills.encode import Encoded, Example, encode

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
    found = examples(source)
    encoded = encode(found[: source.limit], tokenizer, context=ANY_LENGTH)
    if not encoded.ids:
        raise PrepareError(f"skills.{source.name}: no example has a target")
    path = root / DIRECTORY / f"{source.name}.npz"
    path.parent.mkdir(exist_ok=True)
    encoded.save(partial(path))
    partial(path).replace(path)
    return {
        "class": source.skill_class or source.name,
        "examples": len(encoded.ids),
        "file": str(path.relative_to(root)),
        "sha256": file_hash(path),
    }


def read_skill(root: Path, entry: dict[str, Any]) -> Encoded:
    """A skill's encoded examples."""
    return Encoded.load(root / entry["file"])


def examples(source: SkillSource) -> list[Example]:
    """Examples of a JSON lines file.

    Raises:
        PrepareError: the file cannot be read, a line lacks a field, or a target is empty.
    """
    where = f"skills.{source.name}"
    if source.path is None:
        raise PrepareError(f"{where}: give path: FILE.jsonl with a context and a target a line")
    try:
        lines = Path(source.path).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise PrepareError(f"{where}.path: {source.path} cannot be read: {error}") from error
    return [_example(row, i, source, where) for i, row in enumerate(rows)]


def _example(row: Any, number: int, source: SkillSource, where: str) -> Example:
    values = []
    for role, name in (("context", source.context_field), ("target", source.target_field)):
        if not isinstance(row, dict) or name not in row:
            there = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
            raise PrepareError(
                f"{where}: line {number + 1} of {source.path} has no field {name!r} (there: "
                f"{there}); name it with {role}_field"
            )
        values.append(row[name])
    context, target = values
    targets = tuple(target) if isinstance(target, list) else (target,)
    try:
        return Example(context, targets, str(row.get("id", number)))
    except (ValueError, TypeError) as error:
        raise PrepareError(f"{where}: line {number + 1} of {source.path}: {error}") from error
