"""The validation-set study: the optimum as a function of what the validation loss is made of.

From stored losses alone: any weighting of skills or validation sets is a loss of its own, with an
optimum, a band, and a price for being used in place of the skills one wants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from fitting import (
    Fits,
    Optimum,
    SkillFit,
    compose,
    composition_range,
    fit_skills,
    prepare,
    share_sweep,
)
from fitting.datamix.composition import loss_matrix
from fitting.errors import FittingError
from fitting.regression import fit_parabola
from fitting.values import Z90, FloatArray
from sweeper.analysis.studies.source import Source, Study, require_measured
from sweeper.text import number, percent

SHARES = tuple(np.linspace(0.0, 1.0, 6))
"""Weights of the first of two losses in the guarded sweep (assumption: p* is nearly a line)."""

WANTED = "wanted"
"""Name of the equally weighted mean of the wanted skills."""


@dataclass(frozen=True)
class ValidationStudy(Study):
    """What the composition does.

    Attributes:
        wanted: skills the model is for.
        ranges: one row per budget and method: smallest, largest, log_ratio, low, high.
        stand_ins: one row per candidate: rms log_ratio to the wanted mean over budgets by
            parabolas, and greatest wasted share.
        misplacement: one row per candidate, wanted skill and budget: log_ratio of the candidate's
            optimum to the skill's, its 90 % interval, excess loss in nats, wasted share of FLOPs.
        sweep: one row per budget, method and weight of the first of two skills: share, params,
            low, high, log_ratio to weight 0 and its interval.
    """

    wanted: tuple[str, ...]
    ranges: pd.DataFrame
    stand_ins: pd.DataFrame
    misplacement: pd.DataFrame
    sweep: pd.DataFrame

    def sentences(self) -> list[str]:
        """What the intervals allow one to say."""
        said = [_range(rows) for _, rows in self.ranges.groupby("method", sort=False)]
        known = self.misplacement.dropna(subset=["wasted"])
        if len(known):
            worst = known.loc[known["wasted"].idxmax()]
            said.append(
                f"The worst choice: sizing by {worst['candidate']} for {worst['skill']} at "
                f"{number(worst['flops'])} FLOPs trains {math.exp(worst['log_ratio']):.2f} times "
                f"the size it wants, costs {worst['excess']:.4f} nats and wastes "
                f"{percent(worst['wasted'])} of the FLOPs."
            )
        if len(self.stand_ins):
            best = self.stand_ins.iloc[0]
            said.append(
                f"The best stand-in for {', '.join(self.wanted)}: {best['name']}, off by "
                f"{best['rms']:.3f} in ln p* (root mean square over budgets)."
            )
        return said


def study(
    source: Source, *, wanted: Sequence[str] = (), candidates: Sequence[str] = ()
) -> ValidationStudy:
    """Analyse the losses of the reference mix.

    Args:
        wanted: skills the model is for; by default all that belong to a class.
        candidates: losses that could stand in for them; by default the validation sets and the
            aggregate, or all skills where there are none.

    Raises:
        SpecError: a name is not among the skills.
        FittingError: fewer than two skills.
    """
    seen = prepare(source.reference)
    skills, table = seen.skills, seen.frame.drop(columns="budget")
    if len(skills) < 2:
        raise FittingError("the validation study needs the losses of two skills or more")
    require_measured((*wanted, *candidates), skills)
    sets = [s for s in skills if s.split("/")[0] == "validation" or s == source.aggregate]
    want = tuple(wanted) or tuple(s for s in skills if s not in sets) or tuple(skills)
    stand = tuple(candidates) or tuple(sets) or tuple(skills)
    names = list(dict.fromkeys([*want, *stand]))
    pair = _pair(source, list(dict.fromkeys([*names, *skills])))
    mixed = [compose(table, {pair[0]: w, pair[1]: 1 - w}, name=_mixed(w)) for w in SHARES]
    mean = compose(table, dict.fromkeys(want, 1.0), name=WANTED)
    fits = fit_skills(pd.concat([table, *mixed, mean]))
    ranges = [*_parabola_ranges(table, names), *_guarded_ranges(fits, names, seen.budgets)]
    return ValidationStudy(
        source,
        wanted=want,
        ranges=pd.DataFrame(ranges, columns=list(_RANGE)),
        stand_ins=_stand_ins(_curves(table, names), fits, want, stand),
        misplacement=_misplacement(fits, want, stand),
        sweep=_sweep(table, fits, pair),
    )


def _pair(source: Source, skills: Sequence[str]) -> tuple[str, str]:
    """Two skills to weigh against each other: of different classes, knowledge first."""
    first: dict[str, str] = {}
    for skill in skills:
        first.setdefault(source.classes.get(skill, skill), skill)
    ordered = sorted(first.values(), key=lambda s: s != "knowledge")
    return (ordered[0], ordered[1]) if len(ordered) > 1 else (skills[0], skills[1])


def _mixed(share: float) -> str:
    return f"mixed {share:.3g}"


def _sweep(table: pd.DataFrame, fits: Fits, pair: tuple[str, str]) -> pd.DataFrame:
    """p*(w) on every budget: parabolas with joint draws, and the guarded mixture."""
    head = {"first": pair[0], "second": pair[1]}
    rows: list[dict[str, Any]] = []
    for flops in fits.observations.budgets:
        base = fits[_mixed(0.0)].at(flops)
        for share in SHARES:
            best = fits[_mixed(share)].at(flops)
            rows.append(
                head | {"flops": flops, "method": "guarded", "share": share,
                        "params": best.params, "low": best.interval[0],
                        "high": best.interval[1], "status": str(best.status),
                        "log_ratio": math.log(best.params / base.params)}
            )  # fmt: skip
    swept = share_sweep(table, *pair).assign(method="parabola", **head)
    return pd.concat([pd.DataFrame(rows), swept], ignore_index=True)


_RANGE = ("flops", "method", "smallest", "largest", "log_ratio", "low", "high")


def _parabola_ranges(table: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """How far the composition can move the optimum on each budget."""
    for one in composition_range(table, skills=names):
        yield (one.flops, "parabola", one.smallest, one.largest, one.log_ratio, *one.interval)


def _guarded_ranges(
    fits: Fits, names: Sequence[str], budgets: Sequence[float]
) -> Iterator[tuple[Any, ...]]:
    for flops in budgets:
        known = {name: best for name in names if (best := fits[name].at(flops)).ok}
        if len(known) > 1:
            small, *_, large = sorted(known, key=lambda n: known[n].params)
            value, half = _log_ratio(known[large], known[small])
            yield (flops, "guarded", small, large, value, max(value - half, 0.0), value + half)


def _log_ratio(one: Optimum, other: Optimum) -> tuple[float, float]:
    """Log ratio of two optima and the half-width of its 90 % interval, errors as independent."""
    error = math.hypot(one.log_params_se, other.log_params_se)
    return math.log(one.params / other.params), Z90 * error


def _misplacement(fits: Fits, wanted: Sequence[str], candidates: Sequence[str]) -> pd.DataFrame:
    """What sizing by each candidate costs each wanted skill."""
    names = ["candidate", "skill", "flops", "log_ratio", "low", "high", "excess", "wasted"]
    rows: list[tuple[Any, ...]] = []
    for flops, skill, name in product(fits.observations.budgets, wanted, candidates):
        best, other = fits[skill].at(flops), fits[name].at(flops)
        if name != skill and best.ok and other.ok:
            value, half = _log_ratio(other, best)
            price = _price(fits[skill], flops, math.exp(value))
            rows.append((name, skill, flops, value, value - half, value + half, *price))
    return pd.DataFrame(rows, columns=names)


def _price(fit: SkillFit, flops: float, factor: float) -> tuple[float, float]:
    """Loss above the optimum's, and the share of FLOPs that a right choice would have saved.

    The share follows from how fast the least loss falls along the ladder at this budget: a budget
    just off it would be known worse than the one that was trained, and the two do not compare.
    """
    best = fit.at(flops)
    off = fit.loss(best.params * factor, best.tokens / factor).value
    excess = max(off - fit.loss(best.params, best.tokens).value, 0.0)
    optima = [o for o in fit.optima if o.ok]
    if len(optima) < 2:
        return excess, math.nan
    log_flops = np.log([o.flops for o in optima])
    fall = -np.gradient(np.array([o.loss for o in optima]), log_flops)
    rate = float(np.interp(math.log(flops), log_flops, fall))
    return excess, -math.expm1(-excess / rate) if rate > 0 else math.nan


Curves = list[tuple[FloatArray, FloatArray]]


def _stand_ins(
    curves: Curves, fits: Fits, wanted: Sequence[str], candidates: Sequence[str]
) -> pd.DataFrame:
    """Candidates by how near they come to the wanted mean."""
    names = list(dict.fromkeys([*wanted, *candidates]))
    want = np.array([float(n in wanted) for n in names])
    alone = dict(zip(names, np.eye(len(names)), strict=True))
    rows = [(n, _distance(curves, alone[n], want), _most_wasted(fits, n)) for n in candidates]
    found = pd.DataFrame(rows, columns=["name", "rms", "wasted"])
    return found.sort_values("rms", ignore_index=True)


def _most_wasted(fits: Fits, name: str) -> float:
    """Greatest wasted share over budgets for the wanted mean."""
    pairs = [(fits[WANTED].at(c), fits[name].at(c)) for c in fits.observations.budgets]
    ratios = [(a.flops, b.params / a.params) for a, b in pairs if a.ok and b.ok]
    return max((_price(fits[WANTED], *ratio)[1] for ratio in ratios), default=math.nan)


def _curves(table: pd.DataFrame, names: Sequence[str]) -> Curves:
    """Slope and curvature at a common centre of every skill's parabola, per usable budget."""
    found = []
    for _, ln_p, losses in loss_matrix(table, names):
        if len(np.unique(ln_p)) >= 4:
            fits = np.array([fit_parabola(ln_p, y).coefficients for y in losses.T])
            found.append((fits[:, 1], fits[:, 2]))
    return found


