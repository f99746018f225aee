"""What a number of devices can train in a number of days, and whether a model fits them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from sweeper.errors import SpecError
from sweeper.spec.devices import Device, device_of

STATE_BYTES = 16.0
"""Per parameter in mixed precision with Adam: 2 of weights, 2 of gradients, 12 of the float32 copy
and both moments (ZeRO, arXiv 1910.02054)."""

ROOM = 0.7
"""Share of a device's memory that the state may take; the rest is for activations (assumption)."""


@dataclass(frozen=True)
class Hardware:
    """Devices held for a while.

    Attributes:
        count: of them.
        name: as it was asked for.
        device: its data sheet.
        days: they are held.
        mfu: share of the peak that training reaches; None for the sheet's assumption.
        price_per_hour: money per device and hour; NaN if unknown.
    """

    count: int
    name: str
    device: Device
    days: float
    mfu: float | None = None
    price_per_hour: float = math.nan

    @classmethod
    def of(
        cls,
        count: float,
        name: str,
        days: float,
        *,
        mfu: float | None = None,
        price_per_hour: float | None = None,
    ) -> Hardware:
        """Check what a person asks for.

        Args:
            name: of `sweeper.spec.devices.DEVICES`, as people write it, or PEAK:MEMORY in FLOP/s
                and bytes.
            mfu: share of the peak that training reaches.
            price_per_hour: money per device and hour.

        Raises:
            SpecError: a number is out of range, or nobody knows the device.
        """
        if not (count >= 1 and count == int(count)):
            raise SpecError(f"gpus={count:g}: give a whole number of devices, 1 or more")
        if not 0 < days < 3650:
            raise SpecError(f"days={days:g}: give days above 0, such as 14 or 0.5")
        if mfu is not None and not 0 < mfu <= 1:
            raise SpecError(f"mfu={mfu:g}: give a share of the peak in (0, 1], such as 0.4")
        if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
            raise SpecError(f"price_per_hour={price_per_hour:g}: give money, 0 or more")
        device = device_of(name, field="device")
        price = math.nan if price_per_hour is None else price_per_hour
        return cls(int(count), name, device, days, mfu, price)

    @property
    def utilisation(self) -> float:
        """Share of the peak that is assumed."""
        return self.device.utilisation if self.mfu is None else self.mfu

    @property
    def hours(self) -> float:
        """Of wall clock."""
        return 24 * self.days

    @property
    def flops(self) -> float:
        """What is trained in that time."""
        return self.count * self.device.peak_flops * self.utilisation * 3600 * self.hours

    def reaching(self, flops: float) -> Hardware:
        """The same devices for as long as a budget takes them."""
        return replace(self, days=self.days * flops / self.flops)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        price = self.price_per_hour * self.count * self.hours
        return {
            "devices": self.count,
            "device": self.name,
            "peak_flops": self.device.peak_flops,
            "mfu": self.utilisation,
            "mfu_assumed": self.mfu is None,
            "device_hours": self.count * self.hours,
            "price": None if math.isnan(price) else price,
        }

    def fit(self, params: float) -> dict[str, Any]:
        """How a model of this size lies on the devices."""
        state = STATE_BYTES * params
        least = max(1, math.ceil(state / (ROOM * self.device.memory_bytes)))
        return {
            "state_bytes": state,
            "state_bytes_per_device": state / self.count,
            "least_devices": least,
            "holds": least <= self.count,
        }
