"""The loss surface written round its vertices, with every derivative in closed form.

E + A p^-alpha + B t^-beta on isoFLOP curves, with ln p* itself as a parameter:

    u = ln p - m - a c - d(C)                 distance from the vertex of budget C
    q = a e^(-alpha u) + (1 - a) e^(beta u)   relative loss along the curve, 1 at its minimum
    G = R0 e^(-gamma c)                       reducible loss at the optimum
    L = E + G { 1 + e(C) + e^r(C) [q + K3 k3 u^3 + K4 k4 u^4 - 1] }
    ln p*(C) = m + a c + d(C)

    alpha = (1-a) S,  beta = a S,  gamma = a (1-a) S,  c = ln C - reference

The effects d, e, r are values on the nodes of a ladder of budgets, k3 and k4 one number each: the
discrepancy between the law and the world. Without them this is the plain surface.

Legend: p = params, t = tokens, C = flops; B = batch (components x skills), n = rows (trials),
P = parameters, K = nodes; logarithms are natural.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitting.values import FloatArray

GLOBALS = ("floor", "log_reducible", "log_vertex", "logit_slope", "log_exponents")
"""Parameters of the plain surface: E, ln R0, m, logit a, ln S."""

SHAPES = ("skew", "quartic")
EFFECTS = ("drift", "level", "curvature")
N_GLOBAL = len(GLOBALS)
N_LOCAL = N_GLOBAL + len(SHAPES)
EFFECT_COLUMNS = (2, 7, 8)
"""Local columns whose derivative the effects d, e, r share: d moves the vertex as m does."""

CUBIC = 0.0143
QUARTIC = 0.002
"""Loss per u^3, u^4 at k = 1, relative to G: the size of the terms q itself has
(alpha beta (beta - alpha) / 6 and its next order at alpha ~ beta ~ .35; assumption)."""

MAX_DISTANCE = 15.0
"""|u| beyond which exponentials are not followed (a factor 3e6 in size)."""

MAX_LOG = 30.0


@dataclass(frozen=True)
class Rows:
    """Where a surface is evaluated.

    Attributes:
        log_params: (n,) ln p less its reference.
        log_flops: (n,) ln C less its reference.
        hats: (n, K) weight of each node in a row's effects; (n, 0) for the plain surface.
    """

    log_params: FloatArray
    log_flops: FloatArray
    hats: FloatArray

    def __len__(self) -> int:
        return len(self.log_params)


def width(nodes: int) -> int:
    """Number of parameters with effects on so many nodes; 0 nodes is the plain surface."""
    return N_GLOBAL if nodes == 0 else N_LOCAL + len(EFFECTS) * nodes


def effect_slice(index: int, nodes: int) -> slice:
    """Place of effect number `index` (drift, level, curvature) among the parameters."""
    return slice(N_LOCAL + index * nodes, N_LOCAL + (index + 1) * nodes)


def exponents(theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(a, alpha, beta, gamma) of parameters (..., P)."""
    slope = 1.0 / (1.0 + np.exp(-np.clip(theta[..., 3], -MAX_LOG, MAX_LOG)))
    total = np.exp(np.clip(theta[..., 4], -MAX_LOG, 3.0))
    return slope, (1 - slope) * total, slope * total, slope * (1 - slope) * total


def surface(theta: FloatArray, rows: Rows) -> tuple[FloatArray, FloatArray]:
    """Loss and its derivatives by the local parameters.

    Args:
        theta: (B, P).
        rows: n places.

    Returns:
        Loss (B, n), and derivatives (N, B, n) by E, ln R0, m, logit a, ln S, and with effects
        k3, k4, e, r as well; the derivative by d(C) is the one by m.
    """
    nodes = rows.hats.shape[1]
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
    relative = reducible * (1.0 + level) + bent * shape
    total = alpha + beta
    q_slope = left - right + total * u * q
    out = np.empty((N_LOCAL + 2 if nodes else N_GLOBAL, *u.shape))
    out[0] = 1.0
    out[1] = relative
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
        out[7] = reducible
        out[8] = bent * shape
    return theta[:, 0, None] + relative, out


def _discrepancy(theta: FloatArray, rows: Rows) -> tuple[FloatArray, ...]:
    """Effects d, e, r at the rows (B, n), and k3, k4 (B, 1); zeros for the plain surface."""
    nodes = rows.hats.shape[1]
    if nodes == 0:
        zero = np.zeros((1, 1))
        return zero, zero, zero, zero, zero
    drift, level, curvature = (theta[:, effect_slice(i, nodes)] @ rows.hats.T for i in range(3))
    return drift, level, np.clip(curvature, -5.0, 5.0), theta[:, 5, None], theta[:, 6, None]


def jacobian(local: FloatArray, rows: Rows) -> FloatArray:
    """Derivatives of the loss by all parameters, (B, n, P), from the local ones (N, B, n)."""
    nodes = rows.hats.shape[1]
    if nodes == 0:
        return np.moveaxis(local, 0, -1)
    shared = np.moveaxis(local[:N_LOCAL], 0, -1)
    effects = [local[i][..., None] * rows.hats for i in EFFECT_COLUMNS]
    return np.concatenate([shared, *effects], axis=-1)


@dataclass(frozen=True)
class Groups:
    """Rows sorted into runs with equal hat weights, so that normal sums need no wide Jacobian.

    Attributes:
        starts: (g + 1,) bounds of each run of rows.
        hats: (g, K) hat weights of each run.
    """

    starts: tuple[int, ...]
    hats: FloatArray


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
    return _assemble(sums, groups.hats), _assemble_gradient(pulls, groups.hats)


def _assemble(sums: FloatArray, hats: FloatArray) -> FloatArray:
    """Spread the normal sums of each group (B, N, N, g) over all parameters (B, P, P)."""
    batch, nodes = len(sums), hats.shape[1]
    out = np.empty((batch, width(nodes), width(nodes)))
    out[:, :N_LOCAL, :N_LOCAL] = sums[:, :N_LOCAL, :N_LOCAL].sum(-1)
    effects = list(EFFECT_COLUMNS)
    cross = sums[:, :N_LOCAL, effects] @ hats
    out[:, :N_LOCAL, N_LOCAL:] = cross.reshape(batch, N_LOCAL, -1)
    out[:, N_LOCAL:, :N_LOCAL] = np.swapaxes(out[:, :N_LOCAL, N_LOCAL:], 1, 2)
    pairs = np.einsum("gk,gl->gkl", hats, hats).reshape(len(hats), -1)
    block = (sums[:, effects][:, :, effects] @ pairs).reshape(batch, 3, 3, nodes, nodes)
    out[:, N_LOCAL:, N_LOCAL:] = np.swapaxes(block, 2, 3).reshape(batch, 3 * nodes, 3 * nodes)
    return out


def _assemble_gradient(pulls: FloatArray, hats: FloatArray) -> FloatArray:
    """Spread the gradient of each group (B, N, g) over all parameters (B, P)."""
    effects = (pulls[:, list(EFFECT_COLUMNS)] @ hats).reshape(len(pulls), -1)
    return np.concatenate([pulls[:, :N_LOCAL].sum(-1), effects], axis=1)
