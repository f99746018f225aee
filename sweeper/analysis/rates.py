"""Learning rates of somebody's grid: the best at every size, and the law through them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fitting import HyperparameterLaw
from fitting.reading.rates import Rates, read_rates
from fitting.tuning.optima import TunedPoint, fit_points, tuned_points
from fitting.values import Z90
from sweeper.text import si

WINDOWS = (0.01, 0.03, 0.1)
"""Fractions above the best loss within which the quadratic is fitted, the first that holds a
minimum at most sizes: 1 % where it is measured (`fitting.tuning.optima.WINDOW`); coarse grids, a
factor 2 or more between rates, have too few trials so near the best."""


@dataclass(frozen=True)
class RateStudy:
    """What a grid of rates says.

    Attributes:
        rates: the table.
        points: best rate per size (and token count).
        law: rate as a power of size, and of tokens where they differ.
    """

    rates: Rates
    points: tuple[TunedPoint, ...]
    law: HyperparameterLaw

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "read": self.rates.line,
            "size": self.rates.size,
            "points": [
                {
                    "size": p.params, "tokens": p.tokens, "learning_rate": p.value,
                    "low": _interval(p)[0], "high": _interval(p)[1], "flat": list(p.flat),
                    "loss": p.loss, "trials": p.trials, "status": str(p.status),
                    "reason": p.reason,
                }
                for p in self.points
            ],
            "law": {
                "coefficient": self.law.coefficient,
                "size_exponent": self.law.params_exponent,
                "tokens_exponent": self.law.tokens_exponent,
                "size_exponent_se": math.sqrt(max(self.law.covariance[1][1], 0.0)),
                "status": str(self.law.status), "reason": self.law.reason,
            },
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        yield f"read: {self.rates.line}"
        for p in self.points:
            where = f"{self.rates.size} {si(p.params)}"
            where += f", {si(p.tokens)} tokens" if p.tokens != 1 else ""
            if not p.ok:
                yield f"{where:<28} no best rate: {p.reason}"
                continue
            low, high = _interval(p)
            span = f" (90 %: {low:.3g} to {high:.3g})" if math.isfinite(low) else ""
            yield (
                f"{where:<28} best rate {p.value:.3g}{span}; from {p.flat[0]:.3g} to "
                f"{p.flat[1]:.3g} the loss is within .25 % of the least, {p.loss:.4g}"
            )
        yield self._law()

    def _law(self) -> str:
        if not self.law.ok:
            return f"no law: {self.law.reason}"
        half = Z90 * math.sqrt(max(self.law.covariance[1][1], 0.0))
        said = f"law: rate = {self.law.coefficient:.3g} × {self.rates.size}^"
        said += f"{self.law.params_exponent:.3f}" + (f" ± {half:.3f}" if half else "")
        if self.law.tokens_exponent:
            said += f" × tokens^{self.law.tokens_exponent:.3f}"
        largest = 4 * self.law.params_range[1]
        tokens = self.law.tokens_range[1]
        next_rate = self.law.coefficient * largest**self.law.params_exponent
        next_rate *= tokens**self.law.tokens_exponent
        return (
            f"{said}; at {self.rates.size} {si(largest)}, four times the largest: {next_rate:.3g}"
        )


def study_rates(
    source: str | Path,
    columns: Mapping[str, str | float | Sequence[str]] | None = None,
    *,
    where: str = "",
) -> RateStudy:
    """Read a grid of rates and fit its law.

    Raises:
        TableError: there is no rate, no loss, or no size in it.
    """
    rates = read_rates(source, columns, where=where)
    tried = [tuned_points(rates.table, "learning_rate", window=w) for w in WINDOWS]
    enough = [points for points in tried if sum(p.ok for p in points) * 2 > len(points)]
    points = enough[0] if enough else max(tried, key=lambda ps: sum(p.ok for p in ps))
    good = [p for p in points if p.ok]
    several = len({p.tokens for p in good}) > 1 and len({p.params for p in good}) > 1
    predictors: list[Literal["params", "tokens"]] = ["params", "tokens"] if several else ["params"]
    law = fit_points(points, "learning_rate", predictors=predictors)
    if several and not law.ok:
        law = fit_points(points, "learning_rate", predictors=["params"])
    return RateStudy(rates, points, law)


def _interval(point: TunedPoint) -> tuple[float, float]:
    if not math.isfinite(point.log_se):
        return math.nan, math.nan
    half = math.exp(Z90 * point.log_se)
    return point.value / half, point.value * half
