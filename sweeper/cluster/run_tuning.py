"""Ray Tune under a tuning: trains what `sweeper.tuning.studies.Studies` asks for.

Optuna's studies are the only memory; Tune's snapshots are never read back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from sweeper.cluster.connect import connected
from sweeper.cluster.trial import Work, record_of
from sweeper.cluster.tuner import Shell, fit
from sweeper.driver.output import calm_output
from sweeper.record.directory import Directory, safe_name
from sweeper.spec.spec import Spec
from sweeper.tuning.studies import Job, Studies
from sweeper.tuning.tuned import Tuned, conclude


def run(sweep: Spec, path: str | Path, *, progress: bool = True) -> Tuned:
    """Tune a sweep's hyperparameters, or go on with an interrupted tuning; see `Sweep.tune`."""
    directory = Directory(path)
    with calm_output(), directory.driven():
        directory.trials.mkdir(parents=True, exist_ok=True)
        studies = Studies(sweep, directory.tuning)
        with connected(
            sweep.cluster, worker_groups=sweep.placement.worker_groups, files=directory.ray
        ):
            _run(studies, directory, progress=progress)
        found = conclude(studies)
        found.sweep.save(directory.tuned)
    return found


def _run(studies: Studies, directory: Directory, *, progress: bool) -> None:
    sweep = studies.sweep
    searcher = StudySearcher(studies, directory, progress=progress)
    fit(
        searcher,
        name=safe_name(f"{sweep.name}-tune"),
        storage=directory.ray,
        retries=sweep.cluster.retries,
    )
    if searcher.error:
        raise searcher.error


class StudySearcher(Shell):
    """Hands the studies' trials to Tune, and Tune's outcomes to the studies."""

    def __init__(self, studies: Studies, directory: Directory, *, progress: bool) -> None:
        super().__init__()
        self._studies, self._directory, self._progress = studies, directory, progress
        self._jobs: dict[str, Job] = {}
        self._records: dict[str, dict[str, Any]] = {}

    def work(self, trial_id: str) -> Work | str | None:
        """The next trial of some study."""
        job = self._studies.next()
        if not isinstance(job, Job):
            return None if job else str(Searcher.FINISHED)
        self._jobs[trial_id] = job
        where = self._directory.trials / f"tune-{job.point}-{job.number}"
        rule = self._studies.sweep.placement.rule(job.config.params)
        return Work(job.name, job.config, where.resolve(), rule)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep a record: Tune does not hand it over again where a trial raised."""
        if record := record_of(result):
            self._records[trial_id] = record

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Keep a trial's outcome."""
        job = self._jobs.pop(trial_id, None)
        if job is None:
            return
        died: dict[str, Any] = {"status": "failed", "reason": "its process died"}
        record = self._records.pop(trial_id, None) or record_of(result or {}) or died
        self._studies.ended(job, record)
        losses = record.get("losses") or {}
        shown = [f"{s} {v['nll'] / v['tokens']:.4f}" for s, v in losses.items()]
        self._say(job, "  ".join(shown) or f"{record['status']}: {record['reason']}")

    def _say(self, job: Job, text: str) -> None:
        if self._progress:
            print(f"{job.name.removeprefix('tune,').replace(',', ' '):<48} {text}", flush=True)
