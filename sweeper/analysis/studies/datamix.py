"""The data-mix study: how each skill's optimum and loss follow the shares of the training data.

Two methods side by side: parabolas per mix with a line through their vertices (the paper's), and
the joint fit of `fitting.datamix.joint`, which shares strength between mixes and keeps its doubts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, get_args

import numpy as np
import pandas as pd

from fitting import Observations, prepare
from fitting.datamix.alignment import Alignment, Curve, aligning_ratio, no_alignment
from fitting.datamix.contrast import align, slope_gap
from fitting.datamix.joint import MixFit, fit_mixes
from fitting.datamix.shares import (
    ShareResponse,
    fit_share_response,
    optima_by_mix,
    slope_difference,
)
from fitting.errors import FittingError
from fitting.values import Z90, p_words
from sweeper.analysis.studies.source import Source, Study, records
from sweeper.text import number

JOINT, PARABOLA = "joint", "parabola"

_LEAST_MIXES = 4
"""Mixes with vertices of both skills from which curves are laid through them."""

Lines = dict[tuple[str, float], ShareResponse]
Meets = dict[tuple[str, str, float], Alignment]


@dataclass(frozen=True)
class DatamixStudy(Study):
    """What the mixes did.

    Attributes:
        fits: the joint fit of each skill.
        slopes: one row per skill, budget and method: slope of ln p* per unit of the own class's
            share, 90 % interval, mixes, status.
        differences: one row per pair of skills, budget and method: difference of slopes,
            90 % interval, p_value.
        alignments: one row per pair, budget and method or curve: ratio, 90 % interval, params.
        costs: one row per skill and budget: loss at the aligning ratio of the joint fit less loss
            at the reference mix, each at its own optimum, nats, 90 % interval.
        optima: one row per mix, skill, budget and method: params, low, high, status, loss.
    """

    fits: Mapping[str, MixFit]
    slopes: pd.DataFrame
    differences: pd.DataFrame
    alignments: pd.DataFrame
    costs: pd.DataFrame
    optima: pd.DataFrame

    def sentences(self) -> list[str]:
        """What the intervals allow one to say."""
        slopes, gaps = (t[t["method"] == JOINT] for t in (self.slopes, self.differences))
        told = ((slopes, _slope), (gaps, _difference), (self.alignments, _alignment))
        return [say(row) for table, say in (*told, (self.costs, _cost)) for row in records(table)]


def study(source: Source) -> DatamixStudy:
    """Analyse the runs of several mixes.

    Raises:
        FittingError: fewer than three mixes, or no skill that follows a class.
    """
    shares = source.shares
    if len(shares) < 3:
        raise FittingError(
            "the data-mix study needs three mixes or more of known shares, these runs have "
            f"{len(shares)}: give a spec `mixes: paper` or names with class multipliers, and a "
            "table its shares (columns share_<class>, or a YAML file of mixes)"
        )
    names = {c for mix in shares.values() for c in mix}
    classes = {s: c for s, c in source.classes.items() if c in names}
    if not classes:
        raise FittingError(f"no skill follows one of the classes {', '.join(sorted(names))}")
    seen = prepare(source.table[source.table["skill"].isin(list(classes))])
    fits = fit_mixes(seen, shares, classes)
    vertices = optima_by_mix(seen, shares)
    lines = {
        (str(skill), float(flops)): fit_share_response(own[f"share_{classes[skill]}"], own.params)
        for (skill, flops), own in vertices.groupby(["skill", "flops"], sort=False)
    }
    pairs = _pairs(classes, list(fits))
    meets = {
        (under, over, flops): align(
            fits[over], fits[under], flops, rest=_rest(source, over, under)
        )
        for under, over in pairs
        for flops in fits[over].grid.budgets
    }
    return DatamixStudy(
        source,
        fits=fits,
        slopes=_slopes(fits, lines, source),
        differences=_differences(fits, lines, pairs),
        alignments=pd.DataFrame(list(_alignments(meets, vertices, source))),
        costs=_costs(fits, meets, source),
        optima=_optima(seen, fits, vertices),
    )


def _pairs(classes: Mapping[str, str], skills: Sequence[str]) -> list[tuple[str, str]]:
    """The first skill of each class against that of each other, knowledge first."""
    first: dict[str, str] = {}
    for skill in sorted(skills, key=lambda s: (s != classes[s], skills.index(s))):
        first.setdefault(classes[skill], skill)
    ordered = sorted(first.values(), key=lambda s: (s != "knowledge", skills.index(s)))
    return list(combinations(ordered, 2))


def _optima(
    seen: Observations, fits: Mapping[str, MixFit], vertices: pd.DataFrame
) -> pd.DataFrame:
    """Optimum and least loss under every mix, both methods."""
    trained = set(map(tuple, seen.frame[["mix", "skill", "budget"]].astype(object).to_numpy()))
    parts = []
    for skill, fit in fits.items():
        for flops in fit.grid.budgets:
            (mean, error), (loss, loss_error) = fit.log_optimum(flops), fit.least(flops)
            known = ["ok" if (m, skill, flops) in trained else "predicted" for m in fit.grid.mixes]
            head = {"mix": fit.grid.mixes, "skill": skill, "flops": flops, "method": JOINT}
            parts.append(pd.DataFrame(head | {
                "share": fit.grid.shares, "params": np.exp(mean),
                "low": np.exp(mean - Z90 * error), "high": np.exp(mean + Z90 * error),
                "loss": loss, "loss_error": loss_error, "status": known,
            }))  # fmt: skip
    half = np.exp(Z90 * vertices["se"])
    grids = [fits[skill].grid for skill in vertices["skill"]]
    own = vertices[["mix", "skill", "flops"]].assign(
        method=PARABOLA,
        share=[g.shares[g.mixes.index(m)] for g, m in zip(grids, vertices["mix"], strict=True)],
        params=vertices["params"], low=vertices["params"] / half, high=vertices["params"] * half,
        status=vertices["status"].map(str),
    )  # fmt: skip
    return pd.concat([*parts, own], ignore_index=True)


def _slopes(fits: Mapping[str, MixFit], lines: Lines, source: Source) -> pd.DataFrame:
    names = ["skill", "class", "flops", "method", "slope", "low", "high", "mixes", "status"]
    rows: list[tuple[Any, ...]] = []
    for skill, fit in fits.items():
        for flops in fit.grid.budgets:
            head, own = (skill, source.classes[skill], flops), fit.slope(flops)
            rows.append((*head, JOINT, own.value, *own.interval, len(fit.trained), "ok"))
            if line := lines.get((skill, flops)):
                ends = line.slope_interval() if line.ok else (math.nan, math.nan)
                mixes = int(line.dof + 2 * line.ok)
                rows.append((*head, PARABOLA, line.slope, *ends, mixes, str(line.status)))
    return pd.DataFrame(rows, columns=names)


def _differences(
    fits: Mapping[str, MixFit], lines: Lines, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """Whether two skills follow their own shares with one slope."""
    names = ["first", "second", "flops", "method", "difference", "low", "high", "p_value"]
    rows: list[tuple[Any, ...]] = []
    for pair in pairs:
        for flops in fits[pair[0]].grid.budgets:
            own = slope_gap(fits[pair[0]], fits[pair[1]], flops)
            rows.append((*pair, flops, JOINT, own.value, *own.interval, own.p_value))
            both = [lines[skill, flops] for skill in pair if (skill, flops) in lines]
            if len(both) == 2 and all(line.ok for line in both):
                gap = slope_difference(*both)
                rows.append((*pair, flops, PARABOLA, gap.value, *gap.interval, gap.p_value))
    return pd.DataFrame(rows, columns=names)


def _alignments(meets: Meets, vertices: pd.DataFrame, source: Source) -> Iterator[dict[str, Any]]:
    """Where two optima meet: by the joint fit, and by each curve through the vertices."""
    for (under, over, flops), joint in meets.items():
        above, below = source.classes[over], source.classes[under]
        wide = vertices[vertices["flops"] == flops].pivot(
            index="mix", columns="skill", values="params"
        )
        wide = wide.reindex(columns=[over, under]).dropna()
        found: dict[str, Alignment] = {JOINT: joint}
        if len(wide) >= _LEAST_MIXES:
            ratio = [_ratio(source.shares[str(m)], above, below) for m in wide.index]
            for curve in get_args(Curve):
                met = aligning_ratio(ratio, wide[over], wide[under], curve=curve)
                found[f"{PARABOLA}, {curve}"] = met
        else:
            reason = f"{len(wide)} mixes have a vertex of both skills, too few."
            found[PARABOLA] = no_alignment(reason)
        for method, one in found.items():
            yield {
                "over": above, "under": below, "flops": flops, "method": method,
                "ratio": one.ratio, "low": one.interval[0], "high": one.interval[1],
                "params": one.params, "within": one.within, "status": str(one.status),
                "reason": one.reason,
            }  # fmt: skip


def _ratio(mix: Mapping[str, float], above: str, below: str) -> float:
    return mix[above] / mix[below] if mix[below] > 0 else math.nan


def _rest(source: Source, *skills: str) -> float:
    """Share in the reference mix of all classes but those that two skills follow."""
    base = next(iter(source.shares.values()))
    return 1.0 - sum(base[source.classes[skill]] for skill in skills)


def _costs(fits: Mapping[str, MixFit], meets: Meets, source: Source) -> pd.DataFrame:
    """What each skill loses or gains at the joint fit's aligning ratio, at its own optimum."""
    names = ["over", "under", "flops", "ratio", "skill", "cost", "low", "high"]
    base, rows = next(iter(source.shares.values())), []
    contrast = np.array([1.0, -1.0])
    for (under, over, flops), meet in meets.items():
        if not math.isfinite(meet.ratio):
            continue
        both = source.classes[over], source.classes[under]
        left = 1 - _rest(source, over, under)
        for skill, part in ((under, 1.0), (over, meet.ratio)):
            shares = left * part / (1 + meet.ratio), base[source.classes[skill]]
            mean, spread = fits[skill].level(flops, np.array(shares))
            value = float(contrast @ mean)
            half = Z90 * math.sqrt(float(contrast @ spread @ contrast))
            ends = value, value - half, value + half
            rows.append((*both, flops, meet.ratio, skill, *ends))
    return pd.DataFrame(rows, columns=names)


