"""Which further trials decide a comparison soonest.

What is to be known is how far a variant's level lies from the reference's on one budget: linear in
the parameters of the joint fit, with row a. A trial is linear with row j; whatever its outcome, it
lowers the variance a'Va by (a'Vj)^2 / (s^2 + j'Vj), and trials in training count the same way.

Legend: p = params, C = flops; S = skills, n = candidates, P = parameters; logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fitting.compare.joint import IntArray, Joint, Member
from fitting.mixture.kinds import FAR_REACH
from fitting.mixture.laplace import SCALE_OF_NORMAL
from fitting.mixture.vertex_form import blur, jacobian, surface
from fitting.values import FloatArray


@dataclass(frozen=True)
class Trial:
    """Trials that might be made.

    Attributes:
        variant: (n,) index.
        log_params: (n,).
        log_flops: (n,).
    """

    variant: IntArray
    log_params: FloatArray
    log_flops: FloatArray

    def __len__(self) -> int:
        return len(self.variant)


def gains(
    joint: Joint, offer: Trial, pending: Trial, open_: Iterable[tuple[int, int]], flops: float
) -> FloatArray:
    """Share of the variance of open comparisons that one more trial of each would take off, (n,).

    Args:
        offer: trials to judge.
        pending: trials in training.
        open_: (variant, skill) of comparisons not decided yet; their gains are added.
        flops: the budget compared on.
    """
    total = np.zeros(len(offer))
    both = Trial(*(np.concatenate([getattr(t, n) for t in (offer, pending)])
                   for n in ("variant", "log_params", "log_flops")))  # fmt: skip
    wanted = list(open_)
    for index, member in enumerate(joint.members):
        if not any(joint.weights[index, s] > _LEAST for _, s in wanted):
            continue
        rows, noise = _rows(joint, member, both)
        for variant, skill in wanted:
            aim = _aim(joint, variant, flops)
            own = _gain(member.covariance[skill], aim, rows[skill], noise[skill], len(offer))
            total += joint.weights[index, skill] * own
    return total


_LEAST = 0.02  # members that count for less cannot change the choice


def optima(joint: Joint, flops: Sequence[float], variant: int) -> FloatArray:
    """Ln p* of every skill under a variant, (S, n)."""
    c = np.log(np.asarray(flops, float)) - joint.origin[1]
    total = np.zeros((len(joint.trials.skills), len(c)))
    for weight, member in zip(joint.weights, joint.members, strict=True):
        slope = 1 / (1 + np.exp(-member.theta[:, 3]))
        place = member.theta[:, 2, None] + slope[:, None] * c
        for who in {0, variant}:
            near = np.abs(c[:, None] - joint.reference.nodes).argmin(1)
            place = place + member.theta[:, joint.effects(0, who)][:, near]
        total += weight[:, None] * place
    return total + joint.origin[0]


def _aim(joint: Joint, variant: int, flops: float) -> FloatArray:
    """Row (P,) that reads the variant's level on the node nearest to a budget."""
    row = np.zeros(joint.layout.width)
    at = np.abs(joint.reference.nodes - (math.log(flops) - joint.origin[1])).argmin()
    row[joint.effects(1, variant).start + int(at)] = 1.0
    return row


def _rows(joint: Joint, member: Member, trials: Trial) -> tuple[FloatArray, FloatArray]:
    """Gradients (S, n, P) of the losses of trials, and their noise (S, n)."""
    shared, alike = _common(joint, trials)
    rows = joint.rows(trials.log_params, trials.log_flops, trials.variant, shared)
    _, local, distance = surface(member.theta, rows)
    scale = member.scale[:, None] / SCALE_OF_NORMAL * blur(distance, FAR_REACH)
    # A trial on an allocation of its own has the variance of what others share as well.
    lonely = 1 / (1 - member.common) if joint.common.shape[1] else 1.0
    return jacobian(local, rows), scale * np.sqrt(np.where(alike, 1.0, lonely))


def _common(joint: Joint, trials: Trial) -> tuple[FloatArray, FloatArray]:
    """(n, J) what each shares with trials that were made, and whether it shares anything."""
    done = joint.trials
    same = (np.abs(trials.log_params[:, None] - done.log_params) < 0.01) & (
        np.abs(trials.log_flops[:, None] - done.log_flops) < 0.01
    )
    width = joint.common.shape[1]
    shared = (same[:, :, None] * joint.common).max(1) if width else np.zeros((len(trials), 0))
    return np.asarray(shared), np.asarray(shared.any(axis=1))


def left(joint: Joint, pending: Trial, variant: int, skill: int, flops: float) -> float:
    """Share of a comparison's variance that will be left when trials in training have ended."""
    aim, share = _aim(joint, variant, flops), 0.0
    for weight, member in zip(joint.weights[:, skill], joint.members, strict=True):
        rows, noise = _rows(joint, member, pending)
        before = member.covariance[skill]
        after = _given(before, rows[skill], noise[skill])
        share += weight * float(aim @ after @ aim) / max(float(aim @ before @ aim), 1e-300)
    return share


def _given(covariance: FloatArray, rows: FloatArray, noise: FloatArray) -> FloatArray:
    """The covariance once trials have been seen, whatever their outcome."""
    for j, s in zip(rows, noise, strict=True):
        known = covariance @ j
        covariance = covariance - np.outer(known, known) / (s**2 + j @ known)
    return covariance


def _gain(
    covariance: FloatArray, aim: FloatArray, rows: FloatArray, noise: FloatArray, offered: int
) -> FloatArray:
    """Relative fall of the variance of the aim by each of the offered, given the others."""
    covariance = _given(covariance, rows[offered:], noise[offered:])
    spread = rows[:offered] @ covariance
    fall = (spread @ aim) ** 2 / (noise[:offered] ** 2 + (spread * rows[:offered]).sum(1))
    return np.asarray(fall / max(float(aim @ covariance @ aim), 1e-300))


def added(pending: Trial, variant: int, log_params: float, log_flops: float) -> Trial:
    """With one more trial."""
    return replace(
        pending,
        variant=np.append(pending.variant, variant),
        log_params=np.append(pending.log_params, log_params),
        log_flops=np.append(pending.log_flops, log_flops),
    )
