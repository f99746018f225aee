"""Whether a skill's losses show minima at all: checks before and after a surface is fitted.

Legend: p = params, C = flops; losses in nats, logarithms natural.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fitting.errors import Status
from fitting.regression import t_quantile
from fitting.values import FloatArray, size

LEAST_SIZES = 3
"""Distinct sizes that a curve needs for a minimum."""

RANK_TOLERANCE = 1e-12
"""Curvature below this share of the losses is rounding."""

STREWN_TERMS = 6
"""Trials on no common budgets that a surface of five constants needs at least."""

ASKED = 5
"""Trials of a curve from which one of them may be called spoiled: two beside the three that a
parabola passes through."""

SPOILED = 8.0
"""Distance from a curve, in usual ones, from which a trial is taken for spoiled (assumption)."""

FAR = 0.25
"""Share of its curve by which a loss must be off for that to be said (assumption: what is given in
nats instead of bits is off by .31)."""

BRACKET = 0.1
"""How far beyond an optimum, ln p, a size must lie to bracket it, and how far short of all of them
sizes may end; assumption."""

NEAR = math.log(1.5)
"""How near a size must have been trained for an optimum to be more than a guess (a sweep that
trained 17-21 k and 243-273 k claimed 65 k: 3 of 18 losses measured there lay in its intervals)."""

Finding = tuple[Status, str]


def check_curves(rows: pd.DataFrame) -> Finding:
    """Status of one skill before any surface: are its isoFLOP curves bent upwards?

    One curvature, and a level and slope per budget, are fitted to all curves of three or more
    sizes, so that a skill passes on the strength of all its budgets. Trials most of which share
    no budget with two other sizes (ladders) are left to the fit.

    Args:
        rows: columns budget, flops, params, loss of one skill.
    """
    curves = [c for _, c in rows.groupby("budget") if c["params"].nunique() >= LEAST_SIZES]
    if 2 * sum(map(len, curves)) > len(rows):
        parts = [_bare(x, y) for x, y in without_spoiled(curves)]
        dof = sum(len(y) for _, y in parts) - 2 * len(curves) - 1
    elif rows["params"].nunique() >= LEAST_SIZES and len(rows) > STREWN_TERMS:
        return Status.OK, f"{len(rows)} losses on no common budgets: judged by the fit alone."
    else:
        most = int(rows.groupby("budget")["params"].nunique().max())
        return Status.TOO_FEW_SIZES, f"No budget has {LEAST_SIZES} sizes; the most is {most}."
    return _finding(
        np.concatenate([bend for bend, _ in parts]),
        np.concatenate([loss for _, loss in parts]),
        dof,
        f"{len(rows)} losses on {rows['budget'].nunique()} budget(s).",
    )


def without_spoiled(curves: list[pd.DataFrame]) -> list[tuple[FloatArray, FloatArray]]:
    """Curves without trials that lie off a parabola by far more than all others do.

    The fit shrugs a diverged trial off; the least squares of these checks would not.
    """
    kept = []
    for x, y, _, sound in _told_apart(curves):
        enough = len(np.unique(x[sound])) >= LEAST_SIZES
        kept.append((x[sound], y[sound]) if enough else (x, y))
    return kept


def spoiled(rows: pd.DataFrame) -> pd.DataFrame:
    """One skill's losses far from its curve on their budget, with the curve's, as ``usual``."""
    curves = [curve for _, curve in rows.groupby("budget")]
    found = [
        curve.assign(usual=y - rest)[~sound & (np.abs(rest) > FAR * np.abs(y - rest))]
        for curve, (_, y, rest, sound) in zip(curves, _told_apart(curves), strict=True)
    ]
    return pd.concat(found)


def _told_apart(
    curves: list[pd.DataFrame],
) -> list[tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]]:
    """Of each curve ln params, loss, its distance from a parabola, and whether that is usual."""
    points = [(np.log(c["params"].to_numpy(float)), c["loss"].to_numpy(float)) for c in curves]
    rests = [_off_parabola(x, y) for x, y in points]
    # Three of each are none, as a parabola of least absolute error passes through three points.
    free = [np.sort(np.abs(rest))[3:] for rest in rests if len(rest) >= ASKED]
    usual = 1.48 * float(np.median(np.concatenate(free))) if free else math.inf
    return [
        (x, y, e, np.abs(e) <= max(SPOILED * usual, RANK_TOLERANCE * float(np.abs(y).max())))
        for (x, y), e in zip(points, rests, strict=True)
    ]


def _off_parabola(x: FloatArray, y: FloatArray) -> FloatArray:
    """Residuals of the parabola of least absolute error; none of fewer than `ASKED` points."""
    if len(x) < ASKED:
        return np.zeros(len(x))
    design = np.vander(x - x.mean(), 3)
    weights, least = np.ones(len(x)), 1e-9 * float(np.abs(y).max())
    for _ in range(30):
        line = np.linalg.lstsq(design * weights[:, None], y * weights, rcond=None)[0]
        rest = y - design @ line
        weights = 1 / np.sqrt(np.maximum(np.abs(rest), least))
    return np.asarray(rest)


def _finding(bend: FloatArray, loss: FloatArray, dof: int, base: str) -> Finding:
    """Sign of the common curvature, if it stands out of its noise."""
    power = float(bend @ bend)
    if power <= 0:
        return Status.TOO_FEW_SIZES, "The sizes do not determine a curvature."
    curvature = float(bend @ loss) / power
    rest = loss - curvature * bend
    error = math.sqrt(float(rest @ rest) / dof / power) if dof > 0 else 0.0
    rounding = RANK_TOLERANCE * float(np.abs(loss).max()) / math.sqrt(power)
    doubt = max(t_quantile(0.9, dof) * error if dof > 0 else 0.0, rounding)
    if abs(curvature) <= doubt:
        return Status.FLAT, f"Curvature {2 * curvature:.2g} nats over all budgets is within noise."
    if curvature < 0:
        return Status.CONCAVE, f"Curvature {2 * curvature:.2g} nats over all budgets is negative."
    return Status.OK, base


def _bare(ln_p: FloatArray, loss: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Squared size and loss of one curve, both freed of level and slope."""
    x = ln_p - ln_p.mean()
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x], axis=1))
    bend, rest = (v - basis @ (basis.T @ v) for v in (x**2, loss - loss.mean()))
    return bend, rest


