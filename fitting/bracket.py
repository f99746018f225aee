"""Whether a skill's losses show minima at all: checks before and after a surface is fitted.

Legend: p = params, C = flops; losses in nats, logarithms natural.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fitting.errors import Status
from fitting.regression import t_quantile
from fitting.values import FloatArray

LEAST_SIZES = 3
"""Distinct sizes that a curve needs for a minimum."""

RANK_TOLERANCE = 1e-12
"""Curvature below this share of the losses is rounding."""

STREWN_TERMS = 6
"""Terms of the quadratic in ln p and ln C."""

BRACKET = 0.1
"""How far beyond the optimum, ln p, a size must lie to bracket it; assumption."""

Finding = tuple[Status, str]


def check_curves(rows: pd.DataFrame) -> Finding:
    """Verdict on one skill before any surface: are its isoFLOP curves bent upwards?

    One curvature, and a level and slope per budget, are fitted to all curves of three or more
    sizes, so that a skill passes on the strength of all its budgets. Trials strewn over budgets
    are judged by a quadratic in ln p and ln C.

    Args:
        rows: columns budget, flops, params, loss of one skill.
    """
    curves = [c for _, c in rows.groupby("budget") if c["params"].nunique() >= LEAST_SIZES]
    if curves:
        parts = [_bare(*_sizes_and_losses(c)) for c in curves]
        spare = sum(len(y) for _, y in parts) - 2 * len(curves) - 1
    elif rows["params"].nunique() >= LEAST_SIZES and len(rows) > STREWN_TERMS:
        parts = [_bare(*_sizes_and_losses(rows), np.log(rows["flops"].to_numpy(float)))]
        spare = len(rows) - STREWN_TERMS
    else:
        most = int(rows.groupby("budget")["params"].nunique().max())
        return Status.TOO_FEW_SIZES, f"No budget has {LEAST_SIZES} sizes; the most is {most}."
    return _verdict(
        np.concatenate([bend for bend, _ in parts]),
        np.concatenate([loss for _, loss in parts]),
        spare,
        f"{len(rows)} losses on {rows['budget'].nunique()} budget(s).",
    )


def _sizes_and_losses(rows: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    return np.log(rows["params"].to_numpy(float)), rows["loss"].to_numpy(float)


def _verdict(bend: FloatArray, loss: FloatArray, spare: int, base: str) -> Finding:
    """Sign of the common curvature, if it stands out of its noise."""
    power = float(bend @ bend)
    if power <= 0:
        return Status.TOO_FEW_SIZES, "The sizes do not determine a curvature."
    curvature = float(bend @ loss) / power
    rest = loss - curvature * bend
    error = math.sqrt(float(rest @ rest) / spare / power) if spare > 0 else 0.0
    rounding = RANK_TOLERANCE * float(np.abs(loss).max()) / math.sqrt(power)
    doubt = max(t_quantile(0.9, spare) * error if spare > 0 else 0.0, rounding)
    if abs(curvature) <= doubt:
        return Status.FLAT, f"Curvature {2 * curvature:.2g} nats over all budgets is within noise."
    if curvature < 0:
        return Status.CONCAVE, f"Curvature {2 * curvature:.2g} nats over all budgets is negative."
    return Status.OK, base


def _bare(
    ln_p: FloatArray, loss: FloatArray, ln_c: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Squared size and loss of one curve, both freed of level and slope (and those of ln C)."""
    x = ln_p - ln_p.mean()
    columns = [np.ones_like(x), x]
    if ln_c is not None:
        c = ln_c - ln_c.mean()
        columns += [c, c**2, c * x]
    basis, _ = np.linalg.qr(np.stack(columns, axis=1))
    bend, rest = (v - basis @ (basis.T @ v) for v in (x**2, loss - loss.mean()))
    return bend, rest


def check_bracket(distance: FloatArray) -> Finding:
    """Verdict on one skill after the fit: do its sizes lie on both sides of the optima?

    Args:
        distance: ln p of each row less ln p* of its budget.
    """
    if distance.min() > -BRACKET:
        side = "Every size trained lies above the optimum: train smaller ones."
        return Status.NO_INTERIOR_MINIMUM, side
    if distance.max() < BRACKET:
        side = "Every size trained lies below the optimum: train larger ones."
        return Status.NO_INTERIOR_MINIMUM, side
    return Status.OK, ""
