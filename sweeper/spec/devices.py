"""Devices by their data sheets: peak FLOP/s, memory, and which of them this machine has."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import SpecError, did_you_mean
from trainables.families.checks import Strict

DRIVER = Path("/proc/driver/nvidia/gpus")
"""Where NVIDIA's driver lists its devices: read instead of asking torch, which takes seconds."""


GPU_PRODUCTS = 0.7
"""Share of its peak that a GPU reaches in large matrix products (assumption; 60 to 75 % is usual
for bfloat16 on Hopper)."""

FLOPS_PER_BYTE = 250
"""Peak over bandwidth of a GPU of which only peak and memory are told (assumption: it is 153 on an
A100, 164 on an RTX 4090, 295 on an H100, 403 on an L4)."""


@dataclass(frozen=True)
class Device:
    """One accelerator or core as a plan sees it.

    Attributes:
        peak_flops: dense peak, FLOP/s: bfloat16 for GPUs, float32 for a CPU core.
        utilisation: share of it that training of large models reaches (MFU).
        memory_bytes: of one device; infinite where it is the machine's.
        bandwidth: of its memory, bytes/s; infinite where it is not what limits.
        products: share of the peak that large products of our loop reach: little on GPUs without
            bfloat16, where they are in float32.
        bf16: whether they are in bfloat16.
    """

    peak_flops: float
    utilisation: float
    memory_bytes: float = math.inf
    bandwidth: float = math.inf
    products: float = GPU_PRODUCTS
    bf16: bool = True

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
    "a100": Device(312e12, 0.40, 80e9, 2.04e12),
    "a100-40": Device(312e12, 0.40, 40e9, 1.56e12),
    "l4": Device(121e12, 0.40, 24e9, 0.3e12),
    "h100": Device(989e12, 0.40, 80e9, 3.35e12),
    "h200": Device(989e12, 0.40, 141e9, 4.8e12),
    "b200": Device(2250e12, 0.40, 180e9, 8e12),
    "mi300x": Device(1307e12, 0.40, 192e9, 5.3e12),
    # GH200 (2024, 96 GB), H100 PCIe (2023), L40S (2023), A10 (2021; AWS states 70 TFLOP/s for its
    # A10G), A6000 (2021). GeForce: dense, accumulated in float32, by the architectures' white
    # papers (GA102 2021, Ada 2023, Blackwell 2025). V100 and T4 (2020, 2019) have no bfloat16:
    # float16.
    "gh200": Device(990e12, 0.40, 96e9, 4e12),
    "h100-pcie": Device(756e12, 0.40, 80e9, 2e12),
    "l40s": Device(362e12, 0.40, 48e9, 0.86e12),
    "a10g": Device(70e12, 0.40, 24e9, 0.6e12),
    "a10": Device(125e12, 0.40, 24e9, 0.6e12),
    "a6000": Device(155e12, 0.40, 48e9, 0.77e12),
    "rtx3090": Device(71e12, 0.40, 24e9, 0.94e12),
    "rtx4090": Device(165e12, 0.40, 24e9, 1.01e12),
    "rtx5090": Device(209e12, 0.40, 32e9, 1.79e12),
    "v100": Device(125e12, 0.40, 32e9, 0.9e12, 0.11, bf16=False),
    "v100-16": Device(125e12, 0.40, 16e9, 0.9e12, 0.11, bf16=False),
    "t4": Device(65e12, 0.40, 16e9, 0.32e12, 0.11, bf16=False),
    # One core with AVX-512: matrix products reach 65 GFLOP/s, training of 7 k - 250 k params
    # 5 - 40 of them (measured, benchmarks/train_step.py). Bandwidth: of its cache, so that three
    # trials of the README's session (7, 12 and 60 k params) come out within 6 %.
    "cpu-core": Device(65e9, 0.20, bandwidth=25e9, products=1.0, bf16=False),
}


_OTHER_NAMES = {"cpu": "cpu-core", "apple": "cpu-core", "mps": "cpu-core"}
"""Apple's chips train here on their CPU cores."""

