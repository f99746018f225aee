"""The loss surface written round its vertices, with every derivative in closed form.

E + A p^-alpha + B t^-beta on isoFLOP curves, with ln p* itself as a parameter:

    u = ln p - m - a c - d(C)                 distance from the vertex of budget C
    q = a e^(-alpha u) + (1 - a) e^(beta u)   relative loss along the curve, 1 at its minimum
    G = R0 e^(-gamma c)                       reducible loss at the optimum
    L = E + G { e^e(C) + e^r(C) [q + K3 (k3 + s(C)) u^3 + K4 k4 u^4 - 1] } + z f(ln p)
    E = L0 - R0
    ln p*(C) = m + a c + d(C)                 where z = 0, else the least L on the budget

    alpha = (1-a) S,  beta = a S,  gamma = a (1-a) S,  c = ln C - reference

The effects d, e, r and, where a member has it, s are values on the nodes of a ladder of budgets,
k3 and k4 one number each, and z the bends of a loss that depends on size alone (a learning rate
mistuned for large models, say): the discrepancy between the law and the world. Without them this
is the plain surface.

Legend: p = params, t = tokens, C = flops; B = batch (components x skills), n = rows (trials),
P = parameters, K = nodes, J = bends; logarithms are natural.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitting.values import FloatArray

GLOBALS = ("level", "log_reducible", "log_vertex", "logit_slope", "log_exponents")
"""Parameters of the plain surface: L0, ln R0, m, logit a, ln S. L0 = E + R0, the loss at the
optimum of the reference budget, is known far better than E, of which R0 is the distance."""

SHAPES = ("skew", "quartic")
EFFECTS = ("drift", "level", "curvature")
"""Of every member but the plain surface; some have a skewness by budget as a fourth."""

N_GLOBAL = len(GLOBALS)
N_LOCAL = N_GLOBAL + len(SHAPES)

CUBIC = 0.0143
QUARTIC = 0.002
"""Loss per u^3, u^4 at k = 1, relative to G: the size of the terms q itself has
(alpha beta (beta - alpha) / 6 and its next order at alpha ~ beta ~ .35; assumption)."""

MAX_DISTANCE = 15.0
"""|u| beyond which exponentials are not followed (a factor 3e6 in size)."""

MAX_LOG = 30.0


REACH = 1.0
"""|u| at which a loss says half as much of the optimum as one near it, where curves are free: few
constants are exact no farther off (chosen on the public pools, benchmarks/real_runs.py)."""


def blur(distance: FloatArray, reach: FloatArray | float) -> FloatArray:
    """What the error scale of one loss is multiplied by for its distance from the vertex.

    Args:
        distance: u, of any shape.
        reach: |u| at which a loss says half as much of the optimum as one near it; broadcast.
    """
    square = (distance / reach) ** 2
    return np.asarray(np.sqrt(1.0 + square * square * square))


@dataclass(frozen=True)
class Layout:
    """Places of the parameters: five of the law, k3, k4, z (J), d, e, r and perhaps s (K each).

    Attributes:
        nodes: K; 0 is the plain surface, which has the first five only.
        bends: J.
        effects: 3, or 4 with the skewness, whose place is the last.
    """

    nodes: int
    bends: int = 0
    effects: int = len(EFFECTS)

    @property
    def shared(self) -> int:
        """Number of parameters that are not effects of a budget."""
        return N_LOCAL + self.bends if self.nodes else N_GLOBAL

    @property
    def width(self) -> int:
        """P."""
        return self.shared + self.effects * self.nodes

    @property
    def bend_slice(self) -> slice:
        """Place of z."""
        return slice(N_LOCAL, N_LOCAL + self.bends)

    def effect_slice(self, index: int) -> slice:
        """Place of effect number `index` (drift, level, curvature, skewness)."""
        start = self.shared + index * self.nodes
        return slice(start, start + self.nodes)

    @property
    def effect_columns(self) -> list[int]:
        """Local columns whose derivatives d, e, r, s share: d moves the vertex as m does."""
        return [2, self.shared, self.shared + 1, N_GLOBAL][: self.effects]


@dataclass(frozen=True)
class Rows:
    """Where a surface is evaluated.

    Attributes:
        log_params: (n,) ln p less its reference.
        log_flops: (n,) ln C less its reference.
        hats: (effects, n, K) weight of each node in a row's effects; K is 0 for the plain surface.
        bends: (n, J) loss per unit of each bend z.
    """

    log_params: FloatArray
    log_flops: FloatArray
    hats: FloatArray
    bends: FloatArray

    @property
    def layout(self) -> Layout:
        """Which parameters these rows have."""
        return Layout(self.hats.shape[2], self.bends.shape[1], self.hats.shape[0])

    def __len__(self) -> int:
        return len(self.log_params)


def exponents(theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(a, alpha, beta, gamma) of parameters (..., P)."""
    slope = 1.0 / (1.0 + np.exp(-np.clip(theta[..., 3], -MAX_LOG, MAX_LOG)))
    total = np.exp(np.clip(theta[..., 4], -MAX_LOG, 3.0))
    return slope, (1 - slope) * total, slope * total, slope * (1 - slope) * total


