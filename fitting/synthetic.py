"""Worlds with known optima: what a plan simulates before anything is measured.

Legend: p = params, t = tokens, C = flops = 6 p t; losses in nats, logarithms natural.

The departures from the five-parameter law that estimators and searches are tested against are in
`benchmarks/worlds.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray


@dataclass(frozen=True)
class Truth:
    """One skill's true loss E + A p^-alpha + B t^-beta.

    Attributes:
        name: the skill.
        floor: E, nats.
        capacity: A.
        alpha: exponent of params.
        data: B.
        beta: exponent of tokens.
        noise: standard deviation of one measured loss, nats.
    """

    name: str
    floor: float
    capacity: float
    alpha: float
    data: float
    beta: float
    noise: float = 0.01

    def reducible(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Loss above the floor, nats."""
        return np.asarray(self.capacity * params**-self.alpha + self.data * tokens**-self.beta)

    def expected(
        self, params: FloatArray, tokens: FloatArray, *, elevation: FloatArray | float = 0.0
    ) -> FloatArray:
        """Noiseless measurement; ``elevation`` multiplies the reducible loss by 1 + elevation."""
        return np.asarray(self.floor + self.reducible(params, tokens) * (1.0 + elevation))

    def log_optimum(self, flops: float) -> float:
        """True ln p* on a budget, by three nested grids: exact to about 1e-6."""
        centre, half = 0.5 * math.log(flops / FLOPS_PER_PARAM_TOKEN), 9.0
        for _ in range(3):
            grid = centre + np.linspace(-half, half, 1801)
            params = np.exp(grid)
            loss = self.reducible(params, flops / (FLOPS_PER_PARAM_TOKEN * params))
            centre, half = float(grid[np.argmin(loss)]), half / 400
        return centre


@dataclass(frozen=True)
class World:
    """Skills measured on the same trials, with correlated noise and bad trials.

    Attributes:
        name: what departs from the five-parameter law.
        truths: one per skill.
        correlation: of the noise between skills of one trial.
        noise_slope: noise grows as (C / 1e20)^-noise_slope; 0 for constant noise.
        bad_share: share of bad trials, half of them NaN, half silently elevated.
        elevation: how much a silently bad trial raises the reducible loss, relative.
    """

    name: str
    truths: tuple[Truth, ...]
    correlation: float = 0.4
    noise_slope: float = 0.0
    bad_share: float = 0.05
    elevation: float = 0.15

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the skills."""
        return tuple(truth.name for truth in self.truths)

    def log_optimum(self, skill: str, flops: float) -> float:
        """True ln p* of a skill on a budget."""
        return self.truths[self.skills.index(skill)].log_optimum(flops)

    def sample(
        self, params: FloatArray, tokens: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """Measured losses of n trials, shape (skills, n); NaN where a trial broke down."""
        p = np.asarray(params, float)
        t = np.asarray(tokens, float)
        shared = rng.standard_normal(p.shape)
        own = rng.standard_normal((len(self.truths), *p.shape))
        noise = math.sqrt(self.correlation) * shared + math.sqrt(1 - self.correlation) * own
        scale = (FLOPS_PER_PARAM_TOKEN * p * t / 1e20) ** -self.noise_slope
        uniform = rng.random(p.shape)
        raised = np.where(uniform < self.bad_share, self.elevation, 0.0)
        losses = np.stack([truth.expected(p, t, elevation=raised) for truth in self.truths])
        losses += np.array([truth.noise for truth in self.truths])[:, None] * scale * noise
        losses[:, uniform < self.bad_share / 2] = np.nan
        return losses

    def loss(self, params: float, tokens: float, rng: np.random.Generator) -> dict[str, float]:
        """Measured loss of every skill from one trial; all NaN where it broke down."""
        losses = self.sample(np.array([params]), np.array([tokens]), rng)[:, 0]
        return dict(zip(self.skills, losses.tolist(), strict=True))


def truth_from_vertex(
    name: str,
    *,
    floor: float,
    amplitude: float,
    log_params: float,
    share: float,
    total: float,
    flops: float,
) -> Truth:
    """A five-parameter law from what one sees of it.

    Args:
        floor: E, nats.
        amplitude: reducible loss at the optimum of ``flops``, nats.
        log_params: ln p* there.
        share: a, the exponent of p*(C); alpha = (1 - a) total, beta = a total.
        total: alpha + beta.
        flops: the budget that ``amplitude`` and ``log_params`` speak of.
    """
    alpha, beta = (1 - share) * total, share * total
    log_tokens = math.log(flops / FLOPS_PER_PARAM_TOKEN) - log_params
    capacity = amplitude * share * math.exp(alpha * log_params)
    data = amplitude * (1 - share) * math.exp(beta * log_tokens)
    return Truth(name, floor, capacity, alpha, data, beta)


AGGREGATE = Truth("aggregate", 1.8172, 482.01, 0.3478, 2085.43, 0.3658, noise=0.004)
"""Besiroglu et al. 2024, table 1."""


def stand_in(flops: float, log_params: float, *, skills: int = 3, noise: float = 0.01) -> World:
    """A world to plan with where nothing is measured yet.

    Skills share the exponents of Besiroglu et al. 2024; their optima lie evenly within a factor
    e^.5 of the guess, about the spread of Roberts et al. 2025; 5 % of trials are bad.

    Args:
        flops: a budget of the ladder to be planned.
        log_params: guess of ln p* there.
        noise: standard deviation of one measured loss, nats.
    """
    total = AGGREGATE.alpha + AGGREGATE.beta
    offsets = np.linspace(-0.5, 0.5, skills) if skills > 1 else [0.0]
    truths = tuple(
        truth_from_vertex(
            f"skill-{i}", floor=1.8, amplitude=1.2, log_params=log_params + float(offset),
            share=AGGREGATE.beta / total, total=total, flops=flops,
        )
        for i, offset in enumerate(offsets)
    )  # fmt: skip
    return World("stand-in", tuple(replace(truth, noise=noise) for truth in truths))
