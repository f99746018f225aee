"""What a user may say about the search; everything has a default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.families.checks import Strict


@dataclass(frozen=True)
class SearchSettings(Strict):
    """How the next trials are chosen and when enough is known.

    Attributes:
        policy: "adaptive" places each trial where its information gain per FLOP is greatest;
            "grid" and "optuna" are the practices it is measured against.
        goal: "optima" finds every skill's best sizes; "compare" decides whether variants or mixes
            are better than the first; "auto" compares where the spec has variants.
        margin: compare: multipliers nearer to 1 than this ratio count as no difference.
        level: compare: chance of any false verdict of better or worse, however often one looks.
        tolerance: wanted half-width of the 90 % interval of ln p*, for every skill and every
            budget up to the target; .10 means p* to within 10 %.
        target_flops: a budget beyond the ladder whose optimum is wanted too.
        min_trials: fewest trials before the tolerance may stop the search. Early intervals are
            those of too simple a model: with 30 the rule stopped no simulated sweep too soon
            at a tolerance of .15 or less.
        tokens_per_param: guess of t / p at the optimum of the cheapest budget; a wrong guess
            costs a few cheap trials. 20 is Hoffmann et al. 2022.
        reach: how far beyond the outermost optima sizes are tried, in ln p. 1.6 (a factor 5)
            balances noise against the bias of a wrong curve shape: twice as far, a law that holds
            is found for about half the FLOPs, but Chinchilla's runs so far above the optimum lie
            .11 nats over their law, nine times their noise (benchmarks/results/published.md).
        sizes_per_budget: grid and optuna: trials per budget. 8 is usual practice.
        half_width: grid and optuna: sizes lie within this of the centre, in ln p. Parabolas are
            biased by more than 1.4 and noisy by less than 1.
        sampler: optuna: "tpe" or "gp".
        seed: of whatever is random in the choice (optuna); trials have seeds of their own.
    """

    policy: Literal["adaptive", "grid", "optuna"] = "adaptive"
    goal: Literal["auto", "optima", "compare"] = "auto"
    margin: float = 1.1
    level: float = 0.05
    tolerance: float = 0.10
    target_flops: float | None = None
    min_trials: int = 30
    tokens_per_param: float = 20.0
    reach: float = 1.6
    sizes_per_budget: int = 8
    half_width: float = 1.4
    sampler: Literal["tpe", "gp"] = "tpe"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the domain of every field.

        Raises:
            ValueError: names the field, its value and the remedy.
        """
        choices = {
            "goal": ("auto", "optima", "compare"),
            "policy": ("adaptive", "grid", "optuna"),
            "sampler": ("tpe", "gp"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"search.{name}={getattr(self, name)!r}: choose one of {', '.join(known)}"
                )
        for name in ("tolerance", "tokens_per_param", "reach", "half_width"):
            if not getattr(self, name) > 0:
                raise ValueError(f"search.{name}={getattr(self, name)}: must be above 0")
        if self.target_flops is not None and not self.target_flops > 0:
            raise ValueError(
                f"search.target_flops={self.target_flops}: give FLOPs above 0, or leave it out"
            )
        if not (self.margin > 1 and 0 < self.level < 0.5):
            raise ValueError(
                f"search.margin={self.margin}, search.level={self.level}: give a ratio above 1 "
                "and a chance below .5, such as 1.1 and .05"
            )
        if self.sizes_per_budget < 3:
            raise ValueError(
                f"search.sizes_per_budget={self.sizes_per_budget}: a parabola needs at least 3"
            )
        if self.min_trials < 0 or self.seed < 0:
            raise ValueError("search.min_trials and search.seed must not be negative")

    def guess(self, flops: float) -> float:
        """Params of a budget's optimum as guessed before any trial, from C = 6 p t."""
        return math.sqrt(flops / 6 / self.tokens_per_param)
