"""The loss of skills' target tokens, question by question, on a model.

Sequences are scored in batches of like length, filled up at the end, where a causal model cannot
see: a result depends neither on the batch, nor on what fills it, nor on how many workers share
the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.corpora import Documents
from trainables.data import Data, Prepared
from trainables.skills.catalog import EXAMPLES, Skill
from trainables.skills.encode import Encoded, IntArray

FloatArray = npt.NDArray[np.float64]

Score = Callable[[IntArray], FloatArray]
"""From token ids (sequences, length) to the NLL of each token in nats, same shape."""

BATCH_TOKENS = 8192
"""Tokens scored at a time (assumption: fills a core, and needs 8 MB of logits at 256 tokens)."""


@dataclass(frozen=True)
class Workers:
    """The workers that share the scoring of one trial.

    Attributes:
        total: sums an array over all workers, on all of them.
    """

    rank: int = 0
    count: int = 1
    total: Callable[[FloatArray], FloatArray] = lambda values: values


ALONE = Workers()
"""One process that does all the work."""


class Measured(NamedTuple):
    """A skill's questions, answered.

    Attributes:
        nll: -ln of the probability of a right answer, nats, (questions,).
        tokens: target tokens of each question; of its first answer if it has several.
        bytes: UTF-8 bytes of the same target.
    """

    nll: FloatArray
    tokens: IntArray
    bytes: IntArray
    names: tuple[str, ...]

    def columns(self) -> dict[str, list[Any]]:
        """The questions as plain columns, which any record can carry."""
        return {
            "example": list(self.names),
            "nll": self.nll.tolist(),
            "target_tokens": self.tokens.tolist(),
        }


def read_examples(skills: Sequence[Skill], data: Data, *, context: int) -> dict[str, Encoded]:
    """The encoded examples that skills of a prepared corpus are scored on.

    Args:
        context: tokens a model can read; contexts of longer examples are cut at the beginning.

    Raises:
        ValueError: a file is missing or damaged, or none of its examples fits.
    """
    sets = {}
    for skill in skills:
        if not isinstance(data, Prepared) or not skill.documents.startswith(f"{EXAMPLES}/"):
            continue
        encoded = Encoded.load(Path(data.path, f"{skill.documents}.npz")).within(context)
        if not encoded.ids:
            raise ValueError(
                f"skills: no target of {skill.name!r} fits model.context: {context}; raise it, or "
                "leave the skill out"
            )
        sets[skill.documents] = encoded
    return sets


def score_skills(
    score: Score,
    skills: Sequence[Skill],
    sets: Mapping[str, Documents | Encoded],
    data: Data,
    *,
    token_bytes: IntArray,
    workers: Workers = ALONE,
    batch_tokens: int = BATCH_TOKENS,
) -> tuple[dict[str, dict[str, Any]], dict[str, Measured]]:
    """Measure skills on held-out documents and examples.

    Args:
        score: the model; where workers share it, all call it equally often.
        sets: held-out documents and encoded examples, by `Skill.documents`.
        token_bytes: UTF-8 bytes that each token stands for, for documents.
        batch_tokens: tokens scored at a time, unless one sequence is longer.

    Returns:
        For each skill its sums ``nll`` (nats), ``tokens``, ``bytes``, ``examples`` (questions)
        and ``class``; and for each but the aggregate its questions.
    """
    classes = tuple(data.reference_mix)
    wanted = {name for s in skills for name in ((s.documents,) if s.documents else classes)}
    nll = {name: _set_nll(score, sets[name], workers, batch_tokens) for name in sorted(wanted)}

    def questions(name: str, families: tuple[int, ...] = ()) -> Measured:
        held_out = sets[name]
        if isinstance(held_out, Encoded):
            return _of_examples(held_out, nll[name])
        return _of_documents(held_out, nll[name], families, token_bytes)

    answered = {s.name: questions(s.documents, s.families) for s in skills if s.documents}
    losses = {}
    for skill in skills:
        if skill.documents:
            sums = _sums(answered[skill.name])
        else:
            parts = {name: _sums(questions(name)) for name in classes}
            sums = _aggregate(parts, data.reference_mix)
        losses[skill.name] = sums | {"class": skill.skill_class}
    return losses, answered


def _sums(measured: Measured) -> dict[str, Any]:
    """Sums over a skill's questions."""
    return {
        "nll": float(measured.nll.sum()),
        "tokens": int(measured.tokens.sum()),
        "bytes": int(measured.bytes.sum()),
        "examples": len(measured.nll),
    }


