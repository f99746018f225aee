"""The skills study: claims made on one half of the skills, confirmed on the other.

A claim says that one class's optimum lies above another's, or above the aggregate's. Two methods
side by side: parabolas paired by trial and pooled over budgets (the paper's), and the guarded
mixture (`Fits.compare`). Several claims are confirmed together with Holm's correction. Both halves
are measured on the same trials, as in the paper: a trial's luck is common to both, and the halves
are independent in their examples only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from fitting import Fits, compare_skills, compose, fit_skills, prepare
from fitting.compare.verdict import holm
from fitting.errors import FittingError
from fitting.values import Z90, p_words
from sweeper.analysis.studies.source import Source, Study, records, require_measured
from sweeper.errors import SpecError
from trainables.skills.paper import NINETEEN

LEVEL = 0.1
"""Level of claims and of their confirmation: 90 % intervals, as everywhere."""

HYPOTHESIS, HELD_OUT = "hypothesis", "held-out"


@dataclass(frozen=True)
class SkillsStudy(Study):
    """What differs.

    Attributes:
        halves: skill -> "hypothesis" or "held-out".
        claims: one row per comparison and method: log_ratio and p_value on the hypothesis half,
            whether it is claimed, log_ratio, one-sided p_value and its corrected value on the
            held-out half, and the verdict.
        ratios: one row per class or skill, half, reference, method and budget (NaN: pooled):
            log_ratio, low, high.
    """

    halves: Mapping[str, str]
    claims: pd.DataFrame
    ratios: pd.DataFrame

    def sentences(self) -> list[str]:
        """What was claimed, and what became of it."""
        return [_sentence(row) for row in records(self.claims)]


def study(
    source: Source, *, hypothesis: Sequence[str] = (), held_out: Sequence[str] = ()
) -> SkillsStudy:
    """Make claims on one half of the skills and confirm them on the other.

    Args:
        source: the runs; skills without a class take no part.
        hypothesis: skills of the first half; by default the paper's own half of its benchmarks,
            and every other one of each class for other skills.
        held_out: skills of the second half; by default the others.

    Raises:
        SpecError: a name is not among the skills, or is in both halves.
        FittingError: fewer than two classes, counting the aggregate.
    """
    seen, aggregate = prepare(source.reference), source.aggregate
    halves = _halves(source, seen.skills, hypothesis, held_out)
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for skill, half in halves.items():
        if skill in source.classes:
            groups.setdefault((source.classes[skill], half), {})[skill] = 1.0
    classes = list(dict.fromkeys(name for name, _ in groups))
    pairs = list(combinations(sorted(classes, reverse=True), 2))
    pairs += [(name, aggregate) for name in classes] if aggregate else []
    if not pairs:
        raise FittingError(
            "the skills study needs skills of two classes, or of one class and an aggregate "
            "called validation"
        )
    table = seen.frame.drop(columns="budget")
    parts = [compose(table, own, name=f"{name} ({half})") for (name, half), own in groups.items()]
    every = pd.concat([table, *parts], ignore_index=True)
    asked = _comparisons(list(groups), pairs, aggregate)
    if aggregate:
        asked += [(skill, aggregate, skill, half, aggregate) for skill, half in halves.items()]
    fits = fit_skills(every)
    rows = [row for each in asked for row in _ratios(every, fits, *each)]
    ratios = pd.DataFrame(rows, columns=list(_RATIO))
    return SkillsStudy(source, halves=halves, claims=_claims(ratios, pairs), ratios=ratios)


def _comparisons(
    groups: Sequence[tuple[str, str]], pairs: Sequence[tuple[str, str]], aggregate: str | None
) -> list[tuple[str, str, str, str, str]]:
    """Both composites, and the name, half and reference, of each pair that a half has."""
    return [
        (f"{one} ({half})", other if other == aggregate else f"{other} ({half})", one, half, other)
        for one, other in pairs
        for half in (HYPOTHESIS, HELD_OUT)
        if (one, half) in groups and (other == aggregate or (other, half) in groups)
    ]


def _halves(
    source: Source, skills: Sequence[str], hypothesis: Sequence[str], held_out: Sequence[str]
) -> dict[str, str]:
    require_measured((*hypothesis, *held_out), skills)
    both = sorted(set(hypothesis) & set(held_out))
    if both:
        raise SpecError(f"{both[0]!r} is in both halves; name it in one")
    if hypothesis or held_out:
        return dict.fromkeys(hypothesis, HYPOTHESIS) | dict.fromkeys(held_out, HELD_OUT)
    found = {}
    for own in dict.fromkeys(source.classes[s] for s in skills if s in source.classes):
        members = [s for s in skills if source.classes.get(s) == own and "validation" not in s]
        if any(s.removeprefix(f"{own}-").isdigit() for s in members):
            # The mean of all grades of code would be in both halves.
            members = [s for s in members if s != own]
        for i, skill in enumerate(members):
            alternate = HELD_OUT if i % 2 else HYPOTHESIS
            found[skill] = NINETEEN[skill].part if skill in NINETEEN else alternate
    return found


_RATIO = ("name", "half", "reference", "method", "flops", "log_ratio", "low", "high", "p_value")


def _ratios(
    table: pd.DataFrame, fits: Fits, one: str, other: str, *head: str
) -> Iterator[tuple[Any, ...]]:
    """Log ratios of two optima, per budget and pooled, by both methods."""
    paired, joint = compare_skills(table, one, other), fits.compare(one, other)
    half = Z90 * joint.se
    for method, found, ends in (
        ("parabola", paired, paired.interval()),
        ("guarded", joint, (joint.pooled - half, joint.pooled + half)),
    ):
        for flops, value, error in found.frame[["flops", "log_ratio", "se"]].to_numpy():
            own = value, value - Z90 * error, value + Z90 * error
            yield (*head, method, flops, *own, math.nan)
        yield (*head, method, math.nan, found.pooled, *ends, found.p_value)


def _claims(ratios: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    pooled = ratios[ratios["flops"].isna()].set_index(["name", "reference", "method", "half"])
    rows = []
    for method in ("guarded", "parabola"):
        own = [_claim(pooled, *pair, method) for pair in pairs]
        tested = [row for row in own if row["claimed"] and math.isfinite(row["held_out_p"])]
        for row, corrected in zip(tested, holm([r["held_out_p"] for r in tested]), strict=True):
            row["corrected_p"] = float(corrected)
            row["verdict"] = "confirmed" if corrected < LEVEL else "not confirmed"
        rows += own
    return pd.DataFrame(rows)


def _claim(pooled: pd.DataFrame, one: str, other: str, method: str) -> dict[str, Any]:
    """A comparison: made on the hypothesis half, its one-sided p-value on the other."""

    def values(half: str) -> tuple[float, float]:
        key = (one, other, method, half)
        known = key in pooled.index
        row = pooled.loc[[key]].iloc[0] if known else {"log_ratio": math.nan, "p_value": math.nan}
        return float(row["log_ratio"]), float(row["p_value"])

    (first, p), (second, two_sided) = values(HYPOTHESIS), values(HELD_OUT)
    claimed = bool(p < LEVEL)
    return {
        "name": one, "reference": other, "method": method, "log_ratio": first, "p_value": p,
        "claimed": claimed, "held_out_log_ratio": second,
        "held_out_p": two_sided / 2 if second * first > 0 else 1 - two_sided / 2,
        "corrected_p": math.nan,
        "verdict": "no held-out skill" if claimed else "no claim",
    }  # fmt: skip


def _sentence(row: Mapping[str, Any]) -> str:
    pair = f"{row['name']} and {row['reference']} ({row['method']})"
    if not math.isfinite(row["log_ratio"]):
        return f"{pair}: no optima to compare on the first half of the skills."
    first = f"{math.exp(row['log_ratio']):.2f} times on the first half of the skills"
    if not row["claimed"]:
        return f"{pair}: {first}, {p_words(row['p_value'])}: no claim."
    side = "above" if row["log_ratio"] > 0 else "below"
    claim = f"{row['name']}’s optimum lies {side} {row['reference']}’s ({row['method']})"
    if not math.isfinite(row["corrected_p"]):
        return f"{claim}: {first}, {p_words(row['p_value'])}; {row['verdict']}."
    return (
        f"{claim}: {first}, {math.exp(row['held_out_log_ratio']):.2f} times on the half kept "
        f"back, {p_words(row['corrected_p'])} after Holm’s correction: {row['verdict']}."
    )
