"""How far the world may depart from the law: nodes of the ladder, and the prior of the effects.

Three things may depart from what the law says of a budget: the place of the optimum (ln p*), the
level (ln of the loss above its floor, at the optimum) and the curvature (its ln). Each is a walk
over ln C: an error of its own on every budget, an offset, a tilt, and a slope that wanders (an
integrated random walk from the centre of the data), so that what the data show is continued
beyond them, at the price of width. The curves may also be more skewed than the law has them.

Legend: C = flops; K = nodes; x = decades of flops from the reference; logarithms natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fitting.mixture.vertex_form import Layout
from fitting.values import FloatArray


@dataclass(frozen=True)
class Walk:
    """Prior of one effect over ln C, as standard deviations.

    Attributes:
        own: of each budget's own error; budgets closer than a factor 2 share of it.
        tilt: of a slope, per decade.
        wander: of a random walk of the slope, per decade^1.5.
        sway: of a slope that comes back to the law's within about `SWAY_REACH`, per decade.
        offset: common to all budgets.
    """

    own: float
    tilt: float = 0.0
    wander: float = 0.0
    sway: float = 0.0
    offset: float = 0.0

    def covariance(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Between places x (n,) and y (m,), decades."""
        near = np.exp(-np.abs(x[:, None] - y) / OWN_REACH)
        smooth = self.offset**2 + self.tilt**2 * x[:, None] * y
        smooth = smooth + self.wander**2 * _wander(x, y) + self.sway**2 * _sway(x, y)
        return np.asarray(self.own**2 * near + smooth)

    def tilted(self, more: float) -> Walk:
        """With another slope beside its own, of sd ``more`` per decade."""
        return replace(self, tilt=math.hypot(self.tilt, more))

    def variance(self, x: FloatArray) -> FloatArray:
        """At places (n,): the diagonal of `covariance`."""
        far, out = np.abs(x), np.abs(x) / SWAY_REACH
        smooth = self.offset**2 + (self.tilt * x) ** 2 + self.wander**2 * far**3 / 3
        sway = 2 * (self.sway * SWAY_REACH) ** 2 * (out - 1 + np.exp(-out))
        return np.asarray(self.own**2 + smooth + sway)


@dataclass(frozen=True)
class Kind:
    """One way of departing from the law; without walks the plain surface.

    Attributes:
        name: for reports.
        drift: of ln p*, each skill's own.
        level: of the loss at the optimum, ln.
        curvature: of the curvature, ln.
        skew: sd of k3.
        quartic: sd of k4.
        skewness: of k3 over the budgets; None where it is the same on all.
        bent: whether the loss may bend with size alone, too.
        reach: |u| at which a loss says half as much of the optimum as one near it.
        slope: sd of logit a, the exponent of p* that sways and beyond the ladder is come back to.
        often: how often it is right beforehand, relative to the others.
        further: and of that, how often it holds beyond the ladder, too.
        in_line: whether optima are (all but) on one line ln p* = ln a + b ln C.
        recipe: sd of a slope of ln p*, per decade, that all skills have alike, beside their own.
        deepen: sd of a slope of the ln curvature, per decade, beside that of `curvature`.
    """

    name: str
    drift: Walk | None = None
    level: Walk = Walk(0.0)
    curvature: Walk = Walk(0.0)
    skew: float = 0.3
    quartic: float = 0.025
    skewness: Walk | None = None
    bent: bool = False
    reach: float = math.inf
    slope: float = 0.05
    often: float = 1.0
    further: float = 1.0
    in_line: bool = False
    recipe: float = 0.0
    deepen: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether it is the law itself."""
        return self.drift is None


OWN_REACH = math.log10(2.0)
"""Decades within which two budgets share of their own errors: a ladder's rungs are farther apart,
budgets close to each other are not taken for that many errors (assumption)."""

SWAY_REACH = 0.5
"""Decades over which the exponent of p* comes back to the usual one."""

BEYOND = 0.2
"""What no ladder shows of ln p* beyond it (a rate mistuned for larger models, say): sd at one
decade, growing as its 1.5th power; set with benchmarks/coverage.py (worlds bend and lrbump)."""

BEYOND_LEVEL = 0.1
"""The same of the level, ln of the loss above its floor: when it was set, of 48 losses of runs
20.7 times beyond two whole ladders .90 lay inside 90 % intervals, .83 with .07; now .92 of the 38
that are predicted do (benchmarks/real_runs.py)."""

BEND_SD = 0.03
"""Bends of the loss by size alone, common to all skills: sd of the slope gained per sqrt(ln p), in
spreads of each skill's losses; set with benchmarks/coverage.py."""

OWN_BEND_SD = 0.01
"""Scatter of the skills round the common bends; assumption."""

