"""Devices by their data sheets: peak FLOP/s, memory, and which of them this machine has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import SpecError, did_you_mean

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
        SpecError: it is unknown; the message names ``field``.
    """
    if name not in DEVICES:
        raise SpecError(
            f"{field}={name!r} is unknown{did_you_mean(name, DEVICES)}; "
            f"known: {', '.join(DEVICES)}"
        )
    return DEVICES[name]
