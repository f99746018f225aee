"""What a comparison of variants answers: values, for people and for scripts.

Legend: C = flops; losses in nats.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fitting.values import Z90, number, plain

Span = tuple[float, float, float]
"""A value and the ends of its 90 % interval."""

_FAILED, _LEAST_MISS = 3.0, math.log(1.1)
"""A forecast has failed that misses by this many of its errors and by this much (assumption)."""


@dataclass(frozen=True)
class HeldOut:
    """The multiplier of the top budget by a fit without it, and by the fit of all.

    Attributes:
        flops: the budget held out.
        beyond: how far that is beyond the rest, a ratio of FLOPs.
        told: multiplier predicted and its 90 % interval.
        found: by the fit of all trials.
        held: whether the forecast stands.
    """

    flops: float
    beyond: float
    told: Span
    found: Span
    held: bool

    @classmethod
    def of(cls, flops: float, beyond: float, told: Span, found: Span) -> HeldOut:
        """Judge a forecast."""
        miss = math.log(max(told[0], 1e-300)) - math.log(max(found[0], 1e-300))
        widths = [
            math.log(max(s[2], 1e-300) / max(s[1], 1e-300)) / (2 * Z90) for s in (told, found)
        ]
        apart = abs(miss) > _FAILED * math.hypot(*widths) and abs(miss) > _LEAST_MISS
        return cls(flops, beyond, told, found, not apart)

    def __str__(self) -> str:
        return (
            f"without the top budget ({number(self.flops)} FLOPs, {self.beyond:.3g} times "
            f"the next) {_times(self.told)} was predicted there, found was {_times(self.found)}"
        )


@dataclass(frozen=True)
class Answer:
    """One variant against the reference, by one skill, on one budget.

    Attributes:
        variant: its name.
        skill: its name.
        flops: C.
        multiplier: times C that the reference needs for the variant's loss, each at its own best
            size; infinite, or 0, where beyond a factor 10,000.
        low: of its 90 % interval.
        high: of its 90 % interval.
        loss: variant less reference, nats, each at its own best size; with its interval, as are
        optimum: the ratio of the best sizes, and
        exponent: the difference of the exponents of p*(C), over the whole ladder.
        p: of the test that the multiplier is 1; adjusted for the number of tests if a verdict.
        p_margin: of the test that it differs from 1 by the margin or more, likewise.
        verdict: "better", "worse", "no difference larger than 1.1x" or "undecided"; empty on
            budgets beside the one that is judged.
        reason: why there is no verdict, where the runs do not allow one.
        beyond: C over the largest budget that both have, or 1.
        held_out: the multiplier's own out-of-sample check; None where too little is left.
    """

    variant: str
    skill: str
    flops: float
    multiplier: float
    low: float
    high: float
    loss: Span
    optimum: Span
    exponent: Span
    p: float
    p_margin: float
    verdict: str = ""
    reason: str = ""
    beyond: float = 1.0
    held_out: HeldOut | None = None

    def __str__(self) -> str:
        worth = _times((self.multiplier, self.low, self.high))
        text = f"{self.skill}: {worth} at {number(self.flops)} FLOPs, {self.verdict}"
        return text + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Multipliers:
    """Compute multipliers of variants against a reference.

    Attributes:
        reference: its name.
        answers: by variant and skill; the first of each is judged, others are further budgets.
        excluded: (variant, skill, reason) of what could not be compared.
        notes: what to know before trusting them.
        level: chance of any false `better` or `worse` among all verdicts.
        margin: of `no difference larger than`.
        anytime: whether the verdicts hold however often one has looked.
    """

    reference: str
    answers: tuple[Answer, ...]
    excluded: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    level: float
    margin: float
    anytime: bool = False

    @property
    def verdicts(self) -> tuple[Answer, ...]:
        """The judged answers: one per variant and skill."""
        return tuple(answer for answer in self.answers if answer.verdict)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names, without the reference."""
        return tuple(dict.fromkeys(answer.variant for answer in self.answers))

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the skills compared."""
        return tuple(dict.fromkeys(answer.skill for answer in self.answers))

    def __getitem__(self, key: str | tuple[str, str]) -> Answer:
        """The verdict on a skill, or on (variant, skill) where there are several variants.

        Raises:
            KeyError: not compared, or the variant must be named.
        """
        variant, skill = (None, key) if isinstance(key, str) else key
        found = [a for a in self.verdicts if a.skill == skill and variant in (None, a.variant)]
        if len(found) != 1:
            raise KeyError(f"{key!r}: {len(found)} answers; compared: {', '.join(self.skills)} of "
                           f"{', '.join(self.variants)}")  # fmt: skip
        return found[0]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per answer, ascending budgets: for tables and figures."""
        rows = [_row(answer) for answer in self.answers]
        by = ["variant", "skill", "flops"]
        return pd.DataFrame(rows).sort_values(by, ignore_index=True, kind="stable")

    def to_dict(self) -> dict[str, Any]:
        """Plain values: per variant and skill the verdict, and every budget's multiplier."""
        variants: dict[str, dict[str, Any]] = {}
        for one in self.verdicts:
            budgets = [
                {"flops": a.flops, "multiplier": a.multiplier, "low": a.low, "high": a.high}
                for a in sorted(self.answers, key=lambda a: a.flops)
                if (a.variant, a.skill) == (one.variant, one.skill)
            ]
            values = {**asdict(one), "budgets": budgets}
            values["foretold"] = values.pop("held_out")  # as scripts know it
            variants.setdefault(one.variant, {})[one.skill] = values
        single = {"skills": next(iter(variants.values()))} if len(variants) == 1 else {}
        content = {
            "reference": self.reference,
            **single,
            "variants": variants,
            "excluded": [dict(zip(("variant", "skill", "reason"), e, strict=True))
                         for e in self.excluded],
            "notes": list(self.notes),
            "level": self.level,
            "margin": self.margin,
            "anytime": self.anytime,
        }  # fmt: skip
        return dict(plain(content))

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), allow_nan=False, indent=1)

    @property
    def rule(self) -> str:
        """What the verdicts promise, in words."""
        count = len(self.verdicts)
        when = "however often one looks" if self.anytime else "for runs planned beforehand"
        several = f", for all {count} comparisons together (Holm)" if count > 1 else ""
        return (
            f"multipliers with 90 % intervals, each alone; verdicts at {100 * self.level:.3g} %"
            f"{several}, {when}; no difference means: surely less than {self.margin:g}x"
        )

    def __repr__(self) -> str:
        lines = [f"{', '.join(self.variants)} against {self.reference}; {self.rule}"]
        several = len(self.variants) > 1
        lines += [f"  {f'{a.variant}, ' if several else ''}{a}" for a in self.verdicts]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        names = ["variant", "skill", "flops", "multiplier", "low", "high", "verdict"]
        page: str = self.frame[names].to_html(index=False, float_format="{:.4g}".format)
        return f"{page}<p>{html.escape(self.rule)}</p>"


def _row(answer: Answer) -> Mapping[str, Any]:
    spans = {
        f"{name}{end}": value
        for name in ("loss", "optimum", "exponent")
        for end, value in zip(("", "_low", "_high"), getattr(answer, name), strict=True)
    }
    names = "variant skill flops multiplier low high verdict reason beyond".split()
    return {**{name: getattr(answer, name) for name in names}, **spans}


def _times(span: Span) -> str:
    return f"{times(span[0])} [{times(span[1])}, {times(span[2])}]"


def times(value: float) -> str:
    """A multiplier as people read it; what is beyond telling is said to be."""
    if not 1e-4 < value < 1e4:
        return ">10,000x" if value > 1 else "<0.0001x"
    return f"{value:.3g}x"
