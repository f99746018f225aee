"""A sweep in Ray's metrics: what Prometheus scrapes and Grafana draws.

Ray exports a gauge under its name with ``ray_`` before it, on every node's metrics port, whether
or not a Prometheus is there to read, and forgets a series that is not set again within two of
its reporting intervals: the driver repeats what it last said. The dashboard of
grafana.json beside this file asks for these names and no others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sweeper.budget import Allocation
from sweeper.driver.driver import Start
from sweeper.record.ledger import ENDED, Ledger
from sweeper.record.record import Outcome
from sweeper.spec.spec import Spec

FIT_EVERY_S = 20.0
"""Fewest seconds between fits for the gauges of optima (assumption: a scrape is each 15)."""

FIT_SHARE = 0.02
"""Most of the driver's time these fits may take (assumption)."""

MAX_TRIALS = 400
"""Trials whose losses are shown, the newest: with 20 skills 8,000 series (assumption: what Ray's
agent exports in time)."""

REPEAT_EVERY_S = 5.0
"""Seconds between repetitions; Ray's agent drops a gauge after 2 x 10 s (Ray 2.60,
``metrics_report_interval_ms``)."""


Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its labels."""


@dataclass(frozen=True)
class Metric:
    """One gauge: what it says and by which labels."""

    name: str
    description: str
    labels: tuple[str, ...]


METRICS = {
    name: Metric(name, text, tuple(labels.split()))
    for name, labels, text in (
        ("isoskill_flops", "kind", "FLOPs by kind: spent, reserved, allowance."),
        ("isoskill_trials", "state", "Trials by state."),
        ("isoskill_seconds_left", "", "Seconds until the sweep ends, about."),
        ("isoskill_warnings", "", "Remarks on the fits, such as an alarm."),
        ("isoskill_skill_loss", "skill trial budget params",
         "Loss of a trial on a skill, nats per target token."),
        ("isoskill_optimum_params", "skill budget bound",
         "Optimal size of a skill on a budget: best, and low and high of its 90 % interval."),
        ("isoskill_tokens_per_second", "trial", "Speed of a running trial."),
        ("isoskill_mfu", "trial", "Share of the device's peak a running trial reaches."),
        ("isoskill_progress", "trial", "Share of a running trial's tokens done."),
    )
}  # fmt: skip


class Gauge(Protocol):
    """What is asked of `ray.util.metrics.Gauge`."""

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Set the series that the tags name."""


def _ascii(label: str) -> str:
    """A label as Ray takes it: the paper's mixes have a multiplication sign in their names."""
    return label.replace("\u00d7", "x").encode("ascii", "backslashreplace").decode("ascii")


class Gauges:
    """Keeps the gauges true as trials start, report and end; a listener of the driver.

    As a context manager it repeats them in a thread until the sweep ends.

    Args:
        sweep: the spec.
        ledger: its state, read after every event.
        make: makes a gauge.
        left_s: says how many seconds are left, or None.
    """

    def __init__(
        self,
        sweep: Spec,
        ledger: Ledger,
        *,
        make: Callable[[Metric], Gauge],
        left_s: Callable[[], float | None],
    ) -> None:
        self._sweep, self._ledger, self._left_s = sweep, ledger, left_s
        self._gauges = {name: make(metric) for name, metric in METRICS.items()}
        self._fit_after = self._left_after = 0.0
        self._values: dict[Series, float] = {}
        self._trials: deque[str] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)
        self._totals()

    def __enter__(self) -> Gauges:
        """Start repeating."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop repeating."""
        self._over.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._over.wait(REPEAT_EVERY_S):
            for (name, labels), value in list(self._values.items()):
                self._gauges[name].set(value, tags=dict(labels))

    def _set(self, name: str, value: float, **labels: str) -> None:
        tags = {key: _ascii(label) for key, label in {"sweep": self._sweep.name, **labels}.items()}
        self._values[name, tuple(tags.items())] = float(value)
        self._gauges[name].set(float(value), tags=tags)

    def _forget(self, name: str, trial: str) -> None:
        for key in [k for k in self._values if k[0] == name and ("trial", _ascii(trial)) in k[1]]:
            del self._values[key]

    def __call__(self, event: str, start: Start, record: Mapping[str, Any]) -> None:
        """Take what became of a trial."""
        if event == "progressed":
            self._progressed(start.allocation, record)
            return
        self._totals()
        if event == "started":
            return
        name = str(start.allocation)
        for metric in ("isoskill_tokens_per_second", "isoskill_mfu", "isoskill_progress"):
            self._set(metric, 0.0, trial=name)
            self._forget(metric, name)
        if event == "finished":
            self._losses(start.allocation, record["losses"])
            self._optima()

    def _progressed(self, allocation: Allocation, metrics: Mapping[str, Any]) -> None:
        name, speed = str(allocation), float(metrics.get("tokens_per_s", 0.0))
        self._set("isoskill_tokens_per_second", speed, trial=name)
        self._set("isoskill_progress", metrics["tokens"] / allocation.tokens, trial=name)
        own = self._sweep.of(allocation)
        rule = own.placement.rule(allocation.params)
        peak = self._sweep.cluster.hardware.peak_flops * max(rule.workers, 1)
        per_token = own.space.cost(allocation) / allocation.tokens
        self._set(
            "isoskill_mfu", speed * per_token / (peak * (rule.gpus or rule.cpus)), trial=name
        )

    def _totals(self) -> None:
        spent, reserved = self._ledger.totals()
        kinds = {"spent": spent, "reserved": reserved, "allowance": self._sweep.allowance}
        for kind, flops in kinds.items():
            self._set("isoskill_flops", flops, kind=kind)
        counts = self._ledger.counts()
        for state in ("running", *ENDED):
            self._set("isoskill_trials", counts.get(state, 0), state=state)
        if time.monotonic() < self._left_after:
            return
        self._left_after = time.monotonic() + REPEAT_EVERY_S
        left = self._left_s()
        if left is not None:
            self._set("isoskill_seconds_left", left)

    def _losses(self, allocation: Allocation, losses: Mapping[str, Mapping[str, Any]]) -> None:
        self._trials.append(str(allocation))
        if len(self._trials) > MAX_TRIALS:
            self._forget("isoskill_skill_loss", self._trials.popleft())
        place = {"budget": f"{allocation.flops:.3g}", "params": str(allocation.params)}
        for skill, loss in losses.items():
            mean = loss["nll"] / loss["tokens"]
            self._set("isoskill_skill_loss", mean, skill=skill, trial=str(allocation), **place)

    def _optima(self) -> None:
        began = time.monotonic()
        outcome = Outcome(self._sweep, self._ledger.observations(), None)
        if began < self._fit_after or not outcome.fittable:
            return
        fits = outcome.fit()
        for skill in fits:
            for flops in fits.observations.budgets:
                best = fits[skill].at(flops)
                bounds = {"best": best.params, "low": best.interval[0], "high": best.interval[1]}
                for bound, params in bounds.items():
                    if best.ok and params == params:
                        self._set(
                            "isoskill_optimum_params", params,
                            skill=skill, budget=f"{flops:.3g}", bound=bound,
                        )  # fmt: skip
        self._set("isoskill_warnings", len(fits.warnings))
        took = time.monotonic() - began
        self._fit_after = time.monotonic() + max(FIT_EVERY_S, took / FIT_SHARE)
