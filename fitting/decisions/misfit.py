"""Whether what a law leaves unexplained is noise between checkpoints, or a sign of a wrong form.

Legend: p = params, t = tokens, x = ln p, y = ln t; n = checkpoints, m = numbers of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fitting.values import FloatArray

TERMS = 6
"""Of a quadratic in x and y, which stands for all that a smooth surface may have missed."""

LEAST_DOF = 3
"""Fewest checkpoints beyond the terms, needed to estimate noise (assumption)."""

CHANCE = 1e-3
"""Greatest chance of noise alone at which a law is refused (assumption)."""

LEAST_FRACTION = 0.05
"""A misfit below this fraction of the data's standard deviation is accepted: no law of a few
constants is exact, and with little noise any would be refused (assumption)."""


@dataclass(frozen=True)
class Misfit:
    """Residuals in two parts, in the unit of the data.

    Attributes:
        systematic: root mean square of the part that a quadratic in x and y explains; NaN with
            too few checkpoints.
        noise: of the rest.
        sd: standard deviation of the data.
        chance: that noise alone would explain as much.
    """

    systematic: float
    noise: float
    sd: float
    chance: float

    @property
    def large(self) -> bool:
        """Whether the law is of the wrong form."""
        return self.chance < CHANCE and self.systematic > LEAST_FRACTION * self.sd

    @classmethod
    def of(
        cls, residual: FloatArray, params: FloatArray, tokens: FloatArray, data: FloatArray
    ) -> Misfit:
        """Split residuals.

        The m values of one checkpoint count as one, as they come from the same answers: the F
        test is exact where they move together, and on the safe side elsewhere.

        Args:
            residual: shape (n, m).
            params: shape (n,).
            tokens: shape (n,).
            data: what was fitted, shape (n, m).
        """
        from scipy.stats import f

        n, sd = len(params), float(data.std())
        if n < TERMS + LEAST_DOF:
            return cls(math.nan, math.nan, sd, math.nan)
        x, y = (np.log(v / v.mean()) for v in (params, tokens))
        basis, _ = np.linalg.qr(np.stack([np.ones(n), x, y, x * x, x * y, y * y], axis=1))
        explained = basis @ (basis.T @ residual)
        rest = residual - explained
        ratio = (explained**2).sum() / TERMS / max((rest**2).sum() / (n - TERMS), 1e-300)
        return cls(
            systematic=math.sqrt((explained**2).mean()),
            noise=math.sqrt((rest**2).sum() / (n - TERMS) / residual.shape[1]),
            sd=sd,
            chance=float(f.sf(ratio, TERMS, n - TERMS)),
        )