def _aggregate(parts: dict[str, dict[str, Any]], shares: Mapping[str, float]) -> dict[str, Any]:
    """All classes' sums, with the NLL that makes its mean the classes' means by share."""
    total = {k: sum(part[k] for part in parts.values()) for k in ("tokens", "bytes", "examples")}
    mean = sum(shares[name] * part["nll"] / part["tokens"] for name, part in parts.items())
    return {"nll": mean * total["tokens"], **total}


def _set_nll(
    score: Score, held_out: Documents | Encoded, workers: Workers, batch_tokens: int
) -> FloatArray:
    """NLL of every token of a set, in one row, (tokens,)."""
    if isinstance(held_out, Encoded):
        tokens, offsets = held_out.tokens, held_out.offsets
    else:
        rows, context = held_out.tokens.shape
        tokens, offsets = held_out.tokens.ravel(), np.arange(rows + 1) * context
    return sequence_nll(score, tokens, offsets, batch_tokens=batch_tokens, workers=workers)


def sequence_nll(
    score: Score,
    tokens: IntArray,
    offsets: IntArray,
    *,
    batch_tokens: int = BATCH_TOKENS,
    workers: Workers = ALONE,
) -> FloatArray:
    """NLL of every token of sequences of any lengths.

    Args:
        offsets: sequence s is ``tokens[offsets[s]:offsets[s + 1]]``.
        batch_tokens: tokens scored at a time, unless one sequence is longer.

    Returns:
        Nats, of the shape of ``tokens``.
    """
    nll = np.zeros(len(tokens))
    batches = list(_batches(np.diff(offsets), batch_tokens))
    for turn in range(0, len(batches), workers.count):
        mine = turn + workers.rank
        # A worker without a batch of its own joins in on another's: sharded models need all hands.
        rows = batches[mine] if mine < len(batches) else batches[turn]
        first, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
        inside = np.arange(lengths.max()) < lengths[:, None]
        place = first[:, None] + np.arange(lengths.max())
        block = np.zeros(inside.shape, dtype=np.int64)
        block[inside] = tokens[place[inside]]
        scored = score(block)
        if mine < len(batches):
            nll[place[inside]] = scored[inside]
    return workers.total(nll)


def _batches(lengths: IntArray, batch_tokens: int) -> Iterator[IntArray]:
    """Indices of sequences of like length, the longest first."""
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        rows = max(1, batch_tokens // int(lengths[order[0]]))
        yield order[:rows]
        order = order[rows:]


def _of_examples(encoded: Encoded, nll: FloatArray) -> Measured:
    """One question an example: the probabilities of its answers, which exclude each other."""
    place = np.arange(len(nll)) - np.repeat(encoded.offsets[:-1], encoded.lengths)
    target = place >= np.repeat(encoded.start, encoded.lengths)
    each = np.add.reduceat(np.where(target, nll, 0.0), encoded.offsets[:-1])
    first = np.searchsorted(encoded.example, np.arange(len(encoded.ids)))
    # Answers whose contexts were cut differently may add up to a hair above 1.
    return Measured(
        nll=np.maximum(-np.logaddexp.reduceat(-each, first), 0.0),
        tokens=encoded.target_tokens[first],
        bytes=encoded.target_bytes[first],
        names=encoded.ids,
    )


def _of_documents(
    documents: Documents, nll: FloatArray, families: tuple[int, ...], token_bytes: IntArray
) -> Measured:
    """One question for each run of target tokens in a document; a whole one without families."""
    tokens, context = documents.tokens.ravel(), documents.tokens.shape[1]
    place = np.arange(len(tokens))
    target = np.isin(documents.family.ravel(), families) if families else place >= 0
    begins = target & ((place % context == 0) | ~np.roll(target, 1))
    first = np.flatnonzero(begins)
    return Measured(
        nll=np.add.reduceat(np.where(target, nll, 0.0), first),
        tokens=np.add.reduceat(target.astype(np.int64), first),
        bytes=np.add.reduceat(np.where(target, token_bytes[tokens], 0), first),
        names=tuple(f"{at // context}/{at % context}" for at in first.tolist()),
    )
