"""The nineteen benchmarks of Roberts et al. (arXiv 2503.10061), Table 1, as datasets at hand.

The paper names its sets; it does not say (in the parts at hand) how they were prompted, split
or normalised, nor how a question with several right answers was scored. What is used here is
stated in each entry: ``public`` says whether the gold targets of just the paper's set can be
had, ``note`` what is used where they cannot. Hypothesis and held-out sets share no target.
Columns are those of the hub's dataset cards and files of 2024 to 2026, and the tests convert
tables of those schemas; nothing was fetched from the hub itself.
"""

from __future__ import annotations

import difflib
from typing import Any

from trainables.skills.benchmarks import Benchmark, BenchmarkError, Doc, by_name

_MXEVAL = "https://raw.githubusercontent.com/amazon-science/mxeval/main/data/mbxp"
_PACK = "hf://datasets/bigcode/humanevalpack@48dbcf3b8935a9f4077f4f0622c9a931f5a453a5/data"
_CCEVAL = "hf://datasets/Vincentvmt/CrossCodeEval/crosscodeeval_data"


def _question(doc: Doc) -> str:
    return f"Question: {doc['question'].strip()}\nAnswer:"


def _open_question(doc: Doc) -> str:
    """As lm-evaluation-harness's nq_open, whose questions have no mark."""
    return f"Q: {doc['question']}?\nA:"


def _value(doc: Doc) -> Any:
    """TriviaQA's own answer; its some twenty aliases are spellings of the same."""
    return doc["answer"]["value"]


def _passage(doc: Doc) -> str:
    """As lm-evaluation-harness's squadv2."""
    return (
        f"Title: {doc['title']}\n\nBackground: {doc['context']}\n\nQuestion: {doc['question']}"
        "\n\nAnswer:"
    )


def _spans(doc: Doc) -> Any:
    return doc["answers"]["text"]


def _choice(doc: Doc) -> str:
    """The text of the right choice: small models do not know letters from each other."""
    return str(doc["choices"][doc["answer"]])


def _repository(doc: Doc) -> str:
    """Snippets of other files as comments, then imports and the code before the line."""
    snippets = (
        f"# Path: {part['path']}\n{_commented(part['snippet'])}" for part in doc["context"]
    )
    here = f"# Path: {doc['file_path']}\n{doc['import_statement']}\n{doc['cropped_code']}"
    return "\n\n".join([*snippets, here])


def _commented(code: str) -> str:
    return "\n".join(f"# {line}" for line in code.splitlines())


def _solved(doc: Doc) -> str:
    return f"{doc['complete_prompt']}{doc['canonical_solution']}"


def _described(doc: Doc) -> str:
    """The task and its tests in a docstring, as InCoder (Fried et al. 2022) and others have it."""
    tests = "\n".join(doc["test_list"])
    return f'"""\n{doc["text"]}\n{tests}\n"""'


def _lines(column: str) -> Any:
    """A column with the line ends of Unix: some of these files come from Windows."""

    def text(doc: Doc) -> Any:
        value = doc[column]
        return value if value is None else value.replace("\r\n", "\n")

    return text


_TRIVIA = {
    "dataset_path": "mandarjoshi/trivia_qa",
    "doc_to_text": _question,
    "doc_to_target": _value,
    "skill_class": "knowledge",
    "id_column": "question_id",
    "columns": ("question", "question_id", "answer"),
}
_NQ = {
    "dataset_path": "google-research-datasets/nq_open",
    "doc_to_text": _open_question,
    "doc_to_target": "answer",
    "skill_class": "knowledge",
    "id_column": "question",
    "columns": ("question", "answer"),
}
_SQUAD = {
    "dataset_path": "rajpurkar/squad",
    "doc_to_text": _passage,
    "doc_to_target": _spans,
    "skill_class": "knowledge",
    "id_column": "id",
    "columns": ("id", "title", "context", "question", "answers"),
}
_MMLU = {
    "dataset_path": "cais/mmlu",
    "dataset_name": "all",
    "doc_to_text": _question,
    "doc_to_target": _choice,
    "skill_class": "knowledge",
    "columns": ("question", "choices", "answer"),
}
_BIGCODE = {
    "dataset_path": "bigcode/bigcodebench",
    "test_split": "v0.1.4",
    "skill_class": "code",
    "id_column": "task_id",
}

