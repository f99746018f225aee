"""The validation-set study: the optimum as a function of what the validation loss is made of.

From stored losses alone: any weighting of skills or validation sets is a loss of its own, with an
optimum, a band, and a price for being used in place of the skills one wants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fitting import Fits, compose, composition_range, fit_skills, prepare, share_sweep
from fitting.datamix.composition import loss_matrix
from fitting.errors import FittingError
from fitting.regression import fit_parabola
from fitting.values import Z90, FloatArray
from sweeper.analysis.studies.source import Source
from sweeper.errors import SpecError, did_you_mean

SHARES = tuple(np.linspace(0.0, 1.0, 6))
"""Weights of the first of two losses in the guarded sweep (assumption: p* is nearly a line)."""

WANTED = "wanted"
"""Name of the equally weighted mean of the wanted skills."""


@dataclass(frozen=True)
class ValidationStudy:
    """What the composition does.

    Attributes:
        source: what was analysed.
        wanted: skills the model is for.
        candidates: losses that could stand in for them.
        sweep: one row per budget, method and weight of the first of two skills: share, params,
            low, high, log_ratio to weight 0 and its interval.
        ranges: one row per budget and method: smallest, largest, log_ratio, low, high.
        misplacement: one row per candidate, wanted skill and budget: log_ratio of the candidate's
            optimum to the skill's, its 90 % interval, excess loss in nats, wasted share of FLOPs.
        stand_ins: one row per candidate: rms log_ratio to the wanted mean over budgets by
            parabolas, and greatest wasted share.
    """

    source: Source
    wanted: tuple[str, ...]
    candidates: tuple[str, ...]
    sweep: pd.DataFrame
    ranges: pd.DataFrame
    misplacement: pd.DataFrame
    stand_ins: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Everything found, by name."""
        return {
            "ranges": self.ranges,
            "stand-ins": self.stand_ins,
            "misplacement": self.misplacement,
            "sweep": self.sweep,
        }

    def sentences(self) -> list[str]:
        """What the intervals allow one to say."""
        said = [_range(rows) for _, rows in self.ranges.groupby("method", sort=False)]
        known = self.misplacement.dropna(subset=["wasted"])
        if len(known):
            worst = known.loc[known["wasted"].idxmax()]
            said.append(
                f"The worst choice: sizing by {worst['candidate']} for {worst['skill']} at "
                f"{worst['flops']:.3g} FLOPs trains {math.exp(worst['log_ratio']):.2f} times the "
                f"size it wants, costs {worst['excess']:.4f} nats and wastes "
                f"{worst['wasted']:.0%} of the FLOPs."
            )
        if len(self.stand_ins):
            best = self.stand_ins.iloc[0]
            said.append(
                f"The best stand-in for {', '.join(self.wanted)}: {best['name']}, off by "
                f"{best['rms']:.3f} in ln p* (root mean square over budgets)."
            )
        return said


def study(
    source: Source,
    *,
    wanted: Sequence[str] = (),
    candidates: Sequence[str] = (),
    seed: int = 0,
) -> ValidationStudy:
    """Analyse the losses of the reference mix.

    Args:
        source: the runs.
        wanted: skills the model is for; by default all that belong to a class.
        candidates: losses that could stand in for them; by default the validation sets and the
            aggregate, or all skills where there are none.
        seed: of the draws behind the parabolas' intervals.

    Raises:
        SpecError: a name is not among the skills.
        FittingError: fewer than two skills.
    """
    seen = prepare(source.reference)
    skills = seen.skills
    if len(skills) < 2:
        raise FittingError("the validation study needs the losses of two skills or more")
    for name in (*wanted, *candidates):
        if name not in skills:
            near = did_you_mean(name, skills)
            raise SpecError(f"{name!r} was not measured{near}; measured: {', '.join(skills)}")
    sets = [s for s in skills if s.split("/")[0] == "validation" or s == source.aggregate]
    want = tuple(wanted) or tuple(s for s in skills if s not in sets) or tuple(skills)
    stand = tuple(candidates) or tuple(sets) or tuple(skills)
    pair = _pair(source, list(dict.fromkeys([*want, *stand, *skills])))
    table = seen.frame.drop(columns="budget")
    every = fit_skills(pd.concat([table, *_composites(table, pair), compose_equal(table, want)]))
    names = list(dict.fromkeys([*want, *stand]))
    return ValidationStudy(
        source,
        want,
        stand,
        _sweep(table, every, pair, seen.budgets, seed),
        _ranges(table, every, names, seen.budgets, seed),
        _misplacement(every, want, stand, seen.budgets),
        _stand_ins(table, every, want, stand, seen.budgets),
    )