def check_near(distance: FloatArray, params: FloatArray) -> Finding:
    """Status of one budget: was there a trial near its optimum, and sizes on both sides of it?

    Args:
        distance: ln p of each trial less ln p*.
    """
    nearest = int(np.argmin(np.abs(distance)))
    said = f"the nearest size trained is {size(params[nearest])}"
    if distance.min() > -BRACKET or distance.max() < BRACKET:
        side = "below" if distance.min() > -BRACKET else "above"
        within = distance.min() < 0 < distance.max()
        where = f"lies {side} the sizes" if not within else "lies at the edge of the sizes"
        return Status.EDGE, f"The optimum {where} trained on this budget: {said}."
    if abs(distance[nearest]) > NEAR:
        return Status.GAP, f"No trial within a factor {math.exp(NEAR):.1f} of it: {said}."
    return Status.OK, ""


def check_bracket(distance: FloatArray) -> Finding:
    """Status of one skill after the fit: do its sizes lie on both sides of the optima?

    Sizes that reach the optimum of one budget tell enough: the others have an edge (`check_near`),
    and the skill has its law.

    Args:
        distance: ln p of each row less ln p* of its budget.
    """
    if distance.min() > BRACKET:
        side = "Every size trained lies above the optimum: train smaller ones."
        return Status.NO_INTERIOR_MINIMUM, side
    if distance.max() < -BRACKET:
        side = "Every size trained lies below the optimum: train larger ones."
        return Status.NO_INTERIOR_MINIMUM, side
    return Status.OK, ""
