"""The paper's nineteen benchmarks, converted from local tables with the hub's schemas."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, Features, List, Value
from datasets.features import ClassLabel

from trainables.prepare import PrepareError
from trainables.prepare.skills import examples
from trainables.prepare.spec import SkillSource
from trainables.skills.benchmarks import (
    Benchmark,
    BenchmarkError,
    apply,
    convert,
    load,
)
from trainables.skills.paper import NINETEEN, find

S, I32, I64 = Value("string"), Value("int32"), Value("int64")

TRIVIA = (
    {
        "question": S, "question_id": S, "question_source": S,
        "entity_pages": {"doc_source": List(S), "filename": List(S), "title": List(S),
                         "wiki_context": List(S)},
        "answer": {"aliases": List(S), "normalized_aliases": List(S),
                   "matched_wiki_entity_name": S, "normalized_matched_wiki_entity_name": S,
                   "normalized_value": S, "type": S, "value": S},
    },
    {
        "question": "Who was President when the first Peanuts cartoon was published? ",
        "question_id": "tc_2", "question_source": "http://www.triviacountry.com/",
        "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
        "answer": {"aliases": ["Presidency of Harry S. Truman", "Truman"],
                   "normalized_aliases": ["truman"], "matched_wiki_entity_name": "",
                   "normalized_matched_wiki_entity_name": "", "normalized_value": "harry truman",
                   "type": "WikipediaEntity", "value": "Harry Truman"},
    },
    "Question: Who was President when the first Peanuts cartoon was published?\nAnswer: ",
    ("Harry Truman",),
)  # fmt: skip
NQ = (
    {"question": S, "answer": List(S)},
    {"question": "when was the last time anyone was on the moon",
     "answer": ["14 December 1972 UTC", "December 1972"]},
    "Q: when was the last time anyone was on the moon?\nA: ",
    ("14 December 1972 UTC", "December 1972"),
)  # fmt: skip
SQUAD = (
    {"id": S, "title": S, "context": S, "question": S,
     "answers": {"text": List(S), "answer_start": List(I32)}},
    {"id": "56be", "title": "Super_Bowl_50", "context": "Denver won.", "question": "Who won?",
     "answers": {"text": ["Denver", "Denver won"], "answer_start": [0, 0]}},
    "Title: Super_Bowl_50\n\nBackground: Denver won.\n\nQuestion: Who won?\n\nAnswer: ",
    ("Denver", "Denver won"),
)  # fmt: skip
MMLU = (
    {"question": S, "subject": S, "choices": List(S),
     "answer": ClassLabel(names=["A", "B", "C", "D"])},
    {"question": "Find the degree of the extension.", "subject": "abstract_algebra",
     "choices": ["0", "4", "2", "6"], "answer": 1},
    "Question: Find the degree of the extension.\nAnswer: ",
    ("4",),
)  # fmt: skip
BIGCODE = {
    "task_id": S, "complete_prompt": S, "instruct_prompt": S, "canonical_solution": S,
    "code_prompt": S, "test": S, "entry_point": S, "doc_struct": S, "libs": S,
}  # fmt: skip
BIGCODE_ROW = dict.fromkeys(BIGCODE, "") | {
    "task_id": "BigCodeBench/0", "complete_prompt": "def task_func(x):\n",
    "canonical_solution": "    return x\n", "test": "import unittest\n",
}  # fmt: skip
PACK = {
    "task_id": S, "prompt": S, "declaration": S, "canonical_solution": S, "buggy_solution": S,
    "bug_type": S, "failure_symptoms": S, "entry_point": S, "import": S, "test_setup": S,
    "test": S, "example_test": S, "signature": S, "docstring": S, "instruction": S,
}  # fmt: skip
SWE = (
    "instance_id text repo base_commit problem_statement hints_text created_at patch test_patch "
    "version FAIL_TO_PASS PASS_TO_PASS environment_setup_commit"
).split()

# Features, one row, and the context and targets that the row must give.
HUB: dict[str, tuple[dict[str, Any], dict[str, Any], str, tuple[str, ...]]] = {
    "triviaqa-dev": TRIVIA,
    "triviaqa-test": TRIVIA,
    "triviaqa-wiki-test": TRIVIA,
    "nq-dev": NQ,
    "nq-test": NQ,
    "squad-train": SQUAD,
    "squad-dev": SQUAD,
    "mmlu-train": MMLU,
    "mmlu-val": MMLU,
    "repobench": (
        {"repo_name": S, "file_path": S,
         "context": List({"identifier": S, "path": S, "snippet": S}), "import_statement": S,
         "token_num": I64, "cropped_code": S, "all_code": S, "next_line": S,
         "gold_snippet_index": I64, "created_at": S, "level": S},
        {"repo_name": "a/b", "file_path": "main.py",
         "context": [{"identifier": "f", "path": "lib.py", "snippet": "def f():\n    pass"}],
         "import_statement": "from lib import f", "token_num": 9, "cropped_code": "x = 1",
         "all_code": "", "next_line": "y = f()", "gold_snippet_index": 0, "created_at": "",
         "level": "2k"},
        "# Path: lib.py\n# def f():\n#     pass\n\n# Path: main.py\nfrom lib import f\nx = 1\n",
        ("y = f()",),
    ),
    "bigcodebench": (
        dict.fromkeys(BIGCODE, S), BIGCODE_ROW, "def task_func(x):\n", ("    return x\n",)
    ),
    "bigcodebench-tests": (
        dict.fromkeys(BIGCODE, S), BIGCODE_ROW,
        "def task_func(x):\n    return x\n\n\n", ("import unittest\n",),
    ),
    "cat-lm": (
        {"code": S, "test": S}, {"code": "def f(): ...", "test": "def test_f(): ..."},
        "def f(): ...\n\n", ("def test_f(): ...",),
    ),
    "multipl-e-humaneval": (
        PACK,
        dict.fromkeys(PACK, "") | {"task_id": "JavaScript/0", "prompt": "const f = () => {\n",
                                   "canonical_solution": "  return 1;\n}\n\n"},
        "const f = () => {\n", ("  return 1;\n}\n\n",),
    ),
    "mbxp": (
        dict.fromkeys("task_id language prompt description test entry_point "
                      "canonical_solution".split(), S),
        {"task_id": "MBJP/1", "language": "java", "prompt": "class A {\r\n", "description": "",
         "test": "", "entry_point": "f", "canonical_solution": "  int x;\r\n}"},
        "class A {\n", ("  int x;\n}",),
    ),
    "swe-bench-oracle": (
        dict.fromkeys(SWE, S),
        dict.fromkeys(SWE, "") | {"instance_id": "a__b-1", "text": "Solve this issue.",
                                  "patch": "diff --git a/x b/x\n"},
        "Solve this issue.\n", ("diff --git a/x b/x\n",),
    ),
    "crosscodeeval": (
        {"prompt": S, "groundtruth": S, "right_context": S,
         "metadata": {"task_id": S, "repository": S, "file": S, "context_start_lineno": I64,
                      "groundtruth_start_lineno": I64, "right_context_start_lineno": I64}},
        {"prompt": "import lib\nx = lib.", "groundtruth": "run()", "right_context": "",
         "metadata": {"task_id": "project_cc_python/62", "repository": "r", "file": "f",
                      "context_start_lineno": 0, "groundtruth_start_lineno": 1,
                      "right_context_start_lineno": 2}},
        "import lib\nx = lib.", ("run()",),
    ),
    "humaneval": (
        dict.fromkeys("task_id prompt canonical_solution test entry_point".split(), S),
        {"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n",
         "test": "def check(c): ...", "entry_point": "f"},
        "def f():\n", ("    return 1\n",),
    ),
    "mbpp": (
        {"task_id": I32, "text": S, "code": S, "test_list": List(S), "test_setup_code": S,
         "challenge_test_list": List(S)},
        {"task_id": 11, "text": "Write a function.", "code": "def f():\r\n  return 1",
         "test_list": ["assert f() == 1", "assert f()"], "test_setup_code": "",
         "challenge_test_list": []},
        '"""\nWrite a function.\nassert f() == 1\nassert f()\n"""\n', ("def f():\n  return 1",),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def _table(name: str, copies: int = 3) -> Dataset:
    """A table of one row and others like it, under other names."""
    features, row, _, _ = HUB[name]
    key = NINETEEN[name].id_column
    others = [
        row | ({key: row[key] + type(row[key])(i)} if key in row else {})
        for i in range(copies - 1)
    ]
    return Dataset.from_list([row, *others], features=Features(features))


def test_there_are_nine_hypothesis_and_ten_held_out_sets_of_two_classes() -> None:
    assert set(HUB) == set(NINETEEN)
    counts = Counter((b.part, b.skill_class) for b in NINETEEN.values())
    assert counts == {
        ("hypothesis", "knowledge"): 4,
        ("hypothesis", "code"): 5,
        ("held-out", "knowledge"): 5,
        ("held-out", "code"): 5,
    }


@pytest.mark.parametrize("name", NINETEEN)
def test_an_entry_says_all_that_is_needed(name: str) -> None:
    entry = NINETEEN[name]
    features = HUB[name][0]
    assert entry.task == name and entry.paper_split
    assert set(entry.columns) <= set(features) and entry.columns
    assert entry.id_column == "id" or entry.id_column in entry.columns
    assert entry.public or entry.note
    assert bool(entry.dataset_path) == bool(entry.test_split)
    assert not isinstance(entry.doc_to_text, str) or entry.doc_to_text in features


@pytest.mark.parametrize("name", NINETEEN)
def test_a_row_of_the_hub_becomes_context_and_target(name: str) -> None:
    _, row, context, targets = HUB[name]
    loaded = convert(NINETEEN[name], _table(name))
    first = str(row.get(NINETEEN[name].id_column, 0))
    example = next(e for e in loaded.examples if e.id == first)
    assert (example.context, example.targets) == (context, targets)
    assert len(loaded.examples) == 3 and loaded.skipped == 0
    assert loaded.note == NINETEEN[name].note


def test_columns_no_template_reads_play_no_part_and_missing_ones_are_named() -> None:
    table = _table("squad-dev").remove_columns("answers")
    with pytest.raises(BenchmarkError, match=r"squad-dev.* has no column answers \(it has id, "):
        convert(NINETEEN["squad-dev"], table)
    few = _table("triviaqa-dev").select_columns(["question", "question_id", "answer"])
    assert len(convert(NINETEEN["triviaqa-dev"], few).examples) == 3


def test_the_first_examples_of_a_limit_are_the_same_everywhere() -> None:
    table = _table("humaneval", copies=40)
    entry = NINETEEN["humaneval"]
    few, many = (convert(entry, table, limit=limit).examples for limit in (5, 20))
    assert few == many[:5]
    backwards = convert(entry, table.select(range(39, -1, -1)), limit=20).examples
    assert [e.id for e in backwards] == [e.id for e in many]
    assert [e.id for e in many] != sorted(e.id for e in many)


def test_rows_without_a_target_are_counted_and_a_set_without_any_is_refused() -> None:
    features, row, _, _ = HUB["mbxp"]
    rows = [row, row | {"task_id": "b", "canonical_solution": None}]
    entry = NINETEEN["mbxp"]
    loaded = convert(entry, Dataset.from_list(rows, features=Features(features)))
    assert len(loaded.examples) == 1 and loaded.skipped == 1
    with pytest.raises(BenchmarkError, match=r"skills.mbxp: no row of .* has a target"):
        convert(entry, Dataset.from_list(rows[1:], features=Features(features)))


def test_own_jsonl_is_read_by_column_names_or_templates(tmp_path: Any) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [{"q": "2+2", "a": ["4", "four"]}, {"q": "1+1", "a": ["2"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = Benchmark(
        "mine", "json", "train", "q", "a", "sums", dataset_kwargs={"data_files": str(path)}
    )
    found = {e.context: e.targets for e in load(plain).examples}
    assert found == {"2+2 ": ("4", "four"), "1+1 ": ("2",)}
    jinja = replace(plain, doc_to_text="{{q}}=\n", doc_to_target="{{a}}", target_delimiter="")
    assert {e.context: e.targets for e in load(jinja).examples}["2+2=\n"] == ("4", "four")
    first = replace(jinja, doc_to_target="{{a[0]}}")
    assert {e.targets for e in load(first).examples} == {("4",), ("2",)}
    wrong = replace(jinja, doc_to_target="{{answer}}")
    with pytest.raises(BenchmarkError, match=r"row '\d' .* does not fit its templates: Undefined"):
        load(wrong)


def test_a_local_copy_stands_in_for_the_hub(tmp_path: Any) -> None:
    path = tmp_path / "humaneval.jsonl"
    _table("humaneval").to_json(path)
    loaded = examples(SkillSource("humaneval", path=str(path)))
    assert loaded.examples[0].context == "def f():\n"
    _table("humaneval").to_parquet(tmp_path / "humaneval.parquet")
    parquet = SkillSource("humaneval", path=str(tmp_path / "humaneval.parquet"))
    assert examples(parquet) == loaded


def test_what_cannot_be_had_is_said_with_the_remedy(tmp_path: Any) -> None:
    with pytest.raises(BenchmarkError, match=r"cat-lm: CAT-LM's pairs .*columns code, test"):
        load(find("cat-lm"))
    with pytest.raises(PrepareError, match=r"skills.mbpp: there is no file .*gone.jsonl"):
        examples(SkillSource("mbpp", path=str(tmp_path / "gone.jsonl")))
    with pytest.raises(BenchmarkError, match=r"'humanevl' is no benchmark .*mean 'humaneval'"):
        find("humanevl")


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ text }}!", "[x]!"),
        ("text", "[x]"),  # a column's name
        ("{{ text }}", "[x]"),  # in brackets, and no list
        ("{{ items }}", ["a", "b"]),
        ("A\n", "A\n"),
        (lambda doc: doc["items"][0], "a"),
    ],
)
def test_templates_follow_the_rules_of_the_harness(template: Any, found: Any) -> None:
    assert apply(template, {"text": "[x]", "items": ["a", "b"]}) == found