def _excludes_zero(row: Mapping[str, Any]) -> bool:
    return bool(row["low"] > 0 or row["high"] < 0)


def _slope(row: Mapping[str, Any]) -> str:
    found = "clear" if _excludes_zero(row) else "cannot be told from none"
    return (
        f"At {number(row['flops'])} FLOPs {row['skill']}’s optimum changes by "
        f"{row['slope']:+.2f} in ln p* per unit of the share of {row['class']} (90 % "
        f"{row['low']:+.2f} to {row['high']:+.2f}, {row['mixes']} mixes): {found}."
    )


def _difference(row: Mapping[str, Any]) -> str:
    same = "differ" if _excludes_zero(row) else "cannot be told apart"
    return (
        f"The responses of {row['first']} and {row['second']} {same} at "
        f"{number(row['flops'])} FLOPs (difference {row['difference']:+.2f}, 90 % "
        f"{row['low']:+.2f} to {row['high']:+.2f}, {p_words(row['p_value'])})."
    )


def _alignment(row: Mapping[str, Any]) -> str:
    where = f"{row['over']}/{row['under']} at {number(row['flops'])} FLOPs, {row['method']}"
    if not math.isfinite(row["ratio"]):
        return f"No aligning ratio of {where}: {row['reason']}"
    high = f"{row['high']:.2g}" if math.isfinite(row["high"]) else "any"
    outside = "" if row["within"] else ", beyond the ratios tried"
    return (
        f"The optima meet at {row['ratio']:.2g} of {where} (90 % {row['low']:.2g} to "
        f"{high}{outside})."
    )


def _cost(row: Mapping[str, Any]) -> str:
    return (
        f"There {row['skill']}’s best loss changes by {row['cost']:+.3f} nats against the "
        f"reference mix (90 % {row['low']:+.3f} to {row['high']:+.3f}, "
        f"{number(row['flops'])} FLOPs)."
    )
