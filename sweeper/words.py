"""What the intervals allow one to say, in sentences for a report and a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sweeper.budget import si

if TYPE_CHECKING:
    from fitting import Fits, PowerLaw
    from fitting.compare import Comparison

Verdict = Literal["clear", "suggestive", "undecided"]

SUGGESTIVE = 0.5
"""Share of the 90 % interval's half-width by which ln ratio must differ from 0 to be called
suggestive rather than undecided: odds of about 4 to 1 for the sign (assumption)."""

HEADLINE = ("knowledge", "code")
"""The pair that the question is about (Roberts et al. 2025), when both were measured."""


def number(value: float, digits: int = 3) -> str:
    """A number for people, such as 4e11; a dash for NaN."""
    return f"{value:.{digits}g}".replace("e+", "e") if math.isfinite(value) else "–"


def size(value: float) -> str:
    """Params or tokens with a suffix; a dash for NaN."""
    return si(value) if math.isfinite(value) else "–"


def between(interval: tuple[float, float], pattern: str = "") -> str:
    """Both ends of an interval, sizes unless a pattern is given; a dash if it is not known."""
    if not all(map(math.isfinite, interval)):
        return "–"
    low, high = (pattern.format(v) if pattern else si(v) for v in interval)
    return f"{low} – {high}"


def exponent_interval(law: PowerLaw) -> tuple[float, float]:
    """Central 90 % interval of a law's exponent."""
    from fitting.isoflop import t_quantile

    half = t_quantile(0.9, law.dof) * law.exponent_se
    return law.exponent - half, law.exponent + half


@dataclass(frozen=True)
class Contrast:
    """One skill's optimal size over another's on the same budget, all budgets pooled.

    Attributes:
        skill: above the line.
        reference: below it.
        ratio: p*_skill / p*_reference, NaN where it cannot be had.
        interval: 90 %, (low, high).
        reason: why there is no ratio.
    """

    skill: str
    reference: str
    ratio: float
    interval: tuple[float, float]
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """How much the interval allows one to say about the sign."""
        low, high = self.interval
        if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(self.ratio)):
            return "undecided"
        if low > 1 or high < 1:
            return "clear"
        half = math.log(high / low) / 2
        return "suggestive" if abs(math.log(self.ratio)) > SUGGESTIVE * half else "undecided"

    @property
    def direction(self) -> str:
        """The comparative that the ratio asks for."""
        return "larger" if self.ratio > 1 else "smaller"

    @property
    def numbers(self) -> str:
        """Ratio and interval."""
        low, high = self.interval
        return f"{self.ratio:.2f} times, 90 % interval {low:.2f} to {high:.2f}"


def contrasts(fits: Fits, aggregate: str | None) -> list[Contrast]:
    """Knowledge against code where both were measured, then every skill against the aggregate."""
    pairs = [HEADLINE] if set(HEADLINE) <= set(fits) else []
    if aggregate is not None:
        pairs += [(skill, aggregate) for skill in fits if skill != aggregate]
    return [_contrast(fits, *pair) for pair in pairs]


def _contrast(fits: Fits, skill: str, reference: str) -> Contrast:
    """Pool the log ratios of the budgets where both optima can be planned with."""
    from fitting.compare import compare_optima

    # Weights by precision: a budget with few trials must not count as much as a well-known one.
    found = compare_optima(fits[skill].optima, fits[reference].optima, pooling="precision")
    if found.frame.empty:
        return Contrast(skill, reference, math.nan, (math.nan, math.nan), _no_ratio(found))
    low, high = found.interval()
    return Contrast(skill, reference, found.ratio, (math.exp(low), math.exp(high)))


def _no_ratio(found: Comparison) -> str:
    return "no budget has a usable optimum of both" + (
        f" ({found.excluded['reason'].iloc[0].rstrip('.')})" if len(found.excluded) else ""
    )


def conclusions(fits: Fits, aggregate: str | None) -> list[str]:
    """What the fits allow one to say, the main thing first, one sentence each.

    Args:
        fits: of every skill.
        aggregate: the skill that others are compared to; None if it was not measured.
    """
    pairs = contrasts(fits, aggregate)
    said = [_pair(c) for c in pairs if (c.skill, c.reference) == HEADLINE]
    against = [c for c in pairs if c.reference == aggregate]
    if not said and against:
        said.append(_count(against))
    said += [_against(c) for c in against]
    if aggregate is not None:
        said += _optimum(fits, aggregate)
    return said + _unusable(fits)


def _pair(c: Contrast) -> str:
    """The sentence about two skills of equal rank."""
    if not math.isfinite(c.ratio):
        return f"{c.skill} and {c.reference} cannot be compared: {c.reason}."
    if c.verdict == "undecided":
        return (
            f"This sweep does not tell {c.skill}’s optimal size from {c.reference}’s "
            f"({c.numbers})."
        )
    ending = "The interval excludes 1: clear" if c.verdict == "clear" else _MEETS
    return (
        f"On the same budget {c.skill} asks for a {c.direction} model than {c.reference}: "
        f"{c.numbers}. {ending}."
    )


_MEETS = "The interval meets 1: suggestive, not shown"


def _against(c: Contrast) -> str:
    """The sentence about one skill and the aggregate."""
    if not math.isfinite(c.ratio):
        return f"{c.skill} cannot be compared to {c.reference}: {c.reason}."
    if c.verdict == "undecided":
        return f"{c.skill} is not told from {c.reference} ({c.numbers})."
    how = "is clearly" if c.verdict == "clear" else "may be"
    tail = "" if c.verdict == "clear" else ": suggestive"
    return f"{c.skill}’s optimum {how} {c.direction} than {c.reference}’s ({c.numbers}){tail}."


def _count(against: list[Contrast]) -> str:
    """The headline where there is no one pair to speak of."""
    clear = [c for c in against if c.verdict == "clear"]
    larger = sum(c.ratio > 1 for c in clear)
    word = "skill" if len(against) == 1 else "skills"
    return (
        f"Of {len(against)} {word}, {larger} clearly asks for more and {len(clear) - larger} for "
        f"fewer parameters than {against[0].reference} on the same budget; for "
        f"{len(against) - len(clear)} the interval meets equality."
    )


def _optimum(fits: Fits, aggregate: str) -> list[str]:
    """The sentence about the aggregate's optimum and law."""
    top = max(fits.observations.budgets)
    best, law = fits[aggregate].at(top), fits[aggregate].law
    if not math.isfinite(best.params):
        return []
    said = (
        f"{aggregate}, the aggregate: {si(best.params)} params on {si(best.tokens)} tokens at "
        f"{number(top)} FLOPs (90 % {between(best.interval)}; "
        f"{number(best.tokens / best.params)} tokens per param)"
    )
    if law.ok:
        bounds = between(exponent_interval(law), "{:.2f}")
        said += f"; the optimum grows as C^{law.exponent:.2f} (90 % {bounds})"
    return [said + "."]


def _unusable(fits: Fits) -> list[str]:
    """One sentence per verdict that forbids planning with an optimum."""
    where: dict[str, list[str]] = {}
    for skill in fits:
        for best in fits[skill].optima:
            if not best.ok:
                where.setdefault(str(best.status), []).append(f"{skill} at {number(best.flops)}")
    return [
        f"No optimum to plan with ({status}): {_some(names)}." for status, names in where.items()
    ]


def _some(names: Iterable[str], most: int = 6) -> str:
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
