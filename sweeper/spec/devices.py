"""What a device computes per second, stated or measured: hours and money of plans rest on it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.record.record import Results
    from sweeper.spec.placement import Resources
    from sweeper.spec.sections import Cluster

DRIVER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists its devices: read instead of asking torch, which takes seconds."""


@dataclass(frozen=True)
class Device:
    """One accelerator or core as a plan sees it.

    Attributes:
        peak_flops: dense peak, FLOP/s: bfloat16 for GPUs, float32 for a CPU core.
        utilisation: share of it that training reaches (MFU).
        memory_bytes: of one device; infinite where it is the machine's.
    """

    peak_flops: float
    utilisation: float
    memory_bytes: float = math.inf

    @property
    def is_gpu(self) -> bool:
        """Whether it has memory of its own."""
        return math.isfinite(self.memory_bytes)


DEVICES = {
    # Peaks (dense bfloat16) and memory (decimal gigabytes; drivers report 4 to 7 % more) from the
    # makers' data sheets: A100 and L4 (NVIDIA 2022, 2023; the L4's prints the peak with sparsity,
    # twice this), H100 SXM and H200 (2023), DGX B200 (2024, 1,440 GB in eight), MI300X (AMD 2023).
    # 40 % MFU is an assumption that a good loop meets at 350 M params and above, and small models
    # do not.
    "a100": Device(312e12, 0.40, 80e9),
    "a100-40": Device(312e12, 0.40, 40e9),
    "l4": Device(121e12, 0.40, 24e9),
    "h100": Device(989e12, 0.40, 80e9),
    "h200": Device(989e12, 0.40, 141e9),
    "b200": Device(2250e12, 0.40, 180e9),
    "mi300x": Device(1307e12, 0.40, 192e9),
    # One core with AVX-512: matrix products reach 65 GFLOP/s, training of 7 k - 250 k params
    # 5 - 40 of them (measured, benchmarks/train_step.py).
    "cpu-core": Device(65e9, 0.20),
}

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


def local(driver: Path = DRIVER) -> str:
    """Name of this machine's GPU type, or "cpu-core"."""
    for information in sorted(driver.glob("*/information")):
        model = information.read_text(encoding="utf-8").lower()
        if "a100" in model and "40gb" in model:
            return "a100-40"
        for name in DEVICES:
            if name in model.replace("-", " ").split():
                return name
    return "cpu-core"


def device_of(name: str, *, field: str = "cluster.device") -> Device:
    """A device by name.

    Raises:
        SpecError: nobody knows it; the message names ``field``.
    """
    if name not in DEVICES:
        raise SpecError(
            f"{field}={name!r} is unknown{did_you_mean(name, DEVICES)}; "
            f"known: {', '.join(DEVICES)}"
        )
    return DEVICES[name]


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
        found = _measured(cluster.device, measured)
        if found is not None:
            return found
    if cluster.mfu is not None:
        said = f"MFU of {cluster.mfu:.0%} as stated in cluster.mfu"
        return Speed(cluster.device, said, device.peak_flops * cluster.mfu)
    said = f"MFU of {device.utilisation:.0%} assumed: state cluster.mfu, or measure by a pilot"
    return Speed(cluster.device, said, device.peak_flops * device.utilisation)


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


def measured_in(results: Results) -> pd.DataFrame:
    """Trials of a sweep with the number of devices each held, for `speed_of`."""
    cluster = results.sweep.cluster
    return results.trials.assign(
        devices=[devices_of(cluster.rule(p)) for p in results.trials["params"]]
    )


def devices_of(rule: Resources) -> int:
    """Devices that a trial holds: whole GPUs, or cores where it has none."""
    return max(rule.workers, 1) * max(1, math.ceil(rule.gpus or rule.cpus))
