"""Tasks of lm-evaluation-harness give context and right answer; runs where it is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from trainables.skills.benchmarks import BenchmarkError
from trainables.skills.harness import load_task

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{target}"
{more}
metric_list: [{{metric: {metric}}}]
"""


def _write(folder: Path, name: str, kind: str, target: str, more: str = "") -> None:
    metric = {"generate_until": "exact_match", "loglikelihood": "perplexity"}.get(kind, "acc")
    data = folder / "data.jsonl"
    rows = [{"question": f"{i}+1", "answer": [str(i + 1), "?"], "right": 1} for i in range(5)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = TASK.format(name=name, data=data, kind=kind, target=target, more=more, metric=metric)
    (folder / f"{name}.yaml").write_text(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("lm_eval", reason="the extra evals (lm-eval) is not installed")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_a_likelihood_task_gives_its_target(folder: Path) -> None:
    _write(folder, "sums", "loglikelihood", "{{answer[0]}}")
    loaded = load_task("sums", include_path=folder)
    found = {example.context: example.targets for example in loaded.examples}
    assert found == {f"Q: {i}+1\nA: ": (str(i + 1),) for i in range(5)}
    assert load_task("sums", include_path=folder, limit=2).examples == loaded.examples[:2]


def test_a_choice_task_gives_the_text_of_the_right_choice(folder: Path) -> None:
    _write(folder, "pick", "multiple_choice", "{{right}}", 'doc_to_choice: ["no", "yes"]')
    assert {e.targets for e in load_task("pick", include_path=folder).examples} == {("yes",)}


def test_a_generating_task_needs_its_answer_named(folder: Path) -> None:
    _write(folder, "open", "generate_until", "{{answer}}")
    with pytest.raises(BenchmarkError, match=r"skills.open: is a generate_until task"):
        load_task("open", include_path=folder)
    named = load_task("open", include_path=folder, doc_to_target="{{answer[0]}}")
    assert ("5",) in {e.targets for e in named.examples}
    every = load_task("open", include_path=folder, doc_to_target="answer")
    assert ("5", "?") in {e.targets for e in every.examples}


def test_an_unknown_task_is_said(folder: Path) -> None:
    _write(folder, "sums", "loglikelihood", "{{answer[0]}}")
    with pytest.raises(BenchmarkError, match=r"no such task; there are sums"):
        load_task("sum", include_path=folder)


def test_a_missing_harness_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(BenchmarkError, match=r"pip install isoskill\[evals\]"):
        load_task("sums")
