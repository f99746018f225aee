"""The data-mix study: how each skill's optimum and loss follow the shares of the training data.

Two methods side by side: parabolas per mix with a line through their vertices (the paper's), and
the joint fit of `fitting.datamix.joint`, which shares strength between mixes and keeps its doubts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from fitting.values import Z90
from sweeper.analysis.studies.source import Source

JOINT, PARABOLA = "joint", "parabola"

_LEAST_MIXES = 4
"""Mixes with vertices of both skills from which curves are laid through them."""


@dataclass(frozen=True)
class DatamixStudy:
    """What the mixes did.

    Attributes:
        source: what was analysed.
        fits: the joint fit of each skill.
        optima: one row per mix, skill, budget and method: params, low, high, status, loss.
        slopes: one row per skill, budget and method: slope of ln p* per unit of the own class's
            share, 90 % interval, mixes, status.
        differences: one row per pair of skills, budget and method: difference of slopes,
            90 % interval, p_value.
        alignments: one row per pair, budget and method or curve: ratio, 90 % interval, params.
        costs: one row per skill and budget: loss at the aligning ratio of the joint fit less loss
            at the reference mix, each at its own optimum, nats, 90 % interval.
    """

    source: Source
    fits: Mapping[str, MixFit]
    optima: pd.DataFrame
    slopes: pd.DataFrame
    differences: pd.DataFrame
    alignments: pd.DataFrame
    costs: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Everything found, by name."""
        return {
            "slopes": self.slopes,
            "differences": self.differences,
            "alignments": self.alignments,
            "costs": self.costs,
            "optima": self.optima,
        }

    def sentences(self) -> list[str]:
        """What the intervals allow one to say."""
        said = [_slope(row) for row in _rows(self.slopes[self.slopes["method"] == JOINT])]
        own = self.differences[self.differences["method"] == JOINT]
        said += [_difference(row) for row in _rows(own)]
        said += [_alignment(row) for row in _rows(self.alignments)]
        return said + [_cost(row) for row in _rows(self.costs)]


def study(source: Source) -> DatamixStudy:
    """Analyse the runs of several mixes.

    Raises:
        FittingError: fewer than three mixes, or no skill that follows a class.
    """
    if len(source.shares) < 3:
        raise FittingError(
            f"the data-mix study needs three mixes or more, these runs have {len(source.shares)}; "
            "give a spec `mixes: paper` or names with class multipliers, and a table its shares "
            "(columns share_<class>, or a YAML file of mixes)"
        )
    shares = source.shares
    names = {c for mix in shares.values() for c in mix}
    classes = {s: c for s, c in source.classes.items() if c in names}
    if not classes:
        raise FittingError(f"no skill follows one of the classes {', '.join(sorted(names))}")
    table = source.table[source.table["skill"].isin(list(classes))]
    seen = prepare(table)
    fits = fit_mixes(seen, shares, classes)
    vertices = optima_by_mix(seen, shares)
    lines = _lines(vertices, classes)
    pairs = _pairs(classes, list(fits))
    return DatamixStudy(
        source,
        fits,
        _optima(seen, fits, vertices),
        _slopes(fits, lines, classes),
        _differences(fits, lines, pairs, seen.budgets),
        _alignments(fits, vertices, pairs, source, classes),
        _costs(fits, pairs, source, classes),
    )


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict(orient="records")]


def _pairs(classes: Mapping[str, str], skills: Sequence[str]) -> list[tuple[str, str]]:
    """The first skill of each class against that of each other, knowledge first."""
    first: dict[str, str] = {}
    for skill in sorted(skills, key=lambda s: (s != classes[s], skills.index(s))):
        first.setdefault(classes[skill], skill)
    ordered = sorted(first.values(), key=lambda s: (s != "knowledge", skills.index(s)))
    return list(combinations(ordered, 2))


Lines = dict[tuple[str, float], ShareResponse]


