"""One joint fit of a skill's losses under several variants of a training.

All variants are one surface (`fitting.mixture.vertex_form`) with one discrepancy over the ladder;
each variant but the first, the reference, departs from it by walks of its own in the place of the
optimum, the level and the curvature. What all variants have in common, a bent law above all, drops
out of their differences. So does what trials of one allocation have in common, and of one seed
there: an effect with a variance, estimated as all else by averaging members by evidence.

A constant departure of the level, ln of the loss above its floor, is a constant compute
multiplier: F_v(C) = F_0(m C) with F_0 = E + G C^-gamma has level -gamma ln m.

Legend: p = params, C = flops; V = variants, S = skills, n = trials, K = nodes, P = parameters,
J = common effects; losses in nats, logarithms natural.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.mixture.data import Trials
from fitting.mixture.discrepancy import Discrepancy, Kind, Walk, hat_weights, nodes_of
from fitting.mixture.kinds import FAR_REACH, LOOSE, SURFACE
from fitting.mixture.laplace import Data, Prior, maximise
from fitting.mixture.member import Component
from fitting.mixture.problem import NOISE_FLOOR, Problem
from fitting.mixture.vertex_form import EFFECTS, N_GLOBAL, N_LOCAL, Groups, Layout, Rows
from fitting.reading.budgets import group_budgets
from fitting.values import FloatArray

IntArray = npt.NDArray[np.int_]

SCALES = (0.3, 1.0, 4.0)
"""Members: how much a variant's multiplier changes with compute, in units of `_apart`."""

OFTEN = (0.6, 0.35, 0.05)
"""How often each is right beforehand (assumption: most changes keep what they gain; set so that
benchmarks/compare.py covers worlds whose multiplier moves by a quarter in three decades)."""

COMMON = (0.0, 0.5, 2.0)
"""Tried: variance of what trials of one allocation have in common over that of the rest."""

ASKED = (0.0, 0.09, 0.14)
"""Nats of evidence asked of them for every further loss of an allocation. Effects of robust fits
explain noise as well: of errors with nothing in common the first gained .09 on none. Of 150 pairs
of one training, 28 trials and two skills each, 10.7 % had a false verdict without this, and 84.7 %
of 90 % intervals held: 8.0 and 86.7 % with it. Where one and two thirds of the errors were common
86.3 and 85.0 % held before, 87.5 and 86.3 % with it, in intervals 2 % wider."""

MOST_COMMON = 150
"""Common effects fitted, of the allocations with most trials: bounds time (assumption)."""


def _apart(scale: float) -> Kind:
    """How a variant may depart from the reference.

    The level's offset is free (a factor 1000 in compute). At scale 1 the multiplier changes by
    about a tenth per decade of compute, its tilt, and by .02 from budget to budget (assumptions,
    checked by benchmarks/compare.py); optima may lie a factor 3 apart and exponents .03.
    """
    level = Walk(own=0.003 * scale, tilt=0.015 * scale, wander=0.01 * scale, offset=1.0)
    return Kind(
        "apart", Walk(own=0.03, tilt=0.07, offset=0.7), level, Walk(0.03, 0.05, offset=0.2)
    )


@dataclass(frozen=True)
class VariantTrials:
    """Losses of all skills on the trials of all variants.

    Attributes:
        variants: names, the reference first.
        skills: names.
        variant: (n,) index of each trial's variant.
        log_params: (n,).
        log_flops: (n,).
        seed: (n,) a number per seed; trials without one have one of their own.
        loss: (S, n) nats, NaN where not measured.
    """

    variants: tuple[str, ...]
    skills: tuple[str, ...]
    variant: IntArray
    log_params: FloatArray
    log_flops: FloatArray
    seed: IntArray
    loss: FloatArray

    @classmethod
    def of(cls, frames: Mapping[str, pd.DataFrame], skills: Sequence[str]) -> VariantTrials:
        """From one long table per variant, as `fitting.prepare` checks it."""
        parts = [f[f["skill"].isin(list(skills))].assign(_variant=i)
                 for i, f in enumerate(frames.values())]  # fmt: skip
        table = pd.concat(parts, ignore_index=True)
        trial = table.groupby(["_variant", "trial_id"], sort=False, dropna=False).ngroup()
        first = table.loc[~trial.duplicated().to_numpy()]
        loss = np.full((len(skills), len(first)), np.nan)
        rank = {skill: i for i, skill in enumerate(skills)}
        loss[table["skill"].map(rank).to_numpy(int), trial.to_numpy()] = table["loss"]
        seed = pd.factorize(first["seed"].astype(object))[0]
        seed = np.where(seed < 0, seed.max() + 1 + np.arange(len(seed)), seed)
        return cls(
            variants=tuple(frames),
            skills=tuple(skills),
            variant=first["_variant"].to_numpy(int),
            log_params=np.log(first["params"].to_numpy(float)),
            log_flops=np.log(first["flops"].to_numpy(float)),
            seed=np.asarray(seed, dtype=int),
            loss=loss,
        )

    @property
    def seen(self) -> FloatArray:
        """(S, n) 1 where a loss was measured."""
        return np.isfinite(self.loss).astype(float)

    def take(self, trials: npt.NDArray[np.bool_]) -> VariantTrials:
        """Some of the trials."""
        return VariantTrials(
            self.variants, self.skills, self.variant[trials], self.log_params[trials],
            self.log_flops[trials], self.seed[trials], self.loss[:, trials],
        )  # fmt: skip

    def common(self) -> FloatArray:
        """(n, J) what several trials share: an allocation, and there a seed.

        A size differs by less than 1 % between trials of one allocation, and so do their FLOPs.
        """
        sizes, flops = (group_budgets(np.exp(v)) for v in (self.log_params, self.log_flops))
        frame = pd.DataFrame({"p": sizes, "c": flops, "s": self.seed})
        columns: dict[bytes, FloatArray] = {}
        for names in (["p", "c"], ["p", "c", "s"]):
            group = frame.groupby(names).ngroup().to_numpy()
            counts = np.bincount(group)
            for j in np.argsort(-counts, kind="stable")[: int((counts > 1).sum())]:
                column = (group == j).astype(float)
                columns.setdefault(column.tobytes(), column)
        found = list(columns.values())[:MOST_COMMON]
        return np.stack(found, axis=1) if found else np.zeros((len(self.seed), 0))


