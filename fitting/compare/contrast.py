"""What a joint fit says of a variant against the reference: multiplier, loss, optimum, exponent.

A variant is better than x times the compute where F_v(C) < F_0(x C), each at its own best size. In
the surface's terms that is

    H(x) = F_v(C) - F_0(x C) = U (e^h - 1) < 0,
    U = G e^(e_0(x C)) at x C,   h = e_v(C) + gamma ln x + e_0(C) - e_0(x C),

with e_0 the reference's level and e_v the variant's departure from it. The multiplier is the root
of both H and h, the ends of its interval where they are a number of errors from 0 (Fieller's),
so that interval and test agree, and an end may be infinite. H and h say the same, and linearised
they do not: near x = 1 the errors of H are those of a difference in loss, which runs measure, and
the loss above the floor, which h divides it by, is known worse; far from there it is the other way
round. The one that says more is taken (checked by benchmarks/compare.py).

Legend: C = flops; S = skills, M = members, n = values of x, K = nodes, P = parameters; logarithms
natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fitting.compare.joint import Joint, Member
from fitting.mixture.discrepancy import Discrepancy
from fitting.mixture.vertex_form import exponents
from fitting.values import FloatArray

FARTHEST = math.log(1e4)
"""|ln| of the greatest multiplier that is told from an infinite one (assumption)."""

STEPS = 241
MOST = 5.0
"""|h| beyond which exponentials are not followed, as in `fitting.mixture.vertex_form`."""


@dataclass(frozen=True)
class Margin:
    """How sure it is that a variant is not better than x times the compute.

    Attributes:
        z: (S, n) in standard errors, negative where the variant is better.
        se: (S, n) standard error of ln x.
    """

    z: FloatArray
    se: FloatArray


@dataclass(frozen=True)
class Difference:
    """A variant less the reference at the optimum of one budget, each skill's (S,) and its error.

    Attributes:
        loss: nats, each at its own best size.
        loss_se: its standard error.
        log_params: ln p* of the variant less that of the reference.
        log_params_se: its standard error.
        exponent: exponent of p*(C) less that of the reference, over the ladder.
        exponent_se: its standard error.
    """

    loss: FloatArray
    loss_se: FloatArray
    log_params: FloatArray
    log_params_se: FloatArray
    exponent: FloatArray
    exponent_se: FloatArray


def exceeds(joint: Joint, variant: int, flops: float, log_x: FloatArray) -> Margin:
    """H at some ln x (n,)."""
    parts = [_h(joint, m, variant, flops, log_x) for m in joint.members]
    h, loss = _mix(joint, [p[0] for p in parts]), _mix(joint, [p[1] for p in parts])
    unit = (joint.weights[:, :, None] * [p[2] for p in parts]).sum(0)
    by_h, by_loss = (value / np.maximum(se, 1e-300) for value, se in (h, loss))
    z = np.where(np.abs(by_h) > np.abs(by_loss), by_h, by_loss)
    return Margin(z, loss[1] / unit)


def multiplier(
    joint: Joint, variant: int, flops: float, half_width: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Ln multiplier and the ends of its interval, (S,) each.

    Args:
        half_width: (S,) of the interval, in standard errors.
    """
    # Dense near 0, where multipliers of interest lie.
    log_x = FARTHEST * np.sinh(np.linspace(-4, 4, STEPS)) / math.sinh(4)
    found = exceeds(joint, variant, flops, log_x)
    ends = (found.z, found.z + half_width[:, None], found.z - half_width[:, None])
    value, low, high = (np.array([_root(log_x, row) for row in h]) for h in ends)
    return value, low, high


def _root(x: FloatArray, h: FloatArray) -> float:
    """Where rising h crosses 0, looked for from the middle on; infinite if that is nowhere."""
    middle = len(x) // 2
    if h[middle] <= 0:
        above = middle + np.flatnonzero(h[middle:] > 0)
        i = int(above[0]) if len(above) else len(x)
    else:
        below = np.flatnonzero(h[:middle] <= 0)
        i = int(below[-1]) + 1 if len(below) else 0
    if i in (0, len(x)):
        return -math.inf if i == 0 else math.inf
    return float(x[i - 1] - h[i - 1] * (x[i] - x[i - 1]) / (h[i] - h[i - 1]))


Estimate = tuple[FloatArray, FloatArray]
"""Mean and variance, (S, n) each."""


