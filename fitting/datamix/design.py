"""Where the next trial teaches most about how optima follow the data mix, per FLOP.

As in `fitting.mixture.design`: what is wanted is linear in the parameters of a member of the fit,
with gradient g, one loss with gradient j, and a trial lowers the variance g'Vg by
(g'Vj)^2 / (s^2 + j'Vj), whatever its outcome.

Legend: S = skills, n = candidates, T = targets, P = parameters; p = params, C = flops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fitting.datamix.curves import Spots, evaluate
from fitting.datamix.joint import MixFit
from fitting.values import Z90, FloatArray

CAUTION = 0.5
"""Share of the score that belongs to the member of scale `GUARD`, as in
`fitting.mixture.design`."""

GUARD = 1.0


@dataclass
class _Belief:
    """One member of every skill: covariances projected on candidates and targets.

    Attributes:
        share: in the score.
        rows: (S, n, P) gradients of the candidates' losses.
        spread: (S, n, P) rows times V.
        noise: (S,) variance of one loss.
        aims: (S, T, P) gradients of the targets.
        aimed: (S, T, P) aims times V.
    """

    share: FloatArray
    rows: FloatArray
    spread: FloatArray
    noise: FloatArray
    aims: FloatArray
    aimed: FloatArray

    def gains(self, square: float, weight: FloatArray) -> FloatArray:
        """Fall of ln(tolerance^2 + variance), weighted over targets, of each candidate, (n,)."""
        covariance = np.einsum("snp,stp->snt", self.spread, self.aims)
        own = np.einsum("snp,snp->sn", self.spread, self.rows) + self.noise[:, None]
        variance = np.einsum("stp,stp->st", self.aimed, self.aims)[:, None, :]
        left = np.maximum(variance - covariance**2 / own[:, :, None], 0.0)
        fall = np.log((square + variance) / (square + left)) @ weight
        return np.asarray(self.share @ fall)

    def learn(self, i: int) -> None:
        """Take candidate ``i`` as trained."""
        own = np.einsum("sp,sp->s", self.spread[:, i], self.rows[:, i]) + self.noise
        scaled = self.spread[:, i] / own[:, None]
        along = np.einsum("snp,sp->sn", self.spread, self.rows[:, i])
        aimed = np.einsum("stp,sp->st", self.aimed, self.rows[:, i])
        self.spread = self.spread - along[:, :, None] * scaled[:, None, :]
        self.aimed = self.aimed - aimed[:, :, None] * scaled[:, None, :]


@dataclass(frozen=True)
class Offer:
    """What may be trained.

    Attributes:
        spots: sizes on budgets under mixes.
        cost: (n,) FLOPs a trial there spends, with an overhead that keeps cheap ones from being
            preferred for nothing.
    """

    spots: Spots
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
        _, spread = fit.functional(targets(fit)[0])
        found[skill] = float(Z90 * np.sqrt(np.diag(spread).max()))
    return found


def choose_mixes(
    fits: Mapping[str, MixFit],
    offer: Offer,
    *,
    pending: Spots,
    tolerance: float,
    remaining: float,
    n: int,
) -> list[int]:
    """Pick up to ``n`` trials that teach most about all skills' responses per FLOP.

    Args:
        fits: of `fit_mixes`, all over the same mixes and budgets.
        offer: where a trial may be started.
        pending: trials in training.
        tolerance: wanted half-width of the 90 % interval of ln p*.
        remaining: FLOPs that may still be reserved.
        n: free slots.

    Returns:
        Indices of the offer, best first.
    """
    square = (tolerance / Z90) ** 2
    beliefs = _beliefs(list(fits.values()), offer.spots, pending)
    weight = targets(next(iter(fits.values())))[1]
    chosen: list[int] = []
    while len(chosen) < n:
        gain = sum(b.gains(square, weight) for b in beliefs) / offer.cost
        gain = np.where(offer.spots.flops <= remaining, gain, -1.0)
        best = int(np.argmax(gain)) if len(gain) else -1
        if best < 0 or gain[best] <= 0:
            break
        chosen.append(best)
        remaining -= float(offer.spots.flops[best])
        for belief in beliefs:
            belief.learn(best)
    return chosen


def _beliefs(fits: Sequence[MixFit], spots: Spots, pending: Spots) -> list[_Belief]:
    """Covariances of each member, with the trials in training counted, projected."""
    aims = np.stack([targets(fit)[0] for fit in fits])
    found = []
    for i, member in enumerate(fits[0].members):
        caution = CAUTION if member.scale == GUARD else 0.0
        share = np.array([(1 - CAUTION) * fit.weights[i] + caution for fit in fits])
        rows, spread, noise = [], [], []
        for fit in fits:
            own = fit.members[i]
            covariance = own.covariance
            if len(pending.flops):
                _, seen = evaluate(own.theta, fit.grid, pending)
                inner = seen @ covariance @ seen.T + own.noise**2 * np.eye(len(seen))
                gained = covariance @ seen.T
                covariance = covariance - gained @ np.linalg.solve(inner, gained.T)
            rows.append(evaluate(own.theta, fit.grid, spots)[1])
            spread.append(covariance)
            noise.append(own.noise**2)
        stacked, wide = np.stack(rows), np.stack(spread)
        found.append(_Belief(share, stacked, stacked @ wide, np.array(noise), aims, aims @ wide))
    return found
