"""Ray Tune: schedules the trials the search asks for, each a TorchTrainer.

Tune's own snapshots are never read back: the ledger is the truth, and retries are the driver's.
Small trials train in reused Tune actors, so that a freed slot is at its next first step in a
tenth of a second; trials with workers get a worker group, and their coordinator holds no CPU, or
two of them could wait for each other for ever.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from sweeper.cluster.capacity import most_pending
from sweeper.cluster.connect import connected, metrics_ports
from sweeper.cluster.interrupts import Interrupts
from sweeper.cluster.metrics import ray_gauge
from sweeper.cluster.searcher import Halt, LedgerSearcher, Watch
from sweeper.cluster.tracking import callbacks, check
from sweeper.cluster.trial import name_of, resources, train_trial
from sweeper.driver.driver import Driver, Listener, Start
from sweeper.driver.gauges import Gauges
from sweeper.driver.progress import Progress
from sweeper.driver.pulse import Pulse
from sweeper.errors import ClusterError
from sweeper.record.directory import Directory, safe_name
from sweeper.record.ledger import ENDED, Ledger
from sweeper.record.record import Outcome
from sweeper.record.redaction import redact
from sweeper.record.timeleft import left_s
from sweeper.search.build import policy
from sweeper.search.protocol import Finished
from sweeper.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

    from fitting import Fits

GO_ON = "the same command goes on with it"


def run(sweep: Spec, path: Path, *, after: Callable[[], None], progress: bool = True) -> None:
    """Run a sweep, or go on with an interrupted one; see `Sweep.run`.

    Args:
        sweep: the spec.
        path: of the directory.
        after: called when the ledger is closed, while the directory is still held.
        progress: print a line for every ended trial.
    """
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

            driver = Driver(sweep, ledger, policy(sweep, sweep.measured), listener=tell)
            # Asked before Ray is started: a sweep that is complete needs none.
            over = driver.start(lambda params: False)
            if isinstance(over, Finished):
                if progress:
                    kept = len(ledger.allocations(*ENDED))
                    print(f"nothing is left to train: {kept} trials have ended and are kept")
                _close(ledger, over)
            else:
                groups = sweep.placement.worker_groups
                with connected(sweep.cluster, sweep.name, worker_groups=groups) as dashboard:
                    pulse, gauges, left = _watchers(sweep, directory, ledger, dashboard)
                    shown = Progress(sweep, ledger, dashboard, progress, left)
                    listeners += [shown, pulse, gauges]
                    pulse.follow(driver)
                    # Entered last: Ray takes SIGTERM for itself when it is started.
                    with shown, gauges, Interrupts() as interrupts:
                        _run(sweep, directory, ledger, driver, interrupts)
        finally:
            ledger.close()
        after()


def _watchers(
    sweep: Spec, directory: Directory, ledger: Ledger, dashboard: str
) -> tuple[Pulse, Gauges, Callable[[], float | None]]:
    """What tells other processes how the sweep is: a file, and Ray's metrics; and seconds left."""
    pulse = Pulse(
        directory.live, dashboard=dashboard, targets=directory.targets, nodes=metrics_ports
    )

    def left() -> float | None:
        return left_s(ledger.trials(), pulse.live, sweep.allowance)

    def fit(table: pd.DataFrame) -> Fits:
        return Outcome(sweep, table, None).fit()

    return pulse, Gauges(sweep, ledger, make=ray_gauge, left_s=left, fit=fit), left


def _run(
    sweep: Spec,
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
    searcher: LedgerSearcher, sweep: Spec, directory: Directory, trackers: list[tune.Callback]
) -> None:
    tuner = tune.Tuner(
        tune.with_resources(train_trial, resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=most_pending(sweep.cluster),
            reuse_actors=True,
            trial_name_creator=name_of,
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
