"""Facts about entities: random, so that they can only be known by heart.

A document is a run of sentences, each saying one attribute of one entity in one of three
phrasings, or asking for it. Entities are named by two syllables, three where two are not enough,
and occur with Zipf frequency.
A share of the entities is never asked about in training: only the form is known from others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.corpora import vocabulary as v
from trainables.corpora.documents import Documents, Family, IntArray, pack
from trainables.data import BuiltIn

RANK_SHIFT = 8
"""Flattens the head of the Zipf law, so that no entity fills the corpus (assumption)."""

NAME_1, NAME_2, NAME_3, ATTRIBUTE, VERB, VALUE, GAP = -7, -6, -5, -4, -3, -2, -1

PHRASINGS: IntArray = np.array(
    [
        [NAME_1, NAME_2, NAME_3, ATTRIBUTE, VALUE, v.STOP, GAP],
        [ATTRIBUTE, v.OF, NAME_1, NAME_2, NAME_3, VALUE, v.STOP],
        [NAME_1, NAME_2, NAME_3, VERB, VALUE, v.STOP, GAP],
        [v.ASK, ATTRIBUTE, NAME_1, NAME_2, NAME_3, VALUE, v.STOP],
    ]
)
"""Three statements and, last, the question; each ends with the value, which is scored. One
statement names the attribute first, as the question does: without it, answers about entities
never asked about are no better than chance (measured, benchmarks/results/trainables.md)."""

QUESTION = 3
SHORTEST = 5


@dataclass(frozen=True)
class World:
    """One world's facts.

    Attributes:
        names: syllable tokens of each entity, the third `GAP` in small worlds, (entities, 3).
        values: value token of each fact, (entities, attributes).
        frequency: cumulated frequency of the entities, (entities,).
        asked: whether training asks about the entity, (entities,).
    """

    names: IntArray
    values: IntArray
    frequency: npt.NDArray[np.float64]
    asked: npt.NDArray[np.bool_]

    @classmethod
    def build(cls, data: BuiltIn) -> World:
        """Draw the facts that ``data.world_seed`` names."""
        rng = np.random.default_rng([data.world_seed, 1])
        long = data.entities > v.SYLLABLES**2
        name = rng.choice(v.SYLLABLES ** (3 if long else 2), size=data.entities, replace=False)
        third = v.FIRST_SYLLABLE + name // v.SYLLABLES**2 if long else np.full_like(name, GAP)
        weights = (np.arange(data.entities) + RANK_SHIFT) ** -data.zipf
        return cls(
            names=np.stack(
                (
                    v.FIRST_SYLLABLE + name // v.SYLLABLES % v.SYLLABLES,
                    v.FIRST_SYLLABLE + name % v.SYLLABLES,
                    third,
                ),
                axis=1,
            ),
            values=v.VALUE + rng.integers(data.values, size=(data.entities, data.attributes)),
            frequency=np.cumsum(weights) / weights.sum(),
            asked=rng.permutation(data.entities) < round(data.qa_share * data.entities),
        )


def documents(
    world: World, rng: np.random.Generator, count: int, *, context: int, held_out: bool = False
) -> Documents:
    """Generate documents.

    Args:
        held_out: make half of the sentences questions about entities that training never asks
            about (for scoring only).
    """
    shape = (count, -(-context // SHORTEST))
    entity = np.searchsorted(world.frequency, rng.random(shape))
    if held_out:
        asked = rng.random(shape) < 0.5
        entity = np.where(asked, _never_asked(world, rng, shape), entity)
    attribute = rng.integers(world.values.shape[1], size=shape)
    phrasing = rng.integers(QUESTION + 1, size=shape)
    # A draw of "ask" for an entity that is never asked about becomes a statement.
    statement = rng.integers(QUESTION, size=shape)
    phrasing = np.where((phrasing == QUESTION) & ~world.asked[entity], statement, phrasing)
    if held_out:
        phrasing = np.where(asked, QUESTION, phrasing)
    tokens = _write(world, entity, attribute, phrasing)
    family = np.where(PHRASINGS[phrasing] == VALUE, _families(world, entity, phrasing), 0)
    family = np.where(_said_before(entity, attribute)[..., None], 0, family)
    return pack(tokens, family, context)


def _never_asked(world: World, rng: np.random.Generator, shape: tuple[int, int]) -> IntArray:
    """Entities that training never asks about, by their frequency."""
    weights = np.diff(world.frequency, prepend=0.0) * ~world.asked
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(shape))


def _write(world: World, entity: IntArray, attribute: IntArray, phrasing: IntArray) -> IntArray:
    """Fill the phrasings in: (documents, sentences, 7) tokens, -1 in gaps."""
    tokens = PHRASINGS[phrasing]
    for slot, filler in (
        (NAME_1, world.names[entity, 0]),
        (NAME_2, world.names[entity, 1]),
        (NAME_3, world.names[entity, 2]),
        (ATTRIBUTE, v.ATTRIBUTE + attribute),
        (VERB, v.VERB + attribute),
        (VALUE, world.values[entity, attribute]),
    ):
        tokens = np.where(tokens == slot, filler[..., None], tokens)
    return tokens


def _families(world: World, entity: IntArray, phrasing: IntArray) -> IntArray:
    """`Family` of each sentence's value, (documents, sentences, 1)."""
    question = np.where(world.asked[entity], Family.QUESTION, Family.HELD_OUT_QUESTION)
    family: IntArray = np.where(phrasing == QUESTION, question, Family.STATEMENT)
    return family[..., None]


def _said_before(entity: IntArray, attribute: IntArray) -> npt.NDArray[np.bool_]:
    """Whether a document has said a sentence's fact before, where it could be copied."""
    fact = entity * v.VALUES + attribute
    same = fact[:, :, None] == fact[:, None, :]
    before: npt.NDArray[np.bool_] = np.tril(same, k=-1).any(axis=2)
    return before
