"""Tuning before a sweep: Optuna's samplers at a few small allocations.

`Studies` decides what to train next and remembers everything in Optuna's own storage
(``tuning.sqlite``, which optuna-dashboard opens), `sweeper.tuning.tuned` is what came out. Nothing
here knows Ray: `sweeper.cluster.run_tuning` trains what is asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from fitting import tuned_points
from sweeper.errors import SpecError
from sweeper.record.changes import differences
from sweeper.spec.sections import Tuning
from sweeper.spec.spec import Spec
from sweeper.text import si
from sweeper.tuning.points import (
    Values,
    base_trial,
    check,
    current_values,
    objectives_of,
    points_of,
    with_hyperparameters,
)
from trainables.config import TrialConfig

STEP = 0.55
"""Exponent of a factor at which the opening tries it: with a factor of 6, values 2.7 apart,
over which the loss of Step Law's trials is still near a parabola (assumption)."""

FIRST_MORE = 2
"""Further trials at the cheapest allocation, whose rate nothing predicts yet (assumption)."""

BEYOND_EDGE = 2
"""Trials added where the minimum lies outside the values tried (assumption)."""


@dataclass(frozen=True)
class Job:
    """One training that a study asks for: its study's index, its number there, name, and work."""

    point: int
    number: int
    name: str
    config: TrialConfig