_MAKERS = re.compile(r"nvidia|geforce|tesla|amd|instinct|generation|sxm\d?|[\s_-]")


@dataclass(frozen=True)
class OwnDevice(Strict):
    """A device that is not in the list, by its data sheet.

    Attributes:
        peak: dense peak in the precision trained in, FLOP/s.
        memory: of one device, bytes; infinite for a CPU.
    """

    peak: float
    memory: float = math.inf

    def __post_init__(self) -> None:
        if not (1e9 <= self.peak <= 1e17 and self.memory >= 1e9):
            raise ValueError(
                f"device: peak={self.peak:g} FLOP/s and memory={self.memory:g} bytes: write both "
                "in full, such as {peak: 165e12, memory: 24e9} or 165e12:24e9"
            )

    def __str__(self) -> str:
        memory = f", {self.memory / 1e9:.3g} GB" if math.isfinite(self.memory) else ""
        return f"device of {self.peak / 1e12:.3g} TFLOP/s{memory}"


def local(driver: Path = DRIVER) -> str:
    """Name of this machine's GPU type, or "cpu-core" where it has none.

    Raises:
        SpecError: there is a GPU that nobody knows: it must not pass for a core.
    """
    models = [
        found[1].strip()
        for information in sorted(driver.glob("*/information"))
        if (found := re.search(r"(?mi)^model:(.*)$", information.read_text(encoding="utf-8")))
    ]
    if not models:
        return "cpu-core"
    name = _known(models[0])
    if name is None:
        raise SpecError(
            f"cluster.device: this machine's {models[0]} is not known; state its data sheet by "
            "cluster.device: {peak: 165e12, memory: 24e9} (FLOP/s, bytes), or take cpu-core"
        )
    return name


def _known(model: str) -> str | None:
    """The device that a driver's or a person's words name: NVIDIA A100-SXM4-40GB, RTX 4090."""
    text = _MAKERS.sub("", model.lower())
    memory = re.search(r"(\d+)\s*gb", model.lower())
    for name in sorted(DEVICES, key=len, reverse=True):
        base, _, more = name.partition("-")
        if more.isdigit() and (memory is None or memory[1] != more):
            continue
        plain = base + ("" if more.isdigit() else more)
        if text.startswith((plain, plain.removeprefix("rtx"), "rtx" + plain)):
            rest = text[len(plain) :] if text.startswith(plain) else ""
            # Not another chip than its namesake: 3090 Ti, L40 beside L4.
            if not re.match(r"ti|super|mobile|ada|\d(?!\d*gb)", rest):
                return name
    return None


def device_of(device: str | OwnDevice, *, field: str = "cluster.device") -> Device:
    """A device by name, as people write it, or by its own data sheet, also as "165e12:24e9".

    Raises:
        SpecError: it is unknown; the message names ``field``.
    """
    if isinstance(device, str) and ":" in device:
        device = _sheet(device, field)
    if isinstance(device, OwnDevice):
        gpu = math.isfinite(device.memory)
        return Device(
            device.peak,
            0.40,
            device.memory,
            device.peak / FLOPS_PER_BYTE if gpu else math.inf,
            GPU_PRODUCTS if gpu else 1.0,
            bf16=gpu,
        )
    name = device if device in DEVICES else _OTHER_NAMES.get(device.lower()) or _known(device)
    if name is None:
        raise SpecError(
            f"{field}={device!r} is unknown{did_you_mean(device, DEVICES)}; "
            f"known: {', '.join(DEVICES)}; any other by its data sheet, FLOP/s and bytes: "
            "165e12:24e9, or in a spec {peak: 165e12, memory: 24e9}"
        )
    return DEVICES[name]


def _sheet(text: str, field: str) -> OwnDevice:
    """A device by PEAK:MEMORY, as options have it."""
    from fitting.reading.numbers import number

    peak, _, memory = text.partition(":")
    try:
        return OwnDevice(number(peak), number(memory))
    except ValueError as error:
        raise SpecError(f"{field}={text!r}: {error}") from error
