"""What follows from the shards: classes, held-out documents, and what is in both."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from trainables.corpora.prepared import token_type
from trainables.manifest import file_hash
from trainables.prepare import contamination
from trainables.prepare.files import write_bytes
from trainables.prepare.shards import WORK, records_of
from trainables.prepare.sources import Part
from trainables.prepare.spec import Corpora, PrepareError
from trainables.prepare.tokenizer import vocabulary_size
from trainables.skills.encode import Encoded

FEW_DOCUMENTS = 3
"""Documents of a class up to which a message says how to part them (assumption)."""

CHECKED_TOKENS = 2**22
"""Held-out tokens of a class that are looked for in the shards (assumption: enough)."""


def class_entry(corpora: Corpora, name: str, parts: list[Part], root: Path) -> dict[str, Any]:
    """A class's entry in the manifest; merges its held-out documents.

    Raises:
        PrepareError: nothing is left to train on, or nothing to validate on.
    """
    mine = [part for part in parts if part.document_class == name]
    records = [record for part in mine for record in records_of(root, part)]
    names = ("documents", "tokens", "bytes", "replaced")
    counts = {name: sum(record[name] for record in records) for name in names}
    if counts["documents"] == 0:
        held_out = sum(len(record["held_out"]) for record in records)
        raise PrepareError(
            f"classes.{name}: no document is left to train on (of {held_out} all are held out); "
            f"give it more, or lower validation{_few(held_out)}"
        )
    share = corpora.classes[name].share
    return {
        "share": counts[corpora.share_of] if share is None else share,
        **counts,
        "shards": [
            {key: record[key] for key in ("file", "tokens", "sha256")}
            for record in records
            if record["tokens"]
        ],
        "validation": _merge(root, name, records, corpora.validation),
    }


def _few(documents: int) -> str:
    """What to do where a class is hardly more than one document; "" where it is."""
    if documents > FEW_DOCUMENTS:
        return ""
    are = "is 1 document" if documents == 1 else f"are {documents} documents"
    return (
        f". There {are} only, and some are trained on, others held out: write a long text as "
        'JSON lines, a chapter or page a row ({"text": ...}), or as a file each'
    )


def _merge(
    root: Path, name: str, records: list[dict[str, Any]], validation: float
) -> dict[str, Any]:
    """Write a class's held-out documents as one file, each text once, in the order of hashes."""
    dtype = token_type(vocabulary_size(root))
    documents: dict[str, tuple[np.ndarray[Any, Any], int]] = {}
    for record in records:
        tokens = np.fromfile(root / record["held_out_file"], dtype=dtype)
        first = 0
        for key, count, size in record["held_out"]:
            documents[key] = tokens[first : first + count], size
            first += count
    if not documents:
        known = sum(record["documents"] for record in records)
        raise PrepareError(
            f"classes.{name}: no document is held out at validation: {validation:g}; raise it, or "
            f"give the class more documents{_few(known)}"
        )
    path = root / "validation" / f"{name}.bin"
    ordered = [documents[key] for key in sorted(documents)]
    write_bytes(path, b"".join(tokens.tobytes() for tokens, _ in ordered))
    return {
        "file": str(path.relative_to(root)), "documents": len(ordered),
        "tokens": sum(tokens.size for tokens, _ in ordered),
        "bytes": sum(size for _, size in ordered), "sha256": file_hash(path),
    }  # fmt: skip


def contamination_of(
    n: int, manifest: dict[str, Any], root: Path, pool: Executor
) -> dict[str, Any]:
    """What of the held-out documents and the benchmarks is in the shards."""
    dtype, begin = token_type(vocabulary_size(root)), manifest["tokenizer"]["begin"]
    sets = {}
    for name, entry in manifest["classes"].items():
        tokens = np.fromfile(root / entry["validation"]["file"], dtype=dtype, count=CHECKED_TOKENS)
        ends = np.flatnonzero(tokens == begin)
        # Each piece but the first starts with the token that ended the one before.
        pieces = np.split(tokens, ends)
        sets[f"validation/{name}"] = [p[p != begin] for p in pieces if (p != begin).any()]
    for name, entry in manifest["skills"].items():
        encoded = Encoded.load(root / entry["file"])
        # Of each example's answers the first.
        firsts = np.flatnonzero(np.diff(encoded.example, prepend=-1)).tolist()
        sets[name] = [_target(encoded, i, n) for i in firsts]
    shards = [
        root / shard["file"] for entry in manifest["classes"].values() for shard in entry["shards"]
    ]
    found = contamination.check(sets, shards, n=n, dtype=dtype, work=root / WORK, pool=pool)
    return {"ngram": n, "sets": found}


def _target(encoded: Encoded, sequence: int, n: int) -> np.ndarray[Any, Any]:
    """A target with as much context as runs of n tokens that touch it can have."""
    first, last = encoded.offsets[sequence : sequence + 2]
    start = first + encoded.start[sequence]
    return encoded.tokens[max(first, start - n + 1) : last]
