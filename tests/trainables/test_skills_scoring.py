"""Sums over target tokens that depend on neither batch, order, padding nor number of workers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.corpora import Documents
from trainables.engine.loss import Objective
from trainables.engine.model import build
from trainables.families import Model
from trainables.shapes import solve
from trainables.skills.encode import Encoded
from trainables.skills.scoring import Workers, _of_documents, _of_examples, sequence_nll

SHAPE = solve(7e3, Model(vocabulary=256, context=40))
NETWORK = build(SHAPE, seed=0, attention="sdpa").eval()


def _score(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    nll: npt.NDArray[np.float64] = (
        Objective(NETWORK, begin=0).nll(torch.from_numpy(tokens)).double().numpy()
    )
    return nll


def _encoded(seed: int = 0, examples: int = 13) -> Encoded:
    """Sequences of 1 to 40 tokens, some examples with several answers."""
    rng = np.random.default_rng(seed)
    example = np.sort(np.concatenate((np.arange(examples), rng.integers(examples, size=9))))
    lengths = rng.integers(1, 41, size=len(example))
    return Encoded(
        tokens=rng.integers(1, 256, size=lengths.sum()),
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        start=rng.integers(lengths),
        example=example,
        target_bytes=rng.integers(1, 99, size=len(example)),
        ids=tuple(f"q{i}" for i in range(examples)),
    )


ENCODED = _encoded()
ALONE = np.concatenate(
    [_score(part[None])[0] for part in np.split(ENCODED.tokens, ENCODED.offsets[1:-1])]
)


@pytest.mark.parametrize("batch_tokens", [1, 50, 333, 10_000])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_batches_and_workers_change_nothing(batch_tokens: int, count: int) -> None:
    calls = []

    def counted(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        calls[-1] += 1
        return _score(tokens)

    parts = []
    for rank in range(count):
        calls.append(0)
        workers = Workers(rank, count, lambda values: values)
        parts.append(
            sequence_nll(
                counted,
                ENCODED.tokens,
                ENCODED.offsets,
                batch_tokens=batch_tokens,
                workers=workers,
            )
        )
    assert np.sum(parts, axis=0) == pytest.approx(ALONE, abs=1e-5)
    assert len(set(calls)) == 1  # sharded models need every worker in every call


def test_what_fills_a_batch_has_no_influence() -> None:
    def other_filling(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        filled = np.where(tokens == 0, 77, tokens)  # 0 occurs in no sequence
        return _score(filled)

    found = sequence_nll(other_filling, ENCODED.tokens, ENCODED.offsets)
    assert found == pytest.approx(ALONE, abs=1e-5)


def test_answers_add_up_their_probabilities() -> None:
    measured = _of_examples(ENCODED, ALONE)
    assert measured.names == ENCODED.ids
    for row in range(len(ENCODED.ids)):
        chance = 0.0
        sequences = np.flatnonzero(ENCODED.example == row)
        for s in sequences:
            target = ALONE[ENCODED.offsets[s] + ENCODED.start[s] : ENCODED.offsets[s + 1]]
            chance += math.exp(-target.sum())
        assert measured.nll[row] == pytest.approx(-math.log(chance))
        assert measured.tokens[row] == ENCODED.target_tokens[sequences[0]]
        assert measured.bytes[row] == ENCODED.target_bytes[sequences[0]]


def test_the_chance_of_a_rare_answer_is_not_lost() -> None:
    measured = _of_examples(ENCODED, ALONE * 1000)
    assert np.isfinite(measured.nll).all() and measured.nll.max() > 10_000


@given(seed=st.integers(0, 10_000), context=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_shorter_contexts_keep_the_sums_of_what_still_fits(seed: int, context: int) -> None:
    encoded = replace(_encoded(seed), example=np.arange(22), ids=tuple(map(str, range(22))))
    uniform = np.full(len(encoded.tokens), 2.0)
    whole = _of_examples(encoded, uniform)
    short = encoded.within(context)
    if not short.ids:
        return
    part = _of_examples(short, np.full(len(short.tokens), 2.0))
    kept = [encoded.ids.index(name) for name in part.names]
    assert part.nll == pytest.approx(whole.nll[kept])
    assert part.bytes.tolist() == whole.bytes[kept].tolist()


def test_every_run_of_target_tokens_in_a_document_is_a_question() -> None:
    family = np.array([[1, 0, 1, 1], [1, 1, 0, 2]])
    documents = Documents(np.arange(8).reshape(2, 4), family)
    nll = np.array([1.0, 9, 2, 3, 4, 5, 9, 9])
    found = _of_documents(documents, nll, (1,), np.arange(8) + 1)
    assert found.nll.tolist() == [1, 5, 9]  # a run ends with its document
    assert found.tokens.tolist() == [1, 2, 2]
    assert found.bytes.tolist() == [1, 7, 11]
    assert found.names == ("0/0", "0/2", "1/0")
    whole = _of_documents(documents, nll, (), np.arange(8) + 1)
    assert whole.nll.tolist() == [15, 27] and whole.tokens.tolist() == [4, 4]
