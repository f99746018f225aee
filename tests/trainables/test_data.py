"""Prepared corpora: which sequence comes when, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.corpora import whole
from trainables.corpora.prepared import permuted
from trainables.corpora.training_data import open_data
from trainables.data import Data
from trainables.manifest import CorpusError

CONTEXT = 8
VOCABULARY = 1000


@pytest.fixture
def corpus(tmp_path: Path, write_corpus: Callable[..., Path]) -> Path:
    # Long documents in one class, short ones in the other: shares count documents.
    return write_corpus(tmp_path, {"prose": (0.5, 10, [33, 50, 17]), "code": (0.5, 40, [80])})


def _open(data: Data, seed: int = 0) -> Any:
    return open_data(data, context=CONTEXT, seed=seed, vocabulary=VOCABULARY)


def _opened(corpus: Path) -> Any:
    return _open(Data(source="prepared", path=str(corpus)))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def _damage(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("shards/prose/1.bin", _cut, r"prose/1\.bin has 98 bytes, 100 by the manifest.*copy"),
        ("shards/prose/1.bin", _damage, r"prose/1\.bin does not hold what the manifest says"),
        ("shards/code/0.bin", Path.unlink, r"code/0\.bin cannot be read \(No such file"),
        ("validation/code.bin", _damage, r"validation/code\.bin does not hold"),
        ("token_bytes.bin", _cut, r"token_bytes\.bin has 1,998 bytes, 2,000"),
    ],
)
def test_a_corpus_that_is_not_whole_is_refused(
    corpus: Path, file: str, harm: Callable[[Path], None], message: str
) -> None:
    assert _opened(corpus).sequences(0, 4).shape == (4, CONTEXT)
    harm(corpus / file)
    with pytest.raises(CorpusError, match=message):
        _opened(corpus)


def test_contents_are_read_once_and_again_when_a_file_has_changed(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read: list[Path] = []

    def counted(file: Any) -> str:
        read.append(file.path)
        return hashed(file)

    hashed = whole._sha256
    monkeypatch.setattr(whole, "_sha256", counted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _opened(corpus)
    assert len(read) == 6
    whole._seen.clear()  # another process of this node
    _opened(corpus)
    assert len(read) == 6
    os.utime(corpus / "shards/code/0.bin", ns=(1, 1))
    _opened(corpus)
    assert len(read) == 12
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))  # nothing can be written
    _opened(corpus)
    _opened(corpus)
    assert len(read) == 18


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000, 4097])
def test_the_permutation_is_one(size: int) -> None:
    keys = np.random.default_rng(0).integers(2**63, size=6, dtype=np.uint64)
    places = permuted(np.arange(size), size, keys)
    assert np.array_equal(np.sort(places), np.arange(size))


def test_the_permutation_leaves_no_trace_of_the_order() -> None:
    keys = np.random.default_rng(1).integers(2**63, size=6, dtype=np.uint64)
    places = permuted(np.arange(10_000), 10_000, keys)
    assert abs(np.corrcoef(places, np.arange(10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 0.05


def test_a_sequence_depends_on_its_number_and_the_seeds_only(corpus: Path) -> None:
    data = Data(source="prepared", path=str(corpus))
    straight = np.concatenate([_open(data).sequences(first, 7) for first in range(0, 1400, 7)])
    assert np.array_equal(_open(data).sequences(501, 620), straight[501:1121])
    assert not np.array_equal(_open(data, seed=1).sequences(0, 50), straight[:50])
    other = Data(source="prepared", path=str(corpus), world_seed=1)
    assert not np.array_equal(_open(other).sequences(0, 50), straight[:50])


def test_sequences_are_pieces_of_the_class_without_repeats_in_an_epoch(corpus: Path) -> None:
    data = Data(source="prepared", path=str(corpus), multipliers={"code": 0})
    rows = _open(data).sequences(0, 36)
    assert (np.diff(rows, axis=1) == 1).all()  # also where a sequence runs over a shard's end
    starts = rows[:, 0].reshape(3, 12)
    assert (np.sort(starts) == CONTEXT * np.arange(12)).all()  # each epoch holds every piece
    assert not (starts[0] == starts[1]).all()


def test_shares_count_documents_and_multipliers_renormalise(corpus: Path) -> None:
    data = Data(source="prepared", path=str(corpus))
    assert data.share_of == "documents"  # a manifest that does not say: prepared before
    assert data.mix == {"prose": 0.5, "code": 0.5}
    # Prose documents are five times as long: 10 tokens to 2.
    assert data.token_mix == pytest.approx({"prose": 5 / 6, "code": 1 / 6})
    doubled = Data(source="prepared", path=str(corpus), multipliers={"code": 2.0})
    assert doubled.mix == pytest.approx({"prose": 1 / 3, "code": 2 / 3})
    assert doubled.token_mix["code"] == pytest.approx(2 / 7)
    assert doubled.reference_mix == data.token_mix
    rows = _open(doubled).sequences(0, 20 * 512)
    assert (rows[:, 0] >= 100).mean() == pytest.approx(2 / 7, abs=1e-3)


def test_shares_count_tokens_where_the_corpus_or_the_spec_says_so(corpus: Path) -> None:
    stated = Data(source="prepared", path=str(corpus), share_of="tokens", shares={"code": 0.5})
    assert stated.token_mix == {"prose": 0.5, "code": 0.5}
    assert stated.mix == pytest.approx({"prose": 1 / 6, "code": 5 / 6})
    assert stated.epochs(80) == pytest.approx({"prose": 0.4, "code": 0.5})
    # Left to the corpus, whose shares count documents, the mix stays what it was.
    left = Data(source="prepared", path=str(corpus), share_of="tokens")
    assert left.token_mix == pytest.approx({"prose": 5 / 6, "code": 1 / 6})

    manifest = json.loads((corpus / "manifest.json").read_text())
    (corpus / "manifest.json").write_text(json.dumps(manifest | {"share_of": "tokens"}))
    new = Data(source="prepared", path=str(corpus))
    assert new.token_mix == {"prose": 0.5, "code": 0.5}
    assert (_open(new).sequences(0, 512)[:, 0] >= 100).mean() == pytest.approx(0.5, abs=1e-3)
    counted = Data(source="prepared", path=str(corpus), share_of="documents")
    assert counted.mix == pytest.approx(new.mix)


def test_epochs_are_counted_per_class(corpus: Path) -> None:
    data = Data(source="prepared", path=str(corpus), max_epochs=3.0)
    epochs = data.epochs(600)
    assert epochs == pytest.approx({"prose": 5.0, "code": 1.25})
    assert data.max_tokens == pytest.approx(360)


def test_evaluation_sets_are_the_held_out_documents(corpus: Path) -> None:
    sets = _open(Data(source="prepared", path=str(corpus), evaluation_documents=2))
    tokens, family = sets.evaluation_sets()["code"]
    assert np.array_equal(tokens.ravel(), 900 + np.arange(16))
    assert not family.any()


def test_large_vocabularies_take_four_bytes(
    tmp_path: Path, write_corpus: Callable[..., Path]
) -> None:
    root = write_corpus(tmp_path, {"prose": (1.0, 10, [160])}, vocabulary=100_000)
    data = Data(source="prepared", path=str(root))
    rows = open_data(data, context=CONTEXT, seed=0, vocabulary=100_096).sequences(0, 20)
    assert (np.diff(rows, axis=1) == 1).all()


def test_what_cannot_be_trained_on_is_refused(corpus: Path, tmp_path: Path) -> None:
    data = Data(source="prepared", path=str(corpus))
    with pytest.raises(ValueError, match=r"set model\.vocabulary: 1024"):
        open_data(data, context=CONTEXT, seed=0, vocabulary=999)
    with pytest.raises(ValueError, match="prepared with a tokenizer of 1000"):
        open_data(data, context=CONTEXT, seed=0, vocabulary=1025)
    with pytest.raises(
        ValueError, match="'prose' has 25 held-out tokens, less than one sequence of 26"
    ):
        open_data(data, context=26, seed=0, vocabulary=VOCABULARY)
    with pytest.raises(ValueError, match="no prepared corpus"):
        Data(source="prepared", path=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"data\.path: is needed"):
        Data(source="prepared")
    with pytest.raises(ValueError, match="'knowledge' is no document class; use prose, code"):
        Data(source="prepared", path=str(corpus), shares={"knowledge": 1.0})


def test_a_changed_corpus_is_refused(corpus: Path) -> None:
    data = Data(source="prepared", path=str(corpus))
    manifest = json.loads((corpus / "manifest.json").read_text())
    manifest["classes"]["code"]["shards"][0]["sha256"] = "other"
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="has changed since this sweep began"):
        _open(data)
    assert Data(source="prepared", path=str(corpus)).corpus != data.corpus


def test_an_unfinished_or_foreign_directory_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with pytest.raises(ValueError, match="again to finish it"):
        Data(source="prepared", path=str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match="prepare the corpus again"):
        Data(source="prepared", path=str(tmp_path))
