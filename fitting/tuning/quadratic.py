"""A paraboloid through the trials of one allocation, in the logarithms of what was varied.

Legend: z = ln of the d hyperparameters that vary, n = trials; losses in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fitting.values import FloatArray

SPARE = 2
"""Trials beyond the constants of a paraboloid; the window is widened until there are as many."""


@dataclass(frozen=True)
class Bowl:
    """A paraboloid in the knobs that vary: ln loss = row(z - centre) @ constants."""

    knobs: tuple[str, ...]
    centre: FloatArray  # (d,)
    constants: FloatArray  # 1, d linear, d (d + 1) / 2 quadratic; empty if not fitted
    inverse: FloatArray  # of the normal matrix
    squares: float
    spare: int
    trials: int


def fit_bowl(group: pd.DataFrame, names: Sequence[str], window: float) -> Bowl:
    """Fit one allocation's trials near its best.

    Args:
        group: columns loss and those of ``names`` that were recorded.
        names: hyperparameters that may vary.
        window: share above the best loss within which trials are fitted.
    """
    knobs = tuple(k for k in names if k in group and group[k].nunique() > 1)
    y = np.log(group["loss"].to_numpy())
    z = np.log(group[list(knobs)].to_numpy().reshape(len(group), -1))
    need = 1 + len(knobs) * (len(knobs) + 3) // 2
    order = np.argsort(y, kind="stable")
    inside = max(int((y <= y.min() + window).sum()), need + SPARE)
    while True:
        rows = order[:inside]
        centre = z[rows].mean(axis=0)
        design = _rows(z[rows] - centre)
        if len(rows) >= need and determined(design):
            break
        if inside >= len(y):
            none = np.empty(0)
            return Bowl(knobs, centre, none, none, 0.0, 0, len(rows))
        inside += 1
    inverse = np.asarray(np.linalg.inv(design.T @ design))
    constants = inverse @ (design.T @ y[rows])
    residual = y[rows] - design @ constants
    squares = float(residual @ residual)
    return Bowl(knobs, centre, constants, inverse, squares, len(rows) - need, len(rows))


def _rows(z: FloatArray) -> FloatArray:
    """Constant, linear and quadratic terms, (n, 1 + d + d (d + 1) / 2)."""
    d = z.shape[1]
    pairs = [z[:, i] * z[:, j] for i in range(d) for j in range(i, d)]
    return np.column_stack([np.ones(len(z)), z, *pairs])


def vertex(constants: FloatArray, d: int) -> tuple[FloatArray, FloatArray]:
    """Vertex (d,) and Hessian (d, d)."""
    hessian = np.zeros((d, d))
    hessian[np.triu_indices(d)] = constants[1 + d :]
    hessian = hessian + hessian.T
    return np.asarray(-np.linalg.solve(hessian, constants[1 : 1 + d])), hessian


def vertex_se(bowl: Bowl, i: int, variance: float) -> float:
    """Standard error of one coordinate of the vertex, by the delta method."""
    d = len(bowl.knobs)
    slope = np.empty(len(bowl.constants))
    for j, value in enumerate(bowl.constants):
        step = np.zeros(len(slope))
        step[j] = 1e-6 * max(abs(float(value)), 1e-6)
        high, low = (vertex(bowl.constants + s * step, d)[0][i] for s in (1, -1))
        slope[j] = (high - low) / (2 * step[j])
    return math.sqrt(max(float(slope @ bowl.inverse @ slope) * variance, 0.0))


def determined(design: FloatArray) -> bool:
    """Whether the columns are independent and the rows no fewer, to working precision."""
    if len(design) < design.shape[1]:
        return False
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    return float(np.linalg.svd(scaled, compute_uv=False)[-1]) > 1e-6
