"""Partial pooling across skills: what all skills have in common is learnt from all of them.

A block of each skill's parameters (in units of the skill) scatters round a common vector mu, which
has a prior of its own. Per skill everything is Gaussian round the maximum, so mu is integrated
out in closed form; the maximum is found again until mu rests. A slope of the optima, in which
losses bend little, is pooled without finding it again (`follow`).

Legend: B = skills, P = parameters, J = size of the block, K = nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fitting.mixture.laplace import Posterior, Prior
from fitting.mixture.member import Component
from fitting.values import FloatArray

ROUNDS = 4
"""Most times the maximum is found again with a moved common vector."""

AT_REST = 0.05
"""Change of mu, in its standard errors, at which it rests."""


@dataclass(frozen=True)
class Pool:
    """A block of parameters that skills have in common.

    Attributes:
        block: its place among the parameters.
        unit: (B,) what one unit of mu means in each skill.
        precision: (J, J) prior precision of mu.
    """

    block: slice
    unit: FloatArray
    precision: FloatArray


def pooled(
    pool: Pool,
    prior: Prior,
    solve: Callable[[Prior], Posterior],
    share: Callable[[Posterior], float],
    mu: FloatArray,
) -> tuple[Posterior, float, FloatArray, FloatArray]:
    """Posterior with the common vector integrated out.

    Args:
        prior: round mu = 0.
        share: by how much correlated skills count less than independent ones, from a posterior.

    Returns:
        The posterior, widened by the doubt of mu; the log evidence that integrating adds beyond
        the skills' own; mu; and the root (B, P, J) of what was added to the covariances.
    """
    found = solve(moved(prior, pool, mu))
    for _ in range(ROUNDS):
        weight = share(found)
        inner, pull = _information(pool, prior, found, mu)
        total = pool.precision + weight * inner
        step = np.linalg.solve(total, weight * pull - pool.precision @ mu)
        if float(step @ total @ step) < AT_REST**2 * len(mu):
            break
        mu = mu + step
        found = solve(moved(prior, pool, mu))
    weight = share(found)
    inner, _ = _information(pool, prior, found, mu)
    total = pool.precision + weight * inner
    logdet = np.linalg.slogdet(pool.precision)[1] - np.linalg.slogdet(total)[1]
    extra = 0.5 * float(logdet) - 0.5 * float(mu @ pool.precision @ mu)
    doubt = _doubt(pool, prior, found, total)
    covariance = np.linalg.inv(found.precision) + doubt @ np.swapaxes(doubt, 1, 2)
    return replace(found, precision=np.asarray(np.linalg.inv(covariance))), extra, mu, doubt


def moved(prior: Prior, pool: Pool, mu: FloatArray) -> Prior:
    """The prior round another common vector."""
    mean = prior.mean.copy()
    mean[:, pool.block] += pool.unit[:, None] * mu
    return replace(prior, mean=mean)


def _information(
    pool: Pool, prior: Prior, found: Posterior, mu: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Precision (J, J) and pull (J,) that the skills' maxima exert on mu."""
    block, unit = pool.block, pool.unit
    own = prior.precision[:, block, block]
    covariance = np.linalg.inv(found.precision)[:, block, block]
    inner = np.einsum("b,bij->ij", unit**2, own - own @ covariance @ own)
    away = found.theta[:, block] - unit[:, None] * mu
    return inner, np.einsum("b,bij,bj->i", unit, own, away)


def _doubt(pool: Pool, prior: Prior, found: Posterior, total: FloatArray) -> FloatArray:
    """Root (B, P, J) of what the doubt of mu adds to every skill's covariance."""
    covariance = np.linalg.inv(found.precision)
    follow = covariance[:, :, pool.block] @ prior.precision[:, pool.block, pool.block]
    follow = follow * pool.unit[:, None, None]
    return np.asarray(follow @ np.linalg.cholesky(np.linalg.inv(total)))


@dataclass(frozen=True)
class _Told:
    """What the trials of each skill say of its drift, all else integrated out.

    Attributes:
        precision: (B, K, K).
        pull: (B, K) precision times the drift that the trials alone would give.
    """

    precision: FloatArray
    pull: FloatArray

    def evidence(self, mean: FloatArray, spread: FloatArray) -> FloatArray:
        """Log evidence (B,) of a belief (B, K), (B, K, K) in the drifts, up to a constant."""
        inverse = np.asarray(np.linalg.inv(spread))
        believed = _times(inverse, mean)
        total, force = self.precision + inverse, self.pull + believed
        moved = np.linalg.solve(total, force[..., None])[..., 0]
        fits = (force * moved).sum(1) - (mean * believed).sum(1)
        sizes = np.linalg.slogdet(total)[1] + np.linalg.slogdet(spread)[1]
        return np.asarray(0.5 * (fits - sizes))


def follow(member: Component, share: float) -> tuple[Component, FloatArray]:
    """A member whose skills' optima grow alike as far as its kind believes.

    Args:
        member: fitted in the belief that each skill's whole drift is its own.
        share: by how much correlated skills count less than independent ones.

    Returns:
        It, and what each skill's log evidence gains (B,): that of its trials given what the other
        skills say of the common slope, less that without them.
    """
    like = member.discrepancy
    if like.kind.drift is None or not like.kind.recipe:
        return member, np.zeros(len(member.theta))
    block, x = like.layout.effect_slice(0), like.places
    own, along = like.kind.drift.covariance(x, x), np.outer(x, x)
    both = like.walks[0].covariance(x, x)
    by_own, by_both = np.linalg.inv(own), np.linalg.inv(both)
    drift, around = member.theta[:, block], member.covariance[:, :, block]
    known = np.asarray(np.linalg.inv(around[:, block]))
    told = _Told(known - by_both, _times(known, drift))
    give = by_own @ np.linalg.inv(told.precision + by_own)
    inner, pull = (by_own - give @ by_own) @ x @ x, _times(give, told.pull) @ x

    def slope(inner: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray]:
        variance = 1 / (like.kind.recipe**-2 + share * inner)
        return variance * share * pull, variance

    mean, variance = slope(inner.sum() - inner, pull.sum() - pull)
    gained = told.evidence(mean[:, None] * x, own + variance[:, None, None] * along)
    gained = gained - told.evidence(np.zeros_like(drift), both[None])
    mean, variance = slope(inner.sum(), pull.sum())
    precision = member.precision.copy()
    precision[:, block, block] += by_own - by_both
    follows = np.asarray(np.linalg.inv(precision)[:, :, block])
    theta = member.theta + _times(follows, mean * (by_own @ x) - drift @ (by_own - by_both))
    doubt = (np.sqrt(variance) * follows @ (by_own @ x))[:, :, None]
    covariance = np.linalg.inv(precision) + doubt @ np.swapaxes(doubt, 1, 2)
    precision = np.asarray(np.linalg.inv(covariance))
    return replace(member, theta=theta, precision=precision, doubt=doubt), gained


def _times(matrix: FloatArray, vector: FloatArray) -> FloatArray:
    """Matrices (..., J, K) times vectors (..., K)."""
    return np.asarray((matrix @ vector[..., None])[..., 0])
