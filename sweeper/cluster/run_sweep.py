"""Ray Tune: schedules the trials the search asks for, each a TorchTrainer.

Tune's own snapshots are never read back: the ledger is the truth, and retries are the driver's.
Small trials train in reused Tune actors, so that a freed slot is at its next first step in a
tenth of a second; trials with workers get a worker group, and their coordinator holds no CPU, or
two of them could wait for each other for ever.
"""

from __future__ import annotations

import json
import math
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from sweeper.cluster.connect import connected, metrics_ports
from sweeper.cluster.interrupts import Interrupts
from sweeper.cluster.searcher import Halt, LedgerSearcher, Watch, most_pending
from sweeper.cluster.tracking import callbacks, check
from sweeper.driver.driver import Driver, Listener, Start
from sweeper.driver.faults import kind_of
from sweeper.driver.gauges import Gauges
from sweeper.driver.progress import Progress
from sweeper.errors import ClusterError
from sweeper.record.directory import Directory, safe_name
from sweeper.record.ledger import ENDED, Ledger
from sweeper.record.live import Pulse
from sweeper.record.record import Outcome, Results
from sweeper.record.redaction import redact
from sweeper.record.timeleft import left_s
from sweeper.search import Finished
from sweeper.spec.spec import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fitting import Fits
    from trainables.trainer import Report

GO_ON = "the same command goes on with it"

COORDINATOR = {"node:__internal_head__": 0.001}
"""What the coordinator of a worker group holds: a sliver of the head node, never a CPU."""


def run(sweep: Sweep, path: Path, *, progress: bool = True) -> Results:
    """Run a sweep, or go on with an interrupted one; see `Sweep.run`."""
    directory = Directory(path)
    check(sweep.trackers)
    with directory.driven():
        directory.claim(sweep)
        ledger = Ledger(directory.ledger)
        try:
            listeners: list[Listener] = []

            def tell(event: str, start: Start, record: Mapping[str, Any]) -> None:
                for listener in listeners:
                    listener(event, start, record)

            driver = Driver(sweep, ledger, sweep.policy(sweep.measured), listener=tell)
            # Asked before Ray is started: a sweep that is complete needs none.
            over = driver.start(lambda params: False)
            if isinstance(over, Finished):
                if progress:
                    kept = len(ledger.allocations(*ENDED))
                    print(f"nothing is left to train: {kept} trials have ended and are kept")
                _close(ledger, over)
            else:
                with connected(sweep.cluster, sweep.name) as dashboard:
                    pulse, gauges, left = _watchers(sweep, directory, ledger, dashboard)
                    shown = Progress(sweep, ledger, dashboard, progress, left)
                    listeners += [shown, pulse, gauges]
                    pulse.follow(driver)
                    # Entered last: Ray takes SIGTERM for itself when it is started.
                    with shown, gauges, Interrupts() as interrupts:
                        _run(sweep, directory, ledger, driver, interrupts)
        finally:
            ledger.close()
        results = Results(path)
        results.export()
    return results


def _watchers(
    sweep: Sweep, directory: Directory, ledger: Ledger, dashboard: str
) -> tuple[Pulse, Gauges, Callable[[], float | None]]:
    """What tells other processes how the sweep is: a file, and Ray's metrics; and seconds left."""
    pulse = Pulse(
        directory.live, dashboard=dashboard, targets=directory.targets, nodes=metrics_ports
    )

    def left() -> float | None:
        return left_s(ledger.trials(), pulse.live, sweep.allowance)

    def fit(table: pd.DataFrame) -> Fits:
        return Outcome(sweep, table, None).fit()

    return pulse, Gauges(sweep, ledger, left_s=left, fit=fit), left


def _run(
    sweep: Sweep,
    directory: Directory,
    ledger: Ledger,
    driver: Driver,
    interrupts: Interrupts,
) -> None:
    ledger.forget_meta("finished")
    ledger.event("driver-started", f"allowance {sweep.allowance:.3g} FLOPs")
    directory.clean(ledger.allocations("finished", "diverged"))
    searcher = LedgerSearcher(driver, sweep, directory, stop=lambda: interrupts.asked > 0)
    trackers = callbacks(sweep, directory.root, partial(ledger.event, "tracker-off"))
    try:
        _fit(searcher, sweep, directory, trackers)
    except Exception as error:
        raise searcher.error or _explained(error) from error
    if searcher.error:
        raise searcher.error
    reason = driver.finished or Finished("interrupted", GO_ON)
    if interrupts.asked:
        name = signal.Signals(interrupts.asked).name
        reason = Finished("stopped", f"on {name}; {GO_ON}")
    _close(ledger, reason)


def _close(ledger: Ledger, reason: Finished) -> None:
    ledger.event("driver-finished", f"{reason.reason}: {reason.detail}")
    ledger.set_meta("finished", json.dumps({"reason": reason.reason, "detail": reason.detail}))


def _explained(error: Exception) -> Exception:
    """A failure of Tune itself, in words: what was recorded is safe, whatever it was."""
    last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return ClusterError(f"Ray Tune ended the sweep ({redact(last)}); {GO_ON}")


def _fit(
    searcher: LedgerSearcher, sweep: Sweep, directory: Directory, trackers: list[tune.Callback]
) -> None:
    tuner = tune.Tuner(
        tune.with_resources(train_trial, _resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=most_pending(sweep.cluster),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=safe_name(sweep.name),
            storage_path=str(directory.ray.resolve()),
            failure_config=tune.FailureConfig(max_failures=0),  # the driver retries
            callbacks=[Watch(searcher), *trackers],
            stop=Halt(searcher),
            verbose=0,
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


def spaced(report: Report, every_s: float) -> Report:
    """A report that passes on the first, and others after no less than so many seconds."""
    last = -math.inf

    def pass_on(metrics: dict[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            report(metrics)

    return pass_on


def train_trial(config: dict[str, Any]) -> None:
    """Train one trial inside a Tune actor and report its record (Tune's function trainable)."""
    from ray.tune.integration.ray_train import TuneReportCallback

    from trainables.config import TrialConfig
    from trainables.trainer import run_trial

    rule, name = config["resources"], config["name"]
    print(f"{name}: starts", flush=True)  # the log of this slot, which Ray's Actors page shows
    try:
        record = run_trial(
            TrialConfig.from_dict(config["trial"]),
            directory=Path(config["directory"]),
            name=name,
            workers=rule["workers"],
            resources_per_worker={"CPU": rule["cpus"], "GPU": rule["gpus"]},
            report=spaced(tune.report, config.get("report_every_s", 0.0)),
            callbacks=[TuneReportCallback()] if rule["workers"] else (),
            max_failures=0,  # the driver retries
        )
    except Exception as error:  # a trial that raises is a failed trial, not a failed sweep
        text = redact(f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}")
        record = {"status": "failed", "kind": kind_of(error), "reason": text}
    print(f"{name}: {record['status']}", flush=True)
    tune.report({"record": json.dumps(record)})
    if record["status"] == "failed":
        # What broke may have broken this process, and would break trial after trial: Tune gives
        # the next one another.
        raise RuntimeError(record["reason"])
