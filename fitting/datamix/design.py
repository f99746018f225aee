"""The next trial that informs most about how optima follow the data mix, per FLOP.

As in `fitting.mixture.design`: what is wanted is linear in the parameters of a member of the fit,
with gradient g, one loss with gradient j, and a trial lowers the variance g'Vg by
(g'Vj)^2 / (s^2 + j'Vj), whatever its outcome. A budget has a level of its own, so that its first
trial alone teaches nothing and three do: those are judged together.

Legend: S = skills, n = candidates, T = targets, P = parameters; p = params, C = flops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitting.datamix.curves import DesignPoints, Member, evaluate
from fitting.datamix.joint import MixFit
from fitting.mixture.crowd import Crowd
from fitting.mixture.design import BLOCK, Projected, block_of
from fitting.reading.budgets import BUDGET_TOLERANCE
from fitting.values import Z90, FloatArray

GUARD_WEIGHT = 0.5
"""Weight in the score of the member of scale `GUARD`, as in
`fitting.mixture.design`."""

GUARD = 1.0


@dataclass(frozen=True)
class Candidates:
    """What may be trained.

    Attributes:
        points: sizes on budgets under mixes.
        cost: (n,) FLOPs a trial there spends, with an overhead that keeps cheap ones from being
            preferred for nothing.
    """

    points: DesignPoints
    cost: FloatArray


def targets(fit: MixFit) -> tuple[FloatArray, FloatArray]:
    """What is wanted of one skill on every budget: gradients (T, P) and weights (T,).

    The change of ln p* over the range of the shares, ln p* at its ends and its middle, and ln p*
    of each mix, which together count as one.
    """
    low, high = float(fit.grid.share.min()), float(fit.grid.share.max())
    rows, weights = [], []
    for flops in fit.grid.budgets:
        own = fit.optimum_rows(flops)
        rows += [
            fit.slope_rows([flops]) * (high - low),
            fit.line_rows(flops, [low, (low + high) / 2, high]),
            own,
        ]
        weights += [1.0] * 4 + [1.0 / len(own)] * len(own)
    return np.concatenate(rows), np.array(weights)


def widths(fits: Mapping[str, MixFit]) -> dict[str, float]:
    """Half-width of the widest 90 % interval among a skill's targets, ln p*."""
    found = {}
    for skill, fit in fits.items():
        _, covariance = fit.functional(targets(fit)[0])
        found[skill] = float(Z90 * np.sqrt(np.diag(covariance).max()))
    return found


def choose_mixes(
    fits: Mapping[str, MixFit],
    candidates: Candidates,
    *,
    pending: DesignPoints,
    tolerance: float,
    remaining: float,
    n: int,
    known: npt.ArrayLike,
) -> list[int]:
    """Pick up to ``n`` trials that inform most about all skills' responses per FLOP.

    Args:
        known: FLOPs of every trial ended or in training: where there are few, a block is begun.
        tolerance: wanted half-width of the 90 % interval of ln p*.

    Returns:
        Indices of the candidates, best first.
    """
    square = (tolerance / Z90) ** 2
    states = _projected(list(fits.values()), candidates.points, pending)
    weight = targets(next(iter(fits.values())))[1]
    chosen: list[int] = []
    blocks = _blocks(candidates.points, np.asarray(known, float))
    while len(chosen) < n:
        gain = sum(own @ (s.falls(square) @ weight) for own, s in states) / candidates.cost
        gain = np.where(candidates.points.flops <= remaining, gain, -1.0)
        best = int(np.argmax(gain)) if len(gain) else -1
        most = gain[best] if len(gain) else 0.0
        for block in blocks:
            if candidates.points.flops[block].sum() <= remaining:
                joint = sum(own @ (s.joint_falls(block, square) @ weight) for own, s in states)
                if (worth := joint / candidates.cost[block].sum()) > most:
                    best, most = block[int(np.argmax(gain[block]))], worth
        if best < 0 or most <= 0:
            break
        chosen.append(best)
        remaining -= float(candidates.points.flops[best])
        for _, state in states:
            state.learn(best)
    return chosen


def _blocks(points: DesignPoints, known: FloatArray) -> list[list[int]]:
    """A small, a middle and a large size under each mix on budgets with fewer trials than that."""
    blocks = []
    for flops in np.unique(points.flops):
        here = points.flops == flops
        if np.isclose(known, flops, rtol=BUDGET_TOLERANCE).sum() < BLOCK:
            for mix in np.unique(points.mix[here]):
                blocks += block_of(points.log_params, here & (points.mix == mix))
    return blocks


def _projected(
    fits: Sequence[MixFit], points: DesignPoints, pending: DesignPoints
) -> list[tuple[FloatArray, Projected]]:
    """Weights (S,) of each member, and its covariances with the trials in training counted."""
    wanted = np.stack([targets(fit)[0] for fit in fits])
    found = []
    for i, member in enumerate(fits[0].members):
        extra = GUARD_WEIGHT if member.scale == GUARD else 0.0
        weight = np.array([(1 - GUARD_WEIGHT) * fit.weights[i] + extra for fit in fits])
        own = [fit.members[i] for fit in fits]
        rows = np.stack(
            [evaluate(m.theta, fit.grid, points)[1] for m, fit in zip(own, fits, strict=True)]
        )
        after = [_after(m, fit, pending) for m, fit in zip(own, fits, strict=True)]
        covariance = np.stack(after)
        noise = np.array([m.noise**2 for m in own])[:, None] * np.ones(rows.shape[1])
        alone, aims = Crowd.alone(rows.shape[1]), wanted @ covariance
        state = Projected(1.0, rows, rows @ covariance, noise, alone, wanted, aims)
        found.append((weight, state))
    return found


def _after(member: Member, fit: MixFit, pending: DesignPoints) -> FloatArray:
    """Covariance of a member's parameters once the pending trials are done."""
    covariance = member.covariance
    if not len(pending.flops):
        return covariance
    _, seen = evaluate(member.theta, fit.grid, pending)
    inner = seen @ covariance @ seen.T + member.noise**2 * np.eye(len(seen))
    gained = covariance @ seen.T
    return np.asarray(covariance - gained @ np.linalg.solve(inner, gained.T))
