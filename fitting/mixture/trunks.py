"""Branches of one trunk: trials that share a training and so a part of their noise.

With a schedule that is constant and then cools down, one training (the trunk) gives several token
counts: each branch cools down from a checkpoint. What chance did to the trunk (initialisation,
data order) is in all of its branches.
"""

from __future__ import annotations

import math

import numpy as np

from fitting.mixture.laplace import IntArray
from fitting.values import FloatArray

CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
"""Of the errors of two branches of one trunk, compared by evidence: finer steps change widths by
less than a tenth."""


def whitening(trunk: IntArray, correlation: float) -> tuple[FloatArray, float]:
    """The symmetric root of the inverse correlation of the errors, and its log determinant.

    Within a trunk of m branches the correlation matrix is (1 - r) I + r 11', without it 1.

    Args:
        trunk: (n,) number of each trial's trunk.
        correlation: r, below 1.
    """
    white, log_determinant = np.eye(len(trunk)), 0.0
    for number in np.unique(trunk):
        here = np.flatnonzero(trunk == number)
        m = len(here)
        if m > 1:
            along, across = 1 + (m - 1) * correlation, 1 - correlation
            mean = np.full((m, m), 1 / m)
            block = (np.eye(m) - mean) / math.sqrt(across) + mean / math.sqrt(along)
            white[np.ix_(here, here)] = block
            log_determinant -= 0.5 * (math.log(along) + (m - 1) * math.log(across))
    return white, log_determinant
