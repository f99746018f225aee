"""Damaged corpora: refused by name, or read right; never trained on in silence."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from trainables.prepare import Corpora, PrepareError
from trainables.prepare.rows import Reading, Unreadable, read_rows
from trainables.prepare.run import prepare
from trainables.prepare.spec import Source, spelled_out

CASES = 50
"""Of each of the nine kinds."""

WORDS = "Grüße {}: the naïve café sold {} cakes\nin one day. "
TEXTS = [WORDS.format(i, i % 7) * (i % 5 + 1) for i in range(60)]


def _lines() -> bytes:
    return "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in TEXTS).encode()


def _csv() -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([["id", "text"], *enumerate(TEXTS)])
    return out.getvalue().encode()


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS}), out, row_group_size=20, write_page_checksum=True)
    return out.getvalue()


def _zstd() -> bytes:
    return bytes(pa.Codec("zstd").compress(_lines(), asbytes=True))


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", TEXTS[0])
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = len(TEXTS[0].encode())
        archive.addfile(member, io.BytesIO(TEXTS[0].encode()))
    return out.getvalue()


WHOLE: dict[str, tuple[str, bytes]] = {
    "json": ("a.jsonl", _lines()),
    "gzip": ("a.jsonl.gz", gzip.compress(_lines())),
    "xz": ("a.jsonl.xz", lzma.compress(_lines())),
    "bzip2": ("a.jsonl.bz2", bz2.compress(_lines())),
    "zstd": ("a.jsonl.zst", _zstd()),
    "csv": ("a.csv", _csv()),
    "parquet": ("a.parquet", _parquet()),
    "zip": ("a.txt", _zip()),
    "tar": ("a.txt", _tar()),
}


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    """A copy that was broken off."""
    return data[: rng.integers(8, len(data))]


def _hole(data: bytes, rng: np.random.Generator) -> bytes:
    """A copy of the right size with nothing in a part of it."""
    first, size = rng.integers(len(data) - 64), int(rng.integers(64, len(data)))
    return data[:first] + bytes(min(size, len(data) - first)) + data[first + size :]


def _tail(data: bytes, rng: np.random.Generator) -> bytes:
    """A copy whose end never arrived."""
    first = int(rng.integers(len(data) // 4, len(data) - 64))
    return data[:first] + bytes(len(data) - first)


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes of something else."""
    first = int(rng.integers(len(data) - 64))
    return data[:first] + rng.bytes(64) + data[first + 64 :]


def _other_text(data: bytes, rng: np.random.Generator) -> bytes:
    """Another encoding; what is no text is turned into nonsense by it."""
    encoding = str(rng.choice(["latin-1", "utf-16", "cp1252", "utf-16-be"]))
    return data.decode("utf-8", "replace").encode(encoding, "replace")


DAMAGE: list[Callable[[bytes, np.random.Generator], bytes]] = [
    _cut, _hole, _tail, _noise, _other_text,
]  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_files_are_read_right(kind: str, tmp_path: Path) -> None:
    name, data = WHOLE[kind]
    (tmp_path / name).write_bytes(data)
    if kind in ("zip", "tar"):
        with pytest.raises(Unreadable, match=f"{kind} archive rather than text; unpack it"):
            list(read_rows(str(tmp_path / name), Reading()))
        return
    assert [row["text"] for _, row in read_rows(str(tmp_path / name), Reading())] == TEXTS


