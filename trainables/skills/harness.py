"""Tasks of lm-evaluation-harness as skills (extra ``evals``).

The harness says how a document becomes a prompt, here with no solved examples; what is scored is
the text of the right answer. Tasks that are checked by generating often have no such text as
their target (unit tests, lists of aliases), so those are refused unless one is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.skills.benchmarks import (
    LIMIT,
    BenchmarkError,
    Loaded,
    Template,
    apply,
    first_line,
    sample_order,
)
from trainables.skills.encode import Example


def load_task(
    task: str,
    *,
    doc_to_target: Template | None = None,
    include_path: str | Path | None = None,
    limit: int | None = LIMIT,
) -> Loaded:
    """Examples of a task, or of all tasks of a group.

    Args:
        doc_to_target: the right answer, in place of the task's own target: a column, a template
            or a function of the document, such as ``{{answer[0]}}``.
        include_path: directory with own task files; the harness's are then not searched (which
            takes it twenty seconds).

    Raises:
        BenchmarkError: the harness is not installed, does not know the task, or the task's
            target is not the text of an answer.
    """
    leaves = _tasks(task, include_path)
    documents = [
        (f"{name}/{number}", leaf, document)
        for name, leaf in leaves.items()
        for number, document in enumerate(leaf.eval_docs)
    ]
    order = sample_order([name for name, _, _ in documents])[:limit]
    found = [_example(*documents[row], doc_to_target) for row in order]
    examples = [example for example in found if example is not None]
    if not examples:
        raise BenchmarkError(f"skills.{task}: no document has a target")
    return Loaded(examples, len(found) - len(examples), "From lm-evaluation-harness, zero-shot.")


def _tasks(task: str, include_path: str | Path | None) -> dict[str, Any]:
    """The tasks of a name, by their own names."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise BenchmarkError(
            f"skills.{task}: lm-evaluation-harness is not installed: pip install isoskill[evals]"
        ) from error
    path = None if include_path is None else str(include_path)
    manager = TaskManager(include_path=path, include_defaults=path is None)
    if not manager.match_tasks([task]):
        near = manager.match_tasks([f"*{task}*"])[:5]
        hint = f"; there are {', '.join(near)}" if near else ""
        raise BenchmarkError(f"skills.{task}: lm-evaluation-harness has no such task{hint}")
    try:
        return dict(manager.load([task])["tasks"])
    except (OSError, ValueError, RuntimeError) as error:
        raise BenchmarkError(
            f"skills.{task}: its data cannot be loaded: {first_line(error)}"
        ) from error


def _example(
    name: str, task: Any, document: Any, doc_to_target: Template | None
) -> Example | None:
    """One document as context and targets; None without a target."""
    context = task.fewshot_context(document, 0)
    if not isinstance(context, str):
        raise BenchmarkError(
            f"skills.{task.task_name}: its choices differ in the context, not in the answer; "
            "such tasks have no target to score"
        )
    targets = tuple(t for t in _targets(task, document, doc_to_target) if t.strip())
    delimiter = task.config.target_delimiter
    return Example(f"{context}{delimiter}", targets, name) if targets else None


def _targets(task: Any, document: Any, doc_to_target: Template | None) -> Sequence[str]:
    """The right answers of a document."""
    kind = task.config.output_type
    if doc_to_target is not None:
        found = apply(doc_to_target, document)
    elif kind == "multiple_choice":
        choices, right = task.doc_to_choice(document), task.doc_to_target(document)
        rights = right if isinstance(right, list) else [right]
        found = [choices[r] if isinstance(r, int) else r for r in rights]
    elif kind == "loglikelihood":
        found = task.doc_to_target(document)
    else:
        raise BenchmarkError(
            f"skills.{task.task_name}: is a {kind} task, whose own target may be a check and not "
            "an answer; name the answer with doc_to_target, such as '{{answer[0]}}'"
        )
    return [str(t) for t in ([found] if isinstance(found, str) else found)]
