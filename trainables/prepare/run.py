"""The whole of a preparation, from a spec to a directory that trials map.

Every step keeps what it finished, so that the same call goes on after a kill, a full disk or a
lost network: the tokenizer once, then shard by shard; the rest (held-out documents, benchmarks,
the search for both in the shards) is quick and done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainables.manifest import FILE, FORMAT, TOKEN_BYTES, file_hash
from trainables.prepare import skills, tokenizer
from trainables.prepare.collect import class_entry, contamination_of
from trainables.prepare.files import FULL, caches_below, write_bytes
from trainables.prepare.pool import Say, cores, drop_broken, open_pool, write_shards
from trainables.prepare.shards import (
    WORK,
    DiskFull,
    Job,
    as_bytes,
    forget_from,
    is_held_out,
    records_of,
    text_hash,
)
from trainables.prepare.sources import Part, open_part, parts_of, texts
from trainables.prepare.spec import Corpora, PrepareError


def prepare(
    corpora: Corpora, root: Path, *, workers: int | None = None, say: Say = print
) -> dict[str, Any]:
    """Prepare a corpus, or go on with one that was interrupted.

    Args:
        workers: processes; None for one per core, 0 for none but this one.

    Returns:
        The manifest.

    Raises:
        PrepareError: something cannot be read, written or used; finished shards are kept.
    """
    started = time.monotonic()
    try:
        (root / WORK).mkdir(parents=True, exist_ok=True)
        caches_below(root / WORK / "cache")
        with _alone(root):
            manifest = _prepare(corpora, root, cores() if workers is None else workers, say)
            manifest["seconds"] = round(time.monotonic() - started, 1)
            _write(root / FILE, manifest)
    except OSError as error:
        if error.errno not in FULL:
            raise PrepareError(f"{root} cannot be written: {error}") from error
        raise DiskFull(_no_room(root)) from error
    except DiskFull as error:
        raise DiskFull(_no_room(root)) from error
    return manifest


def _prepare(corpora: Corpora, root: Path, workers: int, say: Say) -> dict[str, Any]:
    parts = parts_of(corpora)
    _same_as_before(corpora, parts, root)
    for source in corpora.skills:
        skills.examples(source)  # complains before hours of tokenising
    made = root / TOKEN_BYTES
    if not made.exists():
        say(f"tokenizer: {'training' if corpora.tokenizer.train else corpora.tokenizer.source}")
        tokenizer.make_tokenizer(corpora.tokenizer, _sample(corpora, parts), root, say)
    opened, begin = tokenizer.open_tokenizer(root), tokenizer.begin_token(root)
    job = Job(root, begin, corpora.validation, corpora.seed, corpora.shard_tokens)
    with open_pool(min(workers, len(parts))) as (pool, told):
        drop_broken(root, parts, pool, say)
        write_shards(job, parts, pool, told, say)
        classes = {name: class_entry(corpora, name, parts, root) for name in corpora.classes}
        encoded = {s.name: skills.write_skill(s, opened, root) for s in corpora.skills}
        manifest = {
            "format": FORMAT,
            "name": corpora.name,
            "share_of": corpora.share_of,
            "spec": asdict(corpora),
            "prepared": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": {name: version(name) for name in ("datasets", "tokenizers")},
            "tokenizer": {
                "path": tokenizer.DIRECTORY,
                "vocabulary": tokenizer.vocabulary_size(root),
                "begin": begin,
                "sha256": file_hash(root / tokenizer.DIRECTORY / "tokenizer.json"),
            },
            "classes": classes,
            "skills": encoded,
        }
        say("looking for held-out documents and benchmarks in the shards")
        manifest["contamination"] = contamination_of(corpora.ngram, manifest, root, pool)
    return manifest


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the directory; the lock of a dead process is free."""
    with (root / WORK / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrepareError(
                f"{root} is being prepared by another process; wait for it or stop it"
            ) from None
        yield


def _same_as_before(corpora: Corpora, parts: list[Part], root: Path) -> None:
    """Refuse to mix shards of two specs, or of sources that have changed."""
    spec = json.loads(json.dumps(corpora.decisive))
    found = json.loads(json.dumps([[p.document_class, p.name, p.weight] for p in parts]))
    path = root / WORK / "spec.json"
    if not path.exists():
        _write(path, {"spec": spec, "parts": found})
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key in spec if spec[key] != before["spec"].get(key)]
    if changed and not (root / TOKEN_BYTES).exists():
        _write(path, {"spec": spec, "parts": found})  # nothing rests on the former one
        return
    if changed:
        raise PrepareError(
            f"{root} was prepared from another spec ({', '.join(changed)} differ); choose another "
            "directory. Only shares, skills, ngram and name may change in place"
        )
    records = [records_of(root, part) for part in parts]
    many = len(found) != len(before["parts"]) and any(records)
    pairs = zip(parts, records, found, before["parts"], strict=False)
    differing = [(part, made) for part, made, now, then in pairs if now != then and made]
    if many or any(made[-1]["ended"] for _, made in differing):
        raise PrepareError(
            f"{root}: source files have changed since their shards were written (their number or "
            "sizes differ); choose another directory, or restore them"
        )
    for part, made in differing:  # it was not finished: perhaps a damaged file was fixed
        forget_from(root, part, made[0]["file"])
    _write(path, {"spec": spec, "parts": found})


def _sample(corpora: Corpora, parts: list[Part]) -> Iterator[str]:
    """Training text for a tokenizer: the first documents of every part, none held out."""
    most = corpora.tokenizer.sample_bytes / len(parts)
    for part in parts:
        left = most
        for text in texts(open_part(part), part.source, where=f"classes.{part.document_class}"):
            data = as_bytes(text)
            if not is_held_out(text_hash(data, corpora.seed), corpora.validation):
                yield data.decode()
                left -= len(data)
            if left <= 0:
                break


def _write(path: Path, values: dict[str, Any]) -> None:
    write_bytes(path, json.dumps(values, indent=1).encode())


def _no_room(root: Path) -> str:
    """What to do about a full disk."""
    kept = [path.stat().st_size for path in (root / "shards").glob("*/[0-9]*.bin")]
    return (
        f"the disk of {root} is full (or a file may not grow). {len(kept)} finished shards, "
        f"{sum(kept) / 1e6:.1f} MB, are kept: make room and run the same command again"
    )
