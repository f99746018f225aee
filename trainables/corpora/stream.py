"""The order of documents of one trial, and the held-out documents of all.

Sequence n of a trial is a pure function of (world seed, trial seed, n): a resumed trial goes on
exactly where it stopped, and workers take slices of one and the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.corpora import code, knowledge, other, vocabulary
from trainables.corpora.documents import Documents, IntArray
from trainables.data import CLASSES, BuiltIn

BLOCK = 512
"""Documents generated at a time: small batches would cost more in calls than in numbers."""

TRAINING, EVALUATION = 3, 4
"""First entropy word after the world seed: keeps training and held-out documents apart."""


def _generators(data: BuiltIn, context: int) -> dict[str, Callable[..., Documents]]:
    """The generator of each class."""
    world, topics = knowledge.World.build(data), other.Topics.build(data)
    return {
        "knowledge": partial(knowledge.documents, world, context=context),
        "code": partial(code.documents, data, context=context),
        "other": partial(other.documents, topics, context=context),
    }


def evaluation_sets(data: BuiltIn, context: int) -> dict[str, Documents]:
    """Held-out documents of each class, and of questions about entities never asked about.

    They do not depend on a trial's seed: every trial is scored on the same documents.
    """
    generators = _generators(data, context)
    generators["knowledge-qa"] = partial(generators["knowledge"], held_out=True)
    return {
        name: generate(
            np.random.default_rng([data.world_seed, EVALUATION, i]), count=data.documents
        )
        for i, (name, generate) in enumerate(generators.items())
    }


class Stream:
    """The training documents of one trial, mixed by document; members as of `prepared.Packed`."""

    vocabulary, begin, token_bytes = vocabulary.SIZE, vocabulary.BEGIN, vocabulary.TOKEN_BYTES

    def __init__(self, data: BuiltIn, *, context: int, seed: int) -> None:
        self._data, self._generators = data, _generators(data, context)
        self._cumulated = np.cumsum([data.mix[name] for name in CLASSES])
        self._entropy = (data.world_seed, TRAINING, seed)
        self._context = context
        self._block = -1
        self._tokens: IntArray = np.empty((0, context), dtype=np.int64)

    def sequences(self, first: int, count: int) -> IntArray:
        """Documents first..first+count of the trial, (count, context) tokens."""
        parts = []
        while count > 0:
            block, offset = divmod(first, BLOCK)
            if block != self._block:
                self._tokens, self._block = self._generate(block), block
            parts.append(self._tokens[offset : offset + count])
            first, count = first + len(parts[-1]), count - len(parts[-1])
        return np.concatenate(parts)

    def evaluation_sets(self) -> dict[str, Documents]:
        """Held-out documents of each class, and of questions never asked in training."""
        return evaluation_sets(self._data, self._context)

    def _generate(self, block: int) -> IntArray:
        """Generate one block, its classes in shares as near to the mix as can be."""
        rng = np.random.default_rng([*self._entropy, block])
        # Systematic sampling: unbiased, and steadier than a draw per document.
        places = (np.arange(BLOCK) + rng.random()) / BLOCK
        kinds = rng.permutation(np.searchsorted(self._cumulated[:-1], places, side="right"))
        tokens = np.empty((BLOCK, self._context), dtype=np.int64)
        for kind, name in enumerate(CLASSES):
            rows = np.flatnonzero(kinds == kind)
            tokens[rows] = self._generators[name](rng, count=rows.size).tokens
        return tokens