@pytest.mark.parametrize("kind", WHOLE)
def test_damaged_files_are_refused_by_name_or_read_right(kind: str, tmp_path: Path) -> None:
    name, data = WHOLE[kind]
    path, rng, seen = tmp_path / name, np.random.default_rng(0), Counter[str]()
    for i in range(CASES):
        damage = DAMAGE[i % len(DAMAGE)]
        damaged = damage(data, rng)
        path.write_bytes(damaged)
        try:
            found = [row["text"] for _, row in read_rows(str(path), Reading())]
        except Unreadable as error:
            assert str(path) in str(error)
            seen["refused"] += 1
            continue
        # Cut just between two lines, a file of lines is a file of lines.
        between = damaged.rstrip()[-1:] == b"}" if kind == "json" else damaged[-1:] == b"\n"
        border = damage is _cut and between and found == TEXTS[: len(found)]
        assert found == TEXTS or border, f"{damage.__name__}: read wrongly in silence"
        seen["right"] += 1
    assert seen["refused"] > CASES * 0.9


MESSAGES: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b'{"text": "a"}\n{"text": "b', r"a\.jsonl, line 2: is cut off.* copy it again"),
    ("a.jsonl", b'{"text": "a"}\n{"text": b}\n', r"line 2: is not JSON \(Expecting value"),
    ("a.jsonl", b"[1, 2]\n", "entry 1: is not an object"),
    ("a.jsonl", b'"a"\n', "line 1: is not an object such as"),
    ("a.jsonl", b"", "is empty; copy it again, or leave it out"),
    ("a.jsonl", b'{"text": "caf\xe9"}\n', r"line 1, byte 13: e9 is not utf-8.*latin-1"),
    ("a.txt", "one\ncaf\xe9".encode("latin-1"), r"line 2, byte 7: e9 is not utf-8; say encoding:"),
    ("a.txt", "abc".encode("utf-16"), "is UTF-16 text rather than text; say encoding: utf-16"),
    ("a.txt", b"abc\n\0\0", r"line 2, byte 4: a NUL byte.* not copied whole"),
    ("a.jsonl", _parquet(), "is a parquet file rather than text; name it .parquet"),
    ("a.parquet", _lines(), "is no sound parquet file .*copy it again"),
    ("a.csv", b"id,text\n1,a\n2", "line 3: 1 fields where the heading has 2; was the file cut"),
    ("a.csv", b"id,text\n1,ab", "the last line has no end.*add a line end if it is whole"),
    ("a.csv", b'id,text\n1,"ab', "ends within a quoted field; was it copied whole"),
    ("a.csv", b"a,a\n1,2\n", "two columns have the same name"),
    ("a.jsonl.gz", gzip.compress(_lines())[:-9], "ends too early; copy it again"),
    ("a.jsonl.gz", _lines(), "is damaged .*copy it again"),
    ("a.tar.gz", gzip.compress(_tar()), "is a tar archive rather than text; unpack it"),
    ("a.arrow", b"ARROW1\0\0", "is an Arrow file rather than text; write it as parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "message"), MESSAGES)
def test_the_place_and_the_remedy_are_named(
    name: str, data: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Unreadable, match=message):
        list(read_rows(str(tmp_path / name), Reading()))


def test_other_encodings_are_read_where_they_are_named(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16", "utf-8-sig", "utf-16-le"):
        path = tmp_path / f"{encoding}.jsonl"
        path.write_bytes('{"text": "café"}\n{"text": "a"}\n'.encode(encoding))
        named = "utf-8" if encoding == "utf-8-sig" else encoding
        found = [row["text"] for _, row in read_rows(str(path), Reading(named))]
        assert found == ["café", "a"]


def _corpora(source: dict[str, Any], sample: int = 10**6, **changes: Any) -> Corpora:
    spec = {
        "tokenizer": {"train": "bpe", "vocabulary": 300, "sample_bytes": sample},
        "classes": {"prose": {"sources": [source]}},
        "validation": 0.2,
        **changes,
    }
    return TypeAdapter(Corpora).validate_python(spelled_out(spec))


def _prepare(corpora: Corpora, root: Path) -> dict[str, Any]:
    return prepare(corpora, root, workers=0, say=lambda line: None)


def test_what_was_replaced_before_is_counted(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": f"{t} {i}\ufffd"}, ensure_ascii=False) for i, t in enumerate(TEXTS)
    ]
    text = "\n".join([*lines, '{"text": "half \\ud83d and whole \\ud83d\\ude00"}']) + "\n"
    (tmp_path / "a.jsonl").write_bytes(text.encode())
    (tmp_path / "b.jsonl").write_bytes(text.encode("cp1252", "ignore"))
    with pytest.raises(PrepareError, match=r"b\.jsonl, line 1, byte 12: fc is not utf-8"):
        _prepare(_corpora({"files": str(tmp_path / "[ab].jsonl")}), tmp_path / "both")
    manifest = _prepare(_corpora({"files": str(tmp_path / "a.jsonl")}), tmp_path / "out")
    assert manifest["classes"]["prose"]["replaced"] == len(TEXTS) + 1


def test_a_fixed_file_is_read_again_and_the_rest_is_kept(tmp_path: Path) -> None:
    many = [json.dumps({"text": f"{t} {i}"}, ensure_ascii=False) for i in range(9) for t in TEXTS]
    whole = "\n".join(many).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(whole[: len(whole) - 50])
    corpora = _corpora({"files": str(tmp_path / "a.jsonl")}, shard_tokens=3000, sample=9000)
    with pytest.raises(PrepareError, match=r"a\.jsonl, line 540: is cut off"):
        _prepare(corpora, tmp_path / "out")
    assert list((tmp_path / "out/shards").rglob("*.bin"))
    (tmp_path / "a.jsonl").write_bytes(whole)
    mended = _prepare(corpora, tmp_path / "out")
    straight = _prepare(corpora, tmp_path / "straight")
    assert mended["classes"]["prose"]["shards"] == straight["classes"]["prose"]["shards"]


def test_one_huge_unbroken_line_is_bounded(tmp_path: Path) -> None:
    from trainables.prepare.tokenizer import LEARNED_CHARACTERS, pieces

    line = "x" * 1_000_000
    assert max(map(len, pieces(line, LEARNED_CHARACTERS))) == LEARNED_CHARACTERS
    words = "one two three " * 1000
    parts = list(pieces(words, LEARNED_CHARACTERS))
    assert "".join(parts) == words
    assert all(part.startswith(" ") for part in parts[1:])
    rows = [json.dumps({"text": text}) for text in (line, *TEXTS)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n")
    entry = _prepare(_corpora({"files": str(tmp_path / "a.jsonl")}), tmp_path / "out")
    classes = entry["classes"]["prose"]
    assert classes["bytes"] + classes["validation"]["bytes"] == sum(
        len(text.encode()) for text in (line, *TEXTS)
    )


@pytest.mark.parametrize(
    ("target", "found"),
    [(42, "42"), (0.5, "0.5"), ("x", "x"), (["1", 2], ("1", "2")), (None, None)],
)
def test_numbers_are_made_text(target: Any, found: Any, tmp_path: Path) -> None:
    rows = [{"context": "a ", "target": "yes"}, {"context": 7, "target": target}]
    loaded = _skill(rows, tmp_path)
    targets = {example.context: example.targets for example in loaded.examples}
    wanted = found if isinstance(found, tuple) else (found,)
    assert targets == {"a ": ("yes",)} | ({} if found is None else {"7": wanted})
    assert loaded.skipped == (found is None)


@pytest.mark.parametrize("target", [True, {"a": 1}, [["x"]], float("inf")])
def test_what_is_no_answer_is_refused_by_row(target: Any, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"skills\.s: row '1' of .*rows\.jsonl: holds .*text"):
        _skill([{"context": "a", "target": "yes"}, {"context": "b", "target": target}], tmp_path)


def _skill(rows: list[dict[str, Any]], tmp_path: Path) -> Any:
    from trainables.prepare.skills import examples
    from trainables.prepare.spec import SkillSource

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return examples(SkillSource("s", path=str(path)))


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="'utf8000' is unknown; utf-8, latin-1"):
        Source(files=("a.txt",), encoding="utf8000")
