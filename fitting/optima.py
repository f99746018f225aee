"""The guarded mixture: optima of all skills on all budgets, honest where the law is only rough.

The plain surface (Approach 3 of Hoffmann et al. 2022, in vertex form) is averaged by evidence
with surfaces that may depart from it at several scales, so that the data choose how far the
five-parameter law is believed. Every number carries the variance within and between components.

Legend: p = params, t = tokens, C = flops; S = skills, n = places, P = parameters, K = nodes;
losses in nats, logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.discrepancy import (
    CURVATURE_SD,
    LEVEL_SD,
    SCALES,
    Discrepancy,
    hat_weights,
    nodes_of,
)
from fitting.laplace import SCALE_OF_NORMAL, Data, Posterior, Prior, maximise
from fitting.trials import Trials, read_trials
from fitting.values import Z90, FloatArray
from fitting.vertex import (
    N_GLOBAL,
    Groups,
    Rows,
    effect_slice,
    exponents,
    jacobian,
    surface,
    width,
)

PRIOR_SD = {"floor": 4.0, "log_reducible": 1.5, "log_vertex": 1.5, "logit": 0.5, "log_sum": 0.35}
"""Prior widths of E (in spreads of the skill's losses), ln R0, m, logit a, ln S. The last two as
in the adaptive study, section 6; the others vaguer, so that units do not matter."""

LOG_EXPONENT_SUM = math.log(0.7)
"""Prior centre of ln(alpha + beta): .71 in Besiroglu et al. 2024."""

NOISE_FLOOR = 1e-4
"""Least error scale in spreads of a skill's losses: exact data stay solvable."""

WEIGHT_FLOOR = 0.0


def _t90(freedom: FloatArray) -> FloatArray:
    """Half-width of a central 90 % t interval over that of a normal one (Cornish-Fisher)."""
    v = np.maximum(freedom, 3.0)
    return 1 + (Z90**2 + 1) / (4 * v) + (5 * Z90**4 + 16 * Z90**2 + 3) / (96 * v**2)


@dataclass(frozen=True)
class Component:
    """One member of the mixture, for all skills.

    Attributes:
        name: "surface" or "discrepancy h=...".
        h: scale of the discrepancy, 0 for the plain surface.
        theta: (S, P) posterior maximum; layout in `fitting.vertex`.
        precision: (S, P, P) J'WJ + prior at the maximum.
        scale: (S,) error scale of one loss, nats.
        spare: (S,) observations less effective parameters.
        log_evidence: (S,).
        origin: (ln p, ln C) the parameters refer to.
        nodes: (K,) ln C less its origin; empty for the plain surface.
    """

    name: str
    h: float
    theta: FloatArray
    precision: FloatArray
    scale: FloatArray
    spare: FloatArray
    log_evidence: FloatArray
    origin: tuple[float, float]
    nodes: FloatArray

    @cached_property
    def covariance(self) -> FloatArray:
        """Inverse of the precision, (S, P, P)."""
        return np.linalg.inv(self.precision)

    def _rows(self, log_params: npt.ArrayLike, flops: npt.ArrayLike) -> Rows:
        at, budget = np.broadcast_arrays(
            np.atleast_1d(np.asarray(log_params, float)), np.asarray(flops, float)
        )
        log_flops = np.log(budget) - self.origin[1]
        return Rows(at - self.origin[0], log_flops, hat_weights(log_flops, self.nodes))

    def loss_hat(self, log_params: npt.ArrayLike, flops: npt.ArrayLike) -> FloatArray:
        """Fitted loss (S, n) at sizes on budgets."""
        return surface(self.theta, self._rows(log_params, flops))[0]

    def jacobian(self, log_params: npt.ArrayLike, flops: npt.ArrayLike) -> FloatArray:
        """Derivatives of the loss by the parameters, (S, n, P)."""
        rows = self._rows(log_params, flops)
        return jacobian(surface(self.theta, rows)[1], rows)

    def _drift(self, log_flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.h == 0:
            return np.zeros((len(log_flops), 0)), np.zeros(len(log_flops))
        return Discrepancy(self.h, self.nodes).drift_at(log_flops)

    def target(self, flops: npt.ArrayLike) -> FloatArray:
        """Derivatives of ln p*(C) by the parameters, (S, n, P)."""
        log_flops = np.log(np.atleast_1d(np.asarray(flops, float))) - self.origin[1]
        slope = exponents(self.theta)[0][:, None]
        out = np.zeros((len(self.theta), len(log_flops), self.theta.shape[1]))
        out[:, :, 2] = 1.0
        out[:, :, 3] = slope * (1 - slope) * log_flops
        count = len(self.nodes)
        if count:
            out[:, :, effect_slice(0, count)] = self._drift(log_flops)[0]
        return out

    def unseen_variance(self, flops: npt.ArrayLike) -> FloatArray:
        """Variance of ln p*(C) that no trial on the nodes can remove, (n,)."""
        return self._drift(np.log(np.atleast_1d(np.asarray(flops, float))) - self.origin[1])[1]

    def log_optimum(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Mean and standard error of ln p*, (S, n) each."""
        log_flops = np.log(np.atleast_1d(np.asarray(flops, float))) - self.origin[1]
        slope = exponents(self.theta)[0][:, None]
        mean = self.origin[0] + self.theta[:, 2, None] + slope * log_flops
        count = len(self.nodes)
        weights, unseen = self._drift(log_flops)
        if count:
            mean = mean + self.theta[:, effect_slice(0, count)] @ weights.T
        gradient = self.target(flops)
        variance = np.einsum("snp,spq,snq->sn", gradient, self.covariance, gradient) + unseen
        return mean, np.sqrt(variance) * _t90(self.spare)[:, None]

    def shape(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Curvature d2L/du2 at the optimum, nats, and gamma R: the size of cubic terms; (S, n)."""
        log_flops = np.log(np.atleast_1d(np.asarray(flops, float))) - self.origin[1]
        _, alpha, beta, gamma = exponents(self.theta)
        reducible = np.exp(self.theta[:, 1, None] - gamma[:, None] * log_flops)
        return reducible * (alpha * beta)[:, None], reducible * gamma[:, None]

    def loss(self, log_params: FloatArray, flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected loss and its standard error, (S, n) each, nats."""
        rows = self._rows(log_params, flops)
        mean, local = surface(self.theta, rows)
        gradient = jacobian(local, rows)
        variance = np.einsum("snp,spq,snq->sn", gradient, self.covariance, gradient)
        if self.h:
            outside = rows.hats.sum(1) == 0
            unseen = local[7] ** 2 * LEVEL_SD**2 + local[8] ** 2 * CURVATURE_SD**2
            variance = variance + outside * self.h**2 * unseen
            variance = variance + local[2] ** 2 * outside * self._drift(rows.log_flops)[1]
        return mean, np.sqrt(variance) * _t90(self.spare)[:, None]


@dataclass(frozen=True)
class Guarded:
    """The fitted mixture.

    Attributes:
        skills: names, in order of first appearance.
        ladder: budgets with effects of their own.
        components: the members.
        weights: (len(components),) shares, summing to 1.
        noise: (S,) standard deviation of one loss, nats.
        flops_per_param_token: of the table; 6 by the usual count.
        data_flops: (least, largest) budget with data.
        trials: number of trials fitted.
    """

    skills: tuple[str, ...]
    ladder: FloatArray
    components: tuple[Component, ...]
    weights: FloatArray
    noise: FloatArray
    flops_per_param_token: float
    data_flops: tuple[float, float]
    trials: int

    def log_optimum(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Mean and standard error of ln p*, (S, n) each; 1.645 errors are the 90 % interval."""
        return self._mix([c.log_optimum(flops) for c in self.components])

    def loss(
        self, skill: str, params: npt.ArrayLike, tokens: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        """Expected loss of a skill and its standard error, nats, at any sizes and tokens."""
        p = np.atleast_1d(np.asarray(params, float))
        flops = self.flops_per_param_token * p * np.asarray(tokens, float)
        mean, se = self._mix([c.loss(np.log(p), flops) for c in self.components])
        at = self.skills.index(skill)
        return mean[at], se[at]

    def _mix(
        self, parts: Sequence[tuple[FloatArray, FloatArray]]
    ) -> tuple[FloatArray, FloatArray]:
        means = np.stack([mean for mean, _ in parts])
        squares = np.stack([se**2 for _, se in parts])
        w = self.weights[:, None, None]
        mean = (w * means).sum(0)
        return mean, np.sqrt((w * (squares + (means - mean) ** 2)).sum(0))


def fit_guarded(
    frame: pd.DataFrame,
    *,
    ladder: npt.ArrayLike | None = None,
    warm: Guarded | None = None,
    components: Sequence[float] = SCALES,
) -> Guarded:
    """Fit the mixture to a long table.

    Args:
        frame: columns flops, params, tokens, skill, loss, and trial_id or seed where known;
            finite losses only. Skills may miss trials.
        ladder: budgets to report, whether or not they have data yet.
        warm: an earlier fit to start from; the answer is the same, sooner.
        components: scales h; 0 is the plain surface.

    Raises:
        ValueError: no rows.
    """
    trials = read_trials(frame)
    rungs = None if ladder is None else np.log(np.asarray(ladder, float))
    nodes = nodes_of(trials.log_flops, rungs)
    problem = _Problem(trials, nodes, float(np.median(trials.log_flops)))
    plain = problem.solve((0.0,), None, warm)
    scales = tuple(h for h in components if h > 0)
    members = (plain if 0.0 in components else ()) + (
        problem.solve(scales, plain[0], warm) if scales else ()
    )
    members = tuple(sorted(members, key=lambda c: list(components).index(c.h)))
    weights = _weights(members, problem.correlation(plain[0]))
    noise = np.exp(weights @ np.log([c.scale for c in members])) / SCALE_OF_NORMAL
    flops = np.exp(trials.log_flops)
    return Guarded(
        skills=trials.skills,
        ladder=np.exp(nodes if rungs is None else np.sort(rungs)),
        components=members,
        weights=weights,
        noise=noise,
        flops_per_param_token=trials.flops_per_param_token,
        data_flops=(float(flops.min()), float(flops.max())),
        trials=len(flops),
    )


def _weights(members: Sequence[Component], correlation: float) -> FloatArray:
    """Shares by evidence, counting correlated skills as the fewer independent ones they are."""
    skills = len(members[0].theta)
    share = 1 / (1 + (skills - 1) * correlation)
    evidence = share * np.array([c.log_evidence.sum() for c in members])
    raw = np.exp(evidence - evidence.max())
    return WEIGHT_FLOOR / len(members) + (1 - WEIGHT_FLOOR) * raw / raw.sum()


@dataclass(frozen=True)
class _Problem:
    """One table, prepared for fits of any component."""

    trials: Trials
    nodes: FloatArray
    reference: float

    @property
    def origin(self) -> tuple[float, float]:
        return float(self.trials.log_params.mean()), self.reference

    @cached_property
    def spread(self) -> FloatArray:
        """(S,) twice the distance from the least to the median loss: robust to spoiled trials."""
        low, middle = np.nanmin(self.trials.loss, 1), np.nanmedian(self.trials.loss, 1)
        return np.maximum(2 * (middle - low), 1e-6 * np.abs(middle) + 1e-12)

    def data(self, nodes: FloatArray, copies: int) -> tuple[Data, FloatArray]:
        """Losses in the order of their groups, repeated for each component, and that order."""
        log_flops = self.trials.log_flops - self.reference
        hats = hat_weights(log_flops, nodes)
        patterns, group = np.unique(hats, axis=0, return_inverse=True)
        group = group.reshape(-1)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(patterns) + 1))
        rows = Rows(
            (self.trials.log_params - self.origin[0])[order], log_flops[order], hats[order]
        )
        loss = np.tile(self.trials.loss[:, order], (copies, 1))
        floor = np.tile(NOISE_FLOOR * self.spread, copies)
        groups = Groups(tuple(starts.tolist()), patterns)
        return Data(rows, groups, np.nan_to_num(loss), np.isfinite(loss) * 1.0, floor), order

    def prior(self, h: float) -> Prior:
        """Prior of one component for all skills."""
        nodes = self.relative_nodes if h else np.empty(0)
        skills, size = len(self.spread), width(len(nodes))
        mean = np.zeros((skills, size))
        mean[:, 0] = np.nanmin(self.trials.loss, 1) - self.spread
        mean[:, 1] = np.log(self.spread)
        mean[:, 4] = LOG_EXPONENT_SUM
        sd = np.tile(np.array(list(PRIOR_SD.values())), (skills, 1))
        sd[:, 0] *= self.spread
        precision = np.zeros((skills, size, size))
        index = np.arange(N_GLOBAL)
        precision[:, index, index] = sd**-2
        if h:
            precision += Discrepancy(h, nodes).precision()
        return Prior(mean, precision)

    @property
    def relative_nodes(self) -> FloatArray:
        return self.nodes - self.reference

    def solve(
        self, scales: Sequence[float], plain: Component | None, warm: Guarded | None
    ) -> tuple[Component, ...]:
        """Fit components that share a layout, all skills and scales in one batch."""
        nodes = self.relative_nodes if scales[0] else np.empty(0)
        priors = [self.prior(h) for h in scales]
        prior = Prior(
            np.concatenate([p.mean for p in priors]), np.concatenate([p.precision for p in priors])
        )
        starts = [
            self.start(h, nodes, p, plain, warm) for h, p in zip(scales, priors, strict=True)
        ]
        data, _ = self.data(nodes, len(scales))
        found = maximise(
            data,
            prior,
            np.concatenate([theta for theta, _ in starts]),
            np.concatenate([scale for _, scale in starts]),
        )
        return tuple(
            self.component(h, nodes, found, i * len(self.spread)) for i, h in enumerate(scales)
        )

    def component(self, h: float, nodes: FloatArray, found: Posterior, first: int) -> Component:
        """Cut one component out of the batch."""
        part = slice(first, first + len(self.spread))
        return Component(
            name=f"discrepancy h={h:g}" if h else "surface",
            h=h,
            theta=found.theta[part],
            precision=found.precision[part],
            scale=found.scale[part],
            spare=found.spare[part],
            log_evidence=found.log_evidence[part],
            origin=self.origin,
            nodes=nodes,
        )

    def start(
        self,
        h: float,
        nodes: FloatArray,
        prior: Prior,
        plain: Component | None,
        warm: Guarded | None,
    ) -> tuple[FloatArray, FloatArray]:
        """Start of parameters and error scales: the earlier fit, the plain surface, or a guess."""
        if plain is not None:
            theta = prior.mean.copy()
            theta[:, :N_GLOBAL] = plain.theta
            scale = plain.scale.copy()
        else:
            theta, scale = prior.mean.copy(), 0.1 * self.spread
            theta[:, 2] = self.lowest()
        return _resume(theta, scale, self, h, nodes, warm)

    def lowest(self) -> FloatArray:
        """(S,) ln p of the least loss of each budget, brought to the reference by a = 1/2."""
        trials = self.trials
        node = np.abs(trials.log_flops[:, None] - self.nodes).argmin(1)
        places = trials.log_params - self.origin[0] - 0.5 * (trials.log_flops - self.reference)
        out = np.zeros(len(self.spread))
        for s, loss in enumerate(np.where(np.isfinite(trials.loss), trials.loss, np.inf)):
            budgets = [np.flatnonzero((node == k) & np.isfinite(loss)) for k in set(node.tolist())]
            out[s] = np.median([places[i[np.argmin(loss[i])]] for i in budgets if len(i)])
        return out

    def correlation(self, plain: Component) -> float:
        """Mean correlation of the skills' residuals in one trial, at least 0."""
        residual = self.trials.loss - plain.loss_hat(
            self.trials.log_params, np.exp(self.trials.log_flops)
        )
        z = np.clip(np.nan_to_num(residual / plain.scale[:, None]), -3, 3)
        z = z - z.mean(1, keepdims=True)
        norm = np.sqrt((z**2).sum(1)) + 1e-300
        if len(z) < 2:
            return 0.0
        matrix = (z @ z.T) / norm[:, None] / norm
        return float(np.clip((matrix.sum() - np.trace(matrix)) / (len(z) * (len(z) - 1)), 0, 1))


def _resume(
    theta: FloatArray,
    scale: FloatArray,
    problem: _Problem,
    h: float,
    nodes: FloatArray,
    warm: Guarded | None,
) -> tuple[FloatArray, FloatArray]:
    """Overwrite a start by an earlier fit's maximum where skill, scale and nodes agree."""
    before = next((c for c in warm.components if c.h == h), None) if warm is not None else None
    if warm is None or before is None or before.theta.shape[1] != theta.shape[1]:
        return theta, scale
    shift = problem.origin[1] - before.origin[1]
    if len(nodes) and not np.allclose(before.nodes - shift, nodes, atol=0.02):
        return theta, scale
    slope, _, _, gamma = exponents(before.theta)
    moved = before.theta.copy()
    moved[:, 1] -= gamma * shift
    moved[:, 2] += slope * shift + before.origin[0] - problem.origin[0]
    where = {skill: i for i, skill in enumerate(warm.skills)}
    for s, skill in enumerate(problem.trials.skills):
        if skill in where:
            theta[s], scale[s] = moved[where[skill]], before.scale[where[skill]]
    return theta, scale
