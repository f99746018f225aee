"""Worlds with known optima: what every estimator and search policy here is tested against.

Legend: p = params, t = tokens, C = flops = 6 p t; losses in nats, logarithms natural.

Each world has six skills that share every trial: an aggregate with the constants of Chinchilla
as refitted by Besiroglu et al. 2024 (arXiv 2404.10102), three capacity-hungry skills whose optima
lie 10^.38, 10^.28, 10^.18 above the aggregate's at 6e18 FLOPs, and two data-hungry ones 10^.30
and 10^.18 below. The signs and the convergence are those of Roberts et al. 2025 (arXiv
2503.10061); the distances are assumptions, larger than theirs as single skills differ more than
means of several. The departures from the five-parameter law (asymmetry, interaction, saturation,
drift, a mistuned learning rate, noise that depends on the budget, bad trials) are the ways real
sweeps go wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

__all__ = ["LADDER", "WORLDS", "Truth", "World", "stand_in", "surface_world", "world"]

LADDER = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 1e21)
"""The seven budgets of Roberts et al. 2025, which the worlds are scaled to."""

_REFERENCE_FLOPS = LADDER[0]
_BUMP_PARAMS = 1e9  # the learning rate of world "lrbump" is mistuned above this; assumption
_CROSS_EXPONENTS = (-0.55, 0.10)  # of params and tokens in world "interact"; assumption


@dataclass(frozen=True)
class Saturation:
    """A score near chance at small budgets: loss -> span * (1 - sigmoid((middle - loss) / width)).

    The map rises with the loss, so optima stay where they are; only what one sees of them shrinks.
    """

    middle: float
    width: float
    span: float = 0.75  # one minus the chance accuracy of four-way multiple choice

    def __call__(self, loss: FloatArray) -> FloatArray:
        """Apply to losses of any shape."""
        return self.span / (1.0 + np.exp((self.middle - loss) / self.width))


@dataclass(frozen=True)
class Truth:
    """One skill's true loss E + A p^-alpha + B t^-beta and its departures from that law.

    Attributes:
        name: the skill.
        floor: E, nats.
        capacity: A.
        alpha: exponent of params.
        data: B.
        beta: exponent of tokens.
        noise: standard deviation of one measured loss at the reference budget, nats.
        cross: coefficient of an interaction p^-.55 t^.10.
        bend: drift of ln p* off the power law, per decade of flops squared.
        bump: loss per squared ln p above 1e9 params.
        saturation: the score's transform of the loss, if any.
    """

    name: str
    floor: float
    capacity: float
    alpha: float
    data: float
    beta: float
    noise: float = 0.01
    cross: float = 0.0
    bend: float = 0.0
    bump: float = 0.0
    saturation: Saturation | None = None

    def reducible(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Loss above the floor before any transform, nats."""
        decades = np.log10(FLOPS_PER_PARAM_TOKEN * params * tokens / _REFERENCE_FLOPS)
        shift = np.exp(self.bend * decades**2)
        law = self.capacity * (params / shift) ** -self.alpha
        law = law + self.data * (tokens * shift) ** -self.beta
        cross = self.cross * params ** _CROSS_EXPONENTS[0] * tokens ** _CROSS_EXPONENTS[1]
        bump = self.bump * np.maximum(0.0, np.log(params / _BUMP_PARAMS)) ** 2
        return np.asarray(law + cross + bump)

    def expected(
        self, params: FloatArray, tokens: FloatArray, *, elevation: FloatArray | float = 0.0
    ) -> FloatArray:
        """Noiseless measurement; ``elevation`` multiplies the reducible loss by 1 + elevation."""
        loss = self.floor + self.reducible(params, tokens) * (1.0 + elevation)
        return loss if self.saturation is None else self.saturation(loss)

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

    def expected(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Noiseless losses, shape (skills, n)."""
        p, t = np.asarray(params, float), np.asarray(tokens, float)
        return np.stack([truth.expected(p, t) for truth in self.truths])

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

    def table(
        self, flops: FloatArray, params: FloatArray, rng: np.random.Generator
    ) -> pd.DataFrame:
        """Long table of n trials: trial_id, flops, params, tokens, skill, loss.

        Rows of broken trials are kept with NaN losses.
        """
        flops, params = np.asarray(flops, float), np.asarray(params, float)
        tokens = flops / (FLOPS_PER_PARAM_TOKEN * params)
        losses = self.sample(params, tokens, rng)
        trials = pd.DataFrame(
            {"trial_id": np.arange(len(params)), "flops": flops, "params": params}
        ).assign(tokens=tokens)
        parts = [
            trials.assign(skill=s, loss=row) for s, row in zip(self.skills, losses, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)


def truth_from_vertex(
    name: str,
    *,
    floor: float,
    amplitude: float,
    log_params: float,
    share: float,
    total: float,
    flops: float = _REFERENCE_FLOPS,
) -> Truth:
    """A five-parameter law from what one sees of it.

    Args:
        name: the skill.
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


_AGGREGATE = Truth("aggregate", 1.8172, 482.01, 0.3478, 2085.43, 0.3658, noise=0.004)
"""Besiroglu et al. 2024, table 1."""

# name, log10 distance of p* from the aggregate's at 6e18, floor, amplitude, noise. Half of each
# distance is gone at 1e21. All are assumptions; see the module's docstring.
_SKILLS = (
    ("knowledge-1", 0.38, 1.2, 1.40, 0.008),
    ("knowledge-2", 0.28, 1.6, 1.20, 0.010),
    ("knowledge-3", 0.18, 1.9, 2.00, 0.020),
    ("code-1", -0.30, 0.8, 1.30, 0.012),
    ("code-2", -0.18, 1.0, 1.50, 0.016),
)


def _base_truths(shares: tuple[float, ...] | None = None) -> tuple[Truth, ...]:
    """The six skills; ``shares`` replaces the exponents of p*(C), keeping p* at 6e18."""
    centre = _AGGREGATE.log_optimum(_REFERENCE_FLOPS)
    total = _AGGREGATE.alpha + _AGGREGATE.beta
    share = _AGGREGATE.beta / total
    halving = 0.5 * math.log(10) / math.log(LADDER[-1] / LADDER[0])
    rows = (("aggregate", 0.0, 1.8172, 1.2157, 0.004), *_SKILLS)
    truths = []
    for i, (name, distance, floor, amplitude, noise) in enumerate(rows):
        truth = truth_from_vertex(
            name,
            floor=floor,
            amplitude=amplitude,
            log_params=centre + math.log(10) * distance,
            share=share - halving * distance if shares is None else shares[i],
            total=total,
        )
        truths.append(replace(truth, noise=noise))
    return tuple(truths)


def _saturated(truth: Truth) -> Truth:
    """Half of the way from chance at 3e20 FLOPs, 8 % of it at 6e18, and as noisy as a score is."""
    best = [truth.floor + _least(truth, flops) for flops in (6e18, 3e20)]
    saturation = Saturation(best[1], 0.4 * (best[0] - best[1]))
    return replace(truth, saturation=saturation, noise=0.5 * truth.noise)


def _least(truth: Truth, flops: float) -> float:
    """Reducible loss at the optimum of a budget."""
    params = math.exp(truth.log_optimum(flops))
    tokens = flops / (FLOPS_PER_PARAM_TOKEN * params)
    return float(truth.reducible(np.array(params), np.array(tokens)))


def _crossed(truth: Truth) -> Truth:
    """An interaction worth 25 % of the reducible loss at the optimum of 6e18 FLOPs."""
    params = math.exp(truth.log_optimum(_REFERENCE_FLOPS))
    tokens = _REFERENCE_FLOPS / (FLOPS_PER_PARAM_TOKEN * params)
    unit = params ** _CROSS_EXPONENTS[0] * tokens ** _CROSS_EXPONENTS[1]
    return replace(truth, cross=0.25 * _least(truth, _REFERENCE_FLOPS) / unit)


_ASYMMETRIC = (0.5126, 0.36, 0.42, 0.46, 0.64, 0.58)
"""Exponents of p*(C) in world "asym": alpha / beta between 1 / 1.8 and 1.8."""


def world(name: str) -> World:
    """A world by name; see `WORLDS`.

    Raises:
        ValueError: no such world.
    """
    base = _base_truths()
    makers = {
        "fail": lambda: World(name, base),
        "asym": lambda: World(name, _base_truths(_ASYMMETRIC)),
        "interact": lambda: World(name, tuple(_crossed(t) for t in base)),
        "sigmoid": lambda: World(name, tuple(_saturated(t) for t in base)),
        "bend": lambda: World(name, tuple(replace(t, bend=0.03) for t in base)),
        # .02 moves p* at 1e22 FLOPs by a factor of about 2.7.
        "lrbump": lambda: World(name, tuple(replace(t, bump=0.02) for t in base)),
        "noisy": lambda: World(name, base, noise_slope=0.3),
    }
    if name not in makers:
        raise ValueError(f"world={name!r}: choose one of {', '.join(makers)}")
    return makers[name]()


WORLDS = ("fail", "asym", "interact", "sigmoid", "bend", "lrbump", "noisy")
"""Base law with bad trials only, and one departure from it each (all have the bad trials)."""


def surface_world(
    constants: dict[str, tuple[float, float, float, float, float]], *, noise: float = 0.01
) -> World:
    """A world of plain surfaces without bad trials.

    Args:
        constants: skill -> (E, A, B, alpha, beta), the order of `fitting.fit_surface`.
        noise: standard deviation of every measured loss, nats.
    """
    truths = tuple(
        Truth(name, e, a, alpha, b, beta, noise)
        for name, (e, a, b, alpha, beta) in constants.items()
    )
    return World("surface", truths, bad_share=0.0)


def stand_in(flops: float, log_params: float, *, skills: int = 3, noise: float = 0.01) -> World:
    """A world to plan with where nothing is measured yet.

    Skills share the exponents of Besiroglu et al. 2024; their optima lie evenly within a factor
    e^.5 of the guess, about the spread of Roberts et al. 2025; 5 % of trials are bad.

    Args:
        flops: a budget of the ladder to be planned.
        log_params: guess of ln p* there.
        skills: how many.
        noise: standard deviation of one measured loss, nats.
    """
    total = _AGGREGATE.alpha + _AGGREGATE.beta
    offsets = np.linspace(-0.5, 0.5, skills) if skills > 1 else [0.0]
    truths = tuple(
        truth_from_vertex(
            f"skill-{i}", floor=1.8, amplitude=1.2, log_params=log_params + float(offset),
            share=_AGGREGATE.beta / total, total=total, flops=flops,
        )
        for i, offset in enumerate(offsets)
    )  # fmt: skip
    return World("stand-in", tuple(replace(truth, noise=noise) for truth in truths))
