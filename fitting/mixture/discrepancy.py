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

from fitting.mixture.vertex_form import Layout
from fitting.values import FloatArray


@dataclass(frozen=True)
class Kind:
    """One way of departing from the law.

    Attributes:
        scale: h, of every effect; 0 is the plain surface.
        bent: whether the loss may bend with size alone, too.
        wander: sd of a random walk of the slope of ln p* beyond h's, per decade^1.5.
    """

    scale: float
    bent: bool = False
    wander: float = 0.0

    @property
    def name(self) -> str:
        """For reports."""
        if self.scale == 0:
            return "surface"
        extra = " bent" * self.bent + f" wandering {self.wander:g}" * bool(self.wander)
        return f"discrepancy h={self.scale:g}{extra}"


KINDS = (
    Kind(0.0),
    Kind(0.3),
    Kind(1.0),
    Kind(3.0),
    Kind(10.0),
    Kind(0.1, wander=0.15),
    Kind(0.3, wander=0.15),
    Kind(0.1, bent=True, wander=0.15),
)
"""Members of the mixture; the first five as in the adaptive study, section 6. The others keep
extrapolation honest; their scales were set with benchmarks/coverage.py."""

BEND_SD = 0.03
"""Bends of the loss by size alone, common to all skills: sd of the slope gained per sqrt(ln p), in
spreads of each skill's losses; set with benchmarks/coverage.py."""

OWN_BEND_SD = 0.01
"""Scatter of the skills round the common bends; assumption."""

BEND_WIDTH = 0.8
MAX_BENDS = 8
"""Greatest resolution of the bends, ln p, and their number; assumptions."""

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


def bend_knots(log_params: FloatArray) -> FloatArray:
    """Bounds of the bends over the sizes with data."""
    low, high = float(log_params.min()), float(log_params.max())
    count = int(np.clip(round((high - low) / BEND_WIDTH), 1, MAX_BENDS))
    return np.linspace(low, high, count + 1)


def bend_functions(
    log_params: FloatArray, knots: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """f_j: twice-integrated boxes between the knots, flat in the middle; f, f', f'' (..., J)."""
    x = log_params[..., None]
    if len(knots) < 2:
        empty = np.zeros((*log_params.shape, 0))
        return empty, empty, empty
    low, high = knots[:-1], knots[1:]
    above = (low + high) / 2 > (knots[0] + knots[-1]) / 2
    near, far = np.where(above, x - low, high - x), np.where(above, x - high, low - x)
    near, far = np.maximum(near, 0.0), np.maximum(far, 0.0)
    value = np.asarray(0.5 * (near**2 - far**2))
    slope = np.asarray(np.where(above, near - far, far - near))
    return value, slope, np.asarray((near > 0) & (far <= 0), float)


@dataclass(frozen=True)
class Discrepancy:
    """A kind of departure laid over the budgets and sizes of one table.

    Attributes:
        kind: scales.
        nodes: (K,) ln C less its reference; (0,) for the plain surface.
        knots: (J + 1,) bounds of the bends, ln p less its reference; (0,) without bends.
    """

    kind: Kind
    nodes: FloatArray
    knots: FloatArray

    @property
    def layout(self) -> Layout:
        """Places of the parameters."""
        return Layout(len(self.nodes), max(len(self.knots) - 1, 0))

    def drift_covariance(self) -> FloatArray:
        """Prior covariance (K, K) of the vertex's drift at the nodes."""
        x = self.nodes / math.log(10)
        return (self.kind.scale * DRIFT_SD) ** 2 * np.eye(len(x)) + self._smooth(x, x)

    def _smooth(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Covariance of tilt and wander between places x and y, decades."""
        tilt = (self.kind.scale * TILT_SD) ** 2 * x[:, None] * y
        wander = (self.kind.scale * WANDER_SD) ** 2 + self.kind.wander**2
        return tilt + wander * _wander(x, y)

    def precision(self, spread: FloatArray) -> FloatArray:
        """Prior precision (S, P, P) of all but the law's own parameters, which are left 0.

        Args:
            spread: (S,) of each skill's losses, nats.
        """
        layout, h = self.layout, self.kind.scale
        if not layout.nodes:
            return np.zeros((len(spread), layout.width, layout.width))
        sd = np.full(layout.width, np.inf)
        sd[5:7] = h * SKEW_SD, h * QUARTIC_SD
        sd[layout.effect_slice(1)] = h * LEVEL_SD
        sd[layout.effect_slice(2)] = h * CURVATURE_SD
        out = np.tile(np.diag(sd**-2), (len(spread), 1, 1))
        drift = layout.effect_slice(0)
        out[:, drift, drift] = np.linalg.inv(self.drift_covariance())
        bends = np.arange(layout.width)[layout.bend_slice]
        if len(bends):
            out[:, bends, bends] = np.diff(self.knots) / (OWN_BEND_SD * spread[:, None]) ** 2
        return out

    def common_precision(self) -> FloatArray:
        """Prior precision (J, J) of the bends all skills share, in spreads."""
        return np.diag(np.diff(self.knots) / BEND_SD**2)

    def drift_at(self, log_flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Drift at any budgets given the nodes': weights (n, K) and variance left (n,)."""
        if not len(self.nodes):
            return np.zeros((len(log_flops), 0)), np.zeros(len(log_flops))
        x, at = self.nodes / math.log(10), log_flops / math.log(10)
        cross = self._smooth(at, x)
        weights = np.linalg.solve(self.drift_covariance(), cross.T).T
        own = (self.kind.scale * DRIFT_SD) ** 2 + np.diag(self._smooth(at, at))
        left = np.maximum(own - np.einsum("nk,nk->n", weights, cross), 0.0)
        nearest = np.abs(log_flops[:, None] - self.nodes).argmin(1)
        close = np.abs(log_flops - self.nodes[nearest]) < SAME_NODE
        weights[close] = np.eye(len(x))[nearest[close]]
        return np.asarray(weights), np.asarray(np.where(close, 0.0, left))
