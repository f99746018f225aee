"""The skills study: claims made on one half of the skills, confirmed on the other.

A claim says that one class's optimum lies above another's, or above the aggregate's. Two methods
side by side: parabolas paired by trial and pooled over budgets (the paper's), and the guarded
mixture (`Fits.compare`). Several claims are confirmed together with Holm's correction. Both halves
are measured on the same trials, as in the paper: a trial's luck is common to both, and the halves
are independent in their examples only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from fitting import Fits, compare_skills, compose, fit_skills, prepare
from fitting.errors import FittingError
from fitting.values import Z90
from sweeper.analysis.studies.source import Source
from sweeper.errors import SpecError, did_you_mean
from trainables.skills.paper import NINETEEN

LEVEL = 0.1
"""Level of claims and of their confirmation: 90 % intervals, as everywhere."""

HYPOTHESIS, HELD_OUT = "hypothesis", "held-out"


@dataclass(frozen=True)
class SkillsStudy:
    """What differs.

    Attributes:
        source: what was analysed.
        halves: skill -> "hypothesis" or "held-out".
        ratios: one row per class or skill, half, reference, method and budget (NaN: pooled):
            log_ratio, low, high.
        claims: one row per comparison and method: log_ratio and p_value on the hypothesis half,
            whether it is claimed, log_ratio, one-sided p_value and its corrected value on the
            held-out half, and the verdict.
    """

    source: Source
    halves: Mapping[str, str]
    ratios: pd.DataFrame
    claims: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Everything found, by name."""
        return {"claims": self.claims, "ratios": self.ratios}

    def sentences(self) -> list[str]:
        """What was claimed, and what became of it."""
        return [_sentence(row) for _, row in self.claims.iterrows()]


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
    seen = prepare(source.reference)
    halves = _halves(source, seen.skills, hypothesis, held_out)
    groups = _groups(source, halves)
    table = seen.frame.drop(columns="budget")
    parts = [
        compose(table, dict.fromkeys(members, 1.0), name=f"{name} ({half})")
        for (name, half), members in groups.items()
    ]
    every = pd.concat([table, *parts], ignore_index=True)
    fits = fit_skills(every)
    classes = list(dict.fromkeys(name for name, _ in groups))
    pairs: list[tuple[str, str | None]] = list(combinations(sorted(classes, reverse=True), 2))
    if source.aggregate:
        pairs += [(name, None) for name in classes]
    if not pairs:
        raise FittingError(
            "the skills study needs skills of two classes, or of one class and an aggregate "
            "called validation"
        )
    rows = []
    for one, other in pairs:
        for half in (HYPOTHESIS, HELD_OUT):
            if (one, half) not in groups or (other is not None and (other, half) not in groups):
                continue
            under = source.aggregate if other is None else f"{other} ({half})"
            reference = source.aggregate if other is None else other
            rows += _ratios(every, fits, f"{one} ({half})", str(under), one, half, str(reference))
    if source.aggregate:
        for skill, half in halves.items():
            rows += _ratios(every, fits, skill, source.aggregate, skill, half, source.aggregate)
    ratios = pd.DataFrame(rows)
    return SkillsStudy(source, halves, ratios, _claims(ratios, pairs, source.aggregate))


def _halves(
    source: Source, skills: Sequence[str], hypothesis: Sequence[str], held_out: Sequence[str]
) -> dict[str, str]:
    for name in (*hypothesis, *held_out):
        if name not in skills:
            near = did_you_mean(name, skills)
            raise SpecError(f"{name!r} was not measured{near}; measured: {', '.join(skills)}")
    both = sorted(set(hypothesis) & set(held_out))
    if both:
        raise SpecError(f"{both[0]!r} is in both halves; name it in one")
    if hypothesis or held_out:
        return dict.fromkeys(hypothesis, HYPOTHESIS) | dict.fromkeys(held_out, HELD_OUT)
    found = {}
    for own in dict.fromkeys(source.classes[s] for s in skills if s in source.classes):
        members = [s for s in skills if source.classes.get(s) == own and "validation" not in s]
        # The mean of all grades of code would be in both halves.
        parts = [s for s in members if s != own or not _has_parts(own, members)]
        for i, skill in enumerate(parts):
            alternate = HELD_OUT if i % 2 and len(parts) > 1 else HYPOTHESIS
            found[skill] = NINETEEN[skill].part if skill in NINETEEN else alternate
    return found


def _has_parts(own: str, members: Sequence[str]) -> bool:
    """Whether a class's own skill is the sum of graded ones beside it."""
    return any(s.removeprefix(f"{own}-").isdigit() for s in members)