def _h(
    joint: Joint, member: Member, variant: int, flops: float, log_x: FloatArray
) -> tuple[Estimate, Estimate, FloatArray]:
    """Estimates of h and of H, and nats per unit of ln x (S, n), by one member."""
    theta, k = member.theta, len(joint.reference.nodes)
    there = math.log(flops) - joint.origin[1] + log_x
    every, between = _known(joint.reference, 1, np.append(there, there[0] - log_x[0]))
    then, now = every[:-1], every[-1]
    away, unseen = (v[0] for v in _known(member.apart, 1, there[:1] - log_x[:1]))
    a, _, _, gamma = (v[:, None] for v in exponents(theta))
    ours, theirs = joint.effects(1, 0), joint.effects(1, variant)
    apart = (theta[:, theirs] @ away)[:, None]
    h = np.clip(apart + gamma * log_x + theta[:, ours] @ (now - then).T, -MOST, MOST)
    height = np.exp(theta[:, 1, None] - gamma * there + theta[:, ours] @ then.T)
    # Derivatives of ln U and of h by ln R0, logit a, ln S, and the two levels' nodes.
    by_slope = a * (1 - a) * (1 - 2 * a) * np.exp(theta[:, 4, None])
    rows = np.zeros((2, *h.shape, 3 + 2 * k))  # of h, of ln U
    rows[0, :, :, 1], rows[1, :, :, 1] = by_slope * log_x, -by_slope * there
    rows[0, :, :, 2], rows[1, :, :, 2] = gamma * log_x, -gamma * there
    rows[0, :, :, 3 : 3 + k], rows[1, :, :, 3 : 3 + k] = now - then, then
    rows[0, :, :, 3 + k :], rows[1, :, :, 0] = away, 1.0
    index = np.r_[1, 3, 4, np.arange(ours.start, ours.stop), np.arange(theirs.start, theirs.stop)]
    covariance = member.covariance[:, index[:, None], index]
    own = np.diag(between)
    left = unseen[0] + np.maximum(own[:-1] + own[-1] - 2 * between[:-1, -1], 0.0)
    value, steep = height * np.expm1(h), height * np.exp(h)
    of_loss = steep[..., None] * rows[0] + value[..., None] * rows[1]
    spread = [((r @ covariance) * r).sum(-1) for r in (rows[0], of_loss)]
    return (h, spread[0] + left), (value, spread[1] + steep**2 * left), height * gamma


def _known(like: Discrepancy, effect: int, log_flops: FloatArray) -> tuple[FloatArray, FloatArray]:
    """An effect at budgets (n,) given its nodes: weights (n, K), and covariance left (n, n)."""
    walk, nodes, at = like.walks[effect], like.nodes / math.log(10), log_flops / math.log(10)
    cross = walk.covariance(at, nodes)
    weights = np.linalg.solve(walk.covariance(nodes, nodes), cross.T).T
    return np.asarray(weights), np.asarray(walk.covariance(at, at) - weights @ cross.T)


def difference(joint: Joint, variant: int, flops: float) -> Difference:
    """Differences at the optimum of one budget."""
    parts = [_difference(joint, m, variant, flops) for m in joint.members]
    columns = [_mix(joint, [(p[i][:, None], p[i + 1][:, None]) for p in parts])
               for i in (0, 2, 4)]  # fmt: skip
    return Difference(*(v[:, 0] for pair in columns for v in pair))


def _difference(joint: Joint, member: Member, variant: int, flops: float) -> list[FloatArray]:
    """Loss, ln p* and exponent with their variances, (S,) each, by one member."""
    theta = member.theta
    c = np.array([math.log(flops) - joint.origin[1]])
    ours = _known(joint.reference, 1, c)[0][0]
    (level, unseen), (place, off) = ((w[0], v[0, 0]) for w, v in
                                     (_known(member.apart, i, c) for i in (1, 0)))  # fmt: skip
    gamma = exponents(theta)[3]
    lifted = np.exp(theta[:, 1] - gamma * c + theta[:, joint.effects(1, 0)] @ ours)
    gone = np.exp(np.clip(theta[:, joint.effects(1, variant)] @ level, -MOST, MOST))
    rows = np.zeros(theta.shape)
    loss = lifted * (gone - 1)
    rows[:, 1] = loss
    rows[:, 4] = -gamma * c * loss
    rows[:, joint.effects(1, 0)] = loss[:, None] * ours
    rows[:, joint.effects(1, variant)] = (lifted * gone)[:, None] * level
    drift, spread = (v[..., joint.effects(0, variant)] for v in (theta, member.covariance))
    spread = spread[:, joint.effects(0, variant)]
    slope = _slope(joint.reference.nodes)
    return [
        loss,
        ((rows[:, None] @ member.covariance)[:, 0] * rows).sum(1) + (lifted * gone) ** 2 * unseen,
        drift @ place,
        (spread @ place) @ place + off,
        drift @ slope,
        (spread @ slope) @ slope,
    ]


def _slope(nodes: FloatArray) -> FloatArray:
    """Weights (K,) of the slope through the nodes; NaN from one node."""
    away = nodes - nodes.mean()
    return np.asarray(away / (away @ away) if len(nodes) > 1 else np.full(1, math.nan))


def _mix(joint: Joint, parts: list[Estimate]) -> Estimate:
    """Mean and standard error (S, n) over members."""
    w = joint.weights[:, :, None]
    means = np.stack([mean for mean, _ in parts])
    mean = (w * means).sum(0)
    squares = np.stack([variance for _, variance in parts]) + (means - mean) ** 2
    return mean, np.sqrt((w * squares).sum(0))
