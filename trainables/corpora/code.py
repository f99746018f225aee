"""Programs and their execution, on a ladder of difficulty.

Most documents are traces of a register machine, ``$a + 3 # 7``: register, operator, digit, and
the register's new value. Programs have 1 to 8 registers, harder ones being rarer, and operators
have Zipf frequency as well, so that there is always something left to learn. The rest are
boolean expressions of 2 to 6 operands. Arithmetic saturates at 0 and 9: results modulo ten give
no partial credit and are not learned at all below 1e12 FLOPs (measured).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.config import Data
from trainables.corpora import vocabulary as v
from trainables.corpora.documents import Documents, Family, IntArray, pack

LINE = 5
"""Tokens of a trace's line."""

OPERANDS = (2, 3, 4, 5, 6)
"""Operands of a boolean expression."""


def _operator_table() -> IntArray:
    """Results by operator, register's value and operand, (operators, 10, 10)."""
    value, operand = np.meshgrid(np.arange(10), np.arange(10), indexing="ij")
    results = (
        operand,
        value + operand,
        value - operand,
        np.maximum(value, operand),
        np.minimum(value, operand),
        operand - value,
        np.abs(value - operand),
        (value + operand) // 2,
    )
    table: IntArray = np.clip(np.stack(results), 0, 9)
    return table


OPERATORS = _operator_table()
OPERATOR_WEIGHTS = 1 / (1.0 + np.arange(len(OPERATORS)))
"""Zipf frequency of the operators (assumption)."""

CONNECTIVES: IntArray = np.array([[[0, 0], [0, 1]], [[0, 1], [1, 1]], [[0, 1], [1, 0]]])
"""Results by connective (and, or, xor), left and right."""


def documents(data: Data, rng: np.random.Generator, count: int, *, context: int) -> Documents:
    """Generate programs with their results.

    Args:
        data: ladder and share of boolean expressions.
        rng: source of all choices.
        count: documents.
        context: tokens of each.
    """
    boolean = rng.random(count) < data.boolean_share
    grade = 1 + _draw(rng, np.arange(1, data.registers + 1) ** -data.ladder, (count,))
    operands = np.array(OPERANDS)[_draw(rng, np.array(OPERANDS) ** -data.ladder, (count,))]
    made = traces(grade, rng, context=context)
    for size in OPERANDS:
        chosen = np.flatnonzero(boolean & (operands == size))
        expressions = booleans(size, rng, chosen.size, context=context)
        made.tokens[chosen], made.family[chosen] = expressions
    return made


def traces(grade: IntArray, rng: np.random.Generator, *, context: int) -> Documents:
    """Execute one random program per entry of ``grade``, its number of registers."""
    count, lines = grade.size, -(-context // LINE)
    names = np.argsort(rng.random((count, 16)), axis=1)  # registers are named anew per program
    register = (rng.random((count, lines)) * grade[:, None]).astype(np.int64)
    operator = _draw(rng, OPERATOR_WEIGHTS, (count, lines))
    operand = rng.integers(10, size=(count, lines))
    result = np.empty((count, lines), dtype=np.int64)
    state, rows = np.zeros((count, int(grade.max(initial=1))), dtype=np.int64), np.arange(count)
    for line in range(lines):
        value = state[rows, register[:, line]]
        result[:, line] = OPERATORS[operator[:, line], value, operand[:, line]]
        state[rows, register[:, line]] = result[:, line]
    written = (
        v.REGISTER + np.take_along_axis(names, register, axis=1),
        v.OPERATOR + operator,
        v.DIGIT + operand,
        np.full_like(register, v.RESULT),
        v.DIGIT + result,
    )
    tokens = np.stack(written, axis=2).reshape(count, -1)[:, :context]
    family = np.zeros((count, lines, LINE), dtype=np.int64)
    family[:, :, -1] = Family.TRACE + grade[:, None]
    return Documents(tokens, family.reshape(count, -1)[:, :context])


def booleans(operands: int, rng: np.random.Generator, count: int, *, context: int) -> Documents:
    """Write expressions of some operands, evaluated from left to right."""
    length = 2 * operands + 2
    lines = -(-context // length)
    value = rng.integers(2, size=(count, lines, operands))
    connective = rng.integers(3, size=(count, lines, operands - 1))
    result = value[..., 0]
    for place in range(operands - 1):
        result = CONNECTIVES[connective[..., place], result, value[..., place + 1]]
    tokens = np.empty((count, lines, length), dtype=np.int64)
    tokens[..., 0 : 2 * operands : 2] = v.FALSE + value
    tokens[..., 1 : 2 * operands - 1 : 2] = v.CONNECTIVE + connective
    tokens[..., -3] = v.RESULT
    tokens[..., -2] = v.FALSE + result
    tokens[..., -1] = v.STOP
    family = np.zeros_like(tokens)
    family[..., -2] = Family.BOOLEAN
    return pack(tokens, family, context)


def _draw(
    rng: np.random.Generator, weights: npt.NDArray[np.floating], shape: tuple[int, ...]
) -> IntArray:
    """Draw indices with given weights."""
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(shape))
