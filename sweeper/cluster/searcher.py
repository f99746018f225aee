"""The thin shell between Ray Tune and the driver: what starts, what ended, what has gone silent.

Tune retries nothing itself: a trial that died is handed back to the driver, which counts its
retries in the ledger and starts it again as a new Tune trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._raylet import PlacementGroupID
from ray.tune.search import Searcher
from ray.util.placement_group import PlacementGroup, remove_placement_group

from sweeper.cluster.capacity import Capacity
from sweeper.cluster.trial import Work, record_of
from sweeper.cluster.tuner import Shell, Unsaved
from sweeper.driver.driver import Driver, Start
from sweeper.driver.faults import first_words, kind_of_death
from sweeper.errors import ClusterError
from sweeper.record.directory import Directory
from sweeper.search.protocol import Finished
from sweeper.spec.sections import Cluster

START_S = 120.0
"""Seconds beyond `cluster.hang_s` that a trial has for its first report (assumption: a new process
loads torch in five seconds on an idle core, and in a minute on a crowded one)."""

SLOT_S = 120.0
"""Seconds beyond `cluster.hang_s` that a trial has to get a process (assumption, as above)."""

SLOWER = 10.0
"""A trial is silent when it has not reported for this many times its own longest wait between two
reports, however long `cluster.hang_s` (assumption: no neighbour slows it more)."""

REPORT_S = 0.1
"""Seconds between two trials' reports of progress: so each of 64 trials reports every 6.4 s. A
report costs the driver some 5 ms (rough, from a profile of benchmarks/scale.py), and one that
finds it busy holds up its training."""

LOOK_EVERY_S = 0.5
"""Seconds between checks for silent trials and a request to stop."""

ASLEEP_S = 60.0
"""Seconds without a check after which the driver was asleep itself: a shut laptop, Ctrl-Z,
a paused machine (assumption: no search takes as long). No report could arrive meanwhile."""


@dataclass
class Watched:
    """A Tune trial and what is known of it.

    Attributes:
        start: what it trains.
        heard_at: its last sign of life, monotonic seconds; in the future while it is starting.
        longest_s: its longest wait between two reports.
        tune_trial: Tune's object, once it has a process.
        group: placement group of its workers, if it has any.
        record: what it returned.
        silent_s: how long it had been silent when it was killed for that.
    """

    start: Start
    heard_at: float
    longest_s: float = 0.0
    tune_trial: Any = None
    group: str = ""
    record: dict[str, Any] | None = None
    silent_s: float = 0.0

    def wait(self, seconds: float) -> None:
        """Give it its time for a process, or for a first report."""
        self.heard_at = time.monotonic() + seconds * 2**self.start.hangs

    def reported(self) -> None:
        """Note a report."""
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - self.heard_at)
        self.heard_at = now

    def patience_s(self, hang_s: float) -> float:
        """The silence it is allowed: by its own pace, and twice as much after each hang."""
        return float(max(hang_s, SLOWER * self.longest_s) * 2**self.start.hangs)


class LedgerSearcher(Shell):
    """Hands the driver's trials to Tune, and Tune's outcomes to the driver.

    Args:
        driver: what to start, and whom to tell.
        cluster: the spec's.
        directory: the sweep's files.
        stop: whether the user has asked to stop.
    """

    def __init__(
        self,
        driver: Driver,
        cluster: Cluster,
        directory: Directory,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._driver, self._cluster, self._directory = driver, cluster, directory
        self._stop = stop
        self._trials: dict[str, Watched] = {}
        self._looked_at = 0.0
        self._capacity = Capacity(cluster)

    def work(self, trial_id: str) -> Work | str | None:
        """The next trial, if there is room for it."""
        start = self._driver.next()
        if isinstance(start, Finished):
            return str(Searcher.FINISHED)
        held = [each.rule for each in self._driver.training]
        if start is None or not self._capacity.fits(start.rule, held):
            return None
        self._driver.begin(start)
        self._trials[trial_id] = watched = Watched(start, 0.0)
        watched.wait(SLOT_S)
        self._directory.stop_file(start.trial_id).unlink(missing_ok=True)
        return Work(
            name=str(start.allocation).replace(" ", ","),
            config=start.config,
            directory=(self._directory.trials / start.trial_id).resolve(),
            rule=start.rule,
            report_every_s=REPORT_S * len(self._driver.training),
            hang_s=watched.patience_s(self._cluster.hang_s),
        )

    # -- what Tune tells ----------------------------------------------------------------------

    def began(self, trial: Any) -> None:
        """Note that a trial has its process."""
        if watched := self._trials.get(trial.trial_id):
            watched.tune_trial = trial
            watched.wait(START_S)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a running trial's progress."""
        watched = self._trials.get(trial_id)
        if watched is None:
            return
        watched.reported()
        watched.group = str(result.get("placement_group", watched.group))
        watched.record = record_of(result) or watched.record
        if watched.record is None and "tokens" in result:
            self._guarded(lambda: self._driver.progressed(watched.start.trial_id, result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the driver of a trial that ended, well or not."""
        watched = self._trials.pop(trial_id, None)
        if watched is None:
            return
        if error and watched.group:
            free(watched.group)
        trial, record = watched.start.trial_id, watched.record or record_of(result or {})
        if record is not None:
            self._guarded(lambda: self._driver.ended(trial, record))
            if record["status"] in ("finished", "diverged") and not watched.start.keep:
                self._directory.clean([trial])
        elif error:
            self._capacity.forget()
            kind, reason = _death(watched)
            self._guarded(lambda: self._driver.died(trial, kind, reason))
        # Else Tune was interrupted: the trial stays reserved, and the next driver goes on with it.

    def _guarded(self, tell: Callable[[], None]) -> None:
        """Keep an exception for the end: Tune would take it for the trial's."""
        try:
            tell()
        except Exception as error:
            self.error = self.error or error

    # -- looked at now and then ---------------------------------------------------------------

    def look(self) -> None:
        """Pass on a request to stop, and end trials that have gone silent."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._forgive(now - self._looked_at - LOOK_EVERY_S if self._looked_at else 0.0)
        self._looked_at = now
        if self.error is not None or self._stop():
            self._driver.stopping = True
            for watched in self._trials.values():
                trial = watched.start.trial_id
                self._guarded(lambda trial=trial: self._ask_to_stop(trial))  # type: ignore[misc]
        for watched in list(self._trials.values()):
            silent_s = now - watched.heard_at
            if silent_s > watched.patience_s(self._cluster.hang_s):
                self._end_silent(watched, silent_s)

    def _forgive(self, slept_s: float) -> None:
        """Count no silence while this process itself stood still."""
        if slept_s > ASLEEP_S:
            for watched in self._trials.values():
                watched.heard_at += slept_s

    def _ask_to_stop(self, trial: str) -> None:
        path = self._directory.stop_file(trial)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def _end_silent(self, watched: Watched, silent_s: float) -> None:
        watched.heard_at = time.monotonic()
        tune_trial = watched.tune_trial
        actor = tune_trial.temporary_state.ray_actor if tune_trial else None
        if actor is not None:
            watched.silent_s = silent_s
            ray.kill(actor)
        elif not self._awaits_nodes(watched):
            self._starved(watched)

    def _awaits_nodes(self, watched: Watched) -> bool:
        """Whether others train on all there is, and the cluster has not grown as far as it may."""
        begun = [each.start.rule for each in self._trials.values() if each.tune_trial]
        return bool(begun) and not self._capacity.has_room(watched.start.rule, begun)

    @property
    def only_waits(self) -> bool:
        """Whether a stop was asked for and no trial has a process that could act on it."""
        begun = any(watched.tune_trial for watched in self._trials.values())
        return self._driver.stopping and bool(self._trials) and not begun

    def _starved(self, watched: Watched) -> None:
        """A trial for which there should be room has found none: say so rather than wait."""
        self.error = self.error or ClusterError(
            f"trial {watched.start.trial_id} found no free slot for "
            f"{self._cluster.hang_s:g} s (cluster.hang_s), though the cluster should have "
            "one: something else holds its resources; see `ray status`"
        )
        raise self.error


class Watch(Unsaved, tune.Callback):
    """Lets the searcher see what Tune tells only its callbacks."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        self._searcher = searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Pass on that a trial has its process."""
        self._searcher.began(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look around, some times a second."""
        self._searcher.look()


class Halt(Unsaved, tune.Stopper):
    """Ends a sweep that was asked to stop when its last trials still wait for a slot."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        self._searcher = searcher

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
    remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(placement_group))))


def _death(watched: Watched) -> tuple[str, str]:
    """Kind and reason of a trial's death, by what Ray said of it."""
    if watched.silent_s:
        return "hung", f"no sign of progress for {watched.silent_s:.0f} s (cluster.hang_s)"
    said = _error_text(watched.tune_trial)
    _, raised, last = said.rpartition("ray.exceptions.")  # before it lies Tune's own code
    told = last.partition(": ")[2] if raised else said.partition("\n")[2]
    return kind_of_death(said), first_words(told) or "its process died"


def _error_text(tune_trial: Any) -> str:
    """What Ray said of a trial's last failure: Tune keeps it as text on this machine."""
    path = tune_trial.error_file if tune_trial is not None else None
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:
        return ""
