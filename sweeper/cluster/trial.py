"""One trial inside Ray Tune: what it holds, and the function that trains it."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from sweeper.driver.faults import kind_of, reason_of
from sweeper.record.redaction import redact
from sweeper.spec.placement import Resources
from trainables.config import TrialConfig
from trainables.foreign.command import Report
from trainables.foreign.trial import ForeignTrial
from trainables.trainer import run_foreign, run_trial

COORDINATOR = {"node:__internal_head__": 0.001}
"""What the coordinator of a worker group holds: a sliver of the head node, never a CPU."""


@dataclass(frozen=True)
class Work:
    """What Tune hands to a trial's process, under the key "work" of its config.

    Attributes:
        name: what Ray's pages and files call the trial.
        config: what is trained.
        directory: where its checkpoints live.
        rule: what it holds.
        report_every_s: fewest seconds between reports of its progress.
        hang_s: seconds without progress after which a foreign trainer is ended.
    """

    name: str
    config: TrialConfig | ForeignTrial
    directory: Path
    rule: Resources
    report_every_s: float = 0.0
    hang_s: float = math.inf


@dataclass(frozen=True)
class Ended:
    """The record of an ended trial, under the key "record" of its last report.

    Tune flattens a bare dict, and the names of skills with it.
    """

    record: dict[str, Any]


def record_of(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record in what a trial reported; None if that was progress."""
    return result["record"].record if "record" in result else None


def name_of(trial: Any) -> str:
    """What Ray's pages and files call a Tune trial."""
    return str(trial.config["work"].name)


def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial holds: its slots, or, where it has workers, its coordinator's; and with them
    those of the launchers of a command.
    """
    work: Work = config["work"]
    slots = {"CPU": work.rule.cpus, "GPU": work.rule.gpus}
    if not work.rule.workers:
        return tune.PlacementGroupFactory([slots])
    if isinstance(work.config, ForeignTrial) and work.config.trainer.command:
        launchers = [slots] * work.rule.workers
        return tune.PlacementGroupFactory([COORDINATOR, *launchers], strategy="SPREAD")
    return tune.PlacementGroupFactory([COORDINATOR])


def spaced(report: Report, every_s: float) -> Report:
    """A report that passes on the first, and others after no less than this many seconds."""
    last = -math.inf

    def pass_on(metrics: dict[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            report(metrics)

    return pass_on


def train_trial(config: dict[str, Any]) -> None:
    """Train one trial inside a Tune actor and report its record (Tune's function trainable)."""
    work: Work = config["work"]
    # Into the log of this slot, which Ray's Actors page shows.
    print(f"{work.name}: starts", flush=True)
    try:
        record = _trained(work)
        broken = isinstance(work.config, TrialConfig) and record["status"] == "failed"
    except Exception as error:  # a trial that raises is a failed trial, not a failed sweep
        text = redact(f"{reason_of(error)}\n{traceback.format_exc(limit=-3)}")
        record, broken = {"status": "failed", "kind": kind_of(error), "reason": text}, True
    print(f"{work.name}: {record['status']}", flush=True)
    tune.report({"record": Ended(record)})
    if broken:
        # What broke may have broken this process, and would break trial after trial: Tune gives
        # the next one another.
        raise RuntimeError(record["reason"])


def _trained(work: Work) -> dict[str, Any]:
    """The record of a trial, by our own loop or a foreign trainer."""
    held = {"CPU": work.rule.cpus, "GPU": work.rule.gpus}
    report = spaced(tune.report, work.report_every_s)
    callbacks = [TuneReportCallback()] if work.rule.workers else ()
    if isinstance(work.config, ForeignTrial):
        return run_foreign(
            work.config, directory=work.directory, name=work.name, workers=work.rule.workers,
            held=held, hang_s=work.hang_s, report=report, callbacks=callbacks,
        )  # fmt: skip
    return run_trial(
        work.config, directory=work.directory, name=work.name, workers=work.rule.workers,
        resources_per_worker=held, report=report, callbacks=callbacks,
        max_failures=0,  # the driver retries
    )  # fmt: skip