BEND_WIDTH = 0.8
MAX_BENDS = 8
"""Greatest resolution of the bends, ln p, and their number; assumptions."""

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
    """Nodes (K,) of ln C: the ladder's budgets, if not too many, and what data lie off it."""
    found = group_budgets(log_flops)
    if ladder is None or not 0 < len(ladder) <= MAX_NODES:
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


def _sway(x: FloatArray, y: FloatArray) -> FloatArray:
    """Covariance of an integrated Ornstein-Uhlenbeck process that leaves 0 in both directions."""
    one, other, apart = (np.abs(v) / SWAY_REACH for v in (x[:, None], y, x[:, None] - y))
    bent = 1 - np.exp(-one) - np.exp(-other) + np.exp(-apart)
    return np.asarray(SWAY_REACH**2 * (one + other - apart - bent))


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
        kind: its walks.
        nodes: (K,) ln C less its reference; (0,) for the plain surface.
        knots: (J + 1,) bounds of the bends, ln p less its reference; (0,) without bends.
        span: (least, greatest) ln C of the trials less its reference.
    """

    kind: Kind
    nodes: FloatArray
    knots: FloatArray
    span: tuple[float, float]

    @property
    def layout(self) -> Layout:
        """Places of the parameters."""
        return Layout(len(self.nodes), max(len(self.knots) - 1, 0), len(self.walks))

    @property
    def walks(self) -> tuple[Walk, ...]:
        """Of the whole drift, the level, the curvature and, where it has one, the skewness."""
        drift, last = self.kind.drift or Walk(0.0), self.kind.skewness
        drift = drift.tilted(self.kind.recipe)
        walks = (drift, self.kind.level, self.kind.curvature.tilted(self.kind.deepen))
        return walks if last is None else (*walks, last)

    @cached_property
    def places(self) -> FloatArray:
        """(K,) the nodes in decades."""
        return self.nodes / math.log(10)

    @cached_property
    def _precisions(self) -> tuple[FloatArray, ...]:
        """Prior precisions (K, K) of the effects at the nodes."""
        x = self.places
        return tuple(np.asarray(np.linalg.inv(w.covariance(x, x))) for w in self.walks)

    def precision(self, spread: FloatArray) -> FloatArray:
        """Prior precision (S, P, P) of all but the law's own parameters, which are left 0.

        Args:
            spread: (S,) of each skill's losses, nats.
        """
        layout = self.layout
        out = np.zeros((len(spread), layout.width, layout.width))
        if not layout.nodes:
            return out
        out[:, [5, 6], [5, 6]] = 1 / np.array([self.kind.skew, self.kind.quartic]) ** 2
        for i, inverse in enumerate(self._precisions):
            out[:, layout.effect_slice(i), layout.effect_slice(i)] = inverse
        bends = np.arange(layout.width)[layout.bend_slice]
        if len(bends):
            out[:, bends, bends] = np.diff(self.knots) / (OWN_BEND_SD * spread[:, None]) ** 2
        return out

    def common_precision(self) -> FloatArray:
        """Prior precision (J, J) of the bends all skills share, in spreads."""
        return np.diag(np.diff(self.knots) / BEND_SD**2)

    @cached_property
    def _kept(self) -> dict[bytes, tuple[FloatArray, FloatArray]]:
        """Effects at the budgets asked last: a forecast asks for each some nine times."""
        return {}

    def effects_at(self, log_flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Effects at any budgets given the nodes': weights (E, n, K), variance left (E, n).

        Within the ladder as in the fit; beyond it the walks are continued.
        """
        key = log_flops.tobytes()
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) > 1:
                self._kept.clear()
            found = self._kept[key] = self._effects(log_flops)
        return found

    def _effects(self, log_flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        outside = np.maximum(log_flops - self.span[1], self.span[0] - log_flops)
        unknown = np.zeros((len(self.walks), len(log_flops)))
        cube = (np.maximum(outside - SAME_NODE, 0.0) / math.log(10)) ** 3
        unknown[0], unknown[1] = BEYOND**2 * cube, BEYOND_LEVEL**2 * cube
        if not len(self.nodes):
            return np.zeros((len(unknown), len(log_flops), 0)), unknown
        hats = hat_weights(log_flops, self.nodes)
        x, at = self.places, log_flops / math.log(10)
        weights, left = [], []
        for walk, inverse in zip(self.walks, self._precisions, strict=True):
            cross = walk.covariance(at, x)
            kriged = cross @ inverse
            known = np.einsum("nk,nk->n", kriged, cross)
            weights.append(np.where(hats.sum(1)[:, None] > 0, hats, kriged))
            left.append(np.maximum(walk.variance(at) - known, 0.0))
        close = np.abs(log_flops[:, None] - self.nodes).min(1) < SAME_NODE
        return np.stack(weights), np.where(close, 0.0, np.stack(left)) + unknown
