"""Which rows share a budget."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fitting.values import FloatArray

BUDGET_TOLERANCE = 0.01
"""Budgets closer than this are one budget (assumption; our shapes realise a budget within 1 %)."""


def group_budgets(flops: npt.ArrayLike, *, tolerance: float = BUDGET_TOLERANCE) -> FloatArray:
    """Nominal budget of each row: neighbours within ``tolerance`` are one budget.

    A group never spreads over more than three tolerances, so that flops spread over a
    continuum (Chinchilla's figure 4) do not chain into one budget.

    Returns:
        The geometric mean of each row's group, rounded to four digits.
    """
    ln_c = np.log(np.asarray(flops, dtype=float))
    values, inverse = np.unique(ln_c, return_inverse=True)
    step, label = np.log1p(tolerance), 0
    labels = np.zeros(len(values), dtype=int)
    start = values[0]
    for i in range(1, len(values)):
        if values[i] - values[i - 1] > step or values[i] - start > 3 * step:
            label, start = label + 1, values[i]
        labels[i] = label
    rows = labels[inverse]
    mean = np.bincount(rows, weights=ln_c) / np.bincount(rows)
    nominal = np.array([float(f"{v:.4g}") for v in np.exp(mean)])
    return nominal[rows]