def _vertex(curve: tuple[FloatArray, FloatArray], weights: FloatArray) -> float:
    """ln p* of a weighting from the centre; NaN where it has no minimum."""
    curvature = float(weights @ curve[1])
    return -float(weights @ curve[0]) / (2 * curvature) if curvature > 0 else math.nan


def _distance(curves: Curves, weights: FloatArray, want: FloatArray) -> float:
    """Root mean square of ln p* of two weightings over the budgets where both have one."""
    gaps = np.array([_vertex(c, weights) - _vertex(c, want) for c in curves])
    known = gaps[np.isfinite(gaps)]
    return float(np.sqrt((known**2).mean())) if len(known) else math.nan


def _range(rows: pd.DataFrame) -> str:
    """The budgets on which the choice matters most and least, by one method."""
    rows = rows[np.isfinite(rows["log_ratio"])]
    if rows.empty:
        return "No budget has optima by two choices of loss: what the choice moves is not known."
    most, least = rows.loc[rows["log_ratio"].idxmax()], rows.loc[rows["log_ratio"].idxmin()]

    def shown(row: Mapping[str, Any]) -> str:
        high = f"{100 * math.expm1(row['high']):.0f}" if math.isfinite(row["high"]) else "any"
        return (
            f"{100 * math.expm1(row['log_ratio']):.0f} % at {number(row['flops'])} FLOPs (90 % "
            f"{100 * math.expm1(row['low']):.0f} to {high} %, from {row['smallest']} to "
            f"{row['largest']})"
        )

    method = most["method"]
    if len(rows) == 1:
        return f"The choice of loss moves the optimum by {shown(most)}, {method}."
    return f"The choice of loss moves the optimum by {shown(least)} to {shown(most)}, {method}."
