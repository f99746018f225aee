"""What the intervals allow one to say, in sentences for a report and a terminal."""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from fitting import Fits, PowerLaw, SkillFit
from fitting.errors import Status
from fitting.regression import t_quantile
from sweeper.text import between, number, ratio, si

Certainty = Literal["clear", "suggestive", "undecided"]

SUGGESTIVE = 0.5
"""Share of the 90 % interval's half-width by which ln ratio must differ from 0 to be called
suggestive rather than undecided: odds of about 4 to 1 for the sign (assumption)."""

HEADLINE = ("knowledge", "code")
"""The pair that the question is about (Roberts et al. 2025), when both were measured."""

CLASS = "validation/"
"""Begins the names of skills that are a class's held-out documents."""

ALL_PAIRS = 3
"""Skills of equal rank up to which all are compared with each other; of more, the one that asks
for the largest model with the one that asks for the smallest."""

MUCH_MORE = 10.0
"""Factor of the FLOPs spent from which an undecided pair is called equal for practice (assumption:
who has a tenth of what it takes does not wait for it)."""

_STATUS_WORDS = {
    Status.EDGE: "at the edge",
    Status.FLAT: "flat within noise",
    Status.NO_INTERIOR_MINIMUM: "no minimum",
    Status.NOT_IDENTIFIED: "not determined",
    Status.GAP: "no size near it",
}


def exponent_interval(law: PowerLaw) -> tuple[float, float]:
    """Central 90 % interval of a law's exponent."""
    half = t_quantile(0.9, law.dof) * law.exponent_se
    return law.exponent - half, law.exponent + half


def status_word(status: Status | str) -> str:
    """A status in a word or two."""
    return _STATUS_WORDS.get(Status(status), str(status).replace("-", " "))


@dataclass(frozen=True)
class Contrast:
    """One skill's optimal size over another's, the mean of ln ratio over the budgets.

    Attributes:
        ratio: p*_skill / p*_reference, NaN where it is not known.
        interval: 90 %, (low, high).
        reason: why there is no ratio.
    """

    skill: str
    reference: str
    ratio: float
    interval: tuple[float, float]
    reason: str = ""

    @property
    def certainty(self) -> Certainty:
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
        bounds = between(self.interval, "{:.2f}", word="to")
        return f"{self.ratio:.2f} times, 90 % interval {bounds}"


def contrasts(fits: Fits, aggregate: str | None, weak: Collection[str] = ()) -> list[Contrast]:
    """Skill against skill, class against class, then every one against the aggregate.

    Args:
        aggregate: the skill that all others are compared to; None if it was not measured.
        weak: skills that say nothing, which are left out.
    """
    equal = [name for name in fits if name != aggregate and name not in weak]
    classes = [name for name in equal if name.startswith(CLASS)]
    skills = [name for name in equal if name not in classes]
    pairs = [*_pairs(fits, skills), *_pairs(fits, classes)]
    if aggregate is not None:
        pairs += [(skill, aggregate) for skill in equal]
    return [contrast(fits, *pair) for pair in pairs]


