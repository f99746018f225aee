"""Partial pooling across skills: what all skills have in common is learnt from all of them.

A block of each skill's parameters (in units of the skill) scatters round a common vector mu, which
has a prior of its own. Per skill everything is Gaussian round the maximum, so mu is integrated
out in closed form; the maximum is found again until mu rests.

Legend: B = skills, P = parameters, J = size of the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fitting.mixture.laplace import Posterior, Prior
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
