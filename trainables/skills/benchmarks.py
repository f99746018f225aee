"""Benchmarks as skills: a dataset, how a row becomes context and target, and where it is used.

Fields are spelled as lm-evaluation-harness spells them, so that a task's YAML can nearly be
pasted; what matters here is the text of the *right answer*, which its own targets often are not
(unit tests, lists of aliases). The nineteen of the paper are in `trainables.skills.paper`.

Prompts hold no solved examples: the paper's number of shots is not known, and solved examples
would measure how well a model takes hints rather than what it knows.
"""

from __future__ import annotations

import ast
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from trainables.skills.encode import Example

Doc = Mapping[str, Any]
"""One row of a dataset."""

Template = str | Callable[[Doc], Any]
"""A column's name, a Jinja template over the columns, or a function of the row."""

LIMIT = 1000
"""Examples of a benchmark, if no limit is given: the spread of a mean is then some 3 % of the
spread between examples, and the same for all trials (assumption)."""


class BenchmarkError(ValueError):
    """A benchmark cannot be had: names it, what is wrong, and the remedy."""


@dataclass(frozen=True)
class Benchmark:
    """A dataset whose targets are scored.

    Attributes:
        dataset_path: what `datasets.load_dataset` is given: a hub id, or "json" or "parquet".
        dataset_kwargs: what else it is given, such as ``data_files``.
        test_split: the split that is scored; slices such as ``train[-1000:]`` are allowed.
        doc_to_target: the right answer, or a list of them, the usual one first.
        target_delimiter: stands between them; part of the context, as the split is at the
            target's first character.
        skill_class: "knowledge", "code", or any other family of skills.
        id_column: column that names an example; rows of a table without it are numbered.
        part: "hypothesis" if the paper formed its claims on it, "held-out" if it confirmed them.
        paper_split: what the paper's Table 1 calls the set.
        public: whether the gold targets of just that set are public.
        note: what is used instead, or otherwise differs from what one might expect.
    """

    task: str
    dataset_path: str
    test_split: str
    doc_to_text: Template
    doc_to_target: Template
    skill_class: str
    dataset_name: str | None = None
    dataset_kwargs: Mapping[str, Any] = field(default_factory=dict)
    target_delimiter: str = " "
    id_column: str = "id"
    columns: tuple[str, ...] = ()
    part: Literal["hypothesis", "held-out", ""] = ""
    paper_split: str = ""
    public: bool = True
    note: str = ""

    def __str__(self) -> str:
        """How messages call where it comes from."""
        files = self.dataset_kwargs.get("data_files")
        if files is not None:
            return files if isinstance(files, str) else ", ".join(map(str, files))
        return " ".join(filter(None, (self.dataset_path, self.dataset_name, self.test_split)))


class Loaded(NamedTuple):
    """Examples of a benchmark.

    Attributes:
        examples: in an order that depends on their ids alone, so that the first n are a random
            sample, and the same one in every place.
        skipped: rows of those asked for that have no target.
    """

    examples: list[Example]
    skipped: int
    note: str


def load(benchmark: Benchmark, *, limit: int | None = LIMIT) -> Loaded:
    """Fetch a benchmark's examples from the hub.

    Raises:
        BenchmarkError: it cannot be fetched, lacks a column, or has no target at all.
    """
    from datasets import load_dataset  # heavy
    from datasets.exceptions import DatasetGenerationError

    if not benchmark.dataset_path:
        raise BenchmarkError(
            f"skills.{benchmark.task}: {benchmark.note} Give path: a JSON lines file with the "
            f"columns {', '.join(benchmark.columns)}"
        )
    try:
        dataset = load_dataset(
            benchmark.dataset_path,
            benchmark.dataset_name,
            split=benchmark.test_split,
            **benchmark.dataset_kwargs,
        )
    except (OSError, ValueError, RuntimeError, DatasetGenerationError) as error:
        # RuntimeError: datasets no longer runs loading scripts, and says so with one.
        raise BenchmarkError(
            f"skills.{benchmark.task}: {benchmark} cannot be loaded: "
            f"{first_line(error)}; give path: a local copy, as JSON lines or parquet"
        ) from error
    return convert(benchmark, dataset, limit=limit)


def convert(benchmark: Benchmark, dataset: Any, *, limit: int | None = LIMIT) -> Loaded:
    """Turn the rows of a `datasets.Dataset`, or of anything with its few methods, into examples.

    Raises:
        BenchmarkError: a column is missing, a row's target is no text, or no row has a target.
    """
    missing = [name for name in benchmark.columns if name not in dataset.column_names]
    if missing:
        raise BenchmarkError(
            f"skills.{benchmark.task}: {benchmark} has no column {', '.join(missing)} (it has "
            f"{', '.join(dataset.column_names)}); name them by doc_to_text and doc_to_target"
        )
    rows = range(len(dataset))
    named = benchmark.id_column in dataset.column_names
    names = [str(name) for name in (dataset[benchmark.id_column] if named else rows)]
    chosen = sample_order(names)[:limit]
    examples = [
        example
        for row, doc in zip(chosen, dataset.select(chosen), strict=True)
        if (example := _example(benchmark, doc, names[row])) is not None
    ]
    if not examples:
        raise BenchmarkError(f"skills.{benchmark.task}: no row of {benchmark} has a target")
    return Loaded(examples, len(chosen) - len(examples), benchmark.note)


def _example(benchmark: Benchmark, doc: Doc, name: str) -> Example | None:
    """The example of a row; None without a target."""
    try:
        text, target = (apply(t, doc) for t in (benchmark.doc_to_text, benchmark.doc_to_target))
    except Exception as error:  # a template may fail in any way on a row it was not made for
        raise BenchmarkError(
            f"skills.{benchmark.task}: row {name!r} of {benchmark} does not fit its templates: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    try:
        targets = [_spelled(t) for t in (target if isinstance(target, list) else [target])]
        context = _spelled(text)
    except TypeError as error:
        raise BenchmarkError(
            f"skills.{benchmark.task}: row {name!r} of {benchmark}: {error}; write it as text, or "
            "make text of it with a template in doc_to_text and doc_to_target"
        ) from None
    kept = tuple(t for t in targets if t.strip())
    return Example(f"{context}{benchmark.target_delimiter}", kept, name) if kept else None


def _spelled(value: Any) -> str:
    """A context or a target as text; a number as it is written, nothing as nothing.

    Raises:
        TypeError: it is something else, of which there is no one way to write it.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(
            f"holds {str(value)[:40]} ({type(value).__name__}), neither text nor number"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"holds {value}, neither text nor a number")
    return str(value)


def apply(template: Template, doc: Doc) -> Any:
    """What a template makes of a row, by lm-evaluation-harness's rules.

    A column's name gives its value; other text is a Jinja template, and one that renders a list
    gives the list.
    """
    if callable(template):
        return template(doc)
    if template in doc:
        return doc[template]
    text = _compiled(template).render(**doc)
    if text.startswith("[") and text.endswith("]"):
        try:
            return [str(item) for item in ast.literal_eval(text)]
        except (ValueError, SyntaxError):
            pass  # a text in brackets is a text
    return text


@lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    """A Jinja template that refuses unknown columns."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    # As in lm-evaluation-harness, a line end at the template's own end is kept.
    return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        template
    )


def sample_order(names: Sequence[str]) -> list[int]:
    """Rows in an order that depends on their names alone: any first part is a random sample."""

    def key(row: int) -> tuple[bytes, int]:
        return hashlib.sha256(names[row].encode(errors="replace")).digest(), row

    return sorted(range(len(names)), key=key)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
