"""Data mixes as a dimension of the search: which size, on which budget, under which mix.

Pure functions of the ledger like all policies. `MixSearch` starts from few sizes under the most
different mixes and then asks `fitting.datamix.design`; the practice it is measured against is
every size under every mix (arXiv 2503.10061, data-mix ablation), `sweeper.search.grid.GridOfEach`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fitting.datamix.curves import DesignPoints
from fitting.datamix.design import Candidates, choose_mixes, widths
from fitting.datamix.joint import MixFit, fit_mixes
from sweeper.budget import Allocation, Space, same_budget
from sweeper.search import closing
from sweeper.search.fit_state import fit_state
from sweeper.search.history import FitCache, allocations, finished, guess
from sweeper.search.protocol import Finished
from sweeper.search.selection import Selection
from sweeper.spec.search import SearchSettings

Mixes = Mapping[str, Mapping[str, float]]
"""Mix -> class -> share of documents."""

Place = tuple[float, int, str]
"""FLOPs, params and mix of a trial."""

PLACES = 9
"""Sizes considered per budget and mix (assumption: the fit is smooth in ln p)."""

FIRST_SIZES, FURTHER_SIZES = 5, 3
"""Sizes of the opening under the first mix and under each of the most different ones."""

LEAST_TRIALS = 8
"""Finished trials before the joint fit is made."""

_TRIES = 2  # a place where this many trials failed and none ended is given up (assumption)


@dataclass(frozen=True)
class MixSearch:
    """Expected variance reduction of the optima's response to the mix, per FLOP.

    Attributes:
        settings: tolerance is of ln p* of every skill, mix and budget, and of its change over the
            range of the shares.
        space: what can be trained.
        mixes: the mixes, the reference first.
        classes: skill -> class whose share it follows.
    """

    settings: SearchSettings
    space: Space
    mixes: Mixes
    classes: Mapping[str, str]
    _cache: FitCache[dict[str, MixFit]] = field(
        default_factory=FitCache, compare=False, repr=False
    )

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
        selection.take(self._missing(selection.known))
        fits = self._cache.get(observations, lambda: self._fits(observations))
        converged = bool(fits) and self._converged(fits, len(ended))
        own = self._reference(selection)
        if fits and not converged:
            kept = closing.first_proof(own)
            self._most_informative(fits, selection, observations, keep=kept)
        if selection.free > 0 and not selection.training:
            self._prove(observations, own, selection)
        reason = "nothing-helps" if selection.budgets() else "allowance"
        return selection.answer("tolerance" if converged else reason, lambda: _detail(fits))

    def _reference(self, selection: Selection) -> Selection:
        """What was trained under the reference mix, which the closing proof is of."""
        ended, training = (
            [a for a in some if a.mix == self.space.mix]
            for some in (selection.ended, selection.training)
        )
        return Selection(self.space, ended, training, selection.remaining, selection.free)

    def _prove(self, observations: pd.DataFrame, own: Selection, selection: Selection) -> None:
        """Start the closing proof: the aggregate's optimum under the reference mix."""
        state = fit_state(observations[observations["mix"] == self.space.mix], self.space)
        last = None if state is None else closing.proof(state, own)
        if last is not None:
            selection.start(last)

    def _missing(self, known: Sequence[Allocation]) -> list[Place]:
        """Points of the opening that no trial stands for yet."""
        points = self._opening()
        for trial in known:
            here = [p for p in points if p[2] == trial.mix and same_budget(p[0], trial.flops)]
            if here:
                points.remove(min(here, key=lambda p: abs(math.log(p[1] / trial.params))))
        return points

    def _opening(self) -> list[Place]:
        """Sizes round the guess: under the first mix, then where each class is rarest and most."""
        names, budget = list(self.mixes), self.space.budgets[0]
        extreme = [
            pick(names, key=lambda m, c=own: self.mixes[m][c])  # type: ignore[misc]
            for own in sorted(set(self.classes.values()))
            for pick in (min, max)
        ]
        points = self._sizes(budget, names[0], FIRST_SIZES)
        for name in dict.fromkeys(m for m in extreme if m != names[0]):
            points += self._sizes(budget, name, FURTHER_SIZES)
        for flops in self.space.budgets[1:2]:
            points += self._sizes(flops, names[0], FURTHER_SIZES)
        return points

    def _sizes(self, flops: float, mix: str, count: int) -> list[Place]:
        allowed = self.space.sizes(flops)
        centre = guess(flops, self.settings.tokens_per_param)
        half = self.settings.reach * (1.0 if count >= FIRST_SIZES else 0.75)
        wanted = np.exp(centre + np.linspace(-half, half, count))
        sizes = dict.fromkeys(min(allowed, key=lambda p: abs(math.log(p / w))) for w in wanted)
        return [(flops, size, mix) for size in sizes]

    def _fits(self, observations: pd.DataFrame) -> dict[str, MixFit]:
        """The joint fit of every skill that follows a class; empty while trials are too few."""
        table = finished(observations)
        table = table[table["skill"].isin(list(self.classes))]
        if table["trial_id"].nunique() < LEAST_TRIALS or table["params"].nunique() < 3:
            return {}
        # Not warm from the last fits: a resumed search has none, and must propose the same.
        return fit_mixes(table, self.mixes, self.classes, budgets=self.space.budgets)

    def _converged(self, fits: Mapping[str, MixFit], ended: int) -> bool:
        if ended < self.settings.min_trials:
            return False
        return max(widths(fits).values()) <= self.settings.tolerance

    def _most_informative(
        self,
        fits: Mapping[str, MixFit],
        selection: Selection,
        observations: pd.DataFrame,
        *,
        keep: float,
    ) -> None:
        """Fill the free slots with the trials of greatest gain per FLOP."""
        if selection.free < 1:
            return
        left = selection.remaining - keep
        offer = self._candidates(fits, left, _always_failing(observations))
        picks = choose_mixes(
            fits,
            offer,
            pending=self._design_points(selection.training),
            tolerance=self.settings.tolerance,
            remaining=left,
            n=selection.free,
            known=[trial.flops for trial in selection.known],
        )
        names = list(self.mixes)
        points = offer.points
        selection.take(
            [
                (
                    float(points.flops[i]),
                    round(math.exp(points.log_params[i])),
                    names[points.mix[i]],
                )
                for i in picks
            ]
        )

    def _design_points(self, trials: Sequence[Allocation]) -> DesignPoints:
        names = list(self.mixes)
        return DesignPoints(
            np.log([a.params for a in trials]),
            np.array([a.flops for a in trials]),
            np.array([names.index(a.mix) for a in trials], dtype=int),
        )

    def _candidates(
        self, fits: Mapping[str, MixFit], remaining: float, failing: set[Place]
    ) -> Candidates:
        """Realisable sizes within reach of some skill's optimum, by budget and mix."""
        names, points = list(self.mixes), []
        for flops in (c for c in self.space.budgets if c <= remaining and self.space.allowed(c)):
            allowed = np.log(self.space.sizes(flops))
            optima = np.stack([fit.log_optimum(flops)[0] for fit in fits.values()])
            for m, name in enumerate(names):
                for x in evenly_spaced(allowed, optima[:, m], self.settings.reach):
                    if (flops, round(math.exp(x)), name) not in failing:
                        points.append((x, flops, m))
        columns = list(zip(*points, strict=True)) or [(), (), ()]
        design = DesignPoints(
            np.array(columns[0]), np.array(columns[1]), np.array(columns[2], dtype=int)
        )
        # One cheapest trial of overhead: a trial costs its start, too.
        return Candidates(design, design.flops + self.space.budgets[0])


def evenly_spaced(allowed: np.ndarray, optima: np.ndarray, reach: float) -> list[float]:
    """Up to `PLACES` of the sizes within reach of some optimum, evenly in ln p."""
    distance = np.abs(allowed[:, None] - optima).min(axis=1)
    near = allowed[distance <= max(reach, distance.min())]
    wanted = np.linspace(near[0], near[-1], PLACES)
    return [float(near[i]) for i in np.unique(np.abs(near[:, None] - wanted).argmin(axis=0))]


def _always_failing(observations: pd.DataFrame) -> set[Place]:
    """Places where every one of several trials failed."""
    trials = observations.drop_duplicates("trial_id")
    found = set()
    for (flops, params, mix), rows in trials.groupby(["flops", "params", "mix"]):
        failed = rows["status"] != "finished"
        if len(rows) >= _TRIES and failed.all():
            found.add((float(flops), int(params), str(mix)))
    return found


def _detail(fits: Mapping[str, MixFit]) -> str:
    if not fits:
        return "Too few trials with losses for a fit over the mixes."
    said = ", ".join(f"{skill} ±{width:.2g}" for skill, width in widths(fits).items())
    return f"Widest 90 % interval of ln p* over mixes and budgets: {said}."
