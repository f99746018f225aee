"""The search that compares variants: each trial goes where it decides soonest, per FLOP.

A pure function of the ledger like all policies. A few cheap sizes under every variant; then, for
each free slot, the variant, budget and size that take most variance off the comparisons still open
(`fitting.compare.aim`), until every one has a verdict that holds however often one has looked
(`fitting.compare.verdict`), or the allowance is spent. Slots wait while the trials in training are
expected to decide all that is open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fitting.compare import aim
from fitting.compare.answers import Multipliers
from fitting.compare.joint import Joint, VariantTrials, fit_joint
from fitting.compare.multipliers import compare_trials
from sweeper.budget import Allocation, Space, next_seed, same_budget
from sweeper.search.history import FitCache, allocations, finished, guess
from sweeper.search.mixes import evenly_spaced
from sweeper.search.protocol import Finished
from sweeper.search.selection import Selection
from sweeper.spec.search import SearchSettings

FIRST_SIZES, SECOND_SIZES = 5, 3
"""Sizes of the opening under each variant on the cheapest budget, and on the second."""

OPENING_REACH = 0.75
"""Of `SearchSettings.reach`: sizes near the optimum tell its loss (assumption)."""

Place = tuple[float, float, str]
"""FLOPs, ln params wanted, and variant of a trial."""

State = tuple[Joint, Multipliers]


@dataclass(frozen=True)
class CompareSearch:
    """Expected fall of the variance of the comparisons still open, per FLOP.

    Attributes:
        settings: level and margin of the verdicts; they are of ``target_flops``, or of the
            largest budget.
        spaces: what can be trained under each variant, the reference first.
    """

    settings: SearchSettings
    spaces: Mapping[str, Space]
    _cache: FitCache[State | None] = field(default_factory=FitCache, compare=False, repr=False)

    @property
    def _first(self) -> Space:
        return next(iter(self.spaces.values()))

    @property
    def target(self) -> float:
        """Budget the verdicts are of."""
        return self.settings.target_flops or self._first.budgets[-1]

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return the trials that decide soonest; see `sweeper.search.protocol.Search`."""
        ended = allocations(observations)
        selection = Selection(self._first, ended, pending, remaining_flops, n)
        for place in self._missing(selection.known):
            self._take(selection, *place)
        state = self._cache.get(observations, lambda: self._fitted(observations))
        if state is None:
            return selection.answer("allowance", lambda: "Too few trials with losses to compare.")
        joint, found = state
        open_ = [one for one in found.verdicts if one.verdict == "undecided"]
        if not open_:
            return Finished("decided", _said(found))
        if selection.free > 0:
            self._most_decisive(joint, found, selection)
        reason = "nothing-helps" if selection.budgets() else "allowance"
        return selection.answer(reason, lambda: _said(found))

    def _missing(self, known: Sequence[Allocation]) -> list[Place]:
        """Places of the opening that no trial stands for yet, cheapest first."""
        places = list(self._opening())
        for trial in known:
            here = [p for p in places if p[2] == trial.mix and same_budget(p[0], trial.flops)]
            if here:
                places.remove(min(here, key=lambda p: abs(p[1] - math.log(trial.params))))
        return places

    def _opening(self) -> Iterator[Place]:
        """The same sizes under every variant on the two cheapest budgets."""
        half = OPENING_REACH * self.settings.reach
        for flops, count in zip(self._first.budgets, (FIRST_SIZES, SECOND_SIZES), strict=False):
            centre = guess(flops, self.settings.tokens_per_param)
            for offset in np.linspace(-half, half, count):
                for name in self.spaces:
                    yield flops, float(centre + offset), name

    def _take(self, selection: Selection, flops: float, log_params: float, name: str) -> bool:
        """Start a trial of the nearest size that can be trained, if a slot and FLOPs are left."""
        space = self.spaces[name]
        allowed = space.sizes(flops)
        if selection.free < 1 or flops > selection.remaining or not allowed:
            return False
        size = min(allowed, key=lambda p: abs(math.log(p) - log_params))
        same = [a for a in selection.known if a.mix == name]
        selection.start(space.allocation(flops, size, next_seed(same, flops, size)))
        return True

    def _fitted(self, observations: pd.DataFrame) -> State | None:
        """The joint fit and its verdicts; None while a variant has no losses."""
        table = finished(observations)
        frames = {name: table[table["mix"] == name] for name in self.spaces}
        skills = list(dict.fromkeys(table["skill"]))
        least = FIRST_SIZES - 1  # one of the opening may have failed
        if any(f["trial_id"].nunique() < least or f["params"].nunique() < 3
               for f in frames.values()):  # fmt: skip
            return None
        trials = VariantTrials.of(frames, skills)
        joint = fit_joint(trials, ladder=self._first.budgets)
        settings = self.settings
        found = compare_trials(
            trials, flops=[self.target], level=settings.level, margin=settings.margin,
            anytime=True, examined=False, joint=joint, others=False,
        )  # fmt: skip
        return joint, found

    def _most_decisive(self, joint: Joint, found: Multipliers, selection: Selection) -> None:
        """Fill the free slots with the trials of greatest gain per FLOP."""
        names, skills = list(self.spaces), list(joint.trials.skills)
        undecided = [(names.index(one.variant), skills.index(one.skill))
                     for one in found.verdicts if one.verdict == "undecided"]  # fmt: skip
        offer = self._offer(joint, selection.remaining)
        pending = aim.Trial(
            np.array([names.index(a.mix) for a in selection.training], dtype=int),
            np.log([a.params for a in selection.training]),
            np.log([a.flops for a in selection.training]),
        )
        while selection.free > 0 and len(offer) and not self._awaited(joint, found, pending):
            # One cheapest trial of overhead: a trial costs its start, too.
            cost = np.exp(offer.log_flops) + self._first.budgets[0]
            gain = aim.gains(joint, offer, pending, undecided, self.target) / cost
            gain[np.exp(offer.log_flops) > selection.remaining * 1.0001] = -1.0
            best = int(gain.argmax())
            place = (int(offer.variant[best]), offer.log_params[best], offer.log_flops[best])
            budget = min(self._first.budgets, key=lambda c: abs(math.log(c) - place[2]))
            if gain[best] <= 0 or not self._take(selection, budget, place[1], names[place[0]]):
                return
            pending = aim.added(pending, *place)

    def _awaited(self, joint: Joint, found: Multipliers, pending: aim.Trial) -> bool:
        """Whether the trials in training are expected to decide all that is open.

        More trials would then mostly be wasted, and slots wait: FLOPs are what is scarce. With the
        effect found so far, ln p grows as the variance falls.
        """
        if not len(pending):
            return False
        names, skills = list(self.spaces), list(joint.trials.skills)
        for one in found.verdicts:
            if one.verdict == "undecided":
                place = names.index(one.variant), skills.index(one.skill)
                share = aim.left(joint, pending, *place, self.target)
                if min(one.p, one.p_margin) ** (1 / share) > self.settings.level:
                    return False
        return True

    def _offer(self, joint: Joint, remaining: float) -> aim.Trial:
        """Sizes near some skill's optimum, the same under all variants, by budget and variant."""
        rows: list[tuple[int, float, float]] = []
        budgets = [c for c in self._first.budgets if c <= remaining]
        for v, space in enumerate(self.spaces.values()):
            places = aim.optima(joint, budgets, v)
            for k, flops in enumerate(budgets):
                allowed = np.log(space.sizes(flops))
                if len(allowed):
                    near = evenly_spaced(
                        allowed, places[:, k], OPENING_REACH * self.settings.reach
                    )
                    rows += [(v, x, math.log(flops)) for x in near]
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return aim.Trial(
            np.array(columns[0], dtype=int), np.array(columns[1]), np.array(columns[2])
        )


def _said(found: Multipliers) -> str:
    """What was decided, in one line."""
    return "; ".join(f"{one.variant} by {one}" for one in found.verdicts)
