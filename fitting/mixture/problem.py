"""One table made ready for fits of every component: data, priors, starts.

Legend: p = params, C = flops; S = skills, n = trials, P = parameters, K = nodes, J = bends;
logarithms natural.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from fitting.mixture.data import Trials
from fitting.mixture.discrepancy import Discrepancy, Kind, bend_functions, bend_knots, hat_weights
from fitting.mixture.kinds import LEAN, LEAN_SD
from fitting.mixture.laplace import Data, Posterior, Prior, maximise
from fitting.mixture.member import Component
from fitting.mixture.pooling import Pool, pooled
from fitting.mixture.vertex_form import N_GLOBAL, Groups, Rows, exponents
from fitting.values import FloatArray

PRIOR_SD = {
    "level": 4.0,
    "log_reducible": 1.5,
    "log_vertex": 1.5,
    "logit": math.nan,
    "log_sum": 0.3,
}
"""Prior widths of L0 (in spreads of the skill's losses), ln R0, m, logit a, ln S; the first three
vague, so that units do not matter; that of logit a is the kind's."""

REDUCIBLE, REDUCIBLE_SD = 0.35, 0.65
"""Prior of R0 / L0, the part of the loss that compute takes away, and sd of its logarithm, where
floors are believed in: .29 at 1e20 FLOPs and .48 at 1e18 by Besiroglu et al. 2024. No loss falls
below 0; without this belief steep short ladders were read as floors of -3 to -60 nats, and losses
twenty times beyond came out 7 to 10 % too low (chosen on the public pools,
benchmarks/real_runs.py)."""

EXPONENT = 0.49
"""Prior centre of a, the exponent of p*: the mean of those published, .50, .49 and .46 (Hoffmann
et al. 2022), .51 (Besiroglu et al. 2024), .47 (Llama 3, 2024), .52 (DeepSeek 2024) and .50 (Porian
et al. 2024, tuned runs; more without)."""

LOG_EXPONENT_SUM = math.log(0.6)
"""Prior centre of ln(alpha + beta): .62 and .71 in Hoffmann et al. 2022 and Besiroglu et al. 2024;
.6 gives levels a fall of C^-.15, that which predicted the levels of real ladders best (.13 to .15,
benchmarks/real_runs.py, chosen on the public pools)."""

NOISE_FLOOR = 1e-4
"""Least error scale in spreads of a skill's losses: exact data stay solvable."""

LEAST_UNIT = 0.1
"""Least unit that noise is expected in, of a skill's median loss: one budget's losses range over
little, and are as noisy as a ladder's (noise of .2 % of a loss, assumption)."""

ALIKE, ALIKE_TRIALS = 0.3, 4.0
"""Share of the errors round a fit that repeats of one allocation have in common, and the repeats
that this belief counts for: medians of .29 to .37 over the skills of three sweeps on own text
(4 to 23 repeats of one allocation), .12 of built-in skills (15), benchmarks/results/own_text."""

NEIGHBOURS = 0.6
"""Ln p within which two sizes of a budget are neighbours (assumption)."""

EXACT = 5e-4
"""Error scale in spreads below which losses are exact, and what is left over the solver's own: of
27 public tables the least is three times as large (benchmarks/real_runs.py), of an exact surface
four fifths of it."""

FEWEST_PAIRS = 20
"""Neighbours that tell whether errors lean; of a smaller table nothing is said (assumption)."""

Earlier = tuple[tuple[str, ...], Component]
"""The skills of an earlier fit and one of its components."""


def _agree(one: FloatArray, other: FloatArray) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, atol=0.02))


