"""The built-in documents mean what they say, and come in a reproducible order."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from trainables.corpora import Documents, Family, Stream, evaluation_sets, knowledge
from trainables.corpora import vocabulary as v
from trainables.corpora.vocabulary import check_vocabulary
from trainables.data import CLASSES, Data

CONTEXT = 60
DATA = Data(evaluation_documents=256)


@pytest.fixture(scope="module")
def held_out() -> dict[str, Documents]:
    return evaluation_sets(DATA, CONTEXT)


def test_the_vocabulary_is_distinct_and_fits() -> None:
    assert len(set(v.SPELLING)) == len(v.SPELLING) <= v.SIZE
    with pytest.raises(ValueError, match=r"model.vocabulary: 200"):
        check_vocabulary(200)


def test_a_sequence_depends_on_its_number_and_the_seeds_only() -> None:
    straight = Stream(DATA, context=CONTEXT, seed=1)
    steps = np.concatenate([straight.sequences(first, 7) for first in range(0, 1050, 7)])
    resumed = Stream(DATA, context=CONTEXT, seed=1)
    assert np.array_equal(resumed.sequences(501, 530), steps[501:1031])
    assert not np.array_equal(Stream(DATA, context=CONTEXT, seed=2).sequences(0, 8), steps[:8])
    world = Stream(Data(world_seed=1), context=CONTEXT, seed=1)
    assert not np.array_equal(world.sequences(0, 8), steps[:8])


@pytest.mark.parametrize("context", [12, 60, 128])
def test_documents_fill_the_context(context: int) -> None:
    tokens = Stream(DATA, context=context, seed=0).sequences(0, 300)
    assert tokens.shape == (300, context)
    assert tokens.min() > v.BEGIN
    assert tokens.max() < len(v.SPELLING)


def test_classes_come_in_their_shares() -> None:
    data = Data(multipliers={"code": 2.0})
    tokens = Stream(data, context=CONTEXT, seed=0).sequences(0, 2048)
    kinds = Counter(_kind(row) for row in tokens)
    for name in CLASSES:
        assert kinds[name] / 2048 == pytest.approx(data.mix[name], abs=0.003)


def _kind(row: np.ndarray) -> str:
    if (row >= v.SYMBOL).all():
        return "other"
    return "code" if (row >= v.DIGIT).all() else "knowledge"


def test_held_out_documents_are_the_same_for_all_and_not_trained_on(
    held_out: dict[str, Documents],
) -> None:
    again = evaluation_sets(DATA, CONTEXT)
    trained = {row.tobytes() for row in Stream(DATA, context=CONTEXT, seed=0).sequences(0, 4096)}
    for name, documents in held_out.items():
        assert np.array_equal(documents.tokens, again[name].tokens)
        assert documents.tokens.shape == (DATA.evaluation_documents, CONTEXT)
        assert not trained & {row.tobytes() for row in documents.tokens}


def test_facts_agree_between_training_and_held_out_documents(
    held_out: dict[str, Documents],
) -> None:
    facts: dict[tuple[str, ...], set[str]] = {}
    stream = Stream(DATA, context=CONTEXT, seed=5).sequences(0, 1000)
    nouns = dict(zip(v.SPELLING[v.VERB :], v.SPELLING[v.ATTRIBUTE : v.VERB], strict=False))
    for row in (*stream, *held_out["knowledge"].tokens, *held_out["knowledge-qa"].tokens):
        text = " ".join(v.SPELLING[token] for token in row)
        for sentence in text.split(" .")[: -1 if _kind(row) == "knowledge" else 0]:
            *about, value = (word for word in sentence.split() if word != "of")
            about = about[1:] if about[0] == "?" else about
            if about[0] in nouns.values():
                about = [*about[1:], about[0]]
            subject, attribute = tuple(about[:2]), nouns.get(about[2], about[2])
            facts.setdefault((*subject, attribute), set()).add(value)
    assert len(facts) > 1000
    assert all(len(values) == 1 for values in facts.values())


def test_held_out_questions_are_never_asked_in_training(held_out: dict[str, Documents]) -> None:
    asked = _questions(Stream(DATA, context=CONTEXT, seed=0).sequences(0, 8192))
    documents = held_out["knowledge-qa"]
    rows, places = np.nonzero(documents.family == Family.HELD_OUT_QUESTION)
    names = {tuple(documents.tokens[r, p - 2 : p]) for r, p in zip(rows, places, strict=True)}
    assert names
    assert not names & asked
    assert len(asked) == round(DATA.qa_share * DATA.entities)


def _questions(tokens: np.ndarray) -> set[tuple[int, ...]]:
    """Names that questions ask about."""
    rows, places = np.nonzero(tokens[:, : CONTEXT - 3] == v.ASK)
    return {tuple(tokens[r, p + 2 : p + 4]) for r, p in zip(rows, places, strict=True)}


def test_scored_facts_are_values_not_said_before_in_the_document(
    held_out: dict[str, Documents],
) -> None:
    tokens, family = held_out["knowledge"]
    scored = tokens[family == Family.STATEMENT]
    assert ((scored >= v.VALUE) & (scored < v.VALUE + v.VALUES)).all()
    values = (tokens >= v.VALUE) & (tokens < v.VALUE + v.VALUES)
    share = (family[values] != Family.NONE).mean()
    assert 0.9 < share < 1


OPERATIONS = {
    "+": lambda x, y: min(x + y, 9),
    "-": lambda x, y: max(x - y, 0),
    "*": lambda x, y: min(x * y, 9),
    "/": lambda x, y: x // y,
    "=": lambda x, y: y,
    "max": max,
    "min": min,
}


def _apply(function: str, value: int) -> int:
    if function == "neg":
        return 9 - value
    return OPERATIONS[function[:-1]](value, int(function[-1]))


def test_programs_compute_what_they_show(held_out: dict[str, Documents]) -> None:
    tokens, family = held_out["code"]
    results = 0
    for row, families in zip(tokens, family, strict=True):
        value = length = 0
        for token, scored in zip(row, families, strict=True):
            word = v.SPELLING[token]
            if word.isdigit():
                assert int(word) == value
                assert scored == Family.PROGRAM + length
                length, results = 0, results + 1
            else:
                value = _apply(word[:-1] if word.endswith("=") else word, value)
                length += 1
                assert scored == Family.NONE
    assert results == (family != Family.NONE).sum() > 3000


def test_grades_are_limited_by_the_config() -> None:
    easy = evaluation_sets(Data(grades=2), CONTEXT)["code"]
    assert set(np.unique(easy.family)) == {0, Family.PROGRAM + 1, Family.PROGRAM + 2}


def test_large_worlds_name_their_entities_with_three_syllables() -> None:
    world = knowledge.World.build(Data(entities=20_000))
    assert len(np.unique(world.names, axis=0)) == 20_000
    assert (world.names >= v.FIRST_SYLLABLE).all()
    small = knowledge.World.build(Data())
    assert (small.names[:, 2] == knowledge.GAP).all()
    tokens = Stream(Data(entities=20_000), context=CONTEXT, seed=0).sequences(0, 200)
    assert tokens.min() > v.BEGIN and tokens.shape == (200, CONTEXT)


def test_small_worlds_stay_what_they_were() -> None:
    """Trials are named by their settings: the same settings must mean the same documents."""
    digest = hashlib.sha256(Stream(Data(world_seed=7), context=60, seed=3).sequences(0, 600))
    for part in evaluation_sets(Data(world_seed=7, evaluation_documents=256), 60).values():
        digest.update(part.tokens.tobytes())
        digest.update(part.family.tobytes())
    assert digest.hexdigest().startswith("9b9bcd60763677b1")
