"""Text without facts or logic: Markov chains of 48 words, with a hidden topic per document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.corpora import vocabulary as v
from trainables.corpora.documents import Documents, Family
from trainables.data import BuiltIn

TOPICS = 8
CONCENTRATION = 0.1
"""Of the Dirichlet law of transitions: a word has some five likely successors (assumption)."""


@dataclass(frozen=True)
class Topics:
    """Cumulated probabilities of the next word, (topics, words, words)."""

    cumulated: npt.NDArray[np.float64]

    @classmethod
    def build(cls, data: BuiltIn) -> Topics:
        """Draw the topics that ``data.world_seed`` names."""
        rng = np.random.default_rng([data.world_seed, 2])
        rows = rng.dirichlet(np.full(v.SYMBOLS, CONCENTRATION), size=(TOPICS, v.SYMBOLS))
        return cls(np.cumsum(rows, axis=2))


def documents(topics: Topics, rng: np.random.Generator, count: int, *, context: int) -> Documents:
    """Generate documents, each on one topic."""
    topic = rng.integers(TOPICS, size=count)
    draws = rng.random((context, count, 1))
    word = np.empty((context, count), dtype=np.int64)
    word[0] = rng.integers(v.SYMBOLS, size=count)
    for place in range(1, context):
        below = topics.cumulated[topic, word[place - 1]] < draws[place]
        # Rounding may leave the last cumulated probability a hair below 1.
        word[place] = np.minimum(below.sum(axis=1), v.SYMBOLS - 1)
    tokens = v.SYMBOL + word.T
    return Documents(tokens, np.full_like(tokens, Family.NONE))
