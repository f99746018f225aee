"""The thin shell between Ray Tune and the driver: what starts, what ended, what has gone silent.

Tune retries nothing itself: a trial that died is handed back to the driver, which counts its
retries in the ledger and starts it again as a new Tune trial.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from sweeper.cluster.capacity import Capacity
from sweeper.driver.driver import Driver, Start
from sweeper.driver.faults import first_words, kind_of_death
from sweeper.errors import ClusterError
from sweeper.record.directory import Directory
from sweeper.search.protocol import Finished
from sweeper.spec.spec import Spec

START_S = 120.0
"""Seconds beyond `cluster.hang_s` that a trial has for its first report (assumption: a new process
loads torch in five seconds on an idle core, and in a minute on a crowded one)."""

REPORT_S = 0.1
"""Seconds between two trials' reports of progress: so each of 64 trials reports every 6.4 s. A
report costs the driver some 5 ms (rough, from a profile of benchmarks/scale.py), and one that
finds it busy holds up its training."""

PULSE_S = 0.5
"""Seconds between looks for silent trials and a wish to stop."""


class LedgerSearcher(Searcher):
    """Hands the driver's trials to Tune, and Tune's outcomes to the driver.

    Args:
        driver: what to start, and whom to tell.
        sweep: the spec.
        directory: the sweep's files.
        stop: whether the user has asked to stop.
    """

    def __init__(
        self,
        driver: Driver,
        sweep: Spec,
        directory: Directory,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._driver, self._sweep, self._directory, self._stop = driver, sweep, directory, stop
        self._ids: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._tune_trials: dict[str, Any] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._hung: set[str] = set()
        self._slots: dict[str, str] = {}
        self._looked_at = 0.0
        self._cluster = Capacity(sweep)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a snapshot that is never read back: keep nothing."""
        return {}

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Accept whatever Tune says; losses are read from the record."""
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Accept Tune's limit for what it is used for here, how many trials may wait at once: how
        many train is limited by what fits.
        """
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config, None to be asked again, or FINISHED."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        try:
            start = self._driver.start(self._fits)
        except Exception as error:
            self.error = error
            return str(Searcher.FINISHED)
        if start is None:
            return None
        if isinstance(start, Finished):
            return str(Searcher.FINISHED)
        self._ids[trial_id], self._heard[trial_id] = start.trial_id, time.monotonic() + START_S
        self._directory.stop_file(start.trial_id).unlink(missing_ok=True)
        return self._config(start)

    def _config(self, start: Start) -> dict[str, Any]:
        rule = self._sweep.placement.rule(start.allocation.params)
        return {
            "name": str(start.allocation).replace(" ", ","),
            "trial": {
                **self._sweep.trial(start.allocation).to_dict(),
                "halvings": start.halvings,
            },
            "directory": str((self._directory.trials / start.trial_id).resolve()),
            "resources": {"workers": rule.workers, "cpus": rule.cpus, "gpus": rule.gpus},
            "report_every_s": REPORT_S * len(self._driver.training),
        }

    def _fits(self, params: float) -> bool:
        return self._cluster.fits(params, [s.allocation.params for s in self._driver.training])

    # -- what Tune tells ----------------------------------------------------------------------

    def began(self, trial: Any) -> None:
        """Note that a trial has its process."""
        self._tune_trials[trial.trial_id] = trial
        self._heard[trial.trial_id] = time.monotonic() + START_S

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a running trial's progress."""
        self._heard[trial_id] = time.monotonic()
        if "placement_group" in result:
            self._slots[trial_id] = str(result["placement_group"])
        if "record" in result:
            self._records[trial_id] = json.loads(result["record"])
        elif "tokens" in result and trial_id in self._ids:
            self._guarded(lambda: self._driver.progressed(self._ids[trial_id], result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the driver of a trial that ended, well or not."""
        trial = self._ids.pop(trial_id, None)
        tune_trial = self._tune_trials.pop(trial_id, None)
        self._heard.pop(trial_id, None)
        slots = self._slots.pop(trial_id, None)
        if error and slots:
            free(slots)
        record = self._records.pop(trial_id, None)
        if record is None and result and "record" in result:
            record = json.loads(result["record"])
        if trial is None:
            return
        if record is not None:
            self._guarded(lambda: self._driver.ended(trial, record))
            if record["status"] in ("finished", "diverged"):
                self._directory.clean([trial])
        elif error:
            self._cluster.forget()
            kind, reason = self._death(trial_id, tune_trial)
            self._guarded(lambda: self._driver.died(trial, kind, reason))
        # Else Tune was interrupted: the trial stays reserved, and the next driver goes on with it.

    def _guarded(self, tell: Callable[[], None]) -> None:
        """Keep an exception for the end: Tune would take it for the trial's."""
        try:
            tell()
        except Exception as error:
            self.error = self.error or error

    def _death(self, trial_id: str, tune_trial: Any) -> tuple[str, str]:
        if trial_id in self._hung:
            self._hung.discard(trial_id)
            silent = self._sweep.cluster.hang_s
            return "hung", f"no sign of progress for {silent:g} s (cluster.hang_s)"
        said = _error_text(tune_trial)
        last = said.rpartition("ray.exceptions.")[2]  # the rest is Tune's own code
        return kind_of_death(said), first_words(last.partition(": ")[2]) or "its process died"

    # -- looked at now and then ---------------------------------------------------------------

    def pulse(self) -> None:
        """Pass on a wish to stop, and end trials that have gone silent."""
        now = time.monotonic()
        if now - self._looked_at < PULSE_S:
            return
        self._looked_at = now
        if self.error is not None or self._stop():
            self._driver.stopping = True
            for trial in self._ids.values():
                self._guarded(lambda trial=trial: self._ask_to_stop(trial))  # type: ignore[misc]
        for trial_id, heard in list(self._heard.items()):
            if now - heard > self._sweep.cluster.hang_s:
                self._end_silent(trial_id)

    def _ask_to_stop(self, trial: str) -> None:
        path = self._directory.stop_file(trial)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def _end_silent(self, trial_id: str) -> None:
        import ray

        tune_trial = self._tune_trials.get(trial_id)
        actor = tune_trial.temporary_state.ray_actor if tune_trial else None
        self._heard[trial_id] = time.monotonic()
        if actor is None:
            if not self._awaits_nodes(trial_id):
                self._starved(trial_id)
            return
        self._hung.add(trial_id)
        ray.kill(actor)

    def _awaits_nodes(self, trial_id: str) -> bool:
        """Whether others train on all there is, and the cluster has not grown as far as it may."""
        sizes = {start.trial_id: start.allocation.params for start in self._driver.training}
        begun = [sizes[self._ids[each]] for each in self._tune_trials if each in self._ids]
        wanted = sizes[self._ids[trial_id]]
        return bool(begun) and not self._cluster.has_room(wanted, begun)

    @property
    def only_waits(self) -> bool:
        """Whether a stop was asked for and no trial has a process that could heed it."""
        return self._driver.stopping and bool(self._ids) and not self._tune_trials

    def _starved(self, trial_id: str) -> None:
        """A trial for which there should be room has found none: say so rather than wait."""
        self.error = self.error or ClusterError(
            f"trial {self._ids.get(trial_id)} found no free slot for "
            f"{self._sweep.cluster.hang_s:g} s (cluster.hang_s), though the cluster should have "
            "one: something else holds its resources; see `ray status`"
        )
        raise self.error

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger holds everything."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class Watch(tune.Callback):
    """Lets the searcher see what Tune tells only its callbacks."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks into a snapshot that is never read back: keep nothing."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Pass on that a trial has its process."""
        self._searcher.began(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look around, some times a second."""
        self._searcher.pulse()


class Halt(tune.Stopper):
    """Ends a sweep that was asked to stop when its last trials still wait for a slot."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        self._searcher = searcher

    def __getstate__(self) -> dict[str, Any]:
        """As the callback: keep nothing."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never stop a trial of its own."""
        return False

    def stop_all(self) -> bool:
        """Whether there is nothing but waiting."""
        return self._searcher.only_waits


def free(placement_group: str) -> None:
    """Give back the slots of a worker group whose coordinator was killed.

    Ray Train leaves them held; its own cleaner asks the dashboard for half a minute first, and
    without one gives them back never.
    """
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(placement_group))))


def _error_text(tune_trial: Any) -> str:
    """What Ray said of a trial's last failure: Tune keeps it as text on this machine."""
    path = tune_trial.error_file if tune_trial is not None else None
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:
        return ""
