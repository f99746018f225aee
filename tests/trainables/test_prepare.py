"""Preparing a corpus: what comes out, what is refused, and what an interruption costs."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.corpora.training_data import open_data
from trainables.data import Data
from trainables.engine.loop import train
from trainables.families import Model
from trainables.manifest import read_manifest, summary
from trainables.prepare import Corpora, PrepareError
from trainables.prepare.contamination import runs
from trainables.prepare.pool import Progress
from trainables.prepare.run import prepare
from trainables.prepare.sources import Part
from trainables.prepare.spec import Source, spelled_out
from trainables.prepare.tokenizer import open_tokenizer
from trainables.progress import left
from trainables.shapes import solve

WORDS = "the cat sat on a mat and saw how every other bird sang to it before noon came".split()


def _text(rng: np.random.Generator, words: int = 60) -> str:
    return " ".join(rng.choice(WORDS, size=words))


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """JSON lines of prose and files of code, and the working directory there."""
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        rows = [{"text": _text(rng), "language": "en" if k % 2 else "de"} for k in range(100)]
        lines = "\n".join(json.dumps(row) for row in rows)
        Path(f"prose{i}.jsonl").write_text(lines)
    Path("code").mkdir()
    for i in range(40):
        Path(f"code/m{i}.py").write_text(
            f"def f{i}(x):\n    return x + {i}\n\n\nprint(f{i}({i}))\n"
        )
    return tmp_path


SPEC: dict[str, Any] = {
    "tokenizer": {"train": "bpe", "vocabulary": 300},
    "classes": {
        "prose": {"share": 0.75, "sources": [{"files": "prose*.jsonl"}]},
        "code": {"share": 0.25, "sources": [{"files": "code/*.py"}]},
    },
    "validation": 0.1,
}


def _spec(**changes: Any) -> Corpora:
    return TypeAdapter(Corpora).validate_python(spelled_out({**SPEC, **changes}))


def _one(source: dict[str, Any], **changes: Any) -> Corpora:
    return _spec(classes={"prose": {"sources": [source]}}, **changes)


def _prepare(corpora: Corpora, root: Path) -> dict[str, Any]:
    return prepare(corpora, root, workers=0, say=lambda line: None)


def test_the_shards_hold_every_document_and_none_twice(sources: Path) -> None:
    manifest = _prepare(_spec(), sources / "out")
    tokenizer = open_tokenizer(sources / "out")
    begin = manifest["tokenizer"]["begin"]
    texts = []
    for entry in manifest["classes"].values():
        files = [shard["file"] for shard in entry["shards"]] + [entry["validation"]["file"]]
        for file in files:
            tokens = np.fromfile(sources / "out" / file, dtype="<u2")
            assert tokens[-1] == begin
            pieces = np.split(tokens, np.flatnonzero(tokens == begin) + 1)[:-1]
            texts += [tokenizer.decode(piece[:-1].tolist()) for piece in pieces]
    prose = [json.loads(line)["text"] for i in range(3) for line in Path(f"prose{i}.jsonl").open()]
    code = [path.read_text() for path in Path("code").iterdir()]
    assert sorted(texts) == sorted(prose + code)
    for name, total in (("prose", 300), ("code", 40)):
        entry = manifest["classes"][name]
        assert entry["documents"] + entry["validation"]["documents"] == total
        assert 0 < entry["validation"]["documents"] < 0.25 * total


def test_what_is_prepared_can_be_trained_on(sources: Path) -> None:
    manifest = _prepare(_spec(), sources / "out")
    assert read_manifest(sources / "out") == json.loads(json.dumps(manifest))
    data = Data(source="prepared", path="out")
    assert data.shares == data.token_mix == {"prose": 0.75, "code": 0.25}
    assert data.mix["code"] > 0.25  # its documents are shorter
    opened = open_data(data, context=16, seed=0, vocabulary=300)
    tokenizer = open_tokenizer(sources / "out")
    rows = opened.sequences(0, 64)
    read = [tokenizer.decode(row.tolist()) for row in rows]
    code = ["(" in text or "\n" in text for text in read]
    prose = [sum(word in WORDS for word in text.split()) > 3 for text in read]
    assert all(one != other for one, other in zip(code, prose, strict=True))
    assert any(code)
    assert any(prose)
    line = "def f7(x):\n    return x + 7\n"
    assert opened.token_bytes[tokenizer.encode(line).ids].sum() == len(line)


def test_a_trial_trains_on_it_and_is_scored_on_its_skills(sources: Path) -> None:
    rows = [{"context": f"def f{i}(x):\n", "target": f"    return x + {i}\n"} for i in range(50)]
    Path("bodies.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    skill = {"name": "bodies", "path": "bodies.jsonl", "class": "code"}
    _prepare(_spec(skills=[skill]), sources / "out")
    config = TrialConfig(
        shape=solve(3e4, Model(vocabulary=300, context=32)),
        tokens=60_000,
        data=Data(source="prepared", path="out"),
    )
    record = train(config, LocalContext(device="cpu"))
    assert record["status"] == "finished"
    bodies, validation = record["losses"]["bodies"], record["losses"]["validation"]
    assert bodies["class"] == "code"
    assert bodies["examples"] == 50
    assert bodies["bytes"] == sum(len(row["target"]) for row in rows)
    # Sixteen equally likely words cost a model of words log(16) nats each; 300 tokens log(300).
    assert validation["nll"] / validation["tokens"] < 0.6 * np.log(300)
    assert bodies["nll"] / bodies["tokens"] < 0.6 * np.log(300)


def test_the_same_text_is_never_on_both_sides(sources: Path) -> None:
    rng = np.random.default_rng(1)
    lines = [json.dumps({"text": _text(rng)}) for _ in range(100)]
    for name in ("prose0", "prose1"):
        Path(f"{name}.jsonl").write_text("\n".join(lines))
    classes = {name: {"sources": [{"files": f"{name}.jsonl"}]} for name in ("prose0", "prose1")}
    manifest = _prepare(_spec(classes=classes, validation=0.3), sources / "out")
    one, other = manifest["classes"].values()
    assert one["documents"] == other["documents"]
    assert one["validation"]["sha256"] == other["validation"]["sha256"]
    assert manifest["contamination"]["sets"]["validation/prose0"]["covered"] == 0


def test_processes_and_shard_sizes_change_the_files_only(sources: Path) -> None:
    whole = _prepare(_spec(), sources / "whole")
    pieces = prepare(
        _spec(shard_tokens=2000), sources / "pieces", workers=2, say=lambda line: None
    )
    assert len(pieces["classes"]["prose"]["shards"]) > len(whole["classes"]["prose"]["shards"])
    rows = [
        open_data(
            Data(source="prepared", path=str(sources / name)), context=16, seed=0, vocabulary=300
        ).sequences(0, 40)
        for name in ("whole", "pieces")
    ]
    assert np.array_equal(*rows)


INTERRUPTED = """
import os, sys, time
from pathlib import Path
import trainables.prepare.shards as shards
from trainables.prepare.run import prepare
from tests_prepare_spec import spec
finish = shards._Shard.finish
def slow(self, **arguments):
    finish(self, **arguments)
    print("shard", flush=True)
    time.sleep(0.5)
