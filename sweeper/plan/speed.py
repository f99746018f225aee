"""How long trials take, worked out or measured: hours and money of plans rest on it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweeper.spec.devices import DRIVER
from sweeper.spec.placement import Placement, Resources, timing
from sweeper.spec.sections import Cluster
from sweeper.text import percent, si
from trainables.families import Shape

if TYPE_CHECKING:
    from sweeper.record.record import Record
    from sweeper.spec.spec import Spec

MIN_MEASURED = 3
"""Finished trials from which a speed is read off (assumption)."""


NEAR = 5.0
"""Trials of a budget are counted, and timed, within this factor of the guessed optimum: searches
of own text go down to a fifth, where a FLOP takes longest (benchmarks/results/own_text.md)."""


@dataclass(frozen=True)
class Correction:
    """What trials took over what was worked out, by size: coefficient * params^exponent.

    Attributes:
        coefficient: at one parameter.
        exponent: of params.
        range: params between which it was measured; outside, the nearest end holds.
    """

    coefficient: float = 1.0
    exponent: float = 0.0
    range: tuple[float, float] = (1.0, math.inf)

    def __call__(self, params: float) -> float:
        """The factor at a size."""
        inside = min(max(params, self.range[0]), self.range[1])
        return float(self.coefficient * inside**self.exponent)


@dataclass(frozen=True)
class Speed:
    """How long trainings take on what their trials hold.

    Attributes:
        cluster: names the device, and its utilisation where it is stated.
        source: where the hours come from, in words.
        correction: by measured trials.
    """

    cluster: Cluster
    source: str
    correction: Correction = Correction()

    def wall_s(
        self, flops: float, params: float, placement: Placement, trained: tuple[Shape, int] | None
    ) -> float:
        """Seconds of one trial.

        Args:
            flops: of the training.
            params: its size.
            placement: what trials hold.
            trained: the model and its tokens; None where a trainer of the user's decides.
        """
        rule, device = placement.rule(params), self.cluster.hardware
        stated = flops / device.peak_flops / held(rule) / (self.cluster.mfu or device.utilisation)
        if trained is None:
            return self.correction(params) * stated
        shape, tokens = trained
        found = timing(shape, placement.train, device, rule, tokens)
        whole_s = found.wall_s if self.cluster.mfu is None else found.at(stated)
        return self.correction(params) * whole_s


def held(rule: Resources) -> float:
    """Devices that a trial holds: GPUs, a share where others train on the same, or cores."""
    return rule.devices or max(rule.workers, 1) * rule.cpus


def speed_of(cluster: Cluster, measured: pd.DataFrame | None = None) -> Speed:
    """How long trials take: as measured, else as stated (``cluster.mfu``), else worked out.

    Args:
        cluster: names the device.
        measured: finished trials on this device: see `measured_in`.
    """
    found = None if measured is None else _correction(measured)
    if found is not None:
        sizes = f"{si(found.range[0])} to {si(found.range[1])} params"
        assert measured is not None
        stated = Cluster(device=cluster.device)  # measured speeds count what there is
        return Speed(stated, f"measured on {len(measured)} trials of {sizes}", found)
    if cluster.mfu is not None:
        return Speed(cluster, f"MFU of {percent(cluster.mfu)} as stated in cluster.mfu")
    return Speed(cluster, "from data sheets; --pilot SWEEP takes a sweep's measured speed")


def _correction(trials: pd.DataFrame) -> Correction | None:
    """Measured over worked-out seconds = a params^b; constant where there is one size only."""
    done = trials[(trials["state"] == "finished") & (trials["wall_s"] > 0)]
    if len(done) < MIN_MEASURED:
        return None
    x = np.log(done["params"].to_numpy(float))
    y = np.log((done["wall_s"] / done["worked_out_s"]).to_numpy(float))
    slope, level = 0.0, float(np.median(y))
    if np.ptp(x) > math.log(2):
        slope, level = (float(v) for v in np.polyfit(x, y, 1))
    ends = (float(done["params"].min()), float(done["params"].max()))
    return Correction(math.exp(level), slope, ends)


def measured_in(record: Record) -> pd.DataFrame:
    """Trials of a sweep, for `speed_of`: with the seconds that were worked out for each."""
    spec, trials = record.sweep, record.trials
    plain = Speed(Cluster(device=spec.cluster.device), "")
    worked_out = [
        plain.wall_s(flops, params, spec.placement, trained(spec, int(params), int(n)))
        for flops, params, n in trials[["flops", "params", "tokens"]].to_numpy()
    ]
    return trials.assign(worked_out_s=worked_out)


def trained(spec: Spec, params: int, tokens: int) -> tuple[Shape, int] | None:
    """What is trained of a size; None where a trainer of the user's decides."""
    return None if spec.trainer is not None else (spec.shape(params), tokens)


def devices_at_hand(cluster: Cluster) -> int:
    """Devices of the spec's kind on this machine or as the spec states; 0 if not known."""
    if cluster.hardware.is_gpu:
        seen = len(list(DRIVER.glob("*/information"))) if cluster.address == "local" else 0
        return seen if cluster.gpus is None else cluster.gpus
    if cluster.cpus is not None:
        return cluster.cpus
    return len(os.sched_getaffinity(0)) if cluster.address == "local" else 0
