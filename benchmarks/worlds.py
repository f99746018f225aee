"""Worlds with known optima: what every estimator and search policy is tested against.

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

from fitting import synthetic
from fitting.synthetic import AGGREGATE, Truth, truth_from_vertex
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

LADDER = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 1e21)
"""The seven budgets of Roberts et al. 2025, which the worlds are scaled to."""

_REFERENCE_FLOPS = LADDER[0]
_BUMP_PARAMS = 1e9  # the learning rate of world "lrbump" is mistuned above this; assumption
_CROSS_EXPONENTS = (-0.55, 0.10)  # of params and tokens in world "interact"; assumption


@dataclass(frozen=True)
class World(synthetic.World):
    """A world whose truth can be asked for, and that fills tables."""

    def expected(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Noiseless losses, shape (skills, n)."""
        p, t = np.asarray(params, float), np.asarray(tokens, float)
        return np.stack([truth.expected(p, t) for truth in self.truths])

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
class Departing(Truth):
    """One skill's true loss and its departures from the five-parameter law.

    Attributes:
        cross: coefficient of an interaction p^-.55 t^.10.
        bend: drift of ln p* off the power law, per decade of flops squared.
        bump: loss per squared ln p above 1e9 params.
        saturation: the score's transform of the loss, if any.
    """

    cross: float = 0.0
    bend: float = 0.0
    bump: float = 0.0
    saturation: Saturation | None = None

    def reducible(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Loss above the floor before any transform, nats."""
        decades = np.log10(FLOPS_PER_PARAM_TOKEN * params * tokens / _REFERENCE_FLOPS)
        shift = np.exp(self.bend * decades**2)
        law = super().reducible(params / shift, tokens * shift)
        cross = self.cross * params ** _CROSS_EXPONENTS[0] * tokens ** _CROSS_EXPONENTS[1]
        bump = self.bump * np.maximum(0.0, np.log(params / _BUMP_PARAMS)) ** 2
        return np.asarray(law + cross + bump)

    def expected(
        self, params: FloatArray, tokens: FloatArray, *, elevation: FloatArray | float = 0.0
    ) -> FloatArray:
        """Noiseless measurement; ``elevation`` multiplies the reducible loss by 1 + elevation."""
        loss = super().expected(params, tokens, elevation=elevation)
        return loss if self.saturation is None else self.saturation(loss)


# name, log10 distance of p* from the aggregate's at 6e18, floor, amplitude, noise. Half of each
# distance is gone at 1e21. All are assumptions; see the module's docstring.
_SKILLS = (
    ("knowledge-1", 0.38, 1.2, 1.40, 0.008),
    ("knowledge-2", 0.28, 1.6, 1.20, 0.010),
    ("knowledge-3", 0.18, 1.9, 2.00, 0.020),
    ("code-1", -0.30, 0.8, 1.30, 0.012),
    ("code-2", -0.18, 1.0, 1.50, 0.016),
)


def _base_truths(shares: tuple[float, ...] | None = None) -> tuple[Departing, ...]:
    """The six skills; ``shares`` replaces the exponents of p*(C), keeping p* at 6e18."""
    centre = AGGREGATE.log_optimum(_REFERENCE_FLOPS)
    total = AGGREGATE.alpha + AGGREGATE.beta
    share = AGGREGATE.beta / total
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
            flops=_REFERENCE_FLOPS,
        )
        truths.append(Departing(**vars(replace(truth, noise=noise))))
    return tuple(truths)


def _saturated(truth: Departing) -> Departing:
    """Half of the way from chance at 3e20 FLOPs, 8 % of it at 6e18, and as noisy as a score is."""
    best = [truth.floor + _least(truth, flops) for flops in (6e18, 3e20)]
    saturation = Saturation(best[1], 0.4 * (best[0] - best[1]))
    return replace(truth, saturation=saturation, noise=0.5 * truth.noise)


def _least(truth: Truth, flops: float) -> float:
    """Reducible loss at the optimum of a budget."""
    params = math.exp(truth.log_optimum(flops))
    tokens = flops / (FLOPS_PER_PARAM_TOKEN * params)
    return float(truth.reducible(np.array(params), np.array(tokens)))


def _crossed(truth: Departing) -> Departing:
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