def _groups(source: Source, halves: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for skill, half in halves.items():
        own = source.classes.get(skill)
        if own is not None:
            groups.setdefault((own, half), []).append(skill)
    return groups


def _ratios(
    table: pd.DataFrame, fits: Fits, one: str, other: str, name: str, half: str, reference: str
) -> list[dict[str, Any]]:
    """Log ratios of two optima, per budget and pooled, by both methods."""
    head = {"name": name, "half": half, "reference": reference}
    rows = []
    paired = compare_skills(table, one, other)
    for row in paired.frame.itertuples():
        spread = Z90 * row.se
        rows.append(
            head | {"method": "parabola", "flops": row.flops, "log_ratio": row.log_ratio,
                    "low": row.log_ratio - spread, "high": row.log_ratio + spread,
                    "p_value": math.nan}
        )  # fmt: skip
    low, high = paired.interval()
    rows.append(
        head | {"method": "parabola", "flops": math.nan, "log_ratio": paired.pooled, "low": low,
                "high": high, "p_value": paired.p_value}
    )  # fmt: skip
    joint = fits.compare(one, other)
    pooled = (math.nan, joint.pooled, joint.se)
    for flops, value, error in [*joint.frame[["flops", "log_ratio", "se"]].to_numpy(), pooled]:
        spread = Z90 * error
        rows.append(
            head | {"method": "guarded", "flops": flops, "log_ratio": value,
                    "low": value - spread, "high": value + spread,
                    "p_value": joint.p_value if math.isnan(flops) else math.nan}
        )  # fmt: skip
    return rows


def _claims(
    ratios: pd.DataFrame, pairs: Sequence[tuple[str, str | None]], aggregate: str | None
) -> pd.DataFrame:
    pooled = ratios[ratios["flops"].isna()]
    rows = []
    for method in ("guarded", "parabola"):
        own = []
        for one, other in pairs:
            at = (pooled["name"] == one) & (pooled["reference"] == (other or aggregate))
            at &= pooled["method"] == method
            halves = {
                half: pooled[at & (pooled["half"] == half)] for half in (HYPOTHESIS, HELD_OUT)
            }
            own.append(_claim(one, str(other or aggregate), method, halves))
        tested = [row for row in own if row["claimed"] and math.isfinite(row["held_out_p"])]
        for row, corrected in zip(tested, _holm([r["held_out_p"] for r in tested]), strict=True):
            row["corrected_p"] = corrected
            row["verdict"] = "confirmed" if corrected < LEVEL else "not confirmed"
        rows += own
    return pd.DataFrame(rows)


def _claim(
    one: str, other: str, method: str, halves: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """A comparison: made on the hypothesis half, its one-sided p-value on the other."""

    def value(half: str, column: str) -> float:
        return float(halves[half][column].iloc[0]) if len(halves[half]) else math.nan

    first, p = value(HYPOTHESIS, "log_ratio"), value(HYPOTHESIS, "p_value")
    second, two_sided = value(HELD_OUT, "log_ratio"), value(HELD_OUT, "p_value")
    claimed = bool(p < LEVEL)
    agrees = second * first > 0
    return {
        "name": one, "reference": other, "method": method, "log_ratio": first, "p_value": p,
        "claimed": claimed, "held_out_log_ratio": second,
        "held_out_p": two_sided / 2 if agrees else 1 - two_sided / 2,
        "corrected_p": math.nan,
        "verdict": "no held-out skill" if claimed else "no claim",
    }  # fmt: skip


def _holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: holds the chance of any false confirmation."""
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[i])
        corrected[i] = min(running, 1.0)
    return [float(v) for v in corrected]


def _sentence(row: Mapping[str, Any]) -> str:
    pair = f"{row['name']} and {row['reference']} ({row['method']})"
    if not math.isfinite(row["log_ratio"]):
        return f"{pair}: no optima to compare on the hypothesis half."
    first = f"{math.exp(row['log_ratio']):.2f} times on the hypothesis half"
    if not row["claimed"]:
        return f"{pair}: {first}, p = {row['p_value']:.2g}: no claim."
    side = "above" if row["log_ratio"] > 0 else "below"
    claim = f"{row['name']}’s optimum lies {side} {row['reference']}’s ({row['method']})"
    if not math.isfinite(row["corrected_p"]):
        return f"{claim}: {first}, p = {row['p_value']:.2g}; {row['verdict']}."
    return (
        f"{claim}: {first}, {math.exp(row['held_out_log_ratio']):.2f} times on the held-out half, "
        f"p = {row['corrected_p']:.2g} after Holm’s correction: {row['verdict']}."
    )
