"""Ray Tune: schedules the trials the search asks for, each a TorchTrainer.

The searcher is a thin shell round `sweeper.driver.Driver`; Tune's own snapshots are never read
back, the ledger is the truth. Small trials train in reused Tune actors, so that a freed slot is
at its next first step in a tenth of a second; trials with workers get a worker group, and their
coordinator holds no CPU, or two of them could wait for each other for ever.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.search import Searcher

from sweeper.cluster import connected, metrics_ports
from sweeper.directory import Directory
from sweeper.driver import Driver, Listener, Start
from sweeper.errors import ClusterError
from sweeper.ledger import Ledger
from sweeper.live import Pulse, left_s
from sweeper.monitor import Gauges
from sweeper.results import Outcome, Results
from sweeper.search import Finished
from sweeper.show import Progress
from sweeper.spec import Cluster, Resources, Sweep
from sweeper.tracking import callbacks, check

if TYPE_CHECKING:
    import pandas as pd

    from fitting import Fits

COORDINATOR = {"node:__internal_head__": 0.001}
"""What the coordinator of a worker group holds: a sliver of the head node, never a CPU."""

CAPACITY_S = 5.0
"""Seconds for which the cluster's size is believed; nodes may join and leave."""


def run(sweep: Sweep, path: Path, *, progress: bool = True) -> Results:
    """Run a sweep, or go on with an interrupted one; see `Sweep.run`."""
    directory = Directory(path)
    check(sweep.trackers)
    with directory.driven():
        directory.claim(sweep)
        ledger = Ledger(directory.ledger)
        try:
            with connected(sweep.cluster, sweep.name) as dashboard:
                shown = Progress(sweep, ledger, dashboard, progress)
                pulse, gauges = _watchers(sweep, directory, ledger, dashboard)
                with shown, gauges:
                    _run(sweep, directory, ledger, (shown, pulse, gauges))
        finally:
            ledger.close()
        results = Results(path)
        results.export()
    return results


def _watchers(
    sweep: Sweep, directory: Directory, ledger: Ledger, dashboard: str
) -> tuple[Pulse, Gauges]:
    """What tells other processes how the sweep is: a file, and Ray's metrics."""
    pulse = Pulse(
        directory.live, dashboard=dashboard, targets=directory.targets, nodes=metrics_ports
    )

    def left() -> float | None:
        return left_s(ledger.trials(), pulse.live, sweep.allowance)

    def fit(table: pd.DataFrame) -> Fits:
        return Outcome(sweep, table, None).fit()

    return pulse, Gauges(sweep, ledger, left_s=left, fit=fit)


def _run(
    sweep: Sweep, directory: Directory, ledger: Ledger, listeners: Sequence[Listener]
) -> None:
    def listener(event: str, start: Start, record: Mapping[str, Any]) -> None:
        for each in listeners:
            each(event, start, record)

    search = sweep.policy(sweep.measured)
    driver = Driver(sweep, ledger, search, listener=listener)
    ledger.event("driver-started", f"allowance {sweep.allowance:.3g} FLOPs")
    searcher = LedgerSearcher(driver, sweep, directory)
    trackers = callbacks(sweep, directory.root, partial(ledger.event, "tracker-off"))
    _fit(searcher, sweep, directory, trackers)
    if searcher.error:
        raise searcher.error
    reason = driver.finished
    if reason is None or driver.training:
        reason = Finished("interrupted", "run the same command again to go on")
    ledger.event("driver-finished", f"{reason.reason}: {reason.detail}")
    ledger.set_meta("finished", json.dumps({"reason": reason.reason, "detail": reason.detail}))


def _fit(
    searcher: LedgerSearcher, sweep: Sweep, directory: Directory, trackers: list[tune.Callback]
) -> None:
    tuner = tune.Tuner(
        tune.with_resources(train_trial, _resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=sweep.name,
            storage_path=str(directory.ray.resolve()),
            failure_config=tune.FailureConfig(max_failures=sweep.cluster.retries),
            verbose=0,
            callbacks=trackers or None,
        ),
    )
    tuner.fit()


def _name(trial: Any) -> str:
    return str(trial.config["name"])


def _resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    rule = config["resources"]
    if rule["workers"]:
        return tune.PlacementGroupFactory([COORDINATOR])
    return tune.PlacementGroupFactory([{"CPU": rule["cpus"], "GPU": rule["gpus"]}])