@dataclass(frozen=True)
class Problem:
    """One table, prepared for fits of any component."""

    trials: Trials
    nodes: FloatArray
    floors: bool = False
    """Whether losses are believed to have floors above 0, see `REDUCIBLE`."""
    within: bool = True
    """Whether what shows on a ladder alone is believed: curves that lean (`kinds.LEAN`) and grow
    deeper or flatter with the budget (`kinds.DEEPEN`), and a slope of optima that skills have in
    common (`kinds.RECIPE`)."""
    alike: FloatArray | None = None
    """(S,) correlation of the errors of repeats of one allocation; None before it is known."""

    @cached_property
    def origin(self) -> tuple[float, float]:
        """(ln p, ln C) the parameters refer to: the middle of the trials."""
        return float(self.trials.log_params.mean()), float(np.median(self.trials.log_flops))

    @cached_property
    def spread(self) -> FloatArray:
        """(S,) twice the distance from the least to the median loss: robust to spoiled trials."""
        low, middle = np.nanmin(self.trials.loss, 1), np.nanmedian(self.trials.loss, 1)
        return np.asarray(np.maximum(2 * (middle - low), 1e-6 * np.abs(middle) + 1e-12))

    def data(self, likes: Sequence[Discrepancy]) -> Data:
        """Losses in the order of their groups, repeated for each component."""
        like, copies = likes[0], len(likes)
        log_flops = self.trials.log_flops - self.origin[1]
        log_params = self.trials.log_params - self.origin[0]
        hats = hat_weights(log_flops, like.nodes)
        each = np.broadcast_to(hats, (like.layout.effects, *hats.shape))
        bends = bend_functions(log_params, like.knots)[0]
        patterns, group = np.unique(hats, axis=0, return_inverse=True)
        group = group.reshape(-1)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(patterns) + 1))
        rows = Rows(log_params[order], log_flops[order], each[:, order], bends[order])
        loss = np.tile(self.trials.loss[:, order], (copies, 1))
        usual = LEAST_UNIT * np.abs(np.nanmedian(self.trials.loss, 1))
        unit = np.tile(np.maximum(self.spread, usual), copies)
        groups = Groups(tuple(starts.tolist()), patterns, like.layout.effects)
        return Data(
            rows,
            groups,
            np.nan_to_num(loss),
            np.isfinite(loss) * np.tile(self.counts[:, order], (copies, 1)),
            NOISE_FLOOR * np.tile(self.spread, copies),
            unit,
            np.repeat([k.kind.reach for k in likes], len(self.spread)),
        )

    @property
    def alike_or_usual(self) -> FloatArray:
        """(S,) the correlation, or what is believed without repeats."""
        return np.full(len(self.spread), ALIKE) if self.alike is None else self.alike

    @cached_property
    def counts(self) -> FloatArray:
        """(S, n) what each trial counts for: repeats of one allocation less than a trial each."""
        alone = self.trials.repeats() - 1
        return np.asarray(1 / (1 + alone * self.alike_or_usual[:, None]))

    def with_repeats(self, plain: Component) -> Problem:
        """The same, knowing how much of the errors round a fit is common to repeats.

        What an allocation has of its own (a width that suits its rate, say) no seed averages out:
        eight seeds of one allocation are not eight allocations.
        """
        counts = self.trials.repeats()
        if (counts < 2).all():
            return self
        places = self.trials.log_params, np.exp(self.trials.log_flops)
        scale = plain.scale[:, None] * plain.blur(*places)
        z = np.clip((self.trials.loss - plain.loss_hat(*places)) / scale, -3, 3)
        means = pd.DataFrame(z.T).groupby(self.trials.allocation).transform("mean").to_numpy().T
        many = counts > 1
        within = np.nansum(((z - means) ** 2)[:, many], 1)
        free = max((1 - 1 / counts[many]).sum(), 1e-9)
        total = np.nanmean(z[:, many] ** 2, 1)
        found = np.clip(1 - within / free / np.maximum(total, 1e-12), 0.0, 1.0)
        alike = (free * found + ALIKE_TRIALS * ALIKE) / (free + ALIKE_TRIALS)
        return replace(self, alike=alike)

    def widened(self, members: Sequence[Component], told: FloatArray) -> tuple[Component, ...]:
        """The same, as sure as their trials' errors (S,) allow: see `told`."""
        if (told == 1).all():
            return tuple(members)
        known = [self.prior(c.discrepancy).precision for c in members]
        return tuple(
            replace(c, precision=prior + told[:, None, None] * (c.precision - prior))
            for c, prior in zip(members, known, strict=True)
        )

    def told(self, members: Sequence[Component]) -> FloatArray:
        """(S,) what a skill's trials tell, of what as many with errors of their own would.

        Less where errors of neighbouring sizes are alike: where curves have not quite the form of
        any member, or where points of one training stand for several budgets. The factor is that
        of an autoregression of first order, and counts for widths and for evidence.
        """
        alike = self.neighbours(members)
        return np.asarray((1 - alike) / (1 + alike))

    def neighbours(self, members: Sequence[Component]) -> FloatArray:
        """(S,) correlation of the errors of neighbouring sizes, round each skill's best member.

        0 where it is not certain, of exact losses, whose errors are the solver's, and for the
        plain surface alone, round which all tables lean.
        """
        trials, none = self.trials, np.zeros(len(self.spread))
        budget = np.round(trials.log_flops, 2)
        order = np.lexsort((trials.log_params, budget))
        gap, same = np.diff(trials.log_params[order]), np.diff(budget[order]) == 0
        pairs = np.flatnonzero(same & (gap > 1e-3) & (gap < NEIGHBOURS))
        if len(pairs) < FEWEST_PAIRS or all(c.discrepancy.kind.plain for c in members):
            return none
        places = trials.log_params, np.exp(trials.log_flops)
        best = np.stack([c.log_evidence for c in members]).argmax(0)
        z = np.empty_like(trials.loss)
        for i in np.unique(best):
            mine, member = best == i, members[i]
            scale = member.scale[mine, None] * member.blur(*places)[mine]
            z[mine] = (trials.loss[mine] - member.loss_hat(*places)[mine]) / scale
        z = np.clip(z[:, order], -3, 3)
        one, other = z[:, pairs], z[:, pairs + 1]
        count = np.maximum(np.isfinite(one * other).sum(1), 1)
        square = np.nansum(one**2 + other**2, 1) / 2
        found = np.nansum(one * other, 1) / np.maximum(square, 1e-12)
        scales = np.stack([c.scale for c in members])[best, np.arange(len(best))]
        certain = (count >= FEWEST_PAIRS) & (found > 2 / np.sqrt(count))
        certain &= scales > EXACT * self.spread
        return np.where(certain, found, none)

    def discrepancy(self, kind: Kind) -> Discrepancy:
        """A kind laid over this table."""
        sizes, budgets = (
            self.trials.log_params - self.origin[0],
            self.trials.log_flops - self.origin[1],
        )
        span = (float(budgets.min()), float(budgets.max()))
        nodes = np.empty(0) if kind.plain else self.nodes - self.origin[1]
        if not self.within:
            kind = replace(kind, recipe=0.0, deepen=0.0)
        return Discrepancy(kind, nodes, bend_knots(sizes) if kind.bent else np.empty(0), span)

    def prior(self, like: Discrepancy) -> Prior:
        """Prior of one component for all skills."""
        mean = np.zeros((len(self.spread), like.layout.width))
        mean[:, 0] = np.nanmin(self.trials.loss, 1)
        mean[:, 1] = np.log(self.spread)
        mean[:, 3] = math.log(EXPONENT / (1 - EXPONENT))
        mean[:, 4] = LOG_EXPONENT_SUM
        sd = np.tile(np.array(list(PRIOR_SD.values())), (len(self.spread), 1))
        sd[:, 0] *= self.spread
        sd[:, 3] = like.kind.slope
        if self.floors:
            mean[:, 1] = np.log(REDUCIBLE * np.maximum(mean[:, 0], 1e-3 * self.spread))
            sd[:, 1] = REDUCIBLE_SD
        precision = like.precision(self.spread)
        index = np.arange(N_GLOBAL)
        precision[:, index, index] = sd**-2
        if like.layout.nodes and self.within:
            mean[:, 5], precision[:, 5, 5] = LEAN, max(like.kind.skew, LEAN_SD) ** -2
        return Prior(mean, precision)

    def solve(
        self,
        likes: Sequence[Discrepancy],
        plain: Component | None,
        warm: Mapping[str, Earlier],
    ) -> tuple[Component, ...]:
        """Fit components, all skills and all kinds that share a layout in one batch.

        Args:
            likes: what each component may depart by.
            plain: fitted plain surface to start from.
            warm: by name, each component of an earlier fit and the skills of that fit.
        """
        layouts = dict.fromkeys(like.layout for like in likes)
        batches = [[like for like in likes if like.layout == layout] for layout in layouts]
        found = {c.name: c for batch in batches for c in self._batch(batch, plain, warm)}
        return tuple(found[like.kind.name] for like in likes)

    def _batch(
        self,
        likes: Sequence[Discrepancy],
        plain: Component | None,
        warm: Mapping[str, Earlier],
    ) -> Iterator[Component]:
        """Of one layout."""
        priors = [self.prior(like) for like in likes]
        starts = [self.start(k, p, plain, warm) for k, p in zip(likes, priors, strict=True)]
        found = maximise(
            self.data(likes),
            Prior(
                np.concatenate([prior.mean for prior in priors]),
                np.concatenate([prior.precision for prior in priors]),
            ),
            np.concatenate([theta for theta, _ in starts]),
            np.concatenate([scale for _, scale in starts]),
        )
        for i, like in enumerate(likes):
            yield self.component(like, found, i * len(self.spread))

    def solve_pooled(
        self, like: Discrepancy, plain: Component, warm: Mapping[str, Earlier]
    ) -> Component:
        """Fit a component whose bends the skills have in common, up to their own scatter."""
        prior, data = self.prior(like), self.data([like])
        theta, scale = self.start(like, prior, plain, warm)
        pool = Pool(like.layout.bend_slice, self.spread, like.common_precision())
        mu = np.zeros(like.layout.bends)
        if like.kind.name in warm and len(warm[like.kind.name][1].common) == len(mu):
            mu = warm[like.kind.name][1].common

        def solve(around: Prior) -> Posterior:
            nonlocal theta, scale
            found = maximise(data, around, theta, scale)
            theta, scale = found.theta, found.scale
            return found

        def share(found: Posterior) -> float:
            return self.share(self.component(like, found, 0))

        found, extra, mu, doubt = pooled(pool, prior, solve, share, mu)
        one = self.component(like, found, 0)
        return replace(one, common=mu, common_evidence=extra, doubt=doubt)

    def component(self, like: Discrepancy, found: Posterior, first: int) -> Component:
        """Cut one component out of the batch."""
        part = slice(first, first + len(self.spread))
        return Component(
            discrepancy=like,
            theta=found.theta[part],
            precision=found.precision[part],
            doubt=np.empty((*found.theta[part].shape, 0)),
            scale=found.scale[part],
            dof=found.dof[part],
            log_evidence=found.log_evidence[part],
            near_evidence=found.near_evidence[part],
            converged=found.converged[part],
            origin=self.origin,
        )

    def start(
        self,
        like: Discrepancy,
        prior: Prior,
        plain: Component | None,
        warm: Mapping[str, Earlier],
    ) -> tuple[FloatArray, FloatArray]:
        """Start of parameters and error scales: the earlier fit, the plain surface, or a guess."""
        theta, scale = prior.mean.copy(), 0.1 * self.spread
        if plain is None:
            theta[:, 2] = self.lowest()
        else:
            theta[:, :N_GLOBAL], scale = plain.theta, plain.scale.copy()
        if like.kind.name in warm:
            self.resume(theta, scale, like, *warm[like.kind.name])
        return theta, scale

    def resume(
        self,
        theta: FloatArray,
        scale: FloatArray,
        like: Discrepancy,
        skills: tuple[str, ...],
        before: Component,
    ) -> None:
        """Overwrite a start by an earlier maximum where skill and layout agree."""
        shift = self.origin[1] - before.origin[1]
        across = self.origin[0] - before.origin[0]
        same_nodes = _agree(before.nodes - shift, like.nodes)
        if not same_nodes or not _agree(before.knots - across, like.knots):
            return
        slope, _, _, gamma = exponents(before.theta)
        moved = before.theta.copy()
        moved[:, 1] -= gamma * shift
        moved[:, 0] += np.exp(moved[:, 1]) - np.exp(before.theta[:, 1])
        moved[:, 2] += slope * shift - across
        where = {skill: i for i, skill in enumerate(skills)}
        for s, skill in enumerate(self.trials.skills):
            if skill in where:
                theta[s], scale[s] = moved[where[skill]], before.scale[where[skill]]

    def lowest(self) -> FloatArray:
        """(S,) ln p of the least loss of each budget, brought to the reference by a = 1/2."""
        trials = self.trials
        node = np.abs(trials.log_flops[:, None] - self.nodes).argmin(1)
        places = trials.log_params - self.origin[0] - 0.5 * (trials.log_flops - self.origin[1])
        loss = np.where(np.isfinite(trials.loss), trials.loss, np.inf)
        least = np.full((len(loss), len(self.nodes)), np.nan)
        for k in np.unique(node):
            here = np.flatnonzero(node == k)
            best = loss[:, here].argmin(axis=1)
            seen = np.isfinite(loss[:, here].min(axis=1))
            least[seen, k] = places[here[best[seen]]]
        return np.asarray(np.nanmedian(least, axis=1))

    def share(self, best: Component) -> float:
        """What one skill counts beside the others: 1 if independent, 1 / S if all the same."""
        return 1 / (1 + (len(self.spread) - 1) * self.correlation(best))

    def correlation(self, best: Component) -> float:
        """Mean correlation of the skills' residuals in one trial, at least 0."""
        residual = self.trials.loss - best.loss_hat(
            self.trials.log_params, np.exp(self.trials.log_flops)
        )
        z = np.clip(np.nan_to_num(residual / best.scale[:, None]), -3, 3)
        z = z - z.mean(1, keepdims=True)
        norm = np.sqrt((z**2).sum(1)) + 1e-300
        if len(z) < 2:
            return 0.0
        matrix = (z @ z.T) / norm[:, None] / norm
        return float(np.clip((matrix.sum() - np.trace(matrix)) / (len(z) * (len(z) - 1)), 0, 1))
