"""What a device computes per second, stated or measured: hours and money of plans rest on it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.spec.devices import DRIVER, device_of
from sweeper.spec.placement import Resources
from sweeper.spec.sections import Cluster

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.record.record import Record

MIN_MEASURED = 3
"""Finished trials from which a speed is read off (assumption)."""


@dataclass(frozen=True)
class Speed:
    """Useful FLOP/s of one device by model size.

    Attributes:
        device: its name.
        source: where the number comes from, in words.
        coefficient: FLOP/s at one parameter.
        exponent: of params; 0 for a stated or assumed utilisation.
        range: params between which it was measured; outside, the nearest end holds.
    """

    device: str
    source: str
    coefficient: float
    exponent: float = 0.0
    range: tuple[float, float] = (1.0, math.inf)

    def __call__(self, params: float) -> float:
        """FLOP/s of one device training a model of this size."""
        inside = min(max(params, self.range[0]), self.range[1])
        return float(self.coefficient * inside**self.exponent)

    def hours(self, flops: float, params: float) -> float:
        """Device-hours that a training takes."""
        return flops / self(params) / 3600


def speed_of(cluster: Cluster, measured: pd.DataFrame | None = None) -> Speed:
    """Speed of the spec's device: measured, else stated (``cluster.mfu``), else assumed.

    Args:
        cluster: names the device.
        measured: trials of a ledger that ran on this device; columns state, params, flops_6p,
            wall_s, devices.

    Raises:
        SpecError: the device is unknown.
    """
    device = device_of(cluster.device)
    if measured is not None:
        found = _measured(str(cluster.device), measured)
        if found is not None:
            return found
    if cluster.mfu is not None:
        said = f"MFU of {cluster.mfu:.0%} as stated in cluster.mfu"
        return Speed(str(cluster.device), said, device.peak_flops * cluster.mfu)
    said = f"MFU of {device.utilisation:.0%} assumed: state cluster.mfu, or measure by a pilot"
    return Speed(str(cluster.device), said, device.peak_flops * device.utilisation)


def _measured(name: str, trials: pd.DataFrame) -> Speed | None:
    """FLOP/s = a params^b through finished trials; constant where there is one size only."""
    import numpy as np

    done = trials[(trials["state"] == "finished") & (trials["wall_s"] > 0)]
    done = done[done["flops_6p"] > 0]
    if len(done) < MIN_MEASURED:
        return None
    x = np.log(done["params"].to_numpy(float))
    y = np.log((done["flops_6p"] / done["wall_s"] / done["devices"]).to_numpy(float))
    slope, level = 0.0, float(np.median(y))
    if np.ptp(x) > math.log(2):
        slope, level = (float(v) for v in np.polyfit(x, y, 1))
    sizes = (float(done["params"].min()), float(done["params"].max()))
    said = f"measured on {len(done)} trials of {sizes[0]:.3g} to {sizes[1]:.3g} params"
    return Speed(name, said, math.exp(level), slope, sizes)


def devices_at_hand(cluster: Cluster) -> int:
    """Devices of the spec's kind on this machine or as the spec states; 0 if not known."""
    if cluster.hardware.is_gpu:
        seen = len(list(DRIVER.glob("*/information"))) if cluster.address == "local" else 0
        return seen if cluster.gpus is None else cluster.gpus
    if cluster.cpus is not None:
        return cluster.cpus
    return len(os.sched_getaffinity(0)) if cluster.address == "local" else 0


def measured_in(record: Record) -> pd.DataFrame:
    """Trials of a sweep with the number of devices each held, for `speed_of`."""
    placement = record.sweep.placement
    return record.trials.assign(
        devices=[devices_of(placement.rule(p)) for p in record.trials["params"]]
    )


def devices_of(rule: Resources) -> int:
    """Devices that a trial holds: whole GPUs, or cores where it has none."""
    return max(rule.workers, 1) * max(1, math.ceil(rule.gpus or rule.cpus))
