"""Compute multipliers of variants of a training, per skill, with intervals and verdicts.

The multiplier of a variant at C is how many times C the reference needs for the loss that the
variant has at C, each at its own best size. One joint fit (`fitting.compare.joint`) of all runs
gives it; several skills and variants share one level of error.

Legend: C = flops; logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from fitting.compare import contrast
from fitting.compare.answers import Answer, HeldOut, Multipliers
from fitting.compare.joint import Joint, VariantTrials, fit_joint
from fitting.compare.verdict import EXPECTED, anytime_p, decide, fixed_p, holm
from fitting.errors import FittingError, TableError
from fitting.reading.observations import BUDGET_TOLERANCE, Observations, Table, prepare
from fitting.reading.runs import Runs
from fitting.values import Convention, FloatArray, check_positive, floats, names

LEVEL = 0.05
"""Chance of any false `better` or `worse` among all skills and variants."""

MARGIN = 1.1
"""Multipliers nearer to 1 than this are no difference that matters (assumption)."""

LEAST_SIZES, LEAST_TRIALS = 3, 5
"""Fewest sizes and trials of a variant, and of the reference, that give a verdict."""

_NEAR = math.log(1.3)  # budgets farther apart than this ratio are others


def compare_runs(
    tables: Mapping[str, Table],
    *,
    flops: float | Sequence[float] | None = None,
    skills: str | Sequence[str] | None = None,
    level: float = LEVEL,
    margin: float = MARGIN,
    anytime: bool = False,
) -> Multipliers:
    """Compare variants of a training with the first of them, the reference.

    Args:
        tables: variant -> its runs, as `fitting.prepare` takes them, or its fits.
        flops: budgets to answer for, the verdicts' first; by default the largest that a variant
            and the reference both have, and all others for the frame.
        skills: those to compare; by default all that the reference and some variant measure.
        level: of the tests, for all skills and variants together.
        margin: a ratio above 1; verdicts call smaller differences none.
        anytime: whether runs were added until the answer pleased: wider, and valid nevertheless.

    Raises:
        FittingError: no names, fewer than two variants, no skill in common, or a budget, a level
            or a margin that is none.
    """
    if not isinstance(tables, Mapping):
        raise FittingError('name the variants: give {"old": its table or path, "new": another}')
    seen = {str(name): prepare(table) for name, table in tables.items()}
    if len(seen) < 2:
        raise FittingError("a comparison needs two variants or more: give another table")
    check_positive(level=level, margin=margin)
    if not 0 < level < 0.5:
        raise FittingError(f"level={level}: give a chance between 0 and .5, such as .05")
    if not margin > 1:
        raise FittingError(f"margin={margin}: give a ratio above 1, such as 1.1")
    asked = [] if flops is None else floats("flops", flops).ravel().tolist()
    for budget in asked:
        check_positive(flops=budget)
    _check_units(seen)
    first, *others = seen.values()
    wanted = first.skills if skills is None else names(skills)
    measured = list(dict.fromkeys(s for one in seen.values() for s in one.skills))
    if unknown := [skill for skill in wanted if skill not in measured]:
        raise FittingError(
            f"skills: {', '.join(unknown)}: measured nowhere; known: {', '.join(measured)}"
        )
    common = [s for s in wanted if s in first.skills and any(s in o.skills for o in others)]
    missing = [
        (name, skill, "not measured" if skill in first.skills else "the reference lacks it")
        for name, one in seen.items()
        for skill in dict.fromkeys([*wanted, *(one.skills if skills is None else ())])
        if skill not in one.skills or skill not in first.skills
    ]
    if not common:
        raise FittingError(
            f"no skill in common: {', '.join(first.skills)} in {next(iter(seen))}; "
            f"{', '.join(dict.fromkeys(s for o in others for s in o.skills))} in the others"
        )
    trials = VariantTrials.of({name: one.frame for name, one in seen.items()}, common)
    found = compare_trials(trials, flops=asked, level=level, margin=margin, anytime=anytime)
    excluded = tuple(dict.fromkeys((*missing, *found.excluded)))
    notes = (*_convention_notes(seen), *found.notes)
    return replace(found, excluded=excluded, notes=notes)


def split_mixes(runs: Runs | pd.DataFrame) -> dict[str, pd.DataFrame]:
    """One table per separate experiment of a table: its ``mix`` column, in order of appearance.

    Raises:
        TableError: there is no such column.
    """
    table = runs.table if isinstance(runs, Runs) else runs
    if "mix" not in table:
        raise TableError("missing column 'mix', which tells experiments apart; read_runs adds it")
    parts = table.groupby("mix", sort=False)
    return {str(name): rows.assign(mix="") for name, rows in parts}


def compare_trials(
    trials: VariantTrials,
    *,
    flops: Sequence[float] | None = None,
    level: float = LEVEL,
    margin: float = MARGIN,
    anytime: bool = False,
    examined: bool = True,
    others: bool = True,
    joint: Joint | None = None,
) -> Multipliers:
    """Compare variants on trials made ready.

    Args:
        flops, level, margin, anytime: see `compare_runs`.
        examined: also ask what a fit without the top budget predicts of it.
        others: also answer for the other budgets that were trained.
        joint: the fit, where it is known.
    """
    coverage = {
        (v, s): _Cover.of(trials, v, s)
        for v in range(1, len(trials.variants))
        for s in range(len(trials.skills))
    }
    fit = joint or fit_joint(trials)
    told = _held_out(trials, fit, coverage) if examined else {}
    rows: list[Answer] = []
    excluded: list[tuple[str, str, str]] = []
    reads: dict[tuple[int, float], _Read] = {}
    for (v, s), cover in coverage.items():
        if not cover.trials:
            excluded.append((trials.variants[v], trials.skills[s], "not measured"))
            continue
        budgets = list(flops or [cover.top])
        further = cover.shared if others else ()
        asked = [*budgets, *(b for b in further if b not in budgets)]
        for i, budget in enumerate(asked):
            fresh = _Read(fit, v, float(budget), margin, anytime)
            answer = reads.setdefault((v, budget), fresh).answer(s)
            beyond = max(1.0, budget / (cover.top * (1 + BUDGET_TOLERANCE)))
            held_out = told.get((v, s))
            doubt = cover.doubt
            if not doubt and beyond > 1 and held_out is not None and not held_out.held:
                doubt = f"its own check fails: {held_out}"
            verdict = "undecided" if i == 0 else ""
            rows.append(
                replace(answer, verdict=verdict, reason=doubt, beyond=beyond, held_out=held_out)
            )
    return Multipliers(
        reference=trials.variants[0],
        answers=tuple(_judged(rows, level, margin)),
        excluded=tuple(excluded),
        notes=_shared_notes(fit),
        level=level,
        margin=margin,
        anytime=anytime,
    )


@dataclass(frozen=True)
class _Read:
    """One variant on one budget, all skills: what is read off the fit at once."""

    fit: Joint
    variant: int
    flops: float
    margin: float
    anytime: bool

    @cached_property
    def half(self) -> FloatArray:
        """(S,) half-widths of 90 % intervals, in standard errors."""
        from scipy.special import stdtrit

        return np.asarray(stdtrit(np.maximum(self.fit.dof(), 1.0), 0.95))

    @cached_property
    def times(self) -> FloatArray:
        """(3, S) multiplier and the ends of its interval."""
        found = contrast.multiplier(self.fit, self.variant, self.flops, self.half)
        return np.exp(np.stack(found))

    @cached_property
    def gap(self) -> contrast.Difference:
        return contrast.difference(self.fit, self.variant, self.flops)

    @cached_property
    def p(self) -> FloatArray:
        """(2, S) p of no difference, and of one as large as the margin."""
        size = math.log(self.margin)
        at = contrast.exceeds(self.fit, self.variant, self.flops, np.array([0.0, size, -size]))
        z, ratio = at.z, EXPECTED / at.se
        dof = self.fit.dof()
        p = anytime_p(z, dof[:, None], ratio) if self.anytime else fixed_p(z, dof[:, None])
        sides = p[:, 1:] if self.anytime else p[:, 1:] / 2  # of two one-sided tests
        outside = (z[:, 1] < 0) | (z[:, 2] > 0)
        return np.stack([p[:, 0], np.where(outside, 1.0, sides.max(1))])

    def answer(self, skill: int) -> Answer:
        """One skill, without a verdict."""
        gap, wide, trials = self.gap, self.half[skill], self.fit.trials

        def span(value: FloatArray, se: FloatArray) -> tuple[float, float, float]:
            middle, error = float(value[skill]), wide * float(se[skill])
            return middle, middle - error, middle + error

        value, low, high = (math.exp(v) for v in span(gap.log_params, gap.log_params_se))
        times = self.times[:, skill].tolist()
        return Answer(
            variant=trials.variants[self.variant],
            skill=trials.skills[skill],
            flops=self.flops,
            multiplier=times[0],
            low=times[1],
            high=times[2],
            loss=span(gap.loss, gap.loss_se),
            optimum=(value, low, high),
            exponent=span(gap.exponent, gap.exponent_se),
            p=float(self.p[0, skill]),
            p_margin=float(self.p[1, skill]),
        )


def _judged(rows: Iterable[Answer], level: float, margin: float) -> list[Answer]:
    """With verdicts: the tests of all skills and variants at one level."""
    rows = list(rows)
    tested = [i for i, row in enumerate(rows) if row.verdict and not row.reason]
    p, p_margin = (holm([getattr(rows[i], n) for i in tested]) for n in ("p", "p_margin"))
    for i, own, equal in zip(tested, p, p_margin, strict=True):
        said = decide(rows[i].multiplier, own, equal, level, margin)
        rows[i] = replace(rows[i], p=float(own), p_margin=float(equal), verdict=said)
    return rows


@dataclass(frozen=True)
class _Cover:
    """What one variant and the reference have of one skill.

    Attributes:
        trials: of the variant.
        shared: budgets both have, ascending.
        top: the largest budget that both reach.
        doubt: why there is no verdict; empty if there may be one.
    """

    trials: int
    shared: tuple[float, ...] = ()
    top: float = math.nan
    doubt: str = ""

    @classmethod
    def of(cls, trials: VariantTrials, variant: int, skill: int) -> _Cover:
        seen = np.isfinite(trials.loss[skill])
        ours, theirs = (seen & (trials.variant == v) for v in (0, variant))
        if not ours.any() or not theirs.any():
            return cls(0)
        have = [_rungs(trials.log_flops[rows]) for rows in (ours, theirs)]
        shared = [b for b in have[0] if np.abs(have[1] - b).min() < _NEAR]
        top = _round(min(float(have[0].max()), float(have[1].max())))
        doubt = _doubt(trials, skill, (ours, theirs), bool(shared))
        return cls(int(theirs.sum()), tuple(_round(float(b)) for b in shared), top, doubt)


def _rungs(log_flops: FloatArray) -> FloatArray:
    """Distinct budgets, ln C, ascending."""
    ordered = np.sort(log_flops)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > BUDGET_TOLERANCE * 3) + 1)
    return np.array([group.mean() for group in groups])


def _doubt(
    trials: VariantTrials, skill: int, rows: tuple[np.ndarray, np.ndarray], shared: bool
) -> str:
    """Why no verdict may be given, and what can be said instead."""
    for name, own in zip(("the reference", "the variant"), rows, strict=True):
        sizes = len(np.unique(np.round(trials.log_params[own], 2)))
        if sizes < LEAST_SIZES or own.sum() < LEAST_TRIALS:
            return (
                f"{name} has {int(own.sum())} trial(s) of {sizes} size(s): a verdict needs "
                f"{LEAST_TRIALS} of {LEAST_SIZES}{_same_size(trials, skill, rows)}"
            )
    if not shared:
        return "no budget in common: the multiplier rests on the law between them"
    return ""


def _same_size(trials: VariantTrials, skill: int, rows: tuple[np.ndarray, np.ndarray]) -> str:
    """Difference in loss on the allocations both have, in words."""
    gaps = [
        trials.loss[skill, j] - trials.loss[skill, i]
        for j in np.flatnonzero(rows[1])
        for i in np.flatnonzero(rows[0])
        if abs(trials.log_flops[i] - trials.log_flops[j]) < 0.01
        and abs(trials.log_params[i] - trials.log_params[j]) < 0.01
    ]
    if not gaps:
        return ""
    return (
        f"; at the same size and budget its loss is {np.mean(gaps):+.4f} more "
        f"({len(gaps)} pair{'s' * (len(gaps) > 1)})"
    )


def _held_out(
    trials: VariantTrials, fit: Joint, coverage: Mapping[tuple[int, int], _Cover]
) -> dict[tuple[int, int], HeldOut]:
    """What a fit without the top budget says of it, where enough is left to ask."""
    highest = trials.log_flops.max() - _NEAR
    rest = trials.take(trials.log_flops < highest)
    blind = {key: _Cover.of(rest, *key) for key, cover in coverage.items()
             if not cover.doubt and cover.top > math.exp(highest)}  # fmt: skip
    usable = {k: c.top for k, c in blind.items() if not c.doubt and len(c.shared) > 1}
    if not usable:
        return {}
    without, found = fit_joint(rest), {}
    flops = _round(float(np.median(trials.log_flops[trials.log_flops >= highest])))
    for (v, s), top in usable.items():
        spans = [_Read(f, v, flops, MARGIN, anytime=False).times[:, s] for f in (without, fit)]
        told, seen = ((float(a), float(b), float(c)) for a, b, c in spans)
        found[v, s] = HeldOut.of(flops, flops / top, told, seen)
    return found


def _round(log_flops: float) -> float:
    """A budget as people write it: four digits."""
    return float(f"{math.exp(log_flops):.4g}")


def _convention_notes(seen: Mapping[str, Observations]) -> list[str]:
    """Say where variants count FLOPs in different ways."""
    factors = {}
    for name, one in seen.items():
        columns = (one.frame[c].to_numpy(float) for c in ("flops", "params", "tokens"))
        factors[name] = Convention.of(*columns)
    reference = next(iter(factors.values()))
    other = {n: c for n, c in factors.items() if abs(math.log(c.factor / reference.factor)) > 0.02}
    if not other:
        return []
    said = "; ".join(f"{n}: {c}" for n, c in {**{next(iter(seen)): reference}, **other}.items())
    return [
        f"FLOPs per parameter and token differ, so multipliers are of FLOPs as counted: {said}"
    ]


def _check_units(seen: Mapping[str, Observations]) -> None:
    """Losses in different units cannot be compared."""
    units = {name: one.read.get("loss_unit") for name, one in seen.items()}
    known = {name: unit for name, unit in units.items() if unit}
    if len(set(known.values())) > 1:
        said = ", ".join(f"{name} in {unit}" for name, unit in known.items())
        raise FittingError(f"losses are of different units: {said}; give one unit, by --columns")


def _shared_notes(fit: Joint) -> tuple[str, ...]:
    """What the estimate rests on."""
    pairs, notes = fit.trials.common().shape[1], []
    part = fit.members[0].common
    if pairs:
        notes.append(
            f"{pairs} allocations (or seeds of one) have several trials, of one variant or two: "
            f"{100 * part:.0f} % of the variance of their errors is common"
            + ", and drops out of differences"
            * (part > 0)
        )
    else:
        notes.append("no allocation is common to two variants: nothing but the law is shared")
    if len(fit.reference.nodes) == 1:
        notes.append(
            "one budget only: what a difference in loss is worth in compute rests on the usual "
            "slope of losses, not on these runs"
        )
    return tuple(notes)
