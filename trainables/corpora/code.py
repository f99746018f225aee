"""Programs and their execution, on a ladder of difficulty.

A document is the trace of a register machine, ``$a +2 7``: register, function, and the register's
new value. Programs have 1 to 8 registers, harder ones being rarer, and functions come from a
library with Zipf frequencies, so that there is always something left to learn. A third of the
tokens are results: sparser answers are not learned at all below 1e12 FLOPs, nor is arithmetic
modulo ten, which gives no partial credit where saturation does (measured, examples/README.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.config import Data
from trainables.corpora import vocabulary as v
from trainables.corpora.documents import Documents, Family, IntArray

LINE = 3
"""Tokens of a trace's line."""


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


def documents(data: Data, rng: np.random.Generator, count: int, *, context: int) -> Documents:
    """Write random programs and execute them.

    Args:
        data: the ladder.
        rng: source of all choices.
        count: documents.
        context: tokens of each.
    """
    grades = np.arange(1, data.registers + 1, dtype=np.float64)
    grade = 1 + _draw(rng, grades**-data.ladder, (count,))
    lines = -(-context // LINE)
    names = np.argsort(rng.random((count, v.REGISTERS)), axis=1)  # named anew in each program
    register = (rng.random((count, lines)) * grade[:, None]).astype(np.int64)
    function = _draw(rng, LIBRARY_WEIGHTS, (count, lines))
    tokens = np.empty((count, lines, LINE), dtype=np.int64)
    tokens[:, :, 0] = v.REGISTER + np.take_along_axis(names, register, axis=1)
    tokens[:, :, 1] = v.FUNCTION + function
    tokens[:, :, 2] = v.DIGIT + _execute(register, function, registers=data.registers)
    family = np.full_like(tokens, Family.NONE)
    family[:, :, 2] = Family.TRACE + grade[:, None]
    return Documents(*(part.reshape(count, -1)[:, :context] for part in (tokens, family)))


def _execute(register: IntArray, function: IntArray, *, registers: int) -> IntArray:
    """Value written by each line, (programs, lines); registers start at 0."""
    result = np.empty_like(register)
    rows = np.arange(len(register))
    state = np.zeros((len(register), registers), dtype=np.int64)
    for line in range(register.shape[1]):
        at = rows, register[:, line]
        result[:, line] = state[at] = LIBRARY[function[:, line], state[at]]
    return result


def _draw(
    rng: np.random.Generator, weights: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> IntArray:
    """Draw indices with given weights."""
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(shape))
