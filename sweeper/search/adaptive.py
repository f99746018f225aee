"""The adaptive search: each trial goes where it teaches most about all skills' optima per FLOP.

A wide, cheap opening; then, whenever a slot is free: fit the model average, count the trials
in training by what they will teach, and start the trial of greatest expected gain per FLOP. Before
the search may stop, the largest affordable budget must be predicted from the cheaper ones; if that
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

from fitting.mixture.design import (
    Candidates,
    Goal,
    choose,
    narrowed_by,
    narrowing,
)
from fitting.values import FloatArray
from sweeper.budget import Allocation, Space
from sweeper.search import closing, opening, safeguards
from sweeper.search.fit_state import FitState, fit_state, half_widths
from sweeper.search.history import GOLDEN, FitCache, allocations, finished
from sweeper.search.protocol import Finished
from sweeper.search.selection import Selection
from sweeper.spec.search import SearchSettings
from sweeper.text import number, within

PLACES = 21
"""Sizes considered per budget (adaptive study, section 6)."""

MOST_WITHOUT_FIT = 24
"""Trials after which the search gives up where too few have losses (assumption)."""

MOST_WITHOUT_LOSS = 6
"""The same where none has: a trainer that fails each time is at fault, not the trials."""

UNINFORMED_SHARE = 0.25
"""Share of the allowance that free slots may spend beyond the opening before any loss is known.
Without a fit a trial is less informative than one chosen later; an idle slot is cheaper
(assumption)."""

AHEAD = 1.0
"""Trials in training may cost this share of those that have ended. With 16 slots the first losses,
all on one budget, would else choose half of a sweep: 1.4 times the squared error, in about the
same time (benchmarks/search_efficiency.py, fail, W = .05, 96 sweeps)."""


@dataclass(frozen=True)
class AdaptiveSearch:
    """Expected variance reduction of ln p* of all skills per FLOP, with safeguards.

    Attributes:
        settings: what is wanted.
        space: what can be trained.
        proves: whether it ends with trials whose outcome is predicted.
        aims: budgets whose optima are wanted, instead of every one and the settings' target.
        ahead: share of the FLOPs of ended trials that those in training may cost; one trial may
            always train.
    """

    settings: SearchSettings
    space: Space
    proves: bool = True
    aims: tuple[float, ...] = ()
    ahead: float = AHEAD
    _cache: FitCache[FitState | None] = field(default_factory=FitCache, compare=False, repr=False)

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return the trials that teach most; see `sweeper.search.protocol.Search`."""
        ended = allocations(observations)
        selection = Selection(self.space, ended, pending, remaining_flops, n)
        if len(ended) >= MOST_WITHOUT_LOSS and finished(observations).empty:
            detail = f"{len(ended)} trials have ended, none of them with losses."
            return selection.answer("nothing-helps", lambda: detail)
        known, allowance = selection.known, selection.allowance
        selection.take(opening.missing(self.space, self.settings, known, allowance=allowance))
        state = self._fitted(observations)
        if state is None:
            return self._widen_opening(selection)
        converged = self._converged(state, selection)
        first = closing.first_proof(selection) if self.proves else 0.0
        selection.take(safeguards.check(state, selection, converged=converged), keep=first)
        waiting = not converged and self._most_informative(state, selection)
        if selection.free > 0 and not waiting:
            selection.take(closing.gaps(state, selection, state.reported), keep=first)
        while self.proves and selection.free > 0:
            proof = closing.proof(state, selection)
            if proof is None:
                break
            selection.start(proof)
        reason = "tolerance" if converged else self._out_of(state, selection)
        return selection.answer(reason, lambda: self._report(state))

    def _out_of(self, state: FitState, selection: Selection) -> str:
        """Why no trial is left to start: FLOPs beyond those kept, or trials that would help."""
        left = selection.remaining - self._kept(state, selection)
        return "nothing-helps" if any(c <= left for c in selection.budgets()) else "allowance"

    def _fitted(self, observations: pd.DataFrame) -> FitState | None:
        return self._cache.get(observations, lambda: fit_state(observations, self.space))

    @property
    def targets(self) -> tuple[float, ...]:
        """Budgets whose optima are wanted."""
        if self.aims:
            return self.aims
        beyond = self.settings.target_flops
        return self.space.budgets if beyond is None else (*self.space.budgets, beyond)

    @property
    def _goal(self) -> Goal:
        # One cheapest trial of overhead: a trial costs its start, too.
        return Goal(self.targets, self.settings.tolerance, self.space.budgets[0])

    def _widen_opening(self, selection: Selection) -> list[Allocation] | Finished:
        """Widen the opening while no law can be fitted."""
        if len(selection.ended) >= MOST_WITHOUT_FIT:
            detail = f"{len(selection.ended)} trials have ended, too few of them with losses."
            return selection.answer("nothing-helps", lambda: detail)
        whole = selection.allowance
        room = selection.remaining - (1 - UNINFORMED_SHARE) * whole
        known, free = selection.known, selection.free
        for flops, size in opening.missing(
            self.space, self.settings, known, allowance=whole, more=free
        ):
            if flops <= room or not selection.training:
                selection.take([(flops, size)])
                room -= flops
        return selection.answer("allowance", lambda: "It does not pay for the first trials.")

    def _converged(self, state: FitState, selection: Selection) -> bool:
        """Whether every interval is as narrow as wanted."""
        if len(selection.ended) < self.settings.min_trials:
            return False
        return state.converged(self.targets, self.settings.tolerance)

    def _most_informative(self, state: FitState, selection: Selection) -> bool:
        """Fill the free slots with the trials of greatest gain per FLOP.

        Returns:
            Whether some of them wait until more has ended.
        """
        budgets = selection.budgets()
        if selection.free < 1 or not budgets:
            return False
        places = self._places(state, budgets, len(selection.known))
        if not selection.training:
            self._start(state, places, selection, n=1)
        if selection.free < 1:
            return False
        ended, training = (
            sum(a.flops for a in some) for some in (selection.ended, selection.training)
        )
        room = self.ahead * ended - training
        short = room < selection.remaining - self._kept(state, selection)
        self._start(state, places, selection, n=selection.free, room=room)
        return short and selection.free > 0 and training > 0

    def _start(
        self,
        state: FitState,
        places: Candidates,
        selection: Selection,
        *,
        n: int,
        room: float = math.inf,
    ) -> None:
        """Start up to ``n`` trials, of ``room`` FLOPs and of those not kept at most."""
        flops = min(room, selection.remaining - self._kept(state, selection))
        training = _as_places(selection.training)
        picks = choose(state.fit, places, self._goal, pending=training, remaining=flops, n=n)
        selection.take(
            (float(places.flops[i]), round(math.exp(places.log_params[i]))) for i in picks
        )

    def _kept(self, state: FitState, selection: Selection) -> float:
        """FLOPs kept for the check's repeats and for the end."""
        last = closing.kept(state, selection, proves=self.proves)
        return safeguards.reserve(selection) + last

    def _places(self, state: FitState, budgets: Sequence[float], count: int) -> Candidates:
        """Realisable sizes within reach of some skill's optimum on each budget."""
        optima = state.fit.vertex(budgets).T
        parts = [self._sizes(c, x, count) for c, x in zip(budgets, optima, strict=True)]
        counts = [len(part) for part in parts]
        flops = np.repeat(budgets, counts)
        ratio = np.repeat([state.cost_ratio(self.space, c) for c in budgets], counts)
        chance = [state.chance(x, c) for x, c in zip(parts, budgets, strict=True)]
        return Candidates(np.concatenate(parts), flops, flops * ratio, np.concatenate(chance))

    def _sizes(self, flops: float, optima: FloatArray, count: int) -> FloatArray:
        """Ln of the sizes considered on one budget, given the skills' optima there.

        Where there are more than `PLACES`, every k-th is taken, shifted from one decision to the
        next, so that neighbours are trained rather than one size again and again.
        """
        allowed = np.log(self.space.sizes(flops))
        distance = np.abs(allowed[:, None] - optima).min(axis=1)
        sizes = np.asarray(allowed[distance <= max(self.settings.reach, distance.min())])
        if len(sizes) <= PLACES:
            return sizes
        step = (sizes[-1] - sizes[0]) / PLACES
        wanted = sizes[0] + step * (np.arange(PLACES) + (count * GOLDEN) % 1.0)
        return np.asarray(sizes[np.unique(np.abs(sizes[:, None] - wanted).argmin(axis=0))])

    def narrowing(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        trials: Sequence[Allocation],
    ) -> tuple[FloatArray, tuple[str, ...]] | None:
        """Widths of the intervals of ln p* expected after each of some trials, over today's.

        Args:
            trials: taken one after the other.

        Returns:
            (n, S, T) ratios of every skill and target, and the skills; None while no law can be
            fitted.
        """
        state = self._fitted(observations)
        if state is None:
            return None
        ratio = narrowing(state.fit, _as_places(trials), self._goal, pending=_as_places(pending))
        return ratio, state.fit.skills

    def _all_candidates(self, state: FitState) -> Candidates:
        """The sizes considered on every budget, affordable or not."""
        budgets = [c for c in self.space.budgets if self.space.allowed(c)]
        return self._places(state, budgets, len(state.ended))

    def _report(self, state: FitState) -> str:
        """What was reached, how well, and what as many FLOPs again would buy."""
        widths = half_widths(state.whole, self.targets)
        s, k = np.unravel_index(int(widths.argmax()), widths.shape)
        spent = float(state.spent.sum())
        ahead = narrowed_by(state.fit, self._all_candidates(state), self._goal, flops=spent)
        return (
            f"After {number(spent)} FLOPs every best size is known to within "
            f"{within(float(widths[s, k]))} (90 %; the least sure is {state.whole.skills[s]} at "
            f"{number(self.targets[k])} FLOPs); as many again would bring about "
            f"{within(float((widths * ahead).max()))}."
        )


def _as_places(trials: Sequence[Allocation]) -> Candidates:
    if not trials:
        return Candidates.none()
    flops = np.array([a.flops for a in trials])
    log_params = np.log([a.params for a in trials])
    return Candidates(log_params, flops, flops, np.ones(len(flops)))
