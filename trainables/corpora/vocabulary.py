"""The 256 tokens of the built-in corpora, and how each is spelled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

import numpy as np
import numpy.typing as npt

SIZE = 256
"""Tokens a model of the built-in corpora must know."""

SYLLABLES = 64
VALUES = 64
SYMBOLS = 48


def _words(consonants: str, vowels: str, count: int, *, ending: str = "") -> Iterator[str]:
    """Distinct pronounceable words, for tokens whose spelling carries no meaning."""
    return islice((c + v + ending for c, v in product(consonants, vowels)), count)


_SPELLING: list[str] = ["<s>", ".", "?", "of"]
BEGIN, STOP, ASK, OF = range(4)


def _add(words: Iterator[str] | list[str]) -> int:
    """Append words to the vocabulary and return the id of the first."""
    first = len(_SPELLING)
    _SPELLING.extend(words)
    return first


FIRST_SYLLABLE = _add(_words("bdfghklmnprstvwz", "aeio", SYLLABLES))
VALUE = _add(_words("bdfghklmnprstvwz", "aeio", VALUES, ending="n"))
ATTRIBUTE = _add(["home", "job", "food", "pet", "sport", "color", "tool", "drink"])
VERB = _add(["lives", "works", "eats", "keeps", "plays", "wears", "uses", "sips"])
DIGIT = _add([str(digit) for digit in range(10)])
_FUNCTIONS = (
    "+1 max5 -1 min5 +2 max3 -2 *2 +3 /2 -3 neg +4 =0 -4 =9 +5 -5 =5 =1 =8 =2 =7 =3".split()
)
FUNCTION = _add(_FUNCTIONS)
LAST_FUNCTION = _add([f"{name}=" for name in _FUNCTIONS])
SYMBOL = _add(_words("bcdfgklmprst", "aeiu", SYMBOLS, ending="x"))

SPELLING: tuple[str, ...] = tuple(_SPELLING)
"""Token id -> text. Ids from here up to `SIZE` never occur."""

TOKEN_BYTES: npt.NDArray[np.int64] = np.array([len(word) + 1 for word in SPELLING])
"""Bytes of each token with the blank before it, for bits per byte."""


def check_vocabulary(size: int) -> None:
    """Refuse a model that cannot read the built-in corpora.

    Raises:
        ValueError: the vocabulary is too small.
    """
    if size < len(SPELLING):
        raise ValueError(
            f"model.vocabulary: {size} is less than the {len(SPELLING)} tokens of the "
            f"built-in corpora; use {SIZE}"
        )