def _pairs(fits: Fits, names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of equal rank that are compared: the headline's first, the larger optimum first."""
    sizes = {name: _middle(fits[name]) for name in names}
    known = sorted((n for n in names if math.isfinite(sizes[n])), key=lambda n: -sizes[n])
    found = [HEADLINE] if set(HEADLINE) <= set(names) else []
    found += list(combinations(known, 2)) if len(known) <= ALL_PAIRS else [(known[0], known[-1])]
    return [pair for i, pair in enumerate(found) if set(pair) not in map(set, found[:i])]


def _middle(fit: SkillFit) -> float:
    """Mean ln p* of the budgets that have an optimum; NaN without one."""
    sizes = [math.log(best.params) for best in fit.optima if best.ok]
    return sum(sizes) / len(sizes) if sizes else math.nan


def contrast(fits: Fits, skill: str, reference: str) -> Contrast:
    """Compare two skills' optima over the trained budgets (`Fits.compare`)."""
    found = fits.compare(skill, reference)
    if math.isfinite(found.pooled):
        low, high = found.interval()
        return Contrast(skill, reference, found.ratio, (math.exp(low), math.exp(high)))
    lacking = [name for name in (skill, reference) if not any(b.ok for b in fits[name].optima)]
    reason = "they have optima on different budgets"
    if lacking:
        fit = fits[lacking[0]]
        first = next((best.status for best in fit.optima if not best.ok), fit.law.status)
        reason = f"{lacking[0]} has no optimum ({status_word(first)})"
    return Contrast(skill, reference, math.nan, (math.nan, math.nan), reason)


def conclusions(
    fits: Fits, aggregate: str | None, weak: Mapping[str, str] | None = None
) -> list[str]:
    """What the fits allow one to say, the main thing first, one sentence each.

    Args:
        aggregate: the skill that others are compared to; None if it was not measured.
        weak: skills that say nothing, with a sentence each (`sweeper.analysis.weak`).
    """
    weak = weak or {}
    without = {skill: text for skill, text in _unusable(fits).items() if skill not in weak}
    said = comparisons(fits, aggregate, leave_out=without, weak=weak)
    if aggregate is not None:
        said += _optimum(fits, aggregate, f"{aggregate}, the aggregate")
    elif len(fits) == 1:  # with nothing to compare, its best size is the answer
        said += [text for skill in fits for text in _optimum(fits, skill, skill)]
    return said + list(without.values()) + _withheld(fits)


def comparisons(
    fits: Fits, aggregate: str | None, *, weak: Mapping[str, str], leave_out: Container[str] = ()
) -> list[str]:
    """Skill against skill, class against class, then each against the aggregate, in sentences.

    Args:
        aggregate: the skill that others are compared to; None for none.
        weak: skills that say nothing, with the sentence that is said of each instead.
        leave_out: skills that are not said to be incomparable, as something else says why.
    """
    found, spent = contrasts(fits, aggregate, weak), _spent(fits)
    many = len(fits) - len(weak) - (aggregate is not None)
    said = [_pair(c, spent) for c in found if c.reference != aggregate]
    if said and many > ALL_PAIRS and {found[0].skill, found[0].reference} != set(HEADLINE):
        said[0] += f" They are the farthest apart of {many} skills, which overstates it."
    against = [c for c in found if c.reference == aggregate]
    return [
        *said,
        *weak.values(),
        *(_against(c) for c in against if math.isfinite(c.ratio) or c.skill not in leave_out),
    ]


def _spent(fits: Fits) -> float:
    """FLOPs of the trainings behind the fits."""
    frame = fits.observations.frame
    return float(frame.drop_duplicates("trial_id")["flops"].sum())


def _pair(c: Contrast, spent: float) -> str:
    """The sentence about two skills of equal rank."""
    if not math.isfinite(c.ratio):
        return f"{c.skill} and {c.reference} cannot be compared yet: {c.reason}."
    if c.certainty == "undecided":
        told = f"The best sizes of {c.skill} and {c.reference} cannot be told apart"
        return f"{told} ({c.numbers}).{_deciding(c, spent)}"
    clear = c.certainty == "clear"
    ending = "excludes 1: clear." if clear else "meets 1: suggestive, not shown."
    return (
        f"On the same budget {c.skill} asks for a {c.direction} model than {c.reference}: "
        f"{c.numbers}. The interval {ending}{'' if clear else _deciding(c, spent)}"
    )


def _deciding(c: Contrast, spent: float) -> str:
    """How many FLOPs would decide a pair, as an interval's width falls with their root."""
    half = math.log(c.interval[1] / c.interval[0]) / 2
    factor = (half / abs(math.log(c.ratio))) ** 2 if c.ratio != 1 else math.inf
    if not math.isfinite(half) or factor <= 1:
        return ""
    if factor > MUCH_MORE:
        most = max(c.interval[1], 1 / c.interval[0])
        return (
            f" More than {MUCH_MORE:g} times the FLOPs would be needed; they differ by no more "
            f"than {most:.2f} times, so one size serves both as well as is known."
        )
    return (
        f" About {number((factor - 1) * spent, 2)} FLOPs more, {factor:.2g} times the "
        f"{number(spent, 2)} spent in all, would decide it, if the ratio stays."
    )


def _against(c: Contrast) -> str:
    """The sentence about one skill and the aggregate."""
    if not math.isfinite(c.ratio):
        return f"{c.skill} cannot be compared to {c.reference} yet: {c.reason}."
    if c.certainty == "undecided":
        return f"{c.skill}’s optimum cannot be told from {c.reference}’s ({c.numbers})."
    how = "is clearly" if c.certainty == "clear" else "may be"
    tail = "" if c.certainty == "clear" else ": suggestive"
    return f"{c.skill}’s optimum {how} {c.direction} than {c.reference}’s ({c.numbers}){tail}."


def _optimum(fits: Fits, skill: str, called: str) -> list[str]:
    """The sentence about one skill's optimum and law."""
    top = max(fits.observations.budgets)
    best, law = fits[skill].at(top), fits[skill].law
    if not math.isfinite(best.params):
        return []
    said = (
        f"{called}: {si(best.params)} params on {si(best.tokens)} tokens at "
        f"{number(top)} FLOPs (90 % {between(best.interval, word='to')}; "
        f"{ratio(best.tokens / best.params)} tokens per param)"
    )
    if law.ok:
        bounds = between(exponent_interval(law), "{:.2f}", word="to")
        said += f"; the optimum grows as C^{law.exponent:.2f} (90 % {bounds})"
    return [said + "."]


def _withheld(fits: Fits) -> list[str]:
    """The sentences about alarms: why a skill has no law, and at last what to do."""
    laws = {skill: fit.law for skill, fit in fits.items()}
    said = [
        f"{skill}: {law.reason[:1].lower()}{law.reason[1:]}"
        for skill, law in laws.items()
        if law.status is Status.NO_COMMON_LAW
    ]
    return [*said[:-1], f"{said[-1]} {Status.NO_COMMON_LAW.advice}"] if said else []


def _unusable(fits: Fits) -> dict[str, str]:
    """Per skill that has them, the budgets without an optimum to plan with, and what to do."""
    said = {}
    for skill, fit in fits.items():
        if bad := [best for best in fit.optima if not best.ok]:
            where = ", ".join(number(best.flops) for best in bad)
            advice = " ".join(dict.fromkeys(best.status.advice for best in bad))
            said[skill] = f"{skill} has no optimum to plan with at {where} FLOPs: {advice}"
    return said
