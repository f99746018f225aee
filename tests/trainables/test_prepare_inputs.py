"""What people bring to a preparation: odd columns, names, saved data sets and tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers

from trainables.prepare import Corpora, PrepareError
from trainables.prepare import spec as prepared_spec
from trainables.prepare.run import prepare
from trainables.prepare.sources import open_part, parts_of, texts
from trainables.prepare.spec import spelled_out
from trainables.prepare.tokenizer import make_tokenizer

TEXTS = [f"document {i} of a class" for i in range(30)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _corpora(source: dict[str, Any], tokenizer: Any = "none.json") -> Corpora:
    spec = {"tokenizer": tokenizer, "classes": {"a": {"sources": [source]}}, "validation": 0.2}
    return TypeAdapter(Corpora).validate_python(spelled_out(spec))


def _read(source: dict[str, Any]) -> list[str]:
    parts = parts_of(_corpora(source))
    return [t for part in parts for t in texts(open_part(part), part.source, where="here")]


def _lines(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_text_may_lie_within_a_column() -> None:
    _lines("a.jsonl", [{"meta": {"text": text, "lang": "en"}} for text in TEXTS])
    pq.write_table(pa.table({"meta": [{"text": text} for text in TEXTS]}), "a.parquet")
    assert _read({"files": "a.jsonl", "text": "meta.text", "where": {"meta.lang": "en"}}) == TEXTS
    assert _read({"files": "a.parquet", "text": "meta.text"}) == TEXTS
    _lines("dots.jsonl", [{"meta.text": text} for text in TEXTS])
    assert _read({"files": "dots.jsonl", "text": "meta.text"}) == TEXTS


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    _lines("a.jsonl", [{"content": text, "x" * 500: 1} for text in TEXTS])
    with pytest.raises(PrepareError, match=r"no column 'text'; there are content, x{40}\. Say te"):
        _read({"files": "a.jsonl"})


def test_a_file_whose_name_has_brackets_is_that_file() -> None:
    _lines("part[1].jsonl", [{"text": text} for text in TEXTS])
    assert _read({"files": "part[1].jsonl"}) == TEXTS


@pytest.mark.parametrize("splits", [False, True])
def test_what_datasets_has_saved_is_read(splits: bool) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    saved = Dataset.from_dict({"text": TEXTS})
    (DatasetDict({"train": saved}) if splits else saved).save_to_disk("saved")
    assert _read({"hub": "saved"}) == TEXTS
    with pytest.raises(PrepareError, match=r"saved is a folder: .*hub: FOLDER"):
        _read({"files": "saved"})


def _words(*, unknown: bool) -> None:
    """A tokenizer that knows a word, and of others that it does not."""
    known = {"</s>": 0, "document": 1} | ({"<unk>": 2} if unknown else {})
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save("words.json")


def test_text_that_a_tokenizer_does_not_know_is_said() -> None:
    _words(unknown=True)
    _lines("a.jsonl", [{"text": text} for text in TEXTS])
    said: list[str] = []
    prepare(_corpora({"files": "a.jsonl"}, "words.json"), Path("out"), workers=0, say=said.append)
    assert any("80.0 % of the tokens are the one for what words.json does not" in s for s in said)


def test_a_tokenizer_that_cannot_encode_or_be_read_is_refused() -> None:
    _words(unknown=False)
    spec = prepared_spec.Tokenizer("words.json")
    with pytest.raises(PrepareError, match="tokenizer: it cannot encode the text"):
        make_tokenizer(spec, TEXTS, Path("out"), print)
    cut = Path("words.json").read_text()[:-20]
    Path("words.json").write_text(cut)
    with pytest.raises(PrepareError, match=r"words\.json cannot be read .*was it copied whole"):
        make_tokenizer(spec, TEXTS, Path("out"), print)
