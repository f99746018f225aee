"""The value every corpus makes: tokens, and which of them a skill is scored on."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Family(IntEnum):
    """What a token is the answer of; `NONE` for all that is not scored as a skill."""

    NONE = 0
    STATEMENT = 1
    QUESTION = 2
    HELD_OUT_QUESTION = 3
    PROGRAM = 10
    """Results of programs with g functions a line are family PROGRAM + g."""


class Documents(NamedTuple):
    """Documents of equal length, one a row.

    Attributes:
        tokens: token ids, (documents, context).
        family: `Family` of each token, same shape.
    """

    tokens: IntArray
    family: IntArray


def pack(tokens: IntArray, family: IntArray, context: int) -> Documents:
    """Close the gaps between sentences of different lengths and cut at the context.

    Args:
        tokens: ids, (documents, sentences, positions); -1 marks a gap.
        context: tokens of a document; the input must hold as many in every row.
    """
    count, sentences, longest = tokens.shape
    tokens, family = (part.reshape(count, sentences * longest) for part in (tokens, family))
    kept = tokens >= 0
    place = np.cumsum(kept, axis=1) - 1
    kept &= place < context
    row = np.nonzero(kept)[0]
    packed = np.zeros((2, count, context), dtype=np.int64)
    packed[0, row, place[kept]] = tokens[kept]
    packed[1, row, place[kept]] = family[kept]
    return Documents(packed[0], packed[1])
