"""What one more trial of an allocation is worth that was trained before.

Legend: S = skills, n = candidates; p = params, C = flops; logarithms natural.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fitting.values import FloatArray

MOST_ALIKE = 0.95
"""Of repeats: a second one never teaches nothing at all (assumption)."""

SAME_PLACE = 1e-4
"""Ln p and ln C within which two trials are one allocation."""

Places = tuple[FloatArray, FloatArray]
"""Ln p and C of some trials, (n,) each."""


@dataclass(frozen=True)
class Crowd:
    """How often places were trained before, and what that costs a repeat.

    Of m trials of one allocation, correlated by r, the fit counts m / (1 + (m - 1) r): the next
    one adds as much as a trial of its own place with a variance `factor` times as great would.

    Attributes:
        before: (n,) trials there, ended or to come.
        same: (n, n) which candidates are one place.
        alike: (S,) r.
    """

    before: FloatArray
    same: npt.NDArray[np.bool_]
    alike: FloatArray

    @property
    def factor(self) -> FloatArray:
        """Variance of one more trial over that of a first one, (S, n)."""
        r = np.minimum(self.alike, MOST_ALIKE)[:, None]
        return np.asarray((1 + self.before * r) * (1 + (self.before - 1) * r) / (1 - r))

    @classmethod
    def alone(cls, n: int) -> Crowd:
        """Every candidate a place of its own that teaches as much each time."""
        return cls(np.zeros(n), np.eye(n, dtype=bool), np.zeros(1))

    def after(self, i: int) -> Crowd:
        """With candidate ``i`` trained once more."""
        return replace(self, before=self.before + self.same[i])


def crowds(
    seen: Places, training: Places, offered: Places, alike: FloatArray
) -> tuple[Crowd, Crowd]:
    """Of the trials in training, one after the other, and of the candidates after all of them."""
    among, between = _same(training, training), _same(offered, offered)
    earlier = _same(training, seen).sum(1) + np.tril(among, -1).sum(1)
    before = _same(offered, seen).sum(1) + _same(offered, training).sum(1)
    return Crowd(earlier, among, alike), Crowd(before, between, alike)


def _same(one: Places, other: Places) -> npt.NDArray[np.bool_]:
    """(n, m) whether they are the same allocation."""
    sizes = np.abs(one[0][:, None] - other[0]) < SAME_PLACE
    budgets = np.abs(np.log(one[1])[:, None] - np.log(other[1])) < SAME_PLACE
    return np.asarray(sizes & budgets)
