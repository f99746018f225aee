"""Budgets and allocations: C = 6 p t arithmetic over the sizes that can really be built."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sweeper.text import number, si


@dataclass(frozen=True, order=True, slots=True)
class Allocation:
    """What one trial trains: a size and a token count on a budget.

    Attributes:
        flops: the budget the trial lies on; its reservation. The realised FLOPs never exceed it.
        params: p, counted as the spec says (default: all but the input embedding).
        tokens: t, a whole number of sequences.
        seed: initialisation and data order; repeats of an allocation differ in it only.
        mix: name of the data mix.
    """

    flops: float
    params: int
    tokens: int
    seed: int = 0
    mix: str = "base"

    def __str__(self) -> str:
        """Name as people read it: C=1e18 p=124M t=1.3B seed=0."""
        mix = f" mix={self.mix}" * (self.mix != "base")
        return (
            f"C={number(self.flops)} p={si(self.params)} t={si(self.tokens)} seed={self.seed}{mix}"
        )


@dataclass(frozen=True)
class Space:
    """The realisable allocations of a sweep.

    Attributes:
        budgets: training FLOPs per trial, ascending: the ladder.
        params: realisable sizes, ascending.
        flops_per_token: training FLOPs per token of each size by the spec's convention
            (6 p by default, or exact), same length as ``params``.
        granule: tokens come in multiples of this (the context length).
        min_tokens: fewest tokens a trial may have (a few optimiser steps); one number, or one
            for each size.
        max_tokens: most tokens a trial may have (the corpus, or epochs of it).
        mix: name of the data mix the allocations carry.
    """

    budgets: tuple[float, ...]
    params: tuple[int, ...]
    flops_per_token: tuple[float, ...]
    granule: int = 1
    min_tokens: int | tuple[int, ...] = 1
    max_tokens: float = math.inf
    mix: str = "base"

    def tokens(self, flops: float, index: int) -> int:
        """Tokens that spend ``flops`` on size ``index``, rounded down to whole sequences."""
        return int(flops / self.flops_per_token[index] / self.granule) * self.granule

    def nearest(self, params: float) -> int:
        """Index of the realisable size nearest to ``params`` in ln p."""
        right = bisect_left(self.params, params)
        around = [i for i in (right - 1, right) if 0 <= i < len(self.params)]
        return min(around, key=lambda i: abs(math.log(self.params[i] / params)))

    def allowed(self, flops: float) -> list[int]:
        """Indices of the sizes that may be trained on a budget."""
        if flops not in self._allowed:
            self._allowed[flops] = [
                i
                for i in range(len(self.params))
                if self._fewest(i) <= self.tokens(flops, i) <= self.max_tokens
            ]
        return self._allowed[flops]

    def sizes(self, flops: float) -> list[int]:
        """Params of the sizes that may be trained on a budget, ascending."""
        return [self.params[i] for i in self.allowed(flops)]

    @cached_property
    def _allowed(self) -> dict[float, list[int]]:
        """What `allowed` has answered: a search asks it many times per decision."""
        return {}

    def _fewest(self, index: int) -> int:
        """Fewest tokens a trial of one size may have."""
        fewest = self.min_tokens
        return fewest if isinstance(fewest, int) else fewest[index]

    def allocation(self, flops: float, params: float, seed: int = 0) -> Allocation:
        """The allocation on ``flops`` whose realisable size is nearest to ``params``."""
        i = self.nearest(params)
        return Allocation(flops, self.params[i], self.tokens(flops, i), seed, self.mix)

    def cost(self, allocation: Allocation) -> float:
        """Realised FLOPs of an allocation by the spec's convention."""
        return self.flops_per_token[self.nearest(allocation.params)] * allocation.tokens


def next_seed(taken: Iterable[Allocation], flops: float, params: int) -> int:
    """First seed not yet used by the trials of one budget and size."""
    used = {a.seed for a in taken if a.params == params and same_budget(a.flops, flops)}
    return next(seed for seed in range(len(used) + 1) if seed not in used)


def same_budget(one: float, other: float) -> bool:
    """Whether two FLOP counts are one budget: they differ by under 1 %."""
    return abs(math.log(one / other)) < 0.01