def surface(theta: FloatArray, rows: Rows) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Loss, its derivatives by the local parameters, and the distance from the vertex.

    Args:
        theta: (B, P).

    Returns:
        Loss (B, n), and derivatives (N, B, n) by L0, ln R0, m, logit a, ln S, and with effects
        k3, k4, z, e, r as well; those by d(C) and s(C) are the ones by m and k3; and u (B, n).
    """
    layout, nodes = rows.layout, rows.layout.nodes
    slope, alpha, beta, gamma = (v[:, None] for v in exponents(theta))
    drift, level, log_curvature, skew, quartic = _discrepancy(theta, rows)
    c = rows.log_flops
    u = rows.log_params - theta[:, 2, None] - slope * c - drift
    u = np.clip(u, -MAX_DISTANCE, MAX_DISTANCE)
    left, right = np.exp(-alpha * u), np.exp(np.minimum(beta * u, MAX_LOG))
    reducible = np.exp(np.clip(theta[:, 1, None] - gamma * c, -MAX_LOG, MAX_LOG))
    q = slope * left + (1 - slope) * right
    pull = gamma * (right - left)
    u2 = u * u
    shape = q - 1.0
    shape_u = pull
    if nodes:
        shape = shape + u2 * u * (CUBIC * skew + QUARTIC * quartic * u)
        shape_u = pull + u2 * (3 * CUBIC * skew + 4 * QUARTIC * quartic * u)
    bent = reducible * np.exp(log_curvature)
    lifted = reducible * np.exp(level)
    relative = lifted + bent * shape
    gap = np.exp(theta[:, 1, None])
    total = alpha + beta
    q_slope = left - right + total * u * q
    out = np.empty((layout.shared + (2 if nodes else 0), *u.shape))
    out[0] = 1.0
    out[1] = relative - gap
    out[2] = -bent * shape_u
    out[3] = (
        slope
        * (1 - slope)
        * (bent * (q_slope - c * shape_u) - c * (1 - 2 * slope) * total * relative)
    )
    out[4] = bent * pull * u - c * gamma * relative
    if nodes:
        out[5] = bent * (CUBIC * u2 * u)
        out[6] = bent * (QUARTIC * u2 * u2)
        out[layout.bend_slice] = rows.bends.T[:, None]
        out[-2] = lifted
        out[-1] = bent * shape
        relative = relative + theta[:, layout.bend_slice] @ rows.bends.T
    return theta[:, 0, None] - gap + relative, out, u


def _discrepancy(theta: FloatArray, rows: Rows) -> tuple[FloatArray, ...]:
    """Effects d, e, r and k3 + s at the rows (B, n), and k4 (B, 1); zeros without any."""
    layout = rows.layout
    if layout.nodes == 0:
        zero = np.zeros((1, 1))
        return zero, zero, zero, zero, zero
    drift, level, curvature, *more = (
        theta[:, layout.effect_slice(i)] @ hats.T for i, hats in enumerate(rows.hats)
    )
    level, curvature = (np.clip(v, -5.0, 5.0) for v in (level, curvature))
    return drift, level, curvature, theta[:, 5, None] + sum(more), theta[:, 6, None]


def jacobian(local: FloatArray, rows: Rows) -> FloatArray:
    """Derivatives of the loss by all parameters, (B, n, P), from the local ones (N, B, n)."""
    layout = rows.layout
    if layout.nodes == 0:
        return np.moveaxis(local, 0, -1)
    shared = np.moveaxis(local[: layout.shared], 0, -1)
    effects = [
        local[i][..., None] * hats
        for i, hats in zip(layout.effect_columns, rows.hats, strict=True)
    ]
    return np.concatenate([shared, *effects], axis=-1)


@dataclass(frozen=True)
class Groups:
    """Rows sorted into runs with equal hat weights, so that normal sums need no wide Jacobian.

    Attributes:
        starts: (g + 1,) bounds of each run of rows.
        hats: (g, K) hat weights of each run.
        effects: how many have them.
    """

    starts: tuple[int, ...]
    hats: FloatArray
    effects: int = len(EFFECTS)


def normal_sums(
    local: FloatArray, weights: FloatArray, residual: FloatArray, groups: Groups
) -> tuple[FloatArray, FloatArray]:
    """J'WJ (B, P, P) and J'W residual (B, P).

    Args:
        local: (N, B, n) from `surface`, rows sorted by group.
        weights: (B, n).
        residual: (B, n) observed less fitted loss.
        groups: runs of rows with equal hats.
    """
    by_row = np.moveaxis(local, 0, 1)
    weighted = by_row * weights[:, None, :]
    nodes = groups.hats.shape[1]
    if nodes == 0:
        return weighted @ np.swapaxes(by_row, 1, 2), np.einsum("bjn,bn->bj", weighted, residual)
    runs = list(zip(groups.starts[:-1], groups.starts[1:], strict=True))
    sums = np.stack(
        [weighted[:, :, i:j] @ np.swapaxes(by_row[:, :, i:j], 1, 2) for i, j in runs], axis=-1
    )
    pulls = np.stack(
        [np.einsum("bjn,bn->bj", weighted[:, :, i:j], residual[:, i:j]) for i, j in runs], axis=-1
    )
    layout = Layout(nodes, len(local) - N_LOCAL - 2, groups.effects)
    return _assemble(sums, groups.hats, layout), _assemble_gradient(pulls, groups.hats, layout)


def _assemble(sums: FloatArray, hats: FloatArray, layout: Layout) -> FloatArray:
    """Spread the normal sums of each group (B, N, N, g) over all parameters (B, P, P)."""
    batch, nodes, shared = len(sums), layout.nodes, layout.shared
    out = np.empty((batch, layout.width, layout.width))
    out[:, :shared, :shared] = sums[:, :shared, :shared].sum(-1)
    effects = layout.effect_columns
    cross = sums[:, :shared, effects] @ hats
    out[:, :shared, shared:] = cross.reshape(batch, shared, -1)
    out[:, shared:, :shared] = np.swapaxes(out[:, :shared, shared:], 1, 2)
    pairs = np.einsum("gk,gl->gkl", hats, hats).reshape(len(hats), -1)
    count = layout.effects
    block = (sums[:, effects][:, :, effects] @ pairs).reshape(batch, count, count, nodes, nodes)
    whole = out[:, shared:, shared:].reshape(batch, count, nodes, count, nodes)
    whole[...] = np.swapaxes(block, 2, 3)
    return out


def _assemble_gradient(pulls: FloatArray, hats: FloatArray, layout: Layout) -> FloatArray:
    """Spread the gradient of each group (B, N, g) over all parameters (B, P)."""
    effects = (pulls[:, layout.effect_columns] @ hats).reshape(len(pulls), -1)
    return np.concatenate([pulls[:, : layout.shared].sum(-1), effects], axis=1)


@dataclass(frozen=True)
class Slope:
    """The slope dL/dln p along one budget, at places (S, n), and what it depends on.

    Attributes:
        value: dL/dln p.
        by_size: its derivative by ln p, the curvature.
        by_vertex: its derivative by m + a c + d at fixed a.
        by_shared: (shared, S, n) its derivatives by L0 ... k4, z, all but through the vertex.
    """

    value: FloatArray
    by_size: FloatArray
    by_vertex: FloatArray
    by_shared: FloatArray


def slope_along(
    theta: FloatArray,
    layout: Layout,
    *,
    log_flops: FloatArray,
    distance: FloatArray,
    log_curvature: FloatArray,
    bends: tuple[FloatArray, FloatArray],
) -> Slope:
    """Slope along budgets, for optima that bends move off the vertex.

    Args:
        theta: (S, P).
        log_flops: (n,) ln C less its reference.
        distance: (S, n) u.
        log_curvature: (S, n) effect r.
        bends: first and second derivative of f by ln p, (S, n, J) each.
    """
    a, alpha, beta, gamma = (v[:, None] for v in exponents(theta))
    u, c = np.clip(distance, -MAX_DISTANCE, MAX_DISTANCE), log_flops
    left, right = np.exp(-alpha * u), np.exp(np.minimum(beta * u, MAX_LOG))
    bent = np.exp(np.clip(theta[:, 1, None] - gamma * c, -MAX_LOG, MAX_LOG) + log_curvature)
    pull, total = gamma * (right - left), alpha + beta
    cubic = 3 * CUBIC * u**2 if layout.nodes else 0.0 * u
    quartic = 4 * QUARTIC * u**3 if layout.nodes else 0.0 * u
    skew, fourth = (theta[:, i, None] if layout.nodes else 0.0 for i in (5, 6))
    first = bent * (pull + skew * cubic + fourth * quartic)
    second = bent * (
        gamma * (beta * right + alpha * left) + 6 * CUBIC * skew * u + 12 * QUARTIC * fourth * u**2
    )
    by = np.zeros((layout.shared, *u.shape))
    by[1] = first
    by_slope = -c * (1 - 2 * a) * total * first
    by_slope += bent * ((1 - 2 * a) * total * (right - left) + gamma * total * u * (right - left))
    by[3] = a * (1 - a) * by_slope
    by[4] = -gamma * c * first + bent * (pull + gamma * u * (beta * right + alpha * left))
    value, curvature = first, second
    if layout.nodes:
        z = theta[:, None, layout.bend_slice]
        by[5], by[6] = bent * cubic, bent * quartic
        by[layout.bend_slice] = np.moveaxis(bends[0], -1, 0)
        value = value + (z * bends[0]).sum(-1)
        curvature = curvature + (z * bends[1]).sum(-1)
    return Slope(value, curvature, -second, by)
