"""The last trials of a sweep: what every reported optimum needs, and the closing proof.

An optimum is reported only where sizes were trained on both sides of it and one near it
(`fitting.laws.bracket.check_near`): the search keeps the FLOPs for what is missing. The proof is
a trial at the predicted optimum of the aggregate, and one at the widest skill's, on the largest
budget that was trained, when everything else has ended. It is told apart by its seed, and what it
should measure is predicted before it starts.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fitting.laws.bracket import BRACKET, LEAST_SIZES, NEAR
from fitting.values import Z90, FloatArray
from sweeper.budget import Allocation, Space, same_budget
from sweeper.search.fit_state import FitState, Optima, fit_state
from sweeper.search.selection import Selection
from sweeper.spec.spec import AGGREGATE

MARGIN = 0.1
"""How much closer, or farther aside, than a report demands, ln p: optima still move."""

UNKNOWN = 1.0
"""Standard error of ln p* from which one trial more would show nothing: a skill without an
optimum in sight (assumption)."""

PROOF_SEED = 1000
"""Seeds of proofs: this and the number of other trials that had ended."""

SECOND_SHARE = 0.05
"""Share of the allowance up to which a second proof pays: where one costs an eighth, the end cost
the optima themselves precision (benchmarks/search_efficiency.py, three worlds)."""

FRESH = 0.9
"""A proof counts while it knew of this share of the trials: a sweep that went on has another."""

Point = tuple[float, int]


def gaps(state: FitState, selection: Selection, optima: Optima) -> list[Point]:
    """Points that the optima still lack, the largest budget first.

    Every trained budget needs, for each skill, a trial near the optimum and one on either side.

    Args:
        selection: trials and FLOPs.
        optima: the quick ones while trials are chosen, those of a report at the end.
    """
    points: list[Point] = []
    for flops in reversed(selection.space.budgets):
        if not selection.on(flops) or not selection.space.allowed(flops):
            continue
        mean, se = optima[flops]
        sizes = _sound(state, selection, flops)
        for x in mean[se < UNKNOWN]:
            size = _missing(state, selection, flops, float(x), sizes)
            if size is not None:
                points.append((flops, size))
                sizes = np.append(sizes, math.log(size))
    return points


def _sound(state: FitState, selection: Selection, flops: float) -> FloatArray:
    """Ln params of the budget's trials that have losses or may get them."""
    size, budget, failed = state.failed.T
    ended = size[(np.abs(budget - math.log(flops)) < 0.01) & (failed == 0)]
    training = [math.log(a.params) for a in selection.training if same_budget(a.flops, flops)]
    return np.concatenate([ended, training])


def _missing(
    state: FitState, selection: Selection, flops: float, optimum: float, sizes: FloatArray
) -> int | None:
    """The size that one optimum lacks, or None: it has all, or no size would do."""
    distance = sizes - optimum
    near, aside = NEAR - MARGIN, BRACKET + MARGIN
    if not (distance < -aside).any():
        offset = -near
    elif not (distance > aside).any():
        offset = near
    elif (np.abs(distance) <= near).any():
        return None
    else:
        offset = 0.0
    size = selection.nearest(flops, optimum + offset)
    there = math.log(size)
    helps = abs(there - optimum) < np.abs(distance).min(initial=math.inf)
    if offset:
        helps = (there - optimum) * offset > 0
    new = not (np.abs(sizes - there) < 0.01).any()
    possible = state.chance(np.array([there]), flops)[0] > 0
    return size if helps and new and possible else None


def proven(selection: Selection) -> int:
    """Proofs that were trained, or are in training, knowing nearly all the other trials."""
    others = sum(a.seed < PROOF_SEED for a in selection.ended)
    return sum(a.seed - PROOF_SEED >= FRESH * others for a in selection.known)


def proof(state: FitState, selection: Selection) -> Allocation | None:
    """The next proof, or None: all are there, others are in training, or no FLOPs are left."""
    flops, done = _proof_budget(selection), proven(selection)
    waits = any(a.seed < PROOF_SEED for a in selection.training)
    if waits or flops is None or flops > selection.remaining:
        return None
    # An optimum without a size near it proves as much, and the FLOPs may do for one trial only.
    sizes = _unseen(state, selection, flops)
    sizes = sizes or _proof_sizes(state, selection, flops, *state.reported[flops])[done:]
    others = sum(a.seed < PROOF_SEED for a in selection.ended)
    return selection.space.allocation(flops, sizes[0], PROOF_SEED + others) if sizes else None


def _unseen(state: FitState, selection: Selection, flops: float) -> list[int]:
    """Sizes nearest to the budget's optima that have none near them."""
    lacking = [size for c, size in gaps(state, selection, state.reported) if c == flops]
    optima = {selection.nearest(flops, float(x)) for x in state.reported[flops][0]}
    return [size for size in lacking if size in optima]


def _proof_sizes(
    state: FitState, selection: Selection, flops: float, mean: FloatArray, se: FloatArray
) -> list[int]:
    """The aggregate's optimum, and the widest skill's where another size would be near it."""
    skills = state.fit.skills
    first = skills.index(AGGREGATE) if AGGREGATE in skills else int(se.argmin())
    widest = int(np.where(se < UNKNOWN, se, 0.0).argmax())
    apart = abs(mean[first] - mean[widest]) > NEAR - MARGIN
    second = apart and flops <= SECOND_SHARE * selection.allowance
    picked = [first, widest] if second else [first]
    return list(dict.fromkeys(selection.nearest(flops, float(mean[i])) for i in picked))


def _proof_budget(selection: Selection) -> float | None:
    """The largest budget that has a curve."""
    able = [c for c in selection.space.budgets if selection.space.allowed(c)]
    curves = [c for c in able if _sizes(selection, c) >= LEAST_SIZES]
    return max(curves, default=None)


def _sizes(selection: Selection, flops: float) -> int:
    return len({a.params for a in selection.on(flops)})


def first_proof(selection: Selection) -> float:
    """FLOPs of the first proof, which nothing else may spend; 0 once it is there."""
    return 0.0 if proven(selection) else _proof_budget(selection) or 0.0


def kept(state: FitState, selection: Selection, *, proves: bool) -> float:
    """FLOPs kept for what the reported optima lack and for the proofs.

    Where they are there, for one more: the sweep ends, unless enough is left to end once again.
    """
    lacking = sum(flops for flops, _ in gaps(state, selection, state.optima))
    budget = _proof_budget(selection) if proves else None
    if budget is None:
        return lacking
    wanted = len(_proof_sizes(state, selection, budget, *state.optima[budget]))
    return lacking + budget * max(wanted - proven(selection), 1)


def predict(
    observations: pd.DataFrame, space: Space, allocation: Allocation
) -> dict[str, dict[str, float]]:
    """What a trial should measure by those that have ended under its mix, and where optima lie.

    Returns:
        Skill -> loss, low, high (nats per token, 90 % interval of one measurement) and
        optimum (params, on the trial's budget); empty without a fit.
    """
    state = fit_state(observations[observations["mix"] == allocation.mix], space)
    if state is None:
        return {}
    fit, at = state.whole, np.log([allocation.params])
    flops = np.array([allocation.flops])
    optima = fit.log_optimum(flops)[0][:, 0]
    told = {}
    for i, skill in enumerate(fit.skills):
        loss, se = (float(v[0]) for v in fit.measured_loss(skill, at, flops))
        ends = {"low": loss - Z90 * se, "high": loss + Z90 * se}
        told[skill] = {"loss": loss, **ends, "optimum": math.exp(float(optima[i]))}
    return told