def train_trial(config: dict[str, Any]) -> None:
    """Train one trial inside a Tune actor and report its record (Tune's function trainable)."""
    from ray.tune.integration.ray_train import TuneReportCallback

    from trainables.config import TrialConfig
    from trainables.trainer import run_trial

    rule = config["resources"]
    try:
        record = run_trial(
            TrialConfig.from_dict(config["trial"]),
            directory=Path(config["directory"]),
            workers=rule["workers"],
            resources_per_worker={"CPU": rule["cpus"], "GPU": rule["gpus"]},
            report=tune.report,
            callbacks=[TuneReportCallback()] if rule["workers"] else (),
        )
    except Exception as error:  # a trial that raises is a failed trial, not a failed sweep
        text = traceback.format_exc(limit=-3)
        record = {"status": "failed", "reason": f"{type(error).__name__}: {error}\n{text}"}
    tune.report({"record": json.dumps(record)})


class LedgerSearcher(Searcher):
    """Hands the driver's trials to Tune, and Tune's outcomes to the driver."""

    def __init__(self, driver: Driver, sweep: Sweep, directory: Directory) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._driver, self._sweep, self._directory = driver, sweep, directory
        self._ids: dict[str, str] = {}
        self._capacity: tuple[float, dict[str, float]] = (-CAPACITY_S, {})

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a snapshot that is never read back: keep nothing."""
        return {}

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Accept whatever Tune says; losses are read from the record."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config, None to be asked again, or FINISHED."""
        try:
            start = self._driver.start(self._fits)
        except Exception as error:
            self.error = error
            start = Finished("error")
        if start is None:
            return None
        if isinstance(start, Finished):
            return str(Searcher.FINISHED)
        self._ids[trial_id] = start.trial_id
        return self._config(start)

    def _config(self, start: Start) -> dict[str, Any]:
        rule = self._sweep.cluster.rule(start.allocation.params)
        return {
            "name": str(start.allocation).replace(" ", ","),
            "trial": self._sweep.trial(start.allocation).to_dict(),
            "directory": str((self._directory.trials / start.trial_id).resolve()),
            "resources": {"workers": rule.workers, "cpus": rule.cpus, "gpus": rule.gpus},
        }

    def _fits(self, params: float) -> bool:
        total = self._total()
        wanted = _demand(self._sweep.cluster.rule(params))
        for name, amount in wanted.items():
            if amount > total.get(name, 0.0) and not self._driver.training:
                raise ClusterError(
                    f"cluster.resources: a trial of {params:.3g} params needs {amount:g} {name}, "
                    f"the cluster has {total.get(name, 0.0):g}; add nodes or ask for less"
                )
        rules = [self._sweep.cluster.rule(s.allocation.params) for s in self._driver.training]
        held = [_demand(rule) for rule in rules]
        return all(
            sum(demand.get(name, 0.0) for demand in held) + amount <= total.get(name, 0.0) + 1e-9
            for name, amount in wanted.items()
        )

    def _total(self) -> dict[str, float]:
        import ray

        read_at, total = self._capacity
        if time.monotonic() - read_at > CAPACITY_S:
            total = _grown(dict(ray.cluster_resources()), self._sweep.cluster)
            self._capacity = (time.monotonic(), total)
        return total

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note a running trial's progress."""
        if "tokens" in result and trial_id in self._ids:
            self._driver.progressed(self._ids[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Settle a trial that ended, well or not."""
        trial = self._ids.pop(trial_id, None)
        if trial is None:
            return
        if error:
            self._driver.died(trial, "its process died more often than cluster.retries allows")
        elif result and "record" in result:
            self._driver.ended(trial, json.loads(result["record"]))
        # Else Tune was interrupted: the trial stays reserved, and the next driver goes on with it.

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger holds everything."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def _grown(total: dict[str, float], cluster: Cluster) -> dict[str, float]:
    """Resources of a cluster once it has scaled itself as far as the spec says it may."""
    if cluster.address == "local":
        return total
    limits = {"CPU": cluster.cpus or 0, "GPU": cluster.gpus or 0}
    return total | {name: max(total.get(name, 0.0), limit) for name, limit in limits.items()}


def _demand(rule: Resources) -> dict[str, float]:
    processes = max(rule.workers, 1)
    demand = {"CPU": rule.cpus * processes, "GPU": rule.gpus * processes}
    return {name: amount for name, amount in demand.items() if amount > 0}
