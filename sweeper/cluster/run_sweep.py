"""Ray Tune: schedules the trials the search asks for, each a TorchTrainer.

Tune's own snapshots are never read back: the ledger is the truth, and retries are the driver's.
Small trials train in reused Tune actors, so that a freed slot is at its next first step in a
tenth of a second; trials with workers get a worker group, and their coordinator holds no CPU, or
two of them could wait for each other forever.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from sweeper.cluster.capacity import most_pending
from sweeper.cluster.connect import connected, own_ray_ended, ray_gauge, session_directory
from sweeper.cluster.interrupts import Interrupts
from sweeper.cluster.mps import shared_gpus
from sweeper.cluster.searcher import Halt, LedgerSearcher, Watch
from sweeper.cluster.tracking import callbacks, check
from sweeper.cluster.tuner import fit
from sweeper.driver.driver import Driver
from sweeper.driver.gauges import Gauges
from sweeper.driver.output import calm_output
from sweeper.driver.progress import Progress
from sweeper.driver.pulse import Pulse, TimeLeft
from sweeper.errors import ClusterError, SpecError
from sweeper.record.directory import Directory, safe_name
from sweeper.record.ledger import ENDED, Ledger
from sweeper.record.redaction import redact
from sweeper.search.build import policy
from sweeper.search.protocol import Finished
from sweeper.spec import foreign
from sweeper.spec.spec import Spec
from sweeper.text import number

GO_ON = "the same command goes on with it"


def run(
    sweep: Spec, path: str | Path, *, after: Callable[[], None], progress: bool = True
) -> None:
    """Run a sweep, or go on with an interrupted one; see `Sweep.run`.

    Args:
        after: called when the ledger is closed, while the directory is still held.
    """
    directory = Directory(path)
    check(sweep.trackers)
    _check_trainer(sweep)
    with calm_output(), directory.driven():
        sweep = directory.claim(sweep)
        with Ledger(directory.ledger) as ledger:
            search = policy(sweep, sweep.measured)
            driver = Driver(sweep, ledger, search)
            # Asked before Ray is started: a sweep that is complete needs none.
            over = driver.next()
            if isinstance(over, Finished):
                if progress:
                    kept = len(ledger.allocations(*ENDED))
                    print(f"nothing is left to train: {kept} trials have ended and are kept")
                _close(ledger, over)
            else:
                groups = sweep.placement.worker_groups
                with (
                    shared_gpus(sweep, ledger.event),
                    connected(
                        sweep.cluster, sweep.name, worker_groups=groups, files=directory.ray
                    ) as dashboard,
                ):
                    session = session_directory()
                    pulse = Pulse(directory.live, dashboard=dashboard, ray_files=session)
                    left = TimeLeft(sweep, ledger, search, pulse)
                    gauges = Gauges(sweep, ledger, make=ray_gauge, left_s=left)
                    shown = Progress(sweep, ledger, dashboard, progress, left)
                    driver.listeners += [shown, pulse, gauges]
                    # Entered last: Ray takes SIGTERM for itself when it is started.
                    with shown, gauges, Interrupts(own_ray_ended) as interrupts:
                        _run(sweep, directory, ledger, driver, interrupts)
        after()


def _check_trainer(sweep: Spec) -> None:
    """Refuse a foreign trainer that cannot be started, as far as can be seen from here."""
    if sweep.trainer is None:
        return
    if not (sweep.trainer.command or sweep.trainer.call):
        raise SpecError(
            "trainer: has neither command nor call; give one, or launch by hand with "
            "`isoskill ask` and `isoskill tell`"
        )
    missing = foreign.missing_program(sweep.trainer)
    if missing and sweep.cluster.address == "local":
        raise SpecError(missing)


def _run(
    sweep: Spec, directory: Directory, ledger: Ledger, driver: Driver, interrupts: Interrupts
) -> None:
    ledger.forget_meta("finished")
    ledger.event("driver-started", f"allowance {number(sweep.allowance)} FLOPs")
    if not (sweep.trainer.keep if sweep.trainer else sweep.train.keep):
        directory.clean(ledger.allocations("finished", "diverged"))
    searcher = LedgerSearcher(driver, sweep.cluster, directory, stop=lambda: interrupts.asked > 0)
    trackers = callbacks(sweep, directory.root, partial(ledger.event, "tracker-off"))
    try:
        fit(
            searcher,
            name=safe_name(sweep.name),
            storage=directory.ray,
            most_waiting=most_pending(sweep.cluster),
            callbacks=[Watch(searcher), *trackers],
            stop=Halt(searcher),
        )
    except Exception as error:  # of Tune itself: what was recorded is safe, whatever it was
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        ended = ClusterError(f"Ray Tune ended the sweep ({redact(last)}); {GO_ON}")
        raise searcher.error or ended from error
    if searcher.error:
        raise searcher.error
    reason = driver.finished or Finished("interrupted", GO_ON)
    if interrupts.asked:
        name = signal.Signals(interrupts.asked).name
        reason = Finished("stopped", f"on {name}; {GO_ON}")
    _close(ledger, reason)


def _close(ledger: Ledger, reason: Finished) -> None:
    ledger.event("driver-finished", f"{reason.reason}: {reason.detail}")
    ledger.set_meta("finished", json.dumps(asdict(reason)))
