"""The mixture's own examination: fitted without the top budget, what does it predict there?

Legend: S = skills, n = trials held out; losses in nats, logarithms natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitting.mixture.data import Trials
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.values import Z90, FloatArray, number, size

TOP = math.log(1.5)
"""Trials within this of the largest flops are its budget."""

LEAST_ABOVE, LEAST_BELOW, LEAST_BUDGETS = 3, 12, 3
"""Fewest trials held out, trials left, and budgets left: fewer examine nothing (assumption)."""

FAILED, LEAST_MISS = 3.0, 0.3
"""A forecast of ln p* has failed that misses by this many of its errors and this much, a factor
1.35; one of losses, by this many of their errors in the median (assumption)."""


@dataclass(frozen=True)
class Score:
    """One skill's forecast of the top budget by a fit without it, and what was measured.

    Attributes:
        flops: the budget held out.
        beyond: how far that is beyond the largest budget that was fitted, a ratio of FLOPs.
        params: optimum predicted, with its 90 % interval.
        interval: of ``params``.
        found: optimum by the fit of all trials, with its 90 % interval.
        found_interval: of ``found``.
        loss_error: median relative error of the losses predicted, signed: positive is too high.
        inside: share of the losses inside their 90 % intervals.
        trials: number of losses held out.
        held: whether the examination was passed.
    """

    flops: float
    beyond: float
    params: float
    interval: tuple[float, float]
    found: float
    found_interval: tuple[float, float]
    loss_error: float
    inside: float
    trials: int
    held: bool

    def __str__(self) -> str:
        """One sentence."""
        low, high = self.interval
        return (
            f"without the top budget ({number(self.flops)} FLOPs, {self.beyond:.3g} times "
            f"the next) p* = {size(self.params)} [{size(low)}, {size(high)}] was predicted there, "
            f"found was {size(self.found)}; losses were off by {100 * self.loss_error:+.2g} % in "
            f"the median, {100 * self.inside:.0f} % of {self.trials} inside their intervals"
        )


def examine(fit: Guarded) -> dict[str, Score]:
    """Scores of the skills that can be examined: none from few trials or budgets."""
    trials = fit.measured
    above = _held_out(trials)
    if above is None:
        return {}
    below, held = trials.take(~above), trials.take(above)
    rungs = fit.ladder[np.log(fit.ladder) <= below.log_flops.max() + TOP]
    blind = fit_guarded(below, ladder=rungs, within=False)  # as all that is told beyond the trials
    flops = math.exp(float(np.median(held.log_flops)))
    told, found = blind.log_optimum([flops]), fit.log_optimum([flops])
    scores = {}
    for skill in held.skills:
        if skill in blind.skills:
            i, j = blind.skills.index(skill), fit.skills.index(skill)
            at = (float(told[0][i, 0]), float(told[1][i, 0]))
            true = (float(found[0][j, 0]), float(found[1][j, 0]))
            z, error = _losses(blind, held, skill)
            beyond = flops / blind.data_flops[1]
            scores[skill] = _score(flops, beyond, at, true, z, error)
    return scores


def _held_out(trials: Trials) -> npt.NDArray[np.bool_] | None:
    """Which trials are of the top budget, if those and the rest are enough."""
    top = float(trials.log_flops.max())
    while True:
        above = np.asarray(trials.log_flops > top - TOP)
        left = len(np.unique(np.round(trials.log_flops[~above], 1)))
        if (~above).sum() < LEAST_BELOW or left < LEAST_BUDGETS:
            return None
        if above.sum() >= LEAST_ABOVE:
            return above
        top -= TOP


def _losses(blind: Guarded, held: Trials, skill: str) -> tuple[FloatArray, FloatArray]:
    """Errors of the losses predicted: in their own errors, and relative.

    By the blind fit itself: one budget beyond, `Guarded.with_floors` says the same, for a third
    more time (three times beyond both are off by .17 %, benchmarks/real_runs.py).
    """
    loss = held.loss[held.skills.index(skill)]
    seen = np.isfinite(loss)
    mean, se = blind.measured_loss(skill, held.log_params[seen], np.exp(held.log_flops[seen]))
    miss = mean - loss[seen]
    return miss / se, miss / np.abs(loss[seen])


def _score(
    flops: float,
    beyond: float,
    told: tuple[float, float],
    found: tuple[float, float],
    z: FloatArray,
    error: FloatArray,
) -> Score:
    miss = abs(told[0] - found[0])
    apart = miss > LEAST_MISS and miss > FAILED * math.hypot(told[1], found[1])
    return Score(
        flops=flops,
        beyond=beyond,
        params=math.exp(told[0]),
        interval=_interval(*told),
        found=math.exp(found[0]),
        found_interval=_interval(*found),
        loss_error=float(np.median(error)),
        inside=float((np.abs(z) <= Z90).mean()),
        trials=len(z),
        held=not (apart or np.median(np.abs(z)) > FAILED),
    )


def _interval(mean: float, se: float) -> tuple[float, float]:
    return math.exp(mean - Z90 * se), math.exp(min(mean + Z90 * se, 700.0))