shards._Shard.finish = slow
prepare(spec(), Path("out"), workers=0, say=lambda line: None)
"""


def test_a_kill_costs_no_finished_shard(sources: Path) -> None:
    corpora = _spec(shard_tokens=2000)
    module = (
        "from pydantic import TypeAdapter\nfrom trainables.prepare import Corpora\n"
        "from trainables.prepare.spec import spelled_out\n"
        f"values = { ({**SPEC, 'shard_tokens': 2000})!r}\n"
        "def spec(): return TypeAdapter(Corpora).validate_python(spelled_out(values))\n"
    )
    (sources / "tests_prepare_spec.py").write_text(module)
    path = os.pathsep.join([str(sources), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "shard\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with pytest.raises(ValueError, match="run the same `isoskill prepare` again"):
        Data(source="prepared", path="out")
    before = {file: file.stat().st_mtime_ns for file in (sources / "out/shards").rglob("*.bin")}
    assert len(before) >= 3
    resumed = _prepare(corpora, sources / "out")
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert summary(resumed) == summary(_prepare(corpora, sources / "straight"))


@pytest.mark.parametrize("done_before", [False, True])
def test_a_script_without_a_guard_is_told_so(sources: Path, done_before: bool) -> None:
    if done_before:
        _prepare(_spec(), sources / "out")
    script = sources / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom pydantic import TypeAdapter\n"
        "from trainables.prepare import Corpora\nfrom trainables.prepare.run import prepare\n"
        "from trainables.prepare.spec import spelled_out\n"
        f"corpora = TypeAdapter(Corpora).validate_python(spelled_out({SPEC!r}))\n"
        "prepare(corpora, Path('out'), workers=1, say=lambda line: None)\n"
    )
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert ended.returncode == 1
    assert 'calls prepare under `if __name__ == "__main__":`' in ended.stderr
    assert "memory" not in ended.stderr.splitlines()[-1]


def test_a_full_disk_loses_nothing(sources: Path) -> None:
    corpora = _spec(shard_tokens=3000)
    made = _prepare(corpora, sources / "straight")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max((sources / "straight/shards").rglob("*.bin"), key=lambda f: f.stat().st_size)
    # The tokenizer must fit, the largest shard must not.
    rooms = largest.stat().st_size - 100
    (sources / "out/work").mkdir(parents=True)
    for name in ("tokenizer", "token_bytes.bin"):
        (sources / "straight" / name).rename(sources / "out" / name)
    resource.setrlimit(resource.RLIMIT_FSIZE, (rooms, hard))
    try:
        with pytest.raises(PrepareError, match=r"is full.*make room and run the same command"):
            _prepare(corpora, sources / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((sources / "out").rglob(".partial*"))
    assert summary(_prepare(corpora, sources / "out")) == summary(made)


def test_a_damaged_shard_is_written_again(sources: Path) -> None:
    corpora = _spec(shard_tokens=2000)
    made = _prepare(corpora, sources / "out")
    victim = sources / "out" / made["classes"]["prose"]["shards"][1]["file"]
    victim.write_bytes(victim.read_bytes()[:-2])
    said: list[str] = []
    again = prepare(corpora, sources / "out", workers=0, say=said.append)
    assert any("damaged" in line for line in said)
    assert summary(again) == summary(made)


def test_shares_and_skills_may_change_in_place_but_shards_may_not(sources: Path) -> None:
    made = _prepare(_spec(), sources / "out")
    classes = {name: {**entry, "share": 1.0} for name, entry in SPEC["classes"].items()}
    changed = _prepare(_spec(classes=classes), sources / "out")
    assert summary(changed).manifest == summary(made).manifest
    assert summary(changed).classes["prose"].share == 1.0
    counted = _prepare(_spec(share_of="documents"), sources / "out")
    assert (summary(made).share_of, summary(counted).share_of) == ("tokens", "documents")
    for change in ({"seed": 1}, {"tokenizer": {"train": "bpe", "vocabulary": 301}}):
        with pytest.raises(PrepareError, match="prepared from another spec"):
            _prepare(_spec(**change), sources / "out")
    Path("prose0.jsonl").write_text('{"text": "new"}\n')
    with pytest.raises(PrepareError, match="source files have changed"):
        _prepare(_spec(), sources / "out")


def test_a_spec_may_change_while_nothing_rests_on_it(sources: Path) -> None:
    Path("prose0.jsonl").write_bytes(
        Path("prose0.jsonl").read_bytes() + b'\n{"text": "caf\xe9"}\n'
    )
    with pytest.raises(PrepareError, match="encoding"):
        _prepare(_spec(), sources / "out")
    classes = {name: {**entry} for name, entry in SPEC["classes"].items()}
    classes["prose"]["sources"] = [{"files": "prose*.jsonl", "encoding": "latin-1"}]
    assert _prepare(_spec(classes=classes), sources / "out")["classes"]


def test_parquet_compressed_files_and_dataset_directories(sources: Path) -> None:
    texts = [_text(np.random.default_rng(i)) for i in range(100)]
    Path("hub/data").mkdir(parents=True)
    pq.write_table(pa.table({"content": texts}), "hub/data/train-00000-of-00001.parquet")
    with gzip.open("rows.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"content": text}) + "\n" for text in texts)
    counts = []
    for i, source in enumerate(
        [
            {"files": "hub/data/*.parquet", "text": "content"},
            {"files": "rows.jsonl.gz", "text": "content"},
            {"hub": str(sources / "hub"), "text": "content"},  # a dataset as the Hub lays it out
        ]
    ):
        entry = _prepare(_one(source), sources / f"out{i}")["classes"]["prose"]
        counts.append((entry["documents"], entry["tokens"], entry["shards"][0]["sha256"]))
    assert counts[0] == counts[1] == counts[2]


def test_rows_can_be_picked_and_limited(sources: Path) -> None:
    german = _prepare(
        _one({"files": "prose*.jsonl", "where": {"language": "de"}}), sources / "out0"
    )
    entry = german["classes"]["prose"]
    assert entry["documents"] + entry["validation"]["documents"] == 150
    few = _prepare(_one({"files": "prose*.jsonl", "limit": 70}), sources / "out1")
    entry = few["classes"]["prose"]
    assert entry["documents"] + entry["validation"]["documents"] == 70


def test_skills_are_encoded_and_found_if_they_were_trained_on(sources: Path) -> None:
    seen = json.loads(Path("prose0.jsonl").read_text().splitlines()[0])["text"]
    rows = [
        {"q": seen[:100], "a": [seen[100:]], "id": "seen"},
        {"q": "zyx wvu tsr qpo nml kji hgf edc ba", "a": [" abc", " xyz"], "id": "new"},
        {"q": "", "a": ["x"], "id": "short"},
    ]
    Path("skill.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    skill = {
        "name": "finish", "path": "skill.jsonl", "class": "prose",
        "doc_to_text": "q", "doc_to_target": "a",
    }  # fmt: skip
    # Tiny share held out, so that the first line is in training.
    manifest = _prepare(_spec(skills=[skill], validation=0.02), sources / "out")
    found = manifest["contamination"]["sets"]["finish"]
    assert found == {"examples": 3, "matched": 1, "covered": 1, "too_short": 1}
    counts = summary(manifest).skills["finish"]
    assert (counts.skill_class, counts.examples) == ("prose", 3)
    data = Data(source="prepared", path="out")
    assert data.corpus is not None
    before = _prepare(_spec(validation=0.02), sources / "out")
    assert summary(before).manifest != data.corpus.manifest


def test_runs_are_equal_where_tokens_are() -> None:
    tokens = np.random.default_rng(0).integers(5, size=200)
    hashes = runs(tokens, 3)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, 3)
    _, by_window = np.unique(windows, axis=0, return_inverse=True)
    _, by_hash = np.unique(hashes, return_inverse=True)
    pairs = set(zip(by_window.tolist(), by_hash.tolist(), strict=True))
    assert len(pairs) == len(set(by_window.tolist())) == len(set(by_hash.tolist()))
    assert runs(tokens[:2], 3).size == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"files": "nothing*.jsonl"}, r"no file matches nothing\*\.jsonl"),
        ({"files": "code"}, r"code is a folder: write code/\*\*/\*\.txt"),
        ({"files": "prose*.jsonl", "text": "body"}, "no column 'body'; there are language, text"),
        ({"files": "prose*.jsonl", "where": {"lang": "de"}}, "no column 'lang'"),
        ({"files": "prose*.jsonl", "where": {"language": "fr"}}, "no document with text where"),
        ({"files": ["prose*.jsonl", "code/*.py"]}, "several kinds"),
        ({"files": "broken.jsonl"}, r"broken.jsonl, line 1: is not JSON .*one object a line"),
        (
            {"files": "broken.parquet"},
            r"sources\.0: broken\.parquet is no sound parquet file .*copy it again",
        ),
        ({"hub": "no-such-name/no-such-set"}, "seems to be offline, or the id is wrong"),
    ],
)
def test_sources_that_cannot_be_used(
    sources: Path, source: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    Path("broken.jsonl").write_text('{"text": "a"\n{')
    Path("broken.parquet").write_text("no parquet")
    with pytest.raises(PrepareError, match=message):
        _prepare(_one(source), sources / "out")
    assert not (sources / "out/shards").exists()


def test_classes_that_come_out_empty(sources: Path) -> None:
    Path("one.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(PrepareError, match=r"(train on|held out)"):
        _prepare(_one({"files": "one.jsonl"}), sources / "out")


def test_tokenizers_that_cannot_be_used(sources: Path) -> None:
    with pytest.raises(PrepareError, match=r"there is no file none\.json"):
        _prepare(_spec(tokenizer="none.json"), sources / "out")
    _prepare(_spec(), sources / "first")
    ready = _prepare(_spec(tokenizer=str(sources / "first/tokenizer")), sources / "second")
    assert ready["tokenizer"]["vocabulary"] == 300
    bare = _spec(tokenizer=str(sources / "first/tokenizer/tokenizer.json"))
    assert _prepare(bare, sources / "third")["tokenizer"]["begin"] == 0
    wrong = {"source": str(sources / "first/tokenizer"), "begin": "<begin>"}
    with pytest.raises(PrepareError, match="'<begin>' is not in the vocabulary"):
        _prepare(_spec(tokenizer=wrong), sources / "fourth")


def test_skills_that_lack_fields_are_refused_before_any_work(sources: Path) -> None:
    Path("skill.jsonl").write_text('{"question": "a", "target": "b"}\n')
    with pytest.raises(
        PrepareError, match=r"skills.s: skill.jsonl has no column context .it has question, target"
    ):
        _prepare(_spec(skills=[{"name": "s", "path": "skill.jsonl"}]), sources / "out")
    assert not (sources / "out/shards").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": {}}, "tokenizer: name one"),
        ({"tokenizer": {"train": "wordpiece"}}, "use 'bpe'"),
        ({"classes": {}}, "at least one"),
        ({"classes": {"a": {"sources": [{}]}}}, "either hub: ID or files: GLOB"),
        ({"validation": 0}, "between 0 and 1"),
        ({"skills": ["a", "a"]}, "same name"),
        ({"skills": ["../a"]}, "letters, digits"),
    ],
)
def test_bad_specs_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _spec(**change)


def test_only_one_process_prepares_a_directory(sources: Path) -> None:
    import fcntl

    begun = sources / "out" / "work"
    begun.mkdir(parents=True)
    with (begun / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PrepareError, match="by another process"):
            _prepare(_spec(), sources / "out")


def _part(index: int, weight: float, *, plain: bool) -> Part:
    return Part("prose", Source(files=("x",)), index, index, 2, weight, plain)


def test_time_left_is_said_when_it_can_be_known() -> None:
    said: list[str] = []
    plain = Progress([_part(i, 1000.0, plain=True) for i in range(2)], said.append)
    plain.told(0, 500, 100)
    assert plain.share() == pytest.approx(0.25)
    assert left(plain.share(), 10.0) == "about 30 s left"
    packed = Progress([_part(i, 1000.0, plain=False) for i in range(2)], said.append)
    packed.told(0, 5000, 1000)
    assert packed.share() is None
    assert left(packed.share(), 10.0) == "time left not known yet"
    packed.done.add(0)  # 5 bytes of text to each on disk
    packed.told(1, 2500, 500)
    assert packed.share() == pytest.approx(0.75)
    assert not said
