"""From estimates to verdicts: tests of several skills at once, fixed or valid whenever looked at.

A test of h = 0 (`fitting.compare.contrast`) is a t test where runs were planned beforehand. Where
one looks after every trial and stops when content, it is an e-value: the likelihood ratio of a
normal mixture of multipliers round the null against the null itself. Under the null no look of any
number finds it above 1/a with a chance above a (Ville 1939; Robbins 1970). Several skills and
variants are held to one level by Holm's rule (1979), whatever their dependence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fitting.values import FloatArray

Verdict = str
"""`better`, `worse`, `no difference larger than 1.1x`, or `undecided`."""

EXPECTED = 0.15
"""Standard deviation of ln multiplier that the anytime test is sharpest for (assumption: changes
worth a comparison are of 1.05x to 1.3x); any value is valid."""


def fixed_p(z: FloatArray, dof: FloatArray) -> FloatArray:
    """Two-sided p of estimates this many standard errors from their null."""
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(np.maximum(dof, 1.0), -np.abs(z)))


def anytime_p(z: FloatArray, dof: FloatArray, ratio: FloatArray) -> FloatArray:
    """The same, valid at any time of looking.

    Args:
        z: distances from the null in standard errors.
        dof: degrees of freedom of the errors.
        ratio: `EXPECTED` over the standard error of ln multiplier.
    """
    from scipy.special import ndtri, stdtr

    normal = ndtri(np.maximum(stdtr(np.maximum(dof, 1.0), -np.abs(z)), 1e-300))
    k = ratio**2
    log_e = 0.5 * normal**2 * k / (1 + k) - 0.5 * np.log1p(k)
    return np.asarray(np.exp(-np.maximum(log_e, 0.0)))


def holm(p: Sequence[float]) -> FloatArray:
    """P values adjusted so that one level holds for all of them together (Holm 1979)."""
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    raw = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(raw), 1.0)
    return adjusted


def decide(multiplier: float, p: float, p_margin: float, level: float, margin: float) -> Verdict:
    """The verdict of adjusted p values: against 1, and against a difference as large as margin."""
    if p <= level:
        return "better" if multiplier > 1 else "worse"
    return f"no difference larger than {margin:g}x" if p_margin <= level else "undecided"
