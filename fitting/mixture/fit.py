"""The guarded mixture: optima of all skills on all budgets, honest where the law is only rough.

The plain surface (Approach 3 of Hoffmann et al. 2022, in vertex form) is averaged by evidence
with surfaces that may depart from it at several scales, so that the data choose how far the
five-parameter law is believed. Every number carries the variance within and between components.

Legend: p = params, t = tokens, C = flops; S = skills, n = places, P = parameters, K = nodes;
losses in nats, logarithms natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.mixture.data import Trials, read_trials, thinned
from fitting.mixture.discrepancy import Kind, nodes_of
from fitting.mixture.kinds import FAR_REACH, KINDS, SURFACE
from fitting.mixture.laplace import SCALE_OF_NORMAL
from fitting.mixture.member import Component
from fitting.mixture.pooling import follow
from fitting.mixture.problem import Problem
from fitting.values import Convention, FloatArray, check_all_positive

POOLING = 2.0
"""Skills' worth of belief in what members are worth beforehand (assumption)."""

POOLING_ROUNDS = 10

OUTSIDE = 0.5
"""Decades beyond trials and ladder over which what is believed changes to what is believed beyond
them (`Kind.further`), so that optima do not jump at the ladder's end (assumption)."""

FAR_SAY, FEW_TRIALS = 6.0, 20.0
"""Greatest log odds between members by losses far from the optima, of so many trials at most; it
falls by the square of their number. Few trials say too little near by (13 a sweep on our own
trainings: the worst skill errs by .47 with odds of 0, .45 with 3, .39 with 6;
benchmarks/live.py); where there are many, curves that bend far out condemn members that are
right near by (world lrbump, 40 trials: intervals hold .91 of the time with 0, .86 with 1.5, .78
with 6; benchmarks/coverage.py). On the public pools all of these are alike
(benchmarks/real_runs.py)."""


