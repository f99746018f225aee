"""One trial inside Ray Tune: what it holds, and the function that trains it."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from sweeper.driver.faults import kind_of, reason_of
from sweeper.record.redaction import redact

if TYPE_CHECKING:
    from trainables.trainer import Report

COORDINATOR = {"node:__internal_head__": 0.001}
"""What the coordinator of a worker group holds: a sliver of the head node, never a CPU."""


def name_of(trial: Any) -> str:
    """What Ray's pages and files call a Tune trial."""
    return str(trial.config["name"])


def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial holds: its slots, or, where it has workers, its coordinator's."""
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
        text = redact(f"{reason_of(error)}\n{traceback.format_exc(limit=-3)}")
        record = {"status": "failed", "kind": kind_of(error), "reason": text}
    print(f"{name}: {record['status']}", flush=True)
    tune.report({"record": json.dumps(record)})
    if record["status"] == "failed":
        # What broke may have broken this process, and would break trial after trial: Tune gives
        # the next one another.
        raise RuntimeError(record["reason"])