class Studies:
    """One Optuna study per point: what to train next, and every outcome.

    Points are tuned one after the other, cheapest first: each starts from the law through those
    before it, so that the expensive ones need few trials. Trials of one point run side by side.

    Args:
        sweep: the spec.
        path: Optuna's SQLite file; an interrupted tuning goes on from it.

    Raises:
        SpecError: the spec cannot be tuned as asked, or the file holds another tuning.
    """

    def __init__(self, sweep: Spec, path: Path) -> None:
        check(sweep)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep, self.points = sweep, points_of(sweep)
        self.objectives, self._path = objectives_of(sweep), path
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        self._studies: dict[int, Any] = {}
        self._running: dict[tuple[int, int], Any] = {}
        self._open_known()

    # -- what to train next ----------------------------------------------------------------------

    def next(self) -> Job | bool:
        """The next training; True to ask again when one has ended, False when all is done."""
        for point in range(len(self.points)):
            study = self._study(point)
            lacking = self._counted(study) < self._wanted(point)
            if not lacking and any(key[0] == point for key in self._running):
                return True
            if lacking or self._follow(point, study):
                return self._ask(point, study)
        return False

    def _wanted(self, point: int) -> int:
        return self.sweep.tuning.wanted + (FIRST_MORE if point == 0 else 0)

    def _follow(self, point: int, study: Any) -> bool:
        """Enqueue a rate further out where a point's minimum lies at an end of those tried."""
        table, factors = self.table(point), self.sweep.tuning.hyperparameters
        if self._counted(study) >= self._wanted(point) + BEYOND_EDGE:
            return False
        if table.empty or "learning_rate" not in factors:
            return False
        row, rates = table.loc[table["objective"].idxmin()], table["learning_rate"]
        best, step = row["learning_rate"], factors["learning_rate"] ** STEP
        if best not in (rates.min(), rates.max()):
            return False
        low, high = study.user_attrs["bounds"]["learning_rate"]
        value = min(max(best * (step if best == rates.max() else 1 / step), low), high)
        if any(abs(math.log(value / v)) < 0.1 for v in rates):
            return False
        params = {name: float(row[name]) for name in factors}
        study.enqueue_trial({**params, "learning_rate": float(value)})
        return True

    def _ask(self, point: int, study: Any) -> Job:
        bounds, scale = study.user_attrs["bounds"], optuna.distributions.FloatDistribution
        trial = study.ask({name: scale(*ends, log=True) for name, ends in bounds.items()})
        config = with_hyperparameters(base_trial(self.sweep, self.points[point]), trial.params)
        trial.set_user_attr("realised", current_values(config, list(bounds)))
        trial.set_user_attr("flops", config.flops)
        self._running[point, trial.number] = trial
        p, t = self.points[point]
        shown = ",".join(f"{name}={value:.3g}" for name, value in trial.params.items())
        return Job(point, trial.number, f"tune,p={si(p)},t={si(t)},{shown}", config)

    # -- outcomes --------------------------------------------------------------------------------

    def ended(self, job: Job, record: Mapping[str, Any]) -> None:
        """Keep a trial's outcome, whatever it is."""
        trial = self._running.pop((job.point, job.number))
        study, state = self._study(job.point), optuna.trial.TrialState
        trial.set_user_attr("status", str(record["status"]))
        trial.set_user_attr("reason", str(record.get("reason", ""))[:500])
        if record["status"] == "finished":
            losses = {s: v["nll"] / v["tokens"] for s, v in record["losses"].items()}
            trial.set_user_attr("losses", losses)
            study.tell(trial, [losses[name] for name in self.objectives])
        elif record["status"] == "diverged":
            # As bad as knowing nothing, so that the sampler keeps away.
            study.tell(trial, [math.log(job.config.shape.vocabulary)] * len(self.objectives))
        else:
            study.tell(trial, state=state.FAIL)

    def table(self, point: int | None = None) -> pd.DataFrame:
        """Finished trials: params, tokens, flops, what is tuned, each skill, and objective.

        ``objective`` is the geometric mean of the objectives' losses, nats.
        """
        rows = []
        for i, trial in self._trials():
            losses = trial.user_attrs.get("losses")
            if losses and point in (None, i):
                logs = [math.log(losses[name]) for name in self.objectives]
                params, tokens = map(float, self.points[i])
                head = {"params": params, "tokens": tokens, "flops": trial.user_attrs["flops"]}
                objective = {"objective": math.exp(sum(logs) / len(logs))}
                rows.append(head | trial.user_attrs["realised"] | losses | objective)
        return pd.DataFrame(rows)

    def _trials(self) -> Iterator[tuple[int, Any]]:
        """Every trial of the open studies, with the index of its point."""
        for i, study in sorted(self._studies.items()):
            yield from ((i, trial) for trial in study.get_trials(deepcopy=False))

    @property
    def reasons(self) -> list[str]:
        """Why trials failed or diverged, each reason once, the latest last."""
        trials = sorted((trial for _, trial in self._trials()), key=lambda t: t._trial_id)
        said = [trial.user_attrs.get("reason") for trial in trials]
        return list(dict.fromkeys(text for text in said if text))

    @property
    def flops(self) -> float:
        """Spent on all trials, failed ones included."""
        ended = [trial for _, trial in self._trials() if trial.state.is_finished()]
        return float(sum(trial.user_attrs.get("flops", 0.0) for trial in ended))

    # -- studies ---------------------------------------------------------------------------------

    def _name(self, point: int) -> str:
        p, t = self.points[point]
        return f"p={si(p)} t={si(t)}"

    def _open_known(self) -> None:
        """Open the studies of an interrupted tuning, and ask again for what was in training."""
        known = set(optuna.get_all_study_names(self._storage))
        for point in range(len(self.points)):
            if self._name(point) not in known:
                continue
            study = self._load(point)
            self._require_ours(point, study)
            for trial in study.get_trials(deepcopy=False, states=[_state("RUNNING")]):
                study.tell(trial.number, state=_state("FAIL"))
                study.enqueue_trial(trial.params)

    def _require_ours(self, point: int, study: Any) -> None:
        """Refuse the trials of another spec: their losses say nothing of this one's."""
        theirs, different = study.user_attrs.get("of"), ["it was written by another version"]
        if theirs is not None:
            different = differences(theirs, self._identity(point))
        if different:
            raise SpecError(
                f"{self._path} holds the tuning of another spec: {'; '.join(different)}. "
                "Use another directory, or make the spec agree"
            )

    def _identity(self, point: int) -> dict[str, Any]:
        """What decides the outcomes of a point's trials, but for the values that are tuned."""
        names = sorted(self.sweep.tuning.hyperparameters)
        tuned = {"knobs": names, "objectives": self.objectives}  # as tunings before kept it
        values = base_trial(self.sweep, self.points[point]).identity() | {"tuning": tuned}
        return dict(json.loads(json.dumps(values)))

    def _study(self, point: int) -> Any:
        if point not in self._studies:
            self._load(point)
            self._open(point)
        return self._studies[point]

    def _load(self, point: int) -> Any:
        settings = self.sweep.tuning
        self._studies[point] = study = optuna.create_study(
            storage=self._storage,
            study_name=self._name(point),
            directions=["minimize"] * len(self.objectives),
            sampler=_sampler(settings, point),
            pruner=optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        return study

    def _open(self, point: int) -> None:
        """Set a new study's bounds, and its opening: the centre, and each value down and up."""
        study, factors = self._studies[point], self.sweep.tuning.hyperparameters
        study.set_user_attr("of", self._identity(point))
        centre = self._centre(point)
        study.set_user_attr(
            "bounds", {name: (centre[name] / f, centre[name] * f) for name, f in factors.items()}
        )
        study.enqueue_trial(centre)
        for name, factor in factors.items():
            for sign in (1, -1):
                study.enqueue_trial({**centre, name: centre[name] * factor ** (sign * STEP)})

    def _centre(self, point: int) -> Values:
        """Where a point's search starts: the law through the points before it, or the recipe."""
        base = base_trial(self.sweep, self.points[point])
        start, table = current_values(base, list(self.sweep.tuning.hyperparameters)), self.table()
        if point == 0 or table.empty:
            return start
        guess = {name: _predicted(table, name, self.points[point]) for name in start}
        return {name: min(max(guess[name], now / 10), now * 10) for name, now in start.items()}

    @staticmethod
    def _counted(study: Any) -> int:
        """Trainings a point has had, but for its first two failed ones: they are tried again."""
        trials = study.get_trials(deepcopy=False)
        lost = [t for t in trials if t.state == _state("FAIL")]
        told = [t for t in trials if t.state.is_finished() or t.state == _state("RUNNING")]
        return len(told) - len(lost) + len(lost[2:])


def _state(name: str) -> Any:
    return optuna.trial.TrialState[name]


def _sampler(settings: Tuning, point: int) -> Any:
    # Before it chooses, a point's centre and each value down and up are trained.
    opening = 2 * len(settings.hyperparameters) + 1
    common = {"seed": settings.seed + point, "n_startup_trials": opening}
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(**common)
    return optuna.samplers.TPESampler(**common, constant_liar=True)


def _predicted(table: pd.DataFrame, name: str, point: tuple[int, int]) -> float:
    """The best value at a new point: a power of params through the points before it."""
    trials = table.rename(columns={"objective": "loss"})
    found = [p for p in tuned_points(trials, name) if p.ok]  # type: ignore[arg-type]
    if not found:
        best = table.loc[table["objective"].idxmin()]
        return float(best[name])
    x, y = np.log([p.params for p in found]), np.log([p.value for p in found])
    if np.ptp(x) < 0.5:
        return float(np.exp(y.mean()))
    slope = min(max(float(np.polyfit(x, y, 1)[0]), -1.0), 1.0)
    return float(np.exp(y.mean() + slope * (math.log(point[0]) - x.mean())))