@dataclass(frozen=True)
class Guarded:
    """The fitted mixture.

    Attributes:
        skills: names, in order of first appearance.
        ladder: budgets with effects of their own.
        components: the members.
        weights: (len(components), S) shares of each skill, summing to 1, between the least and
            the greatest budget of trials and ladder.
        beyond: the same from `OUTSIDE` decades beyond them on.
        evidence: (len(components), S) of each member by each skill alone, logarithms.
        independence: what one skill's evidence counts beside the others', see `Problem.share`.
        noise: (S,) standard deviation of one loss near the optimum, nats.
        convention: how the table counts FLOPs.
        data_flops: (least, largest) budget with data.
        measured: the trials fitted, after merging neighbours where there are very many.
        counts: (S, T) what each of them counted for, see `Problem.counts`.
        alike: (S,) correlation of the errors of repeats of one allocation.
        within: whether what shows on a ladder alone is believed, see `Problem.within`.
    """

    skills: tuple[str, ...]
    ladder: FloatArray
    components: tuple[Component, ...]
    weights: FloatArray
    beyond: FloatArray
    evidence: FloatArray
    independence: float
    noise: FloatArray
    convention: Convention
    data_flops: tuple[float, float]
    measured: Trials = field(repr=False)
    counts: FloatArray = field(repr=False)
    alike: FloatArray = field(repr=False)
    within: bool

    def log_optimum(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Mean and standard error of ln p*, (S, n) each; 1.645 errors are the 90 % interval."""
        mean, error = self._mix([c.log_optimum(flops) for c in self.components], flops)
        far = self._far(flops)
        if not (self.within and far.any()):
            return mean, error
        other, its_error = self.farther.log_optimum(flops)
        both = (1 - far) * mean + far * other
        square = (1 - far) * (error**2 + (mean - both) ** 2)
        square += far * (its_error**2 + (other - both) ** 2)
        return both, np.sqrt(square)

    @cached_property
    def farther(self) -> Guarded:
        """The same trials by what holds farther off, too: for optima beyond, and tests of the law.

        On real runs optima five and twenty times beyond err by .071 and .096 so, by .076 and .106
        with `LEAN` (benchmarks/real_runs.py, all but Porian's).
        """
        if not self.within:
            return self
        kinds = [c.discrepancy.kind for c in self.components]
        return fit_guarded(
            self.measured, ladder=self.ladder, warm=self, components=kinds, within=False
        )

    def _far(self, flops: npt.ArrayLike) -> FloatArray:
        """How far (n,) budgets lie beyond trials and ladder: 1 from `OUTSIDE` on, 0 within."""
        decades = np.log10(np.atleast_1d(np.asarray(flops, float)))
        least, greatest = np.log10(self._ends)
        far = np.maximum(decades - greatest, least - decades) / OUTSIDE
        return np.asarray(np.clip(far, 0.0, 1.0))

    def shares(self, flops: npt.ArrayLike) -> FloatArray:
        """Shares (len(components), S, n) of the members on n budgets."""
        far = self._far(flops)
        return np.asarray(self.weights[:, :, None] * (1 - far) + self.beyond[:, :, None] * far)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        ladder, (least, greatest) = self.ladder, self.data_flops
        return min(float(ladder.min()), least), max(float(ladder.max()), greatest)

    def vertex(self, flops: npt.ArrayLike) -> FloatArray:
        """Mean of ln p*, (S, n), without its error: sooner."""
        parts = np.stack([c.vertex(flops) for c in self.components])
        mean, far = (self.shares(flops) * parts).sum(0), self._far(flops)
        if self.within and far.any():
            mean = (1 - far) * mean + far * self.farther.vertex(flops)
        return np.asarray(mean)

    @cached_property
    def with_floors(self) -> Guarded:
        """The same trials in the belief that losses have floors: for losses beyond them."""
        kinds = [c.discrepancy.kind for c in self.components]
        kinds = [replace(k, reach=max(k.reach, FAR_REACH)) for k in kinds]
        return fit_guarded(
            self.measured,
            ladder=self.ladder,
            warm=self,
            components=kinds,
            floors=True,
            within=False,
        )

    @property
    def converged(self) -> npt.NDArray[np.bool_]:
        """(S,) whether every member that counts for a skill reached its maximum."""
        missed = [~c.converged * w for c, w in zip(self.components, self.weights, strict=True)]
        return np.asarray(np.sum(missed, axis=0) < 0.1)

    def expected(self, log_params: FloatArray, flops: FloatArray) -> FloatArray:
        """Expected losses (S, n), nats, without their errors: sooner."""
        parts = [c.loss_hat(log_params, flops) for c in self.components]
        return np.asarray((self.shares(flops) * np.stack(parts)).sum(0))

    def measured_loss(
        self, skill: str, log_params: FloatArray, flops: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """What one more trial would measure, and its standard error with that trial's noise."""
        mean, se = self._mix([c.loss(log_params, flops) for c in self.components], flops)
        at = self.skills.index(skill)
        blurs = np.stack([c.blur(log_params, flops)[at] for c in self.components])
        noise = self.noise[at] ** 2 * (self.shares(flops)[:, at] * blurs**2).sum(0)
        return mean[at], np.sqrt(se[at] ** 2 + noise)

    def curvature(self, flops: npt.ArrayLike) -> FloatArray:
        """Curvature d2L/d(ln p)2 at the optimum, nats, (S, n)."""
        parts = np.stack([c.shape(flops)[0] for c in self.components])
        return np.asarray((self.shares(flops) * parts).sum(0))

    def laws(self, flops: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Lines ln p* = ln a + b ln C through the optima of some budgets, equally weighted.

        Returns:
            (ln a, b) (S, 2), their covariances (S, 2, 2), and the standard deviation (S,) of
            ln p* round the line.
        """
        log_flops = np.log(np.asarray(flops, float))
        design = np.stack([np.ones_like(log_flops), log_flops], axis=1)
        project = np.linalg.pinv(design)
        parts = [c.line(flops, project) for c in self.components]
        lines = np.stack([line for line, _ in parts])
        mean = (self.weights[:, :, None] * lines).sum(0)
        away = lines - mean
        spread = np.stack([spread for _, spread in parts]) + away[..., None] * away[..., None, :]
        rest = self.vertex(flops) - mean @ design.T
        return mean, (self.weights[:, :, None, None] * spread).sum(0), np.sqrt((rest**2).mean(1))

    def least_loss(self, log_params: FloatArray, flops: npt.ArrayLike) -> FloatArray:
        """Expected loss (S, n) of each skill at sizes of its own (S, n) on n budgets, nats."""
        skills, budgets = log_params.shape
        own = np.arange(skills)
        every = self.expected(log_params.ravel(), np.tile(np.asarray(flops, float), skills))
        return np.asarray(every.reshape(skills, skills, budgets)[own, own])

    def _mix(
        self, parts: Sequence[tuple[FloatArray, FloatArray]], flops: npt.ArrayLike
    ) -> tuple[FloatArray, FloatArray]:
        means = np.stack([mean for mean, _ in parts])
        squares = np.stack([se**2 for _, se in parts])
        w = self.shares(flops)
        mean = (w * means).sum(0)
        return mean, np.sqrt((w * (squares + (means - mean) ** 2)).sum(0))


def fit_guarded(
    frame: pd.DataFrame | Trials,
    *,
    ladder: npt.ArrayLike | None = None,
    warm: Guarded | None = None,
    components: Sequence[Kind] = KINDS,
    floors: bool = False,
    within: bool = True,
) -> Guarded:
    """Fit the mixture to a long table.

    Args:
        frame: columns flops, params, tokens, skill, loss, and trial_id or seed where known, or
            what `read_trials` makes of it; finite losses only. Skills may miss trials.
        ladder: budgets to report, whether or not they have data yet.
        warm: an earlier fit to start from; the answer is the same, sooner.
        components: members of the mixture.
        floors: believe that losses have floors, as forecasts of losses need it, and curves that
            are steep because a skill is learnt all at once do not bear it.
        within: believe what shows on a ladder alone: that curves lean, that they grow deeper or
            flatter with the budget, and that all skills' optima grow by an exponent of the
            recipe's, see `Problem.within`.

    Raises:
        ValueError: no rows.
        TableError: a column is missing.
        FittingError: a budget of the ladder is none.
    """
    trials = thinned(frame if isinstance(frame, Trials) else read_trials(frame))
    if ladder is not None:
        check_all_positive(ladder=ladder)
    rungs = None if ladder is None else np.log(np.asarray(ladder, float))
    nodes = nodes_of(trials.log_flops, rungs)
    problem = Problem(trials, nodes, floors, within)
    before = {} if warm is None else {c.name: (warm.skills, c) for c in warm.components}
    plain = problem.solve([problem.discrepancy(SURFACE)], None, before)
    if (crowded := problem.with_repeats(plain[0])) is not problem:
        problem = crowded
        plain = problem.solve([problem.discrepancy(SURFACE)], plain[0], before)
    found = {plain[0].name: plain[0]}
    likes = [problem.discrepancy(k) for k in components if not k.plain]
    single = [like for like in likes if not like.kind.bent]
    found |= {c.name: c for c in problem.solve(single, plain[0], before)} if single else {}
    for like in likes:
        if like.kind.bent:
            found[like.kind.name] = problem.solve_pooled(like, plain[0], before)
    fitted = [found[kind.name] for kind in components]
    told = problem.told(fitted)
    members = problem.widened(fitted, told)
    evidence = np.stack(
        [c.log_evidence + c.common_evidence / len(c.log_evidence) for c in members]
    )
    independence = problem.share(members[int(evidence.sum(1).argmax())])
    near = evidence  # forecasts of losses ask all of them
    if not floors:
        near = near + np.stack([c.near_evidence - c.log_evidence for c in members])
    members, gained = zip(*(follow(c, independence) for c in members), strict=True)
    every, close = told * evidence + np.stack(gained), told * near + np.stack(gained)
    enough = np.where(np.isfinite(trials.loss), problem.counts, 0.0).sum(1) / FEW_TRIALS
    say = FAR_SAY / np.maximum(enough, 1.0) ** 2
    often = np.array([kind.often for kind in components])
    further = np.array([kind.further for kind in components])
    weights, beyond = (
        _weights(components, each, every, close, independence, say)
        for each in (often, often * further)
    )
    noise = np.exp((weights * np.log([c.scale for c in members])).sum(0)) / SCALE_OF_NORMAL
    flops = np.exp(trials.log_flops)
    return Guarded(
        skills=trials.skills,
        ladder=np.exp(nodes if rungs is None else np.sort(rungs)),
        components=members,
        weights=weights,
        beyond=beyond,
        evidence=evidence,
        independence=independence,
        noise=noise,
        convention=trials.convention,
        data_flops=(float(flops.min()), float(flops.max())),
        measured=trials,
        counts=problem.counts,
        alike=problem.alike_or_usual,
        within=within,
    )


def _weights(
    components: Sequence[Kind],
    often: FloatArray,
    evidence: FloatArray,
    near: FloatArray,
    independence: float,
    say: FloatArray,
) -> FloatArray:
    """Shares (M, S) of the members.

    The plain surface claims to hold far from the optima as well as near them: its share is that
    which all losses give it. What it leaves is shared by what losses near the optima say, which
    all other members ask alike; losses farther off have at most a say (S,) of so much log odds.
    """
    plain = np.array([kind.plain for kind in components])
    weights = _shares(often, evidence, independence)
    if plain.any() and not plain.all():
        far = (evidence - near)[~plain]
        told = near[~plain] + np.maximum(far - far.max(0), -say)
        weights[~plain] = (1 - weights[plain].sum(0)) * _shares(often[~plain], told, independence)
    return weights


def _shares(often: FloatArray, evidence: FloatArray, independence: float) -> FloatArray:
    """Shares (M, S) by each skill's own evidence, and by what the other skills made of theirs.

    How often each member is right is itself estimated from the other skills (correlated ones
    counted as the fewer independent ones they are), so that one odd skill condemns nobody else.
    """
    before = POOLING * often / often.sum()
    weights = np.zeros_like(evidence)
    for _ in range(POOLING_ROUNDS):
        others = weights.sum(1, keepdims=True) - weights
        raw = evidence + np.log(before[:, None] + independence * others)
        weights = np.exp(raw - raw.max(0))
        weights /= weights.sum(0)
    return np.asarray(weights)
