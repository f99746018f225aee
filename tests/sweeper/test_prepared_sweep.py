"""Sweeps on prepared corpora: what the plan says of them, and what is refused before training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sweeper import SpecError, Sweep
from sweeper.cli import app, main
from sweeper.errors import DirectoryError
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from sweeper.report.tables import corpus as corpus_tables
from sweeper.spec.variants import trial_id
from trainables.manifest import read_manifest

CONTEXT = 16


@pytest.fixture
def corpus(tmp_path: Path, write_corpus: Callable[..., Path]) -> Path:
    classes = {"prose": (0.5, 10, [50_000, 50_000]), "code": (0.5, 40, [80_000])}
    return write_corpus(tmp_path / "corpus", classes, vocabulary=256, context=CONTEXT)


def _spec(corpus: Path, **changes: Any) -> dict[str, Any]:
    return {
        "budgets": [1e10, 2e10],
        "allowance": 2e11,
        "model": {"vocabulary": 256, "context": CONTEXT},
        "train": {"batch_tokens": 160},
        "data": {"source": "prepared", "path": str(corpus)},
        **changes,
    }


def _data(corpus: Path, **changes: Any) -> dict[str, Any]:
    return {"data": {"source": "prepared", "path": str(corpus), **changes}}


def test_the_plan_counts_epochs_and_warns_above_four(corpus: Path) -> None:
    sweep = Sweep.from_dict(_spec(corpus))
    plan = sweep.plan()
    low = sweep.space.allowed(2e10)[0]
    # Documents of prose are five times as long as code's, so code is the sixth part of tokens.
    epochs = sweep.space.tokens(2e10, low) * 5 / 6 / 100_000
    assert plan.table["epochs_most"].iloc[-1] == pytest.approx(epochs)
    assert epochs > 4
    assert f"sees class 'prose' (100k tokens) {epochs:.3g} times" in str(plan)
    assert json.loads(plan.to_json())["warnings"]
    assert not Sweep(budgets=[1e11, 2e11], allowance=5e12).plan().warnings


def test_repetition_is_refused_where_the_spec_says_so(corpus: Path) -> None:
    sweep = Sweep.from_dict(_spec(corpus, **_data(corpus, max_epochs=2.0)))
    tokens = [sweep.space.tokens(2e10, i) for i in sweep.space.allowed(2e10)]
    assert max(tokens) * 5 / 6 <= 200_000 < sweep.space.tokens(2e10, 0) * 5 / 6
    assert [w for w in sweep.plan().warnings if "epochs" in w] == []
    with pytest.raises(
        SpecError, match=r"epochs of class 'prose' \(.* tokens needed, 100,000 available"
    ):
        Sweep.from_dict(_spec(corpus, **_data(corpus, max_epochs=0.01)))


def test_epochs_are_those_of_the_mix_that_repeats_most(corpus: Path) -> None:
    mixes = {"base": {}, "code": {"code": 20.0}}
    sweep = Sweep.from_dict(_spec(corpus, mixes=mixes, **_data(corpus, max_epochs=4.0)))
    code = 20 * 2_000 / (20 * 2_000 + 10_000)  # documents of 2000 tokens to one of 10 000
    assert sweep.epochs(100_000)["code"] == pytest.approx(100_000 * code / 80_000)
    assert sweep.space.max_tokens == pytest.approx(4 * 80_000 / code)


def test_another_vocabulary_or_context_is_refused(corpus: Path) -> None:
    with pytest.raises(SpecError, match=r"set model\.vocabulary: 256"):
        Sweep.from_dict(_spec(corpus, model={"vocabulary": 512, "context": CONTEXT}))
    with pytest.raises(SpecError, match="held-out tokens, less than one sequence of 64"):
        Sweep.from_dict(_spec(corpus, model={"vocabulary": 256, "context": 64}))


def test_another_corpus_is_another_sweep(corpus: Path, tmp_path: Path) -> None:
    sweep = Sweep.from_dict(_spec(corpus))
    directory = Directory(tmp_path / "sweep")
    directory.root.mkdir()
    directory.claim(sweep)
    assert json.loads(directory.corpus.read_text()) == read_manifest(corpus)
    moved = corpus.rename(tmp_path / "elsewhere")
    again = Sweep.from_dict(_spec(moved))
    assert _id(again) == _id(sweep)
    directory.claim(again)

    ledger = Ledger(directory.ledger)
    allocation = sweep.space.allocation(1e10, 1e4)
    ledger.reserve(_id(sweep), allocation)
    ledger.close()
    # With a further skill it is the same corpus for training, with other text it is not.
    skill = moved / "extra.npz"
    skill.write_bytes(b"examples")
    entry = {"class": "code", "examples": 1, "tokens": 9, "file": "extra.npz"}
    _edit(moved, skill, lambda m, digest: m["skills"].update(extra={**entry, "sha256": digest}))
    directory.claim(Sweep.from_dict(_spec(moved, skills=["validation/prose"])))
    shard = moved / "shards" / "code" / "0.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    _edit(moved, shard, lambda m, d: m["classes"]["code"]["shards"][0].update(sha256=d))
    changed = Sweep.from_dict(_spec(moved))
    assert _id(changed) != _id(sweep)
    with pytest.raises(DirectoryError, match=r"another sweep: data\.corpus is"):
        directory.claim(changed)
    # A resolved spec remembers its corpus, and finds another in its place before it trains.
    with pytest.raises(DirectoryError, match="has changed since this sweep began"):
        Directory(tmp_path / "new").claim(Sweep.load(directory.spec))


def _edit(corpus: Path, file: Path, change: Callable[[Any, str], None]) -> None:
    """Change a manifest in accord with a file."""
    path = corpus / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest, hashlib.sha256(file.read_bytes()).hexdigest())
    path.write_text(json.dumps(manifest))


def _id(sweep: Sweep) -> str:
    return trial_id(sweep.trial(sweep.space.allocation(1e10, 1e4)))


def test_a_corpus_copied_in_part_starts_nothing(corpus: Path, tmp_path: Path) -> None:
    sweep = Sweep.from_dict(_spec(corpus))
    shard = corpus / "shards" / "prose" / "1.bin"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(DirectoryError, match=r"1\.bin has 1,000 bytes, 100,000 by the manifest"):
        Directory(tmp_path / "sweep").claim(sweep)
    assert not (tmp_path / "sweep" / "sweep.yaml").exists()


def test_results_can_be_read_where_the_corpus_is_not(corpus: Path, tmp_path: Path) -> None:
    sweep = Sweep.from_dict(_spec(corpus))
    sweep.save(tmp_path / "sweep.yaml")
    corpus.rename(tmp_path / "gone")
    assert Sweep.load(tmp_path / "sweep.yaml") == sweep


def test_the_report_shows_shares_and_contamination(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    counts = {"examples": 9, "matched": 3, "covered": 1, "too_short": 2}
    manifest["contamination"]["sets"] = {"bodies": counts}
    shown = corpus_tables(manifest, Sweep.from_dict(_spec(corpus)).data)
    first = [[cell.text for cell in shown[key].rows[0]] for key in ("classes", "matches")]
    assert first[0] == ["prose", "50.0", "83.3", "10", "100k", "49"]
    assert first[1] == ["bodies", "9", "2", "3", "1"]


def test_few_target_tokens_are_named_before_anything_is_trained(corpus: Path) -> None:
    path, entry = corpus / "manifest.json", {"class": "code", "examples": 10, "tokens": 90}
    manifest = json.loads(path.read_text())
    entry |= {"file": "sums.npz", "sha256": "0", "target_tokens": 40}
    path.write_text(json.dumps(manifest | {"skills": {"sums": entry}}))
    sweep = Sweep.from_dict(_spec(corpus))
    warned = [w for w in sweep.plan().warnings if w.startswith("skill sums will say nothing")]
    assert len(warned) == 1 and "40 target tokens" in warned[0]
    # Specs that were resolved before targets were counted name the same trainings.
    older = sweep.to_dict()
    del older["data"]["corpus"]["skills"]["sums"]["target_tokens"]
    assert _id(Sweep.from_dict(older)) == _id(sweep)
    assert not [w for w in Sweep.from_dict(older).plan().warnings if "say nothing" in w]


def test_shares_far_apart_are_named(corpus: Path) -> None:
    def said(**data: Any) -> str:
        return " ".join(Sweep.from_dict(_spec(corpus, **_data(corpus, **data))).plan().warnings)

    wanted = (
        "class 'code', 0.5 of the documents, is 0.17 of the tokens trained on; share_of: tokens"
    )
    assert wanted in said()
    wanted = "class 'prose', 0.5 of the tokens, is 0.17 of the documents"
    assert wanted in said(share_of="tokens", shares={"code": 0.5})
    assert "share" not in said(shares={"prose": 1.0, "code": 0.0})


def test_prepare_from_the_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"text": f"row {i} of many rows, as many as there are to read {i * i}"} for i in range(200)
    ]
    Path("rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    Path("corpora.yaml").write_text(
        "tokenizer: {train: bpe, vocabulary: 280}\nvalidation: 0.1\n"
        "classes: {rows: {sources: [{files: rows.jsonl}]}}\n"
    )
    done = CliRunner().invoke(app, ["prepare", "corpora.yaml", "out", "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert "data: {source: prepared, path: out}" in done.output
    assert "share of tokens  of documents" in done.output
    assert "100.0 %       100.0 %" in done.output
    assert "isoskill plan SPEC --minutes 15" in done.output
    assert "tokens asked for" not in done.output
    spec = _spec(Path("out"), model={"vocabulary": 280, "context": CONTEXT})
    assert Sweep.from_dict(spec).data.classes == ("rows",)


def test_a_text_too_short_for_its_vocabulary_or_its_classes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"row {i} of a few rows, which say little {i * i}"} for i in range(60)]
    Path("rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    Path("corpora.yaml").write_text(
        "tokenizer: {train: bpe, vocabulary: 50000}\nvalidation: 0.2\n"
        "classes: {rows: {sources: [{files: rows.jsonl}]}}\n"
    )
    done = CliRunner().invoke(app, ["prepare", "corpora.yaml", "out", "--workers", "0"])
    assert "of the 50,000 tokens asked for by tokenizer.vocabulary; ask for fewer" in done.output
    Path("one.txt").write_text("one long document " * 50)
    Path("corpora.yaml").write_text(
        "tokenizer: {train: bpe, vocabulary: 280}\nclasses: {one: {sources: [{files: one.txt}]}}\n"
    )
    refused = CliRunner().invoke(app, ["prepare", "corpora.yaml", "one", "--workers", "0"])
    assert "There is 1 document only" in str(refused.exception)
    assert "a chapter or page a row" in str(refused.exception)


def test_mistakes_in_what_to_prepare_end_with_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "tokenizer: {train: bpe}\nclasses: {rows: {sources: [{flies: rows.jsonl}]}}\n"
    Path("corpora.yaml").write_text(text)
    monkeypatch.setattr("sys.argv", ["isoskill", "prepare", "corpora.yaml", "out"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert "classes.rows.sources.0.flies: unknown key (did you mean 'files'?)" in said
    Path("corpora.yaml").write_text(text.replace("flies", "files"))
    with pytest.raises(SystemExit):
        main()
    assert "no file matches rows.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["05_corpora.yaml", "05_hub_corpora.yaml"])
def test_the_examples_can_be_read(name: str) -> None:
    from sweeper.commands.prepare import load_corpora

    corpora = load_corpora(Path(__file__).parents[2] / "examples" / name)
    assert sum(entry.share or 0.0 for entry in corpora.classes.values()) == pytest.approx(1)
