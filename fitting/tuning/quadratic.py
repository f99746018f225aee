"""A quadratic response surface through one allocation's trials, in logs of what was varied.

Legend: z = ln of the d hyperparameters that vary, n = trials; losses in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fitting.regression import least_squares
from fitting.values import FloatArray

LEAST_DOF = 2
"""Trials beyond the constants; the window is widened until there are as many (assumption)."""


@dataclass(frozen=True)
class ResponseSurface:
    """A quadratic in the hyperparameters that vary: ln loss = row(z - centre) @ constants."""

    names: tuple[str, ...]
    centre: FloatArray  # (d,)
    constants: FloatArray  # 1, d linear, d (d + 1) / 2 quadratic; empty if not fitted
    inverse: FloatArray  # of the normal matrix
    squares: float
    dof: int
    trials: int


def fit_response(group: pd.DataFrame, names: Sequence[str], window: float) -> ResponseSurface:
    """Fit one allocation's trials near its best.

    Args:
        group: columns loss and those of ``names`` that were recorded.
        names: hyperparameters that may vary.
        window: fraction above the best loss within which trials are fitted.
    """
    varied = tuple(k for k in names if k in group and group[k].nunique() > 1)
    y = np.log(group["loss"].to_numpy())
    z = np.log(group[list(varied)].to_numpy().reshape(len(group), -1))
    need = 1 + len(varied) * (len(varied) + 3) // 2
    order = np.argsort(y, kind="stable")
    inside = max(int((y <= y.min() + window).sum()), need + LEAST_DOF)
    while True:
        rows = order[:inside]
        centre = z[rows].mean(axis=0)
        design = _rows(z[rows] - centre)
        if len(rows) >= need and determined(design):
            break
        if inside >= len(y):
            return ResponseSurface(varied, centre, np.empty(0), np.empty(0), 0.0, 0, len(rows))
        inside += 1
    fit = least_squares(design, y[rows])
    return ResponseSurface(varied, centre, *fit, len(rows))


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


def vertex_se(fit: ResponseSurface, i: int, variance: float) -> float:
    """Standard error of one coordinate of the vertex, by the delta method."""
    d = len(fit.names)
    slope = np.empty(len(fit.constants))
    for j, value in enumerate(fit.constants):
        step = np.zeros(len(slope))
        step[j] = 1e-6 * max(abs(float(value)), 1e-6)
        high, low = (vertex(fit.constants + s * step, d)[0][i] for s in (1, -1))
        slope[j] = (high - low) / (2 * step[j])
    return math.sqrt(max(float(slope @ fit.inverse @ slope) * variance, 0.0))


def determined(design: FloatArray) -> bool:
    """Whether the columns are independent and the rows no fewer, to working precision."""
    if len(design) < design.shape[1]:
        return False
    scaled = design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    return float(np.linalg.svd(scaled, compute_uv=False)[-1]) > 1e-6
