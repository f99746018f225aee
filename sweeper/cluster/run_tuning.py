"""Ray Tune under a tuning: trains what `sweeper.tuning.studies.Studies` asks for.

Optuna's studies are the only memory; Tune's snapshots are never read back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeper.cluster.connect import connected
from sweeper.cluster.trial import name_of, resources, train_trial
from sweeper.record.directory import Directory
from sweeper.spec.spec import Spec
from sweeper.tuning.studies import Job, Studies
from sweeper.tuning.tuned import Tuned, conclude


def run(sweep: Spec, path: Path, *, progress: bool = True) -> Tuned:
    """Tune a sweep's hyperparameters, or go on with an interrupted tuning; see `Sweep.tune`."""
    directory = Directory(path)
    with directory.driven():
        directory.trials.mkdir(parents=True, exist_ok=True)
        studies = Studies(sweep, directory.tuning)
        with connected(sweep.cluster, worker_groups=sweep.placement.worker_groups):
            _run(studies, directory, progress=progress)
        found = conclude(studies)
        found.save(directory.tuned)
    return found


def _run(studies: Studies, directory: Directory, *, progress: bool) -> None:
    sweep = studies.sweep
    searcher = StudySearcher(studies, directory, progress=progress)
    tuner = tune.Tuner(
        tune.with_resources(train_trial, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=Rungs(searcher),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=name_of,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{sweep.name}-tune",
            storage_path=str(directory.ray.resolve()),
            failure_config=tune.FailureConfig(max_failures=sweep.cluster.retries),
            verbose=0,
        ),
    )
    # Tune warns of every trial that a searcher has not got ready yet.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner.fit()
    if searcher.error:
        raise searcher.error


class StudySearcher(Searcher):
    """Hands the studies' trials to Tune, and Tune's outcomes to the studies."""

    def __init__(self, studies: Studies, directory: Directory, *, progress: bool) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._studies, self._directory, self._progress = studies, directory, progress
        self._jobs: dict[str, Job] = {}
        self._stopped: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a snapshot that is never read back: keep nothing."""
        return {}

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Accept whatever Tune says; losses are read from the record."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config, None to be asked again, or FINISHED."""
        try:
            job = self._studies.next()
        except Exception as error:
            self.error = error
            return str(Searcher.FINISHED)
        if not isinstance(job, Job):
            return None if job else str(Searcher.FINISHED)
        self._jobs[trial_id] = job
        rule = self._studies.sweep.placement.rule(job.config.params)
        where = self._directory.trials / f"tune-{job.point}-{job.number}"
        return {
            "name": job.name,
            "trial": job.config.to_dict(),
            "directory": str(where.resolve()),
            "resources": {"workers": rule.workers, "cpus": rule.cpus, "gpus": rule.gpus},
        }

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether ASHA stops a trial that has reported."""
        job = self._jobs.get(trial_id)
        if job is None or "train_loss" not in result or "record" in result:
            return False
        tokens = float(result["tokens"])
        if not self._studies.reached(job, tokens, float(result["train_loss"])):
            return False
        self._stopped[trial_id] = tokens / job.config.tokens
        return True

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Keep a trial's outcome."""
        job = self._jobs.pop(trial_id, None)
        if job is None:
            return
        if trial_id in self._stopped:
            share = self._stopped.pop(trial_id)
            self._studies.ended(job, {"share": share}, pruned=True)
            self._say(job, f"stopped at a rung ({share:.0%})")
            return
        record: dict[str, Any] = {"status": "failed", "reason": "its process died"}
        if not error and result and "record" in result:
            record = json.loads(result["record"])
        self._studies.ended(job, record)
        losses = record.get("losses") or {}
        shown = [f"{s} {v['nll'] / v['tokens']:.4f}" for s, v in losses.items()]
        self._say(job, "  ".join(shown) or f"{record['status']}: {record['reason']}")

    def _say(self, job: Job, text: str) -> None:
        if self._progress:
            print(f"{job.name.removeprefix('tune,').replace(',', ' '):<48} {text}", flush=True)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: Optuna's storage holds everything."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class Rungs(FIFOScheduler):
    """Stops a trial when the searcher's study says so (asynchronous successive halving)."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        """As the searcher: kept nowhere."""
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop or go on."""
        stop = self._searcher.judge(trial.trial_id, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)
