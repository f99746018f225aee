"""The adaptive search: each trial goes where it teaches most about all skills' optima per FLOP.

A wide, cheap opening; then, whenever a slot is free: fit the guarded mixture, count the trials in
training by what they will teach, and start the trial of greatest expected gain per FLOP. Before
the search may stop, the largest affordable budget must be foretold from the cheaper ones; if that
fails, the law is given up and every budget is measured for itself.

Trials are never stopped early by their rank at a rung: the learning-rate schedule is tied to the
token count, so that half a trial's loss says nothing of the loss at its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fitting.mixture.design import Places, Wishes, bound, choose, foresee, taught
from fitting.values import Z90, FloatArray
from sweeper.budget import Allocation, Space
from sweeper.search import opening, safeguards
from sweeper.search.fit_state import Beliefs, Memory, half_widths
from sweeper.search.history import allocations
from sweeper.search.protocol import Finished
from sweeper.search.selection import Turn
from sweeper.spec.search import SearchSettings

__all__ = ["AdaptiveSearch"]

PLACES = 21
"""Sizes considered per budget (adaptive study, section 6)."""

HOPELESS = 24
"""Trials without a single loss after which the search gives up (assumption)."""

BLIND = 0.25
"""Share of the allowance that free slots may spend beyond the opening before any loss is known.
A trial chosen blindly teaches less than one chosen later; an idle slot is cheaper (assumption)."""

_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class AdaptiveSearch:
    """Expected variance reduction of ln p* of all skills per FLOP, with safeguards."""

    settings: SearchSettings
    space: Space
    _memory: Memory = field(default_factory=Memory, compare=False, repr=False)

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return the trials that teach most; see `sweeper.search.protocol.Search`."""
        ended = allocations(observations)
        turn = Turn(self.space, ended, pending, remaining_flops, n)
        turn.take(opening.missing(self.space, self.settings, turn.known))
        beliefs = self._memory.beliefs_of(observations, self.space)
        if beliefs is None:
            return self._blind(turn)
        content = self._content(beliefs, turn)
        turn.take(safeguards.check(beliefs, turn, content=content))
        if content:
            turn.take(safeguards.bracket(beliefs, turn, self.settings.reach))
            return turn.answer("tolerance", lambda: self._report(beliefs))
        self._learn(beliefs, turn)
        reason = "nothing-helps" if turn.budgets() else "allowance"
        return turn.answer(reason, lambda: self._report(beliefs))

    @property
    def targets(self) -> tuple[float, ...]:
        """Budgets whose optima are wanted."""
        beyond = self.settings.target_flops
        return self.space.budgets if beyond is None else (*self.space.budgets, beyond)

    @property
    def _wishes(self) -> Wishes:
        # One cheapest trial of overhead: a trial costs its start, too.
        return Wishes(self.targets, self.settings.tolerance, self.space.budgets[0])

    def _blind(self, turn: Turn) -> list[Allocation] | Finished:
        """Widen the opening while no law can be fitted."""
        if len(turn.ended) >= HOPELESS:
            detail = f"{len(turn.ended)} trials have ended, too few of them with losses."
            return turn.answer("nothing-helps", lambda: detail)
        planned = sum(a.flops for a in turn.known)
        room = BLIND * (planned + turn.remaining) - planned
        for flops, size in opening.missing(self.space, self.settings, turn.known, more=turn.free):
            if flops <= room or not turn.training:
                turn.take([(flops, size)])
                room -= flops
        return turn.answer("allowance", lambda: "It does not pay for the first trials.")

    def _content(self, beliefs: Beliefs, turn: Turn) -> bool:
        """Whether every interval is as narrow as wanted."""
        if len(turn.ended) < self.settings.min_trials:
            return False
        return beliefs.content(self.targets, self.settings.tolerance)

    def _learn(self, beliefs: Beliefs, turn: Turn) -> None:
        """Fill the free slots with the trials of greatest gain per FLOP."""
        budgets = turn.budgets()
        if turn.free < 1 or not budgets:
            return
        places = self._places(beliefs, budgets, len(turn.known))
        picks = choose(
            beliefs.fit,
            places,
            self._wishes,
            pending=self._pending(turn),
            remaining=turn.remaining - safeguards.reserve(turn),
            n=turn.free,
        )
        turn.take((float(places.flops[i]), round(math.exp(places.log_params[i]))) for i in picks)

    def _places(self, beliefs: Beliefs, budgets: Sequence[float], count: int) -> Places:
        """Realisable sizes within reach of some skill's optimum on each budget."""
        optima = beliefs.fit.vertex(budgets).T
        parts = [self._sizes(c, x, count) for c, x in zip(budgets, optima, strict=True)]
        counts = [len(part) for part in parts]
        flops = np.repeat(budgets, counts)
        ratio = np.repeat([beliefs.cost_ratio(self.space, c) for c in budgets], counts)
        chance = [beliefs.chance(x, c) for x, c in zip(parts, budgets, strict=True)]
        return Places(np.concatenate(parts), flops, flops * ratio, np.concatenate(chance))

    def _sizes(self, flops: float, optima: FloatArray, count: int) -> FloatArray:
        """Ln of the sizes considered on one budget, given the skills' optima there.

        Where there are more than `PLACES`, every k-th is taken, shifted from one decision to the
        next, so that neighbours are trained rather than one size again and again.
        """
        allowed = np.log([self.space.params[i] for i in self.space.allowed(flops)])
        distance = np.abs(allowed[:, None] - optima).min(axis=1)
        sizes = np.asarray(allowed[distance <= max(self.settings.reach, distance.min())])
        if len(sizes) <= PLACES:
            return sizes
        step = (sizes[-1] - sizes[0]) / PLACES
        wanted = sizes[0] + step * (np.arange(PLACES) + (count * _GOLDEN) % 1.0)
        return np.asarray(sizes[np.unique(np.abs(sizes[:, None] - wanted).argmin(axis=0))])

    def _pending(self, turn: Turn) -> Places:
        if not turn.training:
            return Places.none()
        flops = np.array([a.flops for a in turn.training])
        log_params = np.log([a.params for a in turn.training])
        return Places(log_params, flops, flops, np.ones(len(flops)))

    def efficiency(self, observations: pd.DataFrame) -> float:
        """FLOPs that the best design for the same intervals would need, over those spent.

        The best design knows the law and the noise beforehand (`fitting.mixture.design.bound`),
        so 1 is out of reach. Where prior belief makes an interval narrower than the trials alone
        would, the trials' own counts. NaN while too few trials have ended.
        """
        beliefs = self._memory.beliefs_of(observations, self.space)
        return math.nan if beliefs is None else self._efficiency(beliefs)

    def _efficiency(self, beliefs: Beliefs) -> float:
        reported = half_widths(beliefs.whole, self.targets)
        widths = np.maximum(reported, Z90 * taught(beliefs.fit, self.targets))
        least = bound(
            beliefs.fit.components[0],
            beliefs.fit.noise,
            self._everywhere(beliefs),
            targets=self.targets,
            tolerance=float(np.sqrt((widths**2).mean(axis=1)).max()),
        )
        share = float(least / beliefs.spent.sum())
        return share if share < 1 else math.nan

    def _everywhere(self, beliefs: Beliefs) -> Places:
        """The sizes considered on every budget, affordable or not."""
        budgets = [c for c in self.space.budgets if self.space.allowed(c)]
        return self._places(beliefs, budgets, len(beliefs.ended))

    def _report(self, beliefs: Beliefs) -> str:
        """What was reached, how well, and what as many FLOPs again would buy."""
        widths = half_widths(beliefs.whole, self.targets)
        s, k = np.unravel_index(int(widths.argmax()), widths.shape)
        spent = float(beliefs.spent.sum())
        ahead = foresee(beliefs.fit, self._everywhere(beliefs), self._wishes, flops=spent)
        share = self._efficiency(beliefs)
        limit = f" ({share:.0%} of the information limit)" if math.isfinite(share) else ""
        return (
            f"The widest 90 % interval of ln p* is ±{widths[s, k]:.2g} "
            f"({beliefs.whole.skills[s]} at {self.targets[k]:.3g} FLOPs) after {spent:.3g} FLOPs"
            f"{limit}; as many again would bring it to about ±{(widths * ahead).max():.2g}."
        )