_OPEN_DEV = (
    "The paper's dev questions of open-domain work are a random part of the training split; these "
    "are its last rows, as many."
)
_TEST_WITHHELD = (
    "TriviaQA withholds the answers of its test split; as in open-domain work the validation "
    "split is used."
)

NINETEEN = by_name(
    [
        Benchmark(
            task="triviaqa-dev",
            dataset_name="unfiltered.nocontext",
            test_split="train[-8837:]",
            part="hypothesis",
            paper_split="TriviaQA dev",
            note=_OPEN_DEV,
            **_TRIVIA,  # type: ignore[arg-type] # one dict for all kinds of fields
        ),
        Benchmark(
            task="nq-dev",
            test_split="train[-8757:]",
            part="hypothesis",
            paper_split="NQ dev",
            note=_OPEN_DEV,
            **_NQ,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="squad-train",
            test_split="train",
            part="hypothesis",
            paper_split="SQuAD train",
            **_SQUAD,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="mmlu-train",
            test_split="auxiliary_train",
            part="hypothesis",
            paper_split="MMLU train",
            **_MMLU,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="repobench",
            dataset_path="tianyang/repobench_python_v1.1",
            test_split="cross_file_first",
            doc_to_text=_repository,
            doc_to_target="next_line",
            target_delimiter="\n",
            skill_class="code",
            columns=(
                "file_path",
                "context",
                "import_statement",
                "cropped_code",
                "next_line",
            ),
            part="hypothesis",
            paper_split="RepoBench",
            note="Python, lines that use another file's name for the first time.",
        ),
        Benchmark(
            task="bigcodebench",
            doc_to_text="complete_prompt",
            doc_to_target="canonical_solution",
            target_delimiter="",
            columns=("task_id", "complete_prompt", "canonical_solution"),
            part="hypothesis",
            paper_split="BigCodeBench",
            **_BIGCODE,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="cat-lm",
            dataset_path="",
            test_split="",
            doc_to_text="code",
            doc_to_target="test",
            target_delimiter="\n\n",
            skill_class="code",
            columns=("code", "test"),
            part="hypothesis",
            paper_split="CAT-LM (test generation)",
            public=False,
            note="CAT-LM's pairs of code and test file are not on the hub.",
        ),
        Benchmark(
            task="multipl-e-humaneval",
            dataset_path="json",
            dataset_kwargs={
                "data_files": [
                    f"{_PACK}/{name}/data/humanevalpack.jsonl"
                    for name in ("cpp", "go", "java", "js", "rust")
                ]
            },
            test_split="train",
            doc_to_text="prompt",
            doc_to_target="canonical_solution",
            target_delimiter="",
            skill_class="code",
            id_column="task_id",
            columns=("task_id", "prompt", "canonical_solution"),
            part="hypothesis",
            paper_split="MultiPL-E (HumanEval)",
            public=False,
            note="MultiPL-E has prompts and tests but no solutions; HumanEvalPack's hand-written "
            "ones of the same problems in five languages are used.",
        ),
        Benchmark(
            task="mbxp",
            dataset_path="json",
            dataset_kwargs={
                "data_files": [
                    f"{_MXEVAL}/{name}.jsonl"
                    for name in (
                        "mbjp_release_v1",
                        "mbjsp_release_v1",
                        "mbtsp_release_v1.1",
                        "mbkp_release_v1",
                        "mbrbp_release_v1",
                        "mbphp_release_v1",
                        "mbcpp_release_v1",
                        "mbcsp_release_v1.1",
                        "mbgp_release_v1.1",
                        "mbplp_release_v1",
                        "mbscp_release_v1",
                        "mbswp_release_v1",
                    )
                ]
            },
            test_split="train",
            doc_to_text=_lines("prompt"),
            doc_to_target=_lines("canonical_solution"),
            target_delimiter="",
            skill_class="code",
            id_column="task_id",
            columns=("task_id", "prompt", "canonical_solution"),
            part="hypothesis",
            paper_split="MBXP",
            note="Twelve languages, all but Python, which is MBPP; its authors made the solutions "
            "with a model and checked them by tests, and rows without one are skipped.",
        ),
        Benchmark(
            task="triviaqa-test",
            dataset_name="unfiltered.nocontext",
            test_split="validation",
            part="held-out",
            paper_split="TriviaQA test",
            public=False,
            note=_TEST_WITHHELD,
            **_TRIVIA,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="triviaqa-wiki-test",
            dataset_name="rc.wikipedia.nocontext",
            test_split="validation",
            part="held-out",
            paper_split="TriviaQA wiki test",
            public=False,
            note=_TEST_WITHHELD + " Its questions overlap with those of triviaqa-test.",
            **_TRIVIA,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="nq-test",
            test_split="validation",
            part="held-out",
            paper_split="NQ test",
            note="What open-domain work calls test is the validation split.",
            **_NQ,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="squad-dev",
            test_split="validation",
            part="held-out",
            paper_split="SQuAD dev",
            **_SQUAD,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="mmlu-val",
            test_split="validation",
            part="held-out",
            paper_split="MMLU val",
            **_MMLU,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="swe-bench-oracle",
            dataset_path="princeton-nlp/SWE-bench_oracle",
            test_split="test",
            doc_to_text="text",
            doc_to_target="patch",
            target_delimiter="\n",
            skill_class="code",
            id_column="instance_id",
            columns=("instance_id", "text", "patch"),
            part="held-out",
            paper_split="SWE-bench (oracle)",
            note="Tens of thousands of tokens each: a short context cuts off most of the text.",
        ),
        Benchmark(
            task="bigcodebench-tests",
            doc_to_text=_solved,
            doc_to_target="test",
            target_delimiter="\n\n",
            columns=("task_id", "complete_prompt", "canonical_solution", "test"),
            part="held-out",
            paper_split="BigCodeBench (test generation)",
            **_BIGCODE,  # type: ignore[arg-type]
        ),
        Benchmark(
            task="crosscodeeval",
            dataset_path="json",
            dataset_kwargs={
                "data_files": [
                    f"{_CCEVAL}/{name}/line_completion.jsonl"
                    for name in ("python", "java", "typescript", "csharp")
                ]
            },
            test_split="train",
            doc_to_text="prompt",
            doc_to_target="groundtruth",
            target_delimiter="",
            skill_class="code",
            columns=("prompt", "groundtruth"),
            part="held-out",
            paper_split="CrossCodeEval",
            note="A mirror on the hub of the authors' archive; without retrieved context.",
        ),
        Benchmark(
            task="humaneval",
            dataset_path="openai/openai_humaneval",
            test_split="test",
            doc_to_text="prompt",
            doc_to_target="canonical_solution",
            target_delimiter="",
            skill_class="code",
            id_column="task_id",
            columns=("task_id", "prompt", "canonical_solution"),
            part="held-out",
            paper_split="HumanEval",
        ),
        Benchmark(
            task="mbpp",
            dataset_path="google-research-datasets/mbpp",
            dataset_name="full",
            test_split="test",
            doc_to_text=_described,
            doc_to_target=_lines("code"),
            target_delimiter="\n",
            skill_class="code",
            id_column="task_id",
            columns=("task_id", "text", "code", "test_list"),
            part="held-out",
            paper_split="MBPP",
        ),
    ]
)
"""By name: nine that the paper formed its hypotheses on, ten held out to confirm them."""


def find(name: str) -> Benchmark:
    """One of the paper's benchmarks by name.

    Raises:
        BenchmarkError: there is none of this name; the message has the nearest.
    """
    if name not in NINETEEN:
        near = difflib.get_close_matches(name, NINETEEN, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BenchmarkError(
            f"skills: {name!r} is no benchmark of the catalog{hint} (`isoskill skills` lists "
            "them; for your own examples give a path to JSON lines)"
        )
    return NINETEEN[name]