@dataclass(frozen=True)
class Member:
    """One fit: how freely variants depart, how much trials have in common.

    Attributes:
        apart: what variants may depart by.
        theta: (S, P) posterior maximum.
        covariance: (S, P, P).
        dof: (S,) observations less effective parameters.
        scale: (S,) error scale of one loss, nats.
        common: share of the errors' variance that trials of one allocation have in common.
    """

    apart: Discrepancy
    theta: FloatArray
    covariance: FloatArray
    dof: FloatArray
    scale: FloatArray
    common: float


@dataclass(frozen=True)
class Joint:
    """The joint fit; `fitting.compare.contrast` reads differences off it.

    Attributes:
        trials: what was fitted.
        origin: (ln p, ln C) the parameters refer to.
        reference: what the reference departs from the law by.
        members: fits by freedom and common variance.
        weights: (M, S) their shares of each skill by evidence.
        common: (n, J) what trials share.
    """

    trials: VariantTrials
    origin: tuple[float, float]
    reference: Discrepancy
    members: tuple[Member, ...]
    weights: FloatArray
    common: FloatArray

    @property
    def layout(self) -> Layout:
        """Places of the parameters: effects of the reference's nodes, then each variant's."""
        return Layout(len(self.reference.nodes) * len(self.trials.variants), self.common.shape[1])

    def effects(self, index: int, variant: int) -> slice:
        """Place of effect ``index`` (drift, level, curvature) at the nodes of a variant."""
        count = len(self.reference.nodes)
        start = self.layout.effect_slice(index).start + variant * count
        return slice(start, start + count)

    def dof(self) -> FloatArray:
        """(S,) degrees of freedom of the errors."""
        return np.asarray((self.weights * [m.dof for m in self.members]).sum(0))

    def rows(
        self, log_params: FloatArray, log_flops: FloatArray, variant: IntArray, common: FloatArray
    ) -> Rows:
        """Where the surface is evaluated, trained or not, for `vertex_form.surface`."""
        c = log_flops - self.origin[1]
        hats = _hats(c, variant, self.reference.nodes, len(self.trials.variants))
        return Rows(log_params - self.origin[0], c, hats, common)


def fit_joint(trials: VariantTrials, *, ladder: Sequence[float] = ()) -> Joint:
    """Fit all skills and variants.

    How much trials have in common is chosen first, by the evidence of all skills at the middle
    freedom; the members are then the freedoms.

    Args:
        trials: of all variants; the reference must have some of every skill.
        ladder: budgets that are nodes whether or not they have data.
    """
    first = trials.variant == 0
    nodes = nodes_of(trials.log_flops, np.log(np.asarray(ladder)) if len(ladder) else None)
    alone = Trials(
        trials.skills, trials.log_params[first], trials.log_flops[first], trials.loss[:, first]
    )
    problem = Problem(alone, nodes)
    plain = problem.solve([problem.discrepancy(SURFACE)], None, {})[0]
    c = trials.log_flops - problem.origin[1]
    span = (float(c.min()), float(c.max()))
    reference = Discrepancy(LOOSE, nodes - problem.origin[1], np.empty(0), span)
    blank = Joint(trials, problem.origin, reference, (), np.empty(0), trials.common())
    share = COMMON[0]
    if blank.common.shape[1]:
        cases = [(SCALES[1], each) for each in COMMON]
        shared = (trials.seen @ blank.common - 1).clip(0).sum()
        evidence = _solve(blank, problem, plain, cases)[1].sum(1) - shared * np.array(ASKED)
        share = COMMON[int(evidence.argmax())]
    if not share:
        blank = replace(blank, common=blank.common[:, :0])
    members, evidence = _solve(blank, problem, plain, [(scale, share) for scale in SCALES])
    weights = np.array(OFTEN)[:, None] * np.exp(evidence - evidence.max(0))
    return replace(blank, members=members, weights=weights / weights.sum(0))


