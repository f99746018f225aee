"""Programs and their execution, on a ladder of difficulty.

A document is the trace of a machine with one register: ``max5 +2= 7`` applies functions in turn
and shows the register, where the next line goes on. Lines have 1 to 6 functions, the same number
all through a program, longer ones being rarer; functions have Zipf frequency. So there is always
something left to learn, and partial credit for every step towards it: the last function, which
is written so that it says a result is due, narrows that result by itself, as saturation, bounds
and constants forget what was before. A marker of its own before the result, several registers,
boolean expressions and arithmetic modulo ten give no such credit: below 1e12 FLOPs their loss
stays on a plateau (measured, benchmarks/results/trainables.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.corpora import vocabulary as v
from trainables.corpora.documents import Documents, Family, IntArray
from trainables.data import BuiltIn


def _library() -> IntArray:
    """Results by function and register's value, (functions, 10), in the vocabulary's order."""
    value = np.arange(10)
    steps = [value + sign * size for size in range(1, 6) for sign in (1, -1)]
    bounds = [np.maximum(value, 5), np.minimum(value, 5), np.maximum(value, 3)]
    others = [2 * value, value // 2, 9 - value]
    constants = [np.full(10, constant) for constant in (0, 9, 5, 1, 8, 2, 7, 3)]
    turns = zip(steps[:8], bounds + others + constants[:2], strict=True)
    mixed = [function for turn in turns for function in turn]
    table: IntArray = np.clip(np.stack(mixed + steps[8:] + constants[2:]), 0, 9)
    return table


LIBRARY = _library()
LIBRARY_WEIGHTS: npt.NDArray[np.float64] = 1 / (1.0 + np.arange(len(LIBRARY)))
"""Zipf frequency of the functions (assumption)."""


def documents(data: BuiltIn, rng: np.random.Generator, count: int, *, context: int) -> Documents:
    """Write random programs and execute them."""
    grades = np.arange(1, data.grades + 1, dtype=np.float64)
    grade = 1 + _draw(rng, grades**-data.ladder, (count,))
    tokens = np.empty((count, context), dtype=np.int64)
    family = np.empty_like(tokens)
    for length in range(1, data.grades + 1):
        rows = np.flatnonzero(grade == length)
        tokens[rows], family[rows] = _programs(length, rng, rows.size, context=context)
    return Documents(tokens, family)


def _programs(length: int, rng: np.random.Generator, count: int, *, context: int) -> Documents:
    """Programs with ``length`` functions a line."""
    lines = -(-context // (length + 1))
    function = _draw(rng, LIBRARY_WEIGHTS, (count, lines, length))
    tokens = np.empty((count, lines, length + 1), dtype=np.int64)
    tokens[:, :, : length - 1] = v.FUNCTION + function[:, :, :-1]
    tokens[:, :, length - 1] = v.LAST_FUNCTION + function[:, :, -1]
    state = np.zeros(count, dtype=np.int64)
    for line in range(lines):
        for place in range(length):
            state = LIBRARY[function[:, line, place], state]
        tokens[:, line, length] = v.DIGIT + state
    family = np.full_like(tokens, Family.NONE)
    family[:, :, length] = Family.PROGRAM + length
    width = lines * (length + 1)
    return Documents(
        tokens.reshape(count, width)[:, :context], family.reshape(count, width)[:, :context]
    )


def _draw(
    rng: np.random.Generator, weights: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> IntArray:
    """Draw indices with given weights."""
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(shape))
