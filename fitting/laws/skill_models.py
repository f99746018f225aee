"""What every way to a skill's optima has in common, and the model of a skill without any.

Legend: p = params, t = tokens, C = flops; losses in nats, logarithms natural.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from fitting.errors import FitError, Status
from fitting.laws.powerlaw import PowerLaw, no_law
from fitting.values import FloatArray, Optimum, Prediction

Method = Literal["guarded", "parabola", "surface"]
METHODS: tuple[Method, ...] = ("guarded", "parabola", "surface")


class SkillModel(Protocol):
    """One skill's fit by one method."""

    @property
    def status(self) -> Status:
        """Status of the skill."""

    @property
    def reason(self) -> str:
        """What the status rests on."""

    def at(self, flops: float) -> Optimum:
        """Optimum of any budget."""

    def law(self) -> PowerLaw:
        """p* as a power of flops."""

    def loss(self, params: float, tokens: float) -> Prediction:
        """Expected loss of any allocation."""

    def losses(self, params: FloatArray, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Loss of a further trial at allocations (n,), and its standard error, NaN if unknown."""


@dataclass(frozen=True)
class Unusable:
    """A skill whose losses support no fit."""

    status: Status
    reason: str
    method: Method

    def at(self, flops: float) -> Optimum:
        """No number, the reason instead."""
        return Optimum.missing(self.status, self.reason, flops, self.method)

    def law(self) -> PowerLaw:
        """No law, the reason instead."""
        return no_law(self.status, self.reason, self.method)

    def loss(self, params: float, tokens: float) -> Prediction:
        """Always raises: there is nothing to predict with.

        Raises:
            FitError: with the skill's status.
        """
        raise FitError(self.status, self.reason)

    def losses(self, params: FloatArray, tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Always raises, as `loss`."""
        raise FitError(self.status, self.reason)