def _lines(vertices: pd.DataFrame, classes: Mapping[str, str]) -> Lines:
    """The line through the parabolas' vertices, by skill and budget."""
    found = {}
    for (skill, flops), rows in vertices.groupby(["skill", "flops"], sort=False):
        share = rows[f"share_{classes[skill]}"]
        found[str(skill), float(flops)] = fit_share_response(share, rows["params"])
    return found


def _optima(
    seen: Observations, fits: Mapping[str, MixFit], vertices: pd.DataFrame
) -> pd.DataFrame:
    """Optimum and least loss under every mix, both methods."""
    trained = set(map(tuple, seen.frame[["mix", "skill", "budget"]].astype(object).to_numpy()))
    rows: list[dict[str, Any]] = []
    for skill, fit in fits.items():
        for flops in fit.grid.budgets:
            (mean, error), (loss, loss_error) = fit.log_optimum(flops), fit.least(flops)
            for i, mix in enumerate(fit.grid.mixes):
                low, high = (math.exp(mean[i] + s * Z90 * error[i]) for s in (-1, 1))
                rows.append(
                    {"mix": mix, "skill": skill, "flops": flops, "method": JOINT,
                     "share": fit.grid.shares[i], "params": math.exp(mean[i]), "low": low,
                     "high": high, "loss": loss[i], "loss_error": loss_error[i],
                     "status": "ok" if (mix, skill, flops) in trained else "predicted"}
                )  # fmt: skip
    for row in _rows(vertices):
        fit = fits[row["skill"]]
        spread = Z90 * row["se"]
        rows.append(
            {"mix": row["mix"], "skill": row["skill"], "flops": row["flops"], "method": PARABOLA,
             "share": fit.grid.shares[fit.grid.mixes.index(row["mix"])], "params": row["params"],
             "low": row["params"] * math.exp(-spread), "high": row["params"] * math.exp(spread),
             "loss": math.nan, "loss_error": math.nan, "status": str(row["status"])}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _slopes(fits: Mapping[str, MixFit], lines: Lines, classes: Mapping[str, str]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for skill, fit in fits.items():
        for flops in fit.grid.budgets:
            slope = fit.slope(flops)
            head = {"skill": skill, "class": classes[skill], "flops": flops}
            rows.append(
                head | {"method": JOINT, "slope": slope.value, "low": slope.interval[0],
                        "high": slope.interval[1], "mixes": len(fit.trained), "status": "ok"}
            )  # fmt: skip
            line = lines.get((skill, flops))
            if line is not None:
                low, high = line.slope_interval() if line.ok else (math.nan, math.nan)
                rows.append(
                    head | {"method": PARABOLA, "slope": line.slope, "low": low, "high": high,
                            "mixes": int(line.dof + 2 * line.ok), "status": str(line.status)}
                )  # fmt: skip
    return pd.DataFrame(rows)


def _differences(
    fits: Mapping[str, MixFit],
    lines: Lines,
    pairs: Sequence[tuple[str, str]],
    budgets: Sequence[float],
) -> pd.DataFrame:
    """Whether two skills follow their own shares with one slope."""
    from scipy.special import stdtr

    names = ["first", "second", "flops", "method", "difference", "low", "high", "p_value"]
    rows: list[tuple[Any, ...]] = []
    for one, other in pairs:
        for flops in budgets:
            own = slope_gap(fits[one], fits[other], flops)
            p = float(2 * stdtr(own.dof, -abs(own.value) / own.error))
            rows.append((one, other, flops, JOINT, own.value, *own.interval, p))
            both = lines.get((one, flops)), lines.get((other, flops))
            if both[0] is not None and both[1] is not None and both[0].ok and both[1].ok:
                gap = slope_difference(both[0], both[1])
                rows.append((one, other, flops, PARABOLA, gap.value, *gap.interval, gap.p_value))
    return pd.DataFrame(rows, columns=names)


def _alignments(
    fits: Mapping[str, MixFit],
    vertices: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    source: Source,
    classes: Mapping[str, str],
) -> pd.DataFrame:
    """Where two optima meet: by the joint fit, and by each curve through the vertices."""
    rows: list[dict[str, Any]] = []
    for under, over in pairs:
        above, below = classes[over], classes[under]
        rest = _rest(source, above, below)
        for flops in fits[over].grid.budgets:
            found: dict[str, Alignment] = {JOINT: align(fits[over], fits[under], flops, rest=rest)}
            wide = vertices[vertices["flops"] == flops].pivot(
                index="mix", columns="skill", values="params"
            )
            wide = wide.dropna(subset=[s for s in (over, under) if s in wide])
            if {over, under} <= set(wide.columns) and len(wide) >= _LEAST_MIXES:
                ratio = [_ratio(source.shares[str(m)], above, below) for m in wide.index]
                for curve in get_args(Curve):
                    found[f"{PARABOLA}, {curve}"] = aligning_ratio(
                        ratio, wide[over], wide[under], curve=curve
                    )
            else:
                reason = f"{len(wide)} mixes have a vertex of both skills, too few."
                found[PARABOLA] = no_alignment(reason)
            rows += [
                {"over": above, "under": below, "flops": flops, "method": method,
                 "ratio": one.ratio, "low": one.interval[0], "high": one.interval[1],
                 "params": one.params, "within": one.within, "status": str(one.status),
                 "reason": one.reason}
                for method, one in found.items()
            ]  # fmt: skip
    return pd.DataFrame(rows)


def _ratio(mix: Mapping[str, float], above: str, below: str) -> float:
    return mix[above] / mix[below] if mix[below] > 0 else math.nan


def _rest(source: Source, above: str, below: str) -> float:
    """Share of all other classes in the reference mix."""
    base = next(iter(source.shares.values()))
    return 1.0 - base[above] - base[below]


def _costs(
    fits: Mapping[str, MixFit],
    pairs: Sequence[tuple[str, str]],
    source: Source,
    classes: Mapping[str, str],
) -> pd.DataFrame:
    """What each skill loses or gains at the joint fit's aligning ratio, at its own optimum."""
    names = ["over", "under", "flops", "ratio", "skill", "cost", "low", "high"]
    base, rows = next(iter(source.shares.values())), []
    for under, over in pairs:
        above, below = classes[over], classes[under]
        for flops in fits[over].grid.budgets:
            rest = _rest(source, above, below)
            meet = align(fits[over], fits[under], flops, rest=rest)
            if not math.isfinite(meet.ratio):
                continue
            aligned = {above: meet.ratio, below: 1.0}
            for skill in (under, over):
                own = classes[skill]
                share = (1 - rest) * aligned[own] / (1 + meet.ratio)
                mean, spread = fits[skill].level(flops, np.array([share, base[own]]))
                contrast = np.array([1.0, -1.0])
                value = float(contrast @ mean)
                half = Z90 * math.sqrt(float(contrast @ spread @ contrast))
                rows.append(
                    (above, below, flops, meet.ratio, skill, value, value - half, value + half)
                )
    return pd.DataFrame(rows, columns=names)


def _slope(row: Mapping[str, Any]) -> str:
    verdict = "clear" if row["low"] > 0 or row["high"] < 0 else "cannot be told from none"
    return (
        f"At {row['flops']:.3g} FLOPs {row['skill']}’s optimum changes by {row['slope']:+.2f} in "
        f"ln p* per unit of the share of {row['class']} (90 % {row['low']:+.2f} to "
        f"{row['high']:+.2f}, {row['mixes']} mixes): {verdict}."
    )


def _difference(row: Mapping[str, Any]) -> str:
    same = "differ" if row["low"] > 0 or row["high"] < 0 else "cannot be told apart"
    return (
        f"The responses of {row['first']} and {row['second']} {same} at {row['flops']:.3g} FLOPs "
        f"(difference {row['difference']:+.2f}, 90 % {row['low']:+.2f} to {row['high']:+.2f}, "
        f"p = {row['p_value']:.2g})."
    )


def _alignment(row: Mapping[str, Any]) -> str:
    where = f"{row['over']}/{row['under']} at {row['flops']:.3g} FLOPs, {row['method']}"
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
        f"reference mix (90 % {row['low']:+.3f} to {row['high']:+.3f}, {row['flops']:.3g} FLOPs)."
    )