def _solve(
    blank: Joint, problem: Problem, plain: Component, cases: Sequence[tuple[float, float]]
) -> tuple[tuple[Member, ...], FloatArray]:
    """Members, one for each case of freedom and common variance, and their evidence (M, S)."""
    like = blank.reference
    likes = [Discrepancy(_apart(scale), like.nodes, np.empty(0), like.span) for scale, _ in cases]
    shares = [share for _, share in cases]
    base = problem.prior(like)
    priors = [
        _prior(blank, base, apart, share, plain.scale)
        for apart, share in zip(likes, shares, strict=True)
    ]
    mean, precision = (np.concatenate([getattr(p, n) for p in priors])
                       for n in ("mean", "precision"))  # fmt: skip
    theta = mean.copy()
    theta[:, :N_GLOBAL] = np.tile(plain.theta, (len(cases), 1))
    data = _data(blank, problem.spread, shares)
    found = maximise(data, Prior(mean, precision), theta, np.tile(plain.scale, len(cases)))
    count = len(plain.scale)
    parts = [slice(i * count, (i + 1) * count) for i in range(len(cases))]
    members = tuple(
        Member(
            apart=apart,
            theta=found.theta[part],
            covariance=np.asarray(np.linalg.inv(found.precision[part])),
            dof=found.dof[part],
            scale=found.scale[part],
            common=share / (1 + share),
        )
        for apart, share, part in zip(likes, shares, parts, strict=True)
    )
    return members, found.log_evidence.reshape(len(cases), count)


def _prior(
    blank: Joint, base: Prior, apart: Discrepancy, share: float, scale: FloatArray
) -> Prior:
    """The reference's prior, and blocks for the variants and for what trials share."""
    layout, count = blank.layout, len(scale)
    mean = np.zeros((count, layout.width))
    mean[:, :N_LOCAL] = base.mean[:, :N_LOCAL]
    precision = np.zeros((count, layout.width, layout.width))
    precision[:, :N_LOCAL, :N_LOCAL] = base.precision[:, :N_LOCAL, :N_LOCAL]
    own = blank.reference.layout
    away = apart.precision(scale)
    for i in range(len(EFFECTS)):
        place = own.effect_slice(i)
        for v in range(len(blank.trials.variants)):
            to = blank.effects(i, v)
            precision[:, to, to] = (base.precision if v == 0 else away)[:, place, place]
    bends = np.arange(layout.width)[layout.bend_slice]
    variance = scale**2 * max(share, 1e-6) / (1 + share)
    precision[:, bends, bends] = 1 / variance[:, None]
    return Prior(mean, precision)


def _data(blank: Joint, spread: FloatArray, shares: Sequence[float]) -> Data:
    """Losses sorted by node and variant, a copy for each member."""
    trials = blank.trials
    rows = blank.rows(trials.log_params, trials.log_flops, trials.variant, blank.common)
    patterns, group = np.unique(rows.hats[0], axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(patterns) + 1))
    # A trial that shares nothing has the variance of what others share beside its own.
    lonely = ~rows.bends.any(axis=1)
    counts = np.stack([np.where(lonely, 1 / (1 + share), 1.0) for share in shares])
    present = np.isfinite(trials.loss)[None] * counts[:, None]
    unit = np.tile(spread, len(shares))
    return Data(
        Rows(rows.log_params[order], rows.log_flops[order], rows.hats[:, order],
             rows.bends[order]),
        Groups(tuple(starts.tolist()), patterns),
        np.tile(np.nan_to_num(trials.loss[:, order]), (len(shares), 1)),
        present[:, :, order].reshape(-1, len(order)),
        NOISE_FLOOR * unit,
        unit,
        np.full(len(unit), FAR_REACH),
    )  # fmt: skip


def _hats(c: FloatArray, variant: IntArray, nodes: FloatArray, variants: int) -> FloatArray:
    """Weights (3, n, V K): a trial has the effects of the reference and of its variant."""
    own = hat_weights(c, nodes)
    out = np.zeros((len(c), variants, len(nodes)))
    out[:, 0] = own
    out[np.arange(len(c)), variant] = own
    return np.broadcast_to(out.reshape(1, len(c), -1), (len(EFFECTS), len(c), out[0].size))