def compose_equal(table: pd.DataFrame, skills: Sequence[str], name: str = WANTED) -> pd.DataFrame:
    """The mean loss of several skills as a skill of its own."""
    return compose(table, dict.fromkeys(skills, 1.0), name=name)


def _pair(source: Source, skills: Sequence[str]) -> tuple[str, str]:
    """Two skills to weigh against each other: of different classes, knowledge first."""
    first: dict[str, str] = {}
    for skill in skills:
        first.setdefault(source.classes.get(skill, skill), skill)
    ordered = sorted(first.values(), key=lambda s: s != "knowledge")
    return (ordered[0], ordered[1]) if len(ordered) > 1 else (skills[0], skills[1])


def _mixed(share: float) -> str:
    return f"mixed {share:.3g}"


def _composites(table: pd.DataFrame, pair: tuple[str, str]) -> list[pd.DataFrame]:
    return [
        compose(table, {pair[0]: share, pair[1]: 1 - share}, name=_mixed(share))
        for share in SHARES
    ]


def _sweep(
    table: pd.DataFrame,
    fits: Fits,
    pair: tuple[str, str],
    budgets: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """p*(w) on every budget: parabolas with joint draws, and the guarded mixture."""
    head = {"first": pair[0], "second": pair[1]}
    rows: list[dict[str, Any]] = []
    for flops in budgets:
        for share in SHARES:
            best, base = fits[_mixed(share)].at(flops), fits[_mixed(0.0)].at(flops)
            rows.append(
                head | {"flops": flops, "method": "guarded", "share": share,
                        "params": best.params, "low": best.interval[0],
                        "high": best.interval[1], "status": str(best.status),
                        "log_ratio": math.log(best.params / base.params)}
            )  # fmt: skip
    swept = share_sweep(table, *pair, seed=seed).assign(method="parabola", **head)
    return pd.concat([pd.DataFrame(rows), swept], ignore_index=True)


def _ranges(
    table: pd.DataFrame, fits: Fits, names: Sequence[str], budgets: Sequence[float], seed: int
) -> pd.DataFrame:
    """How far the composition can move the optimum on each budget."""
    rows: list[dict[str, Any]] = []
    for one in composition_range(table, skills=names, seed=seed):
        rows.append(
            {"flops": one.flops, "method": "parabola", "smallest": one.smallest,
             "largest": one.largest, "log_ratio": one.log_ratio, "low": one.interval[0],
             "high": one.interval[1]}
        )  # fmt: skip
    for flops in budgets:
        optima = {name: fits[name].at(flops) for name in names}
        known = {name: o for name, o in optima.items() if o.ok}
        if len(known) < 2:
            continue
        small = min(known, key=lambda n: known[n].params)
        large = max(known, key=lambda n: known[n].params)
        value, half = _log_ratio(known[large], known[small])
        rows.append(
            {"flops": flops, "method": "guarded", "smallest": small, "largest": large,
             "log_ratio": value, "low": max(value - half, 0.0), "high": value + half}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _log_ratio(one: Any, other: Any) -> tuple[float, float]:
    """Log ratio of two optima and the half-width of its 90 % interval, errors as independent."""
    error = math.hypot(one.log_params_se, other.log_params_se)
    return math.log(one.params / other.params), Z90 * error


def _misplacement(
    fits: Fits, wanted: Sequence[str], candidates: Sequence[str], budgets: Sequence[float]
) -> pd.DataFrame:
    """What sizing by each candidate costs each wanted skill."""
    rows: list[dict[str, Any]] = []
    for flops in budgets:
        for skill in wanted:
            best = fits[skill].at(flops)
            for name in candidates:
                other = fits[name].at(flops)
                if name == skill or not (best.ok and other.ok):
                    continue
                value, half = _log_ratio(other, best)
                rows.append(
                    {"candidate": name, "skill": skill, "flops": flops, "log_ratio": value,
                     "low": value - half, "high": value + half}
                    | _price(fits, skill, flops, math.exp(value))
                )  # fmt: skip
    names = ["candidate", "skill", "flops", "log_ratio", "low", "high", "excess", "wasted"]
    return pd.DataFrame(rows, columns=names)


def _price(fits: Fits, skill: str, flops: float, factor: float) -> dict[str, float]:
    """Loss above the optimum's, and the share of FLOPs that a right choice would have saved.

    The share follows from how fast the least loss falls along the ladder at this budget: a budget
    just off it would be known worse than the one that was trained, and the two do not compare.
    """
    best = fits[skill].at(flops)
    off = fits[skill].loss(best.params * factor, best.tokens / factor).value
    excess = max(off - fits[skill].loss(best.params, best.tokens).value, 0.0)
    optima = [o for o in fits[skill].optima if o.ok]
    if len(optima) < 2:
        return {"excess": excess, "wasted": math.nan}
    log_flops = np.log([o.flops for o in optima])
    fall = -np.gradient(np.array([o.loss for o in optima]), log_flops)
    rate = float(np.interp(math.log(flops), log_flops, fall))
    return {"excess": excess, "wasted": -math.expm1(-excess / rate) if rate > 0 else math.nan}


def _stand_ins(
    table: pd.DataFrame,
    fits: Fits,
    wanted: Sequence[str],
    candidates: Sequence[str],
    budgets: Sequence[float],
) -> pd.DataFrame:
    """Candidates by how near they come to the wanted mean."""
    names = list(dict.fromkeys([*wanted, *candidates]))
    curves = _curves(table, names)
    want = np.array([float(n in wanted) for n in names])
    rows = [
        {"name": name, "rms": _distance(curves, np.eye(len(names))[names.index(name)], want)}
        | {"wasted": _most_wasted(fits, name, budgets)}
        for name in candidates
    ]
    columns = ["name", "rms", "wasted"]
    return pd.DataFrame(rows, columns=columns).sort_values("rms", ignore_index=True)


def _most_wasted(fits: Fits, name: str, budgets: Sequence[float]) -> float:
    """Greatest wasted share over budgets for the wanted mean."""
    found = []
    for flops in budgets:
        best, other = fits[WANTED].at(flops), fits[name].at(flops)
        if best.ok and other.ok:
            found.append(_price(fits, WANTED, flops, other.params / best.params)["wasted"])
    return max(found, default=math.nan)


def _curves(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[FloatArray, FloatArray]]:
    """Slope and curvature at a common centre of every skill's parabola, per usable budget."""
    found = []
    for _, ln_p, losses in loss_matrix(table, names):
        if len(np.unique(ln_p)) < 4:
            continue
        fits = [fit_parabola(ln_p, y).coefficients for y in losses.T]
        found.append((np.array([f[1] for f in fits]), np.array([f[2] for f in fits])))
    return found


def _vertex(curve: tuple[FloatArray, FloatArray], weights: FloatArray) -> float:
    """ln p* of a weighting from the centre; NaN where it has no minimum."""
    curvature = float(weights @ curve[1])
    return -float(weights @ curve[0]) / (2 * curvature) if curvature > 0 else math.nan


def _distance(
    curves: Sequence[tuple[FloatArray, FloatArray]], weights: FloatArray, want: FloatArray
) -> float:
    """Root mean square of ln p* of two weightings over the budgets where both have one."""
    gaps = np.array([_vertex(c, weights) - _vertex(c, want) for c in curves])
    known = gaps[np.isfinite(gaps)]
    return float(np.sqrt((known**2).mean())) if len(known) else math.nan


def _range(rows: pd.DataFrame) -> str:
    """The budgets on which the choice matters most and least, by one method."""
    most, least = rows.loc[rows["log_ratio"].idxmax()], rows.loc[rows["log_ratio"].idxmin()]

    def shown(row: Mapping[str, Any]) -> str:
        high = f"{100 * math.expm1(row['high']):.0f}" if math.isfinite(row["high"]) else "any"
        return (
            f"{100 * math.expm1(row['log_ratio']):.0f} % at {row['flops']:.3g} FLOPs (90 % "
            f"{100 * math.expm1(row['low']):.0f} to {high} %, from {row['smallest']} to "
            f"{row['largest']})"
        )

    method = most["method"]
    if len(rows) == 1:
        return f"The choice of loss moves the optimum by {shown(most)}, {method}."
    return f"The choice of loss moves the optimum by {shown(least)} to {shown(most)}, {method}."
