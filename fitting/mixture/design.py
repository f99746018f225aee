"""Where the next trials teach most about all skills' optima per FLOP.

The optimum of a budget is (nearly) linear in the parameters of a component of the guarded fit,
with gradient g, and one trial's loss is linear with gradient j. Its outcome is not needed to know
what it teaches: with V the covariance of the parameters, it lowers the variance g'Vg of ln p* by
(g'Vj)^2 / (s^2 + j'Vj). Trials in training count the same way. A repeat of an allocation teaches
less than the trial before it, as the fit counts it for less.

Legend: S = skills, n = candidates, T = targets (budgets whose optima are wanted), P = parameters;
p = params, C = flops; logarithms natural, losses in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fitting.mixture.crowd import Crowd, crowds
from fitting.mixture.fit import Guarded
from fitting.mixture.kinds import NEAR
from fitting.mixture.lack_of_fit import ODDS, odds_against
from fitting.mixture.member import Component
from fitting.values import Z90, FloatArray

CAUTION = 0.5
"""Share of the score that belongs to the component of `GUARD`, whatever the evidence says
(adaptive study, section 5: with .2 it is cheaper when the law holds and worse when not)."""

GUARD = NEAR.name
"""The component that keeps that share, where the fit has it."""

FAR = 0.06
"""Own error of ln p* on a budget from which a member is one of budgets that stand apart."""

BLOCK = 3
"""Trials judged together: a curve has a level, a place and a width."""

GIVEN_UP = 0.5
"""Share of such members from which budgets are explored one by one."""

LEAST_SHARE = 0.01
"""Components with less are left out of the score: they cannot change the choice."""


@dataclass(frozen=True)
class Candidates:
    """Points of the (size, budget) plane.

    Attributes:
        log_params: (n,) ln p.
        flops: (n,) budgets.
        cost: (n,) FLOPs a trial there is expected to spend.
        chance: (n,) probability that it ends with losses.
        reserve: (n,) FLOPs set aside when it starts; its budget if None.
    """

    log_params: FloatArray
    flops: FloatArray
    cost: FloatArray
    chance: FloatArray
    reserve: FloatArray | None = None

    @property
    def reserved(self) -> FloatArray:
        """(n,) FLOPs set aside when a trial starts."""
        return self.flops if self.reserve is None else self.reserve

    @classmethod
    def none(cls) -> Candidates:
        """No place at all."""
        empty = np.empty(0)
        return cls(empty, empty, empty, empty)

    def __len__(self) -> int:
        return len(self.log_params)


@dataclass
class Projected:
    """One member's covariance, projected on candidates and targets.

    Attributes:
        weight: share in the score.
        rows: (S, n, P) gradients of the candidates' losses.
        spread: (S, n, P) rows times V.
        single: (S, n) variance of one loss there.
        crowd: how often each was trained before.
        aims: (S, T, P) gradients of the targets.
        aim_spread: (S, T, P) aims times V.
    """

    weight: float
    rows: FloatArray
    spread: FloatArray
    single: FloatArray
    crowd: Crowd
    aims: FloatArray
    aim_spread: FloatArray
    own: FloatArray = field(init=False)
    noise: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.own = np.einsum("snp,snp->sn", self.spread, self.rows)
        self.noise = self.single * self.crowd.factor

    def falls(self, square: float) -> FloatArray:
        """Fall of ln(tolerance^2 + variance) by each candidate, (S, n, T)."""
        covariance = self.spread @ np.swapaxes(self.aims, 1, 2)
        variance = np.einsum("stp,stp->st", self.aim_spread, self.aims)[:, None, :]
        fall = covariance**2 / (self.noise + self.own)[:, :, None]
        left = np.maximum(variance - fall, 0.0)
        return np.asarray(np.log((square + variance) / (square + left)))

    def joint_gain(self, block: list[int], square: float) -> float:
        """Mean of `joint_falls` over skills and targets."""
        return float(self.joint_falls(block, square).mean())

    def joint_falls(self, block: list[int], square: float) -> FloatArray:
        """`falls` by several candidates together, (S, T)."""
        spread = self.spread[:, block]
        covariance = spread @ np.swapaxes(self.aims, 1, 2)
        between = spread @ np.swapaxes(self.rows[:, block], 1, 2)
        between = between + np.eye(len(block)) * self.noise[:, block, None]
        fall = (covariance * np.linalg.solve(between, covariance)).sum(axis=1)
        variance = np.einsum("stp,stp->st", self.aim_spread, self.aims)
        left = np.maximum(variance - fall, 0.0)
        return np.asarray(np.log((square + variance) / (square + left)))

    def learn(self, i: int) -> None:
        """Take candidate ``i`` as trained: a rank-1 update of V, seen through its projections."""
        column = self.spread[:, i]
        scaled = column / (self.noise[:, i] + self.own[:, i])[:, None]
        along = np.einsum("snp,sp->sn", self.spread, self.rows[:, i])
        aimed = np.einsum("stp,sp->st", self.aim_spread, self.rows[:, i])
        self.spread = self.spread - along[:, :, None] * scaled[:, None, :]
        self.aim_spread = self.aim_spread - aimed[:, :, None] * scaled[:, None, :]
        self.own = np.einsum("snp,snp->sn", self.spread, self.rows)
        self.crowd = self.crowd.after(i)
        self.noise = self.single * self.crowd.factor


@dataclass(frozen=True)
class Goal:
    """What the next trials are for.

    Attributes:
        targets: budgets whose optima are wanted, of every skill.
        tolerance: wanted half-width of the 90 % interval of ln p*; optima known better than this
            count for little.
        overhead: FLOPs added to each cost, so that cheap trials are not preferred for nothing.
    """

    targets: Sequence[float]
    tolerance: float
    overhead: float

    @property
    def square(self) -> float:
        """Wanted variance of ln p*."""
        return (self.tolerance / Z90) ** 2


def choose(
    fit: Guarded,
    candidates: Candidates,
    goal: Goal,
    *,
    pending: Candidates,
    remaining: float,
    n: int,
) -> list[int]:
    """Pick up to ``n`` candidates that teach most about all optima per FLOP.

    Args:
        fit: the guarded fit of the trials so far; its weights are those of the score.
        candidates: where a trial may be started.
        remaining: FLOPs that may still be reserved; a candidate reserves its budget.

    Returns:
        Indices of candidates, best first; a candidate may occur more than once.
    """
    members = _projected(fit, candidates, pending, goal.targets)
    chosen: list[int] = []
    blocks = _blocks(fit, candidates)
    square = _square(fit, members, goal)
    while len(chosen) < n:
        best = _best(members, candidates, blocks, goal, square, remaining)
        if best is None:
            break
        chosen.append(best)
        remaining -= float(candidates.reserved[best])
    return chosen


def narrowed_by(fit: Guarded, candidates: Candidates, goal: Goal, *, flops: float) -> FloatArray:
    """How much narrower every interval would be after spending ``flops`` more, (S, T).

    The best trials are taken one after the other, as `choose` would with every outcome as
    expected; returns standard errors relative to today's, within components.
    """
    members = _projected(fit, candidates, Candidates.none(), goal.targets)
    before, square = _variance(members), _square(fit, members, goal)
    blocks = _blocks(fit, candidates)
    best = _best(members, candidates, blocks, goal, square, flops)
    while best is not None:
        flops -= float(candidates.reserved[best])
        best = _best(members, candidates, blocks, goal, square, flops)
    return np.asarray(np.sqrt(_variance(members) / before))


def narrowing(fit: Guarded, trials: Candidates, goal: Goal, *, pending: Candidates) -> FloatArray:
    """Standard errors expected after each of some trials, relative to today's, (n, S, T).

    The pending ones are counted first, as in `choose`; the others one after the other.
    """
    members = _projected(fit, trials, pending, goal.targets)
    before, after = _variance(members), []
    for i in range(len(trials)):
        for member in members:
            member.learn(i)
        after.append(np.sqrt(_variance(members) / before))
    return np.asarray(after)


def _best(
    members: Sequence[Projected],
    candidates: Candidates,
    blocks: Sequence[list[int]],
    goal: Goal,
    square: float,
    remaining: float,
) -> int | None:
    """The affordable candidate of greatest gain per FLOP, taken as trained; None if none gains.

    One trial on a budget of its own level teaches next to nothing of its optimum, three do: where
    a block of trials on one budget is worth more per FLOP than any single one, it is begun.
    """
    single = sum(b.weight * b.falls(square).mean(axis=(0, 2)) for b in members) * candidates.chance
    worth = single / (candidates.cost + goal.overhead)
    worth = np.where(candidates.reserved <= remaining, worth, -1.0)
    best, most = int(np.argmax(worth)), float(worth.max())
    for block in blocks:
        if candidates.reserved[block].sum() <= remaining:
            joint = sum(b.weight * b.joint_gain(block, square) for b in members)
            cost = (candidates.cost[block] + goal.overhead).sum()
            value = float(joint * candidates.chance[block].min() / cost)
            if value > most:
                best, most = block[int(np.argmax(single[block]))], value
    if most <= 0:
        return None
    for member in members:
        member.learn(best)
    return best


def _blocks(fit: Guarded, candidates: Candidates) -> list[list[int]]:
    """A small, a middle and a large size of every budget with this many.

    None while the law is believed: budgets then teach about each other, and blocks would only
    spend more on expensive ones.
    """
    kinds = [c.discrepancy.kind for c in fit.components]
    apart = np.array([k.drift is not None and k.drift.own > FAR for k in kinds])
    loose = fit.weights[apart].sum(0).mean()
    if loose < GIVEN_UP:
        return []
    blocks = []
    for flops in np.unique(candidates.flops):
        blocks += block_of(candidates.log_params, candidates.flops == flops)
    return blocks


def block_of(log_params: FloatArray, here: npt.NDArray[np.bool_]) -> list[list[int]]:
    """A small, a middle and a large one of some candidates, if there are so many."""
    at = np.flatnonzero(here)
    at = at[np.argsort(log_params[at])]
    picked = np.linspace(0, len(at) - 1, 2 * BLOCK + 1).round().astype(int)[1::2]
    return [[int(i) for i in at[picked]]] if len(at) >= BLOCK else []


def _square(fit: Guarded, members: Sequence[Projected], goal: Goal) -> float:
    """The variance of ln p* from which on a fall counts by its ratio; below, by its size.

    While a law is believed, cheap budgets teach about all others, and the wanted variance rules.
    After an alarm each budget stands for itself, and by ratios the cheap ones would be sharpened
    forever: then falls count by size up to today's mean variance (with four slots and one, two
    seeds, W = .2, world sigmoid: error .07 instead of .13; before an alarm it delays the alarm).
    """
    if odds_against(fit) <= ODDS:
        return goal.square
    return max(goal.square, float(_variance(members).mean()))


def _variance(members: Sequence[Projected]) -> FloatArray:
    """Variance of ln p* within components, (S, T)."""
    total = sum(b.weight for b in members)
    parts = [b.weight * np.einsum("stp,stp->st", b.aim_spread, b.aims) for b in members]
    return np.asarray(sum(parts) / total)


def _shares(fit: Guarded) -> FloatArray:
    """Weights of the components in the score: part evidence, part caution."""
    cautious = np.array([float(c.name == GUARD) for c in fit.components])
    caution = CAUTION if cautious.any() else 0.0
    return np.asarray((1 - caution) * fit.weights.mean(1) + caution * cautious)


def _projected(
    fit: Guarded, candidates: Candidates, pending: Candidates, targets: Sequence[float]
) -> list[Projected]:
    """Covariances of the components that matter, with the pending trials counted, projected."""
    seen = fit.measured.log_params, np.exp(fit.measured.log_flops)
    to_come, offered = ((c.log_params, c.flops) for c in (pending, candidates))
    waiting, crowd = crowds(seen, to_come, offered, fit.alike)
    return [
        _project(fit, component, float(share), (candidates, crowd), (pending, waiting), targets)
        for component, share in zip(fit.components, _shares(fit), strict=True)
        if share > LEAST_SHARE
    ]


def _project(
    fit: Guarded,
    component: Component,
    share: float,
    offered: tuple[Candidates, Crowd],
    training: tuple[Candidates, Crowd],
    targets: Sequence[float],
) -> Projected:
    covariance, (candidates, crowd), (pending, waiting) = component.covariance, offered, training
    if len(pending):
        rows = component.jacobian(pending.log_params, pending.flops)
        scaled = rows / (_noise(fit, component, pending) * waiting.factor)[:, :, None]
        precision = component.precision + np.swapaxes(rows, 1, 2) @ scaled
        covariance = np.asarray(np.linalg.inv(precision))
    rows = component.jacobian(candidates.log_params, candidates.flops)
    aims = component.target(np.asarray(targets, float))
    single = _noise(fit, component, candidates)
    return Projected(share, rows, rows @ covariance, single, crowd, aims, aims @ covariance)


def _noise(fit: Guarded, component: Component, places: Candidates) -> FloatArray:
    """Variance (S, n) of one loss as evidence of the optimum, as the fit itself weighs it."""
    return (fit.noise[:, None] * component.blur(places.log_params, places.flops)) ** 2
