"""The nineteen benchmarks of Roberts et al. (arXiv 2503.10061), Table 1, as datasets at hand.

The paper names its sets; it does not say (in the parts at hand) how they were prompted, split
or normalised, nor how a question with several right answers was scored. What is used here is
stated in each entry of ``paper.yaml``: ``public`` says whether the gold targets of just the
paper's set can be had, ``note`` what is used where they cannot. Hypothesis and held-out sets share
no target. Columns are those of the hub's dataset cards and files of 2024 to 2026, and the tests
convert tables of those schemas; nothing was fetched from the hub itself.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import yaml

from trainables.families.checks import did_you_mean
from trainables.skills.benchmarks import Benchmark, BenchmarkError, Doc


def _passage(doc: Doc) -> str:
    """As lm-evaluation-harness's squadv2."""
    return (
        f"Title: {doc['title']}\n\nBackground: {doc['context']}\n\nQuestion: {doc['question']}"
        "\n\nAnswer:"
    )


def _repository(doc: Doc) -> str:
    """Snippets of other files as comments, then imports and the code before the line."""
    snippets = (
        f"# Path: {part['path']}\n"
        + "\n".join(f"# {line}" for line in part["snippet"].splitlines())
        for part in doc["context"]
    )
    here = f"# Path: {doc['file_path']}\n{doc['import_statement']}\n{doc['cropped_code']}"
    return "\n\n".join([*snippets, here])


def _described(doc: Doc) -> str:
    """The task and its tests in a docstring, as InCoder (Fried et al. 2022) and others have it."""
    tests = "\n".join(doc["test_list"])
    return f'"""\n{doc["text"]}\n{tests}\n"""'


def _unix(column: str) -> Any:
    """A column with the line ends of Unix: some of these files come from Windows."""

    def text(doc: Doc) -> Any:
        value = doc[column]
        return value if value is None else value.replace("\r\n", "\n")

    return text


_TEMPLATES: dict[str, Callable[[Doc], Any]] = {
    "paper.question": lambda doc: f"Question: {doc['question'].strip()}\nAnswer:",
    # As lm-evaluation-harness's nq_open, whose questions have no mark.
    "paper.open_question": lambda doc: f"Q: {doc['question']}?\nA:",
    # TriviaQA's own answer; its some twenty aliases are spellings of the same.
    "paper.value": lambda doc: doc["answer"]["value"],
    "paper.passage": _passage,
    "paper.spans": lambda doc: doc["answers"]["text"],
    # The text of the right choice: small models do not know letters from each other.
    "paper.choice": lambda doc: str(doc["choices"][doc["answer"]]),
    "paper.repository": _repository,
    "paper.solved": lambda doc: f"{doc['complete_prompt']}{doc['canonical_solution']}",
    "paper.described": _described,
    **{f"paper.unix_{name}": _unix(name) for name in ("prompt", "canonical_solution", "code")},
}
"""Names in paper.yaml of templates that are functions of a row."""


def _read() -> dict[str, Benchmark]:
    entries = yaml.safe_load(files(__package__).joinpath("paper.yaml").read_text("utf-8"))
    for entry in entries:
        for name in ("doc_to_text", "doc_to_target"):
            entry[name] = _TEMPLATES.get(entry[name], entry[name])
        entry["columns"] = tuple(entry["columns"])
    return {entry["task"]: Benchmark(**entry) for entry in entries}


NINETEEN = _read()
"""By name: nine that the paper formed its hypotheses on, ten held out to confirm them."""


def find(name: str) -> Benchmark:
    """One of the paper's benchmarks by name.

    Raises:
        BenchmarkError: there is none of this name; the message has the nearest.
    """
    if name not in NINETEEN:
        raise BenchmarkError(
            f"skills: {name!r} is no benchmark of the catalog{did_you_mean(name, NINETEEN)}; "
            "`isoskill skills` lists them; for your own examples give a path to JSON lines"
        )
    return NINETEEN[name]
