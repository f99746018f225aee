"""Robust maximum of the posterior and its Gaussian width, for a batch of surfaces at once.

Levenberg-Marquardt steps inside iteratively reweighted least squares: Student-t errors with
four degrees of freedom, so that a spoiled trial loses its say instead of bending the law.
The scale of the errors is the one of greatest marginal likelihood, held by one pseudo-observation;
widths and evidence have one of their own, see `_told`.

Legend: B = batch (components x skills), n = rows (trials), P = parameters; losses in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fitting.mixture.vertex_form import REACH, Groups, Rows, blur, normal_sums, surface
from fitting.values import FloatArray

IntArray = npt.NDArray[np.int_]

FREEDOM = 4.0
"""Degrees of freedom of the errors (adaptive study, section 5: 5 % bad trials cost nothing)."""

INFORMATION = 0.62
"""Information of a location per squared scale, (E psi')^2 / E psi^2 for normal errors (numerical;
.71 for t errors); the sum of weights overstates it by 1.6."""

SCALE_OF_NORMAL = 0.83
"""Scale of the t fitted to normal errors of unit variance (numerical)."""

SCALE_FREEDOM = 1.0
"""Pseudo-observations that pull a skill's error scale to the skills' geometric mean, each in its
own unit (3 covered .70-.76 at doubled noise in the adaptive study, section 7)."""

USUAL_NOISE, USUAL_SKILLS = 0.02, 2.0
"""Error scale in units of a skill that is expected beforehand, and the skills that this belief
counts for: of few trials the residuals alone know too little (assumption; a unit is about the
range of a skill's losses, and real runs have .003 to .05)."""

SCALE_STEPS = 12
"""Rounds that settle the error scale of the widths to `SETTLED` (numerical)."""

MAX_STEPS = 300
OUTLIER = 6.0
"""Residual in error scales (5 standard deviations) beyond which a trial stops to count in the
error scale: 2.5 % spoiled trials would inflate it by 12 % (measured)."""

SETTLED = 1e-3
"""Relative change of the error scale at which a member is done."""

TOLERANCE = 5e-4
"""Predicted fall of the objective (units of log likelihood) at which a member is done. On five
tables of 30 to 250 trials ln p* was then within .006 of its standard error from the limit, and
the standard error within .1 %; a tenth of it costs a tenth more time."""


@dataclass(frozen=True)
class Data:
    """Losses of every batch member at the same rows.

    Attributes:
        rows: the n places, sorted by group.
        groups: runs of rows with equal hats.
        loss: (B, n), 0 where absent.
        present: (B, n), how many trials a loss counts for: 1 if measured, less if repeated, or 0.
        floor: (B,) least error scale, nats.
        unit: (B,) range of each skill's losses, nats.
        reach: (B,) of losses far from the vertex, see `vertex_form.blur`.
    """

    rows: Rows
    groups: Groups
    loss: FloatArray
    present: FloatArray
    floor: FloatArray
    unit: FloatArray
    reach: FloatArray

    def blur(self, distance: FloatArray) -> FloatArray:
        """What error scales are multiplied by at distances from the vertex (B, n)."""
        return blur(distance, self.reach[:, None])

    def residual(self, fitted: FloatArray) -> FloatArray:
        """Measured less fitted losses (B, n)."""
        return np.asarray((self.loss - fitted) * (self.present > 0))

    def sums(
        self, local: FloatArray, weights: FloatArray, residual: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """J'WJ (B, P, P) and J'W residual (B, P)."""
        return normal_sums(local, weights, residual, self.groups)

    def take(self, members: IntArray) -> Data:
        """The same rows for some members of the batch."""
        if len(members) == len(self.loss):
            return self
        return replace(
            self,
            loss=self.loss[members],
            present=self.present[members],
            floor=self.floor[members],
            unit=self.unit[members],
            reach=self.reach[members],
        )


@dataclass(frozen=True)
class Prior:
    """Gaussian prior: mean (B, P), precision (B, P, P)."""

    mean: FloatArray
    precision: FloatArray


@dataclass(frozen=True)
class Posterior:
    """Laplace approximation at the maximum.

    Attributes:
        theta: (B, P) maximum.
        precision: (B, P, P) data information plus prior.
        scale: (B,) error scale of the t distribution that widths and evidence have, nats.
        dof: (B,) observations less effective parameters.
        log_evidence: (B,).
        near_evidence: (B,) the same by losses within about `REACH` of the vertex.
        converged: (B,) whether the steps ended before `MAX_STEPS` were taken.
    """

    theta: FloatArray
    precision: FloatArray
    scale: FloatArray
    dof: FloatArray
    log_evidence: FloatArray
    near_evidence: FloatArray
    converged: npt.NDArray[np.bool_]


@dataclass
class _State:
    """What the iteration carries for every member: parameters, and the surface there."""

    theta: FloatArray
    scale: FloatArray
    damping: FloatArray
    used: FloatArray
    fitted: FloatArray
    local: FloatArray
    blur: FloatArray


def maximise(data: Data, prior: Prior, theta: FloatArray, scale: FloatArray) -> Posterior:
    """Find the posterior maximum of every member.

    Args:
        theta: (B, P) start.
        scale: (B,) start of the error scale, nats.
    """
    batch = len(theta)
    fitted, local, distance = surface(theta, data.rows)
    damping, used = np.full(batch, 1e-3), np.zeros(batch)
    state = _State(theta.copy(), scale.copy(), damping, used, fitted, local, data.blur(distance))
    active = np.arange(batch)
    for step in range(MAX_STEPS):
        common = _common(state.scale, data.unit)
        done = _advance(data, prior, state, active, common, recount=step % 4 == 0)
        active = active[~done] if step > 0 else active
        if not len(active):
            break
    return _summary(data, prior, state, ~np.isin(np.arange(batch), active))


def _advance(
    data: Data, prior: Prior, state: _State, active: IntArray, common: float, *, recount: bool
) -> npt.NDArray[np.bool_]:
    """One damped step for the active members; True where a member has converged."""
    part, theta, scale = data.take(active), state.theta[active], state.scale[active]
    mean, inverse = prior.mean[active], prior.precision[active]
    residual = part.residual(state.fitted[active])
    own = scale[:, None] * state.blur[active]
    weights = robust_weights(residual / own, part.present) / own**2
    sums, pull = part.sums(state.local[:, active], weights, residual)
    pull = pull - np.einsum("bpq,bq->bp", inverse, theta - mean)
    if recount:
        state.used[active] = _effective(sums, inverse)
    move = _damped_step(sums + inverse, pull, state.damping[active])
    trial = theta + move
    fitted, local, distance = surface(trial, part.rows)
    after = part.residual(fitted)
    gain = (weights * (residual**2 - after**2)).sum(1)
    gain = gain + _quadratic(inverse, theta - mean) - _quadratic(inverse, trial - mean)
    better = gain >= -1e-9
    moved = active[better]
    state.theta[moved] = trial[better]
    state.fitted[moved], state.local[:, moved] = fitted[better], local[:, better]
    state.blur[moved] = part.blur(distance)[better]
    damping = state.damping[active] * np.where(better, 0.2, 8.0)
    state.damping[active] = np.clip(damping, 1e-9, 1e6)
    rest = np.where(better[:, None], after, residual)
    new = _scale(part, rest, scale, state.blur[active], state.used[active], common)
    state.scale[active] = new
    settled = np.abs(np.log(new / scale)) < SETTLED
    return np.asarray((np.einsum("bp,bp->b", pull, move) < TOLERANCE) & settled)


def _damped_step(hessian: FloatArray, pull: FloatArray, damping: FloatArray) -> FloatArray:
    index = np.arange(hessian.shape[1])
    damped = hessian.copy()
    damped[:, index, index] *= 1.0 + damping[:, None]
    return np.asarray(np.linalg.solve(damped, pull[..., None])[..., 0])


def _quadratic(matrix: FloatArray, vector: FloatArray) -> FloatArray:
    return np.asarray((vector * (matrix @ vector[..., None])[..., 0]).sum(-1))


def robust_weights(z: FloatArray, present: FloatArray) -> FloatArray:
    """What each loss counts by its residual in error scales, (B, n): about 1 where expected."""
    return np.asarray((FREEDOM + 1) / (FREEDOM + z**2) * present)


def _effective(sums: FloatArray, inverse: FloatArray) -> FloatArray:
    """Effective number of parameters (B,): the share of each that the data determine."""
    covariance = np.linalg.inv(INFORMATION * sums + inverse)
    return np.asarray(INFORMATION * np.einsum("bpq,bqp->b", covariance, sums))


def _common(scale: FloatArray, unit: FloatArray) -> float:
    """Usual error scale in units of a skill: of the batch, and of the belief beforehand."""
    found = np.log(np.maximum(scale / unit, 1e-12))
    total = found.sum() + USUAL_SKILLS * math.log(USUAL_NOISE)
    return math.exp(total / (len(found) + USUAL_SKILLS))


def _scale(
    part: Data,
    residual: FloatArray,
    scale: FloatArray,
    blurs: FloatArray,
    used: FloatArray,
    common: float,
    counts: FloatArray | float = 1.0,
) -> FloatArray:
    """Next error scale: weighted residuals over what the parameters leave free.

    Args:
        part: the members that it is of.
        residual: (B, n).
        scale: (B,) the last one.
        blurs: (B, n) what it is multiplied by.
        used: (B,) effective parameters.
        common: usual scale in units of a skill.
        counts: (B, n) what each loss counts for, of those that are free.
    """
    square = (residual / scale[:, None] / blurs) ** 2
    far = (square / OUTLIER**2) ** 2
    inlier = part.present / (1 + far * far)
    weighted = (inlier * square * (FREEDOM + 1) / (FREEDOM + square)).sum(1) * scale**2
    dof = np.maximum((inlier * counts).sum(1) - used, 1.0)
    expected = (common * part.unit) ** 2
    variance = (weighted + SCALE_FREEDOM * expected) / (dof + SCALE_FREEDOM)
    return np.asarray(np.maximum(np.sqrt(variance), part.floor))


def _told(data: Data, state: _State) -> FloatArray:
    """Error scales (B,) of the widths and the evidence: a loss counts by one over its blur.

    Far from the vertex free curves pass close by losses whatever the noise. Counted whole, such
    losses made errors of .008 nats .003 (world fail, 31 trials), and members with free curves won
    where the plain law holds: optima erred by .114 (worst skill), by .055 so. On the public pools
    optima of trained budgets err by .0385 (.0379), five times beyond by .103 instead of .105,
    and intervals of Porian's hold .96 instead of .89. Where near losses leave nothing free, the
    scale now comes out too large, 1.2 to 2.5 times on 8 sizes on each of four budgets, .5 to .7
    before. In the search for the maximum it stays as it was: a larger one gives beliefs more of a
    say (five times beyond .135). So it does for members that are asked farther off: with it
    forecasts of losses five times beyond erred by .64 instead of .53 %, sweeps of our own
    trainings by 1.0 to 1.3 of the squared error (benchmarks/real_runs.py, benchmarks/live.py).
    """
    near, scale = data.reach <= REACH, state.scale
    residual = data.residual(state.fitted)
    for _ in range(SCALE_STEPS if near.any() else 0):
        common = _common(scale, data.unit)
        scale = _scale(data, residual, scale, state.blur, state.used, common, 1 / state.blur)
    return np.where(near, scale, state.scale)


def _summary(
    data: Data, prior: Prior, state: _State, converged: npt.NDArray[np.bool_]
) -> Posterior:
    """Width and evidence at the maximum."""
    state.scale = _told(data, state)
    own = state.scale[:, None] * state.blur
    distance = surface(state.theta, data.rows)[2]
    near = state.scale[:, None] * np.maximum(state.blur, blur(distance, REACH))
    sums, precision, evidence = _information(data, prior, state, own)
    _, _, near_evidence = _information(data, prior, state, near)
    dof = np.maximum(data.present.sum(1) - _effective(sums, prior.precision), 1.0)
    return Posterior(state.theta, precision, state.scale, dof, evidence, near_evidence, converged)


def _information(
    data: Data, prior: Prior, state: _State, own: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """J'WJ, that with the prior (B, P, P), and the evidence (B,), given error scales (B, n)."""
    residual = data.residual(state.fitted)
    ratio, away = residual / own, state.theta - prior.mean
    weights = robust_weights(ratio, data.present)
    sums, _ = data.sums(state.local, weights / own**2, residual)
    share = INFORMATION * data.present.sum() / weights.sum()
    precision = share * sums + prior.precision
    fit = (FREEDOM + 1) * (np.log1p(ratio**2 / FREEDOM) * data.present).sum(1)
    fit = fit + _quadratic(prior.precision, away)
    size = (np.log(own) * data.present).sum(1)
    evidence = -0.5 * fit - size - 0.5 * np.linalg.slogdet(precision)[1]
    evidence = evidence + 0.5 * np.linalg.slogdet(prior.precision)[1]
    return sums, precision, evidence
