"""How far the world may depart from the law: nodes of the ladder, and the prior of the effects.

At scale h the vertex of a budget may lie off the power law by an own error, a tilt, and a slope
that wanders with the budget (an integrated random walk from the centre of the data, so that
extrapolation costs width); level, curvature, skew and quartic term of each curve may be off too.

Legend: C = flops; K = nodes; x = decades of flops from the reference; logarithms natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fitting.values import FloatArray
from fitting.vertex import effect_slice, width

SCALES = (0.0, 0.3, 1.0, 3.0, 10.0)
"""Scales h of the components; 0 is the plain surface (adaptive study, section 6)."""

DRIFT_SD = 0.06
"""Own error of ln p* of one budget at h = 1 (adaptive study, section 6)."""

TILT_SD = 0.03
"""Error of the exponent of p*, per decade, at h = 1; assumption."""

WANDER_SD = 0.03
"""Random walk of the slope of ln p*, per decade^1.5, at h = 1; assumption, checked by
benchmarks/coverage.py."""

LEVEL_SD = 0.02
CURVATURE_SD = 0.1
SKEW_SD = 0.5
QUARTIC_SD = 0.3
"""Effects at h = 1; level relative to the reducible loss (adaptive study, section 6)."""

MAX_NODES = 16
SAME_NODE = math.log(1.05)
"""Budgets so near a node share its effects."""


def group_budgets(log_flops: FloatArray) -> FloatArray:
    """Nodes for data without a ladder: budgets within a fifth share one, sixteen at most."""
    ordered = np.sort(log_flops)
    gap = math.log(1.2)
    while True:
        starts = [0]
        for i, value in enumerate(ordered):
            if value - ordered[starts[-1]] > gap:
                starts.append(i)
        if len(starts) <= MAX_NODES:
            return np.array([part.mean() for part in np.split(ordered, starts[1:])])
        gap *= 1.3


def nodes_of(log_flops: FloatArray, ladder: FloatArray | None) -> FloatArray:
    """Nodes (K,) of ln C: the ladder's budgets and what data lie off it."""
    found = group_budgets(log_flops)
    if ladder is None or not len(ladder):
        return found
    near = np.abs(found[:, None] - ladder).min(1) < math.log(1.1)
    nodes = np.unique(np.concatenate([ladder, found[~near]]))
    return nodes


def hat_weights(log_flops: FloatArray, nodes: FloatArray) -> FloatArray:
    """Weights (n, K) of the nodes in the effects of each budget.

    One node within 5 % of it; else the two neighbours, in quarters so that few patterns occur;
    none outside the ladder.
    """
    hats = np.zeros((len(log_flops), len(nodes)))
    if not len(nodes):
        return hats
    nearest = np.abs(log_flops[:, None] - nodes).argmin(1)
    close = np.abs(log_flops - nodes[nearest]) < SAME_NODE
    hats[np.flatnonzero(close), nearest[close]] = 1.0
    between = np.flatnonzero(~close & (log_flops > nodes[0]) & (log_flops < nodes[-1]))
    right = np.searchsorted(nodes, log_flops[between])
    share = (log_flops[between] - nodes[right - 1]) / (nodes[right] - nodes[right - 1])
    share = np.round(4 * share) / 4
    hats[between, right] = share
    hats[between, right - 1] = 1 - share
    return hats


def _wander(x: FloatArray, y: FloatArray) -> FloatArray:
    """Covariance of an integrated random walk that leaves 0 in both directions."""
    low = np.minimum(np.abs(x[:, None]), np.abs(y))
    high = np.maximum(np.abs(x[:, None]), np.abs(y))
    same = (x[:, None] * y) > 0
    return np.where(same, low**2 * (3 * high - low) / 6, 0.0)


def _smooth(x: FloatArray, y: FloatArray) -> FloatArray:
    """Covariance of tilt and wander between places x and y, decades, at h = 1."""
    return TILT_SD**2 * x[:, None] * y + WANDER_SD**2 * _wander(x, y)


@dataclass(frozen=True)
class Discrepancy:
    """Prior of the effects of one component.

    Attributes:
        scale: h, > 0.
        nodes: (K,) ln C less the reference.
    """

    scale: float
    nodes: FloatArray

    def drift_covariance(self) -> FloatArray:
        """Prior covariance (K, K) of the vertex's drift at the nodes."""
        x = self.nodes / math.log(10)
        return self.scale**2 * (DRIFT_SD**2 * np.eye(len(x)) + _smooth(x, x))

    def precision(self) -> FloatArray:
        """Prior precision (P, P) of skew, quartic and effects; zero for the global ones."""
        count = len(self.nodes)
        out = np.zeros((width(count), width(count)))
        h = self.scale
        out[5, 5] = (h * SKEW_SD) ** -2
        out[6, 6] = (h * QUARTIC_SD) ** -2
        drift, level, curvature = (effect_slice(i, count) for i in range(3))
        out[drift, drift] = np.linalg.inv(self.drift_covariance())
        out[level, level] = np.eye(count) * (h * LEVEL_SD) ** -2
        out[curvature, curvature] = np.eye(count) * (h * CURVATURE_SD) ** -2
        return out

    def drift_at(self, log_flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Drift at any budgets given the nodes': weights (n, K) and variance left (n,)."""
        x, at = self.nodes / math.log(10), log_flops / math.log(10)
        cross = _smooth(at, x) * self.scale**2
        weights = np.linalg.solve(self.drift_covariance(), cross.T).T
        own = self.scale**2 * (DRIFT_SD**2 + np.diag(_smooth(at, at)))
        left = np.maximum(own - np.einsum("nk,nk->n", weights, cross), 0.0)
        nearest = np.abs(log_flops[:, None] - self.nodes).argmin(1)
        close = np.abs(log_flops - self.nodes[nearest]) < SAME_NODE
        weights[close] = np.eye(len(x))[nearest[close]]
        return weights, np.where(close, 0.0, left)
