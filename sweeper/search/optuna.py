"""Optuna's samplers on the same space, as a baseline: one study per budget and skill.

A single study over budget and size would only converge to the largest budget. Studies are
rebuilt from the observations at every call, so that nothing is remembered between calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweeper.budget import Allocation, Space, next_seed
from sweeper.search.history import allocations, finished, mean_centre, near, vertices
from sweeper.search.protocol import Finished
from sweeper.spec.search import SearchSettings

_STARTUP_TRIALS = 4  # random ones per study: half of the usual eight per budget


@dataclass(frozen=True)
class OptunaSearch:
    """As many trials per budget as the grid; the skills' studies take turns to ask."""

    settings: SearchSettings
    space: Space
    skills: tuple[str, ...]

    def propose(
        self,
        observations: pd.DataFrame,
        pending: Sequence[Allocation],
        remaining_flops: float,
        n: int = 1,
    ) -> list[Allocation] | Finished:
        """Return what the studies ask for next; see `sweeper.search.protocol.Search`."""
        known = [*allocations(observations), *pending]
        chosen: list[Allocation] = []
        wanting = [
            flops
            for flops in self.space.budgets
            if self.space.allowed(flops)
            for _ in range(self.settings.sizes_per_budget - len(near(known, flops)))
        ]
        for flops in wanting:
            if len(chosen) < n and flops <= remaining_flops:
                size = self._ask(observations, [*pending, *chosen], flops)
                seed = next_seed([*known, *chosen], flops, size)
                chosen.append(self.space.allocation(flops, size, seed))
                remaining_flops -= flops
        if chosen or pending:
            return chosen
        if wanting:
            return Finished("allowance", f"{len(wanting)} trials cannot be afforded.")
        return Finished("complete", "Every budget has its trials.")

    def _ask(self, observations: pd.DataFrame, pending: Sequence[Allocation], flops: float) -> int:
        """Size that the study of one budget and of the skill whose turn it is asks for."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        here = near([*allocations(observations), *pending], flops)
        skill = self.skills[len(here) % len(self.skills)]
        allowed = self.space.sizes(flops)
        low, high = self._range(observations, flops, allowed)
        distribution = optuna.distributions.FloatDistribution(low, high)
        study = optuna.create_study(sampler=self._sampler(len(here)))
        table = finished(observations)
        table = table[table["skill"] == skill]
        for row in table[np.abs(np.log(table["flops"] / flops)) < 0.01].itertuples():
            self._add(study, distribution, math.log(row.params), float(row.loss))
        for allocation in near(pending, flops):
            self._add(study, distribution, math.log(allocation.params), None)
        trial = study.ask({"log_params": distribution})
        asked = math.exp(trial.params["log_params"])
        return min(allowed, key=lambda p: abs(math.log(p / asked)))

    def _range(
        self, observations: pd.DataFrame, flops: float, allowed: Sequence[int]
    ) -> tuple[float, float]:
        """The grid's range of ln p, within what can be built."""
        found = vertices(observations, self.space)
        centre = mean_centre(found, flops, self.settings.tokens_per_param)
        floor, ceiling = math.log(allowed[0]), math.log(allowed[-1])
        low = min(max(centre - self.settings.half_width, floor), ceiling)
        return low, max(low, min(centre + self.settings.half_width, ceiling))

    def _sampler(self, known: int) -> Any:
        import optuna

        seed = self.settings.seed + known
        if self.settings.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
        # Trials in training count as bad, so that free slots do not all ask for one place.
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=_STARTUP_TRIALS, constant_liar=True
        )

    def _add(self, study: Any, distribution: Any, log_params: float, loss: float | None) -> None:
        """Tell a study of a trial that has ended, or, without a loss, is in training."""
        import optuna

        if not distribution.low <= log_params <= distribution.high:
            return  # optuna refuses values outside the range, which moves with the data
        state = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                state=state.RUNNING if loss is None else state.COMPLETE,
                value=loss,
                params={"log_params": log_params},
                distributions={"log_params": distribution},
            )
        )
