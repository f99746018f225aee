"""What a tuning takes, before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import pandas as pd

from sweeper.errors import SpecError
from sweeper.plan.speed import devices_at_hand, held, speed_of, trained
from sweeper.spec.checks import MIN_STEPS
from sweeper.spec.spec import Spec
from sweeper.text import duration, number, percent
from sweeper.tuning.points import points_of
from sweeper.tuning.studies import FIRST_MORE
from trainables.recipe import fewest_tokens

S = TypeVar("S", bound=Spec)

SHORTER = 0.8
"""Factor on the tokens of a tuning's trainings until they fit a time (assumption)."""


@dataclass(frozen=True)
class TuningCost:
    """What a tuning trains.

    Attributes:
        trials: about: a point whose best rate lies at an end of those tried gets two more.
        points: allocations it is tuned at.
        flops: of all trials.
        seconds: of the clock, on the devices at hand; trials of a point run side by side.
        share: of the sweep's allowance, which does not count them.
        speed: where the seconds come from.
    """

    trials: int
    points: int
    flops: float
    seconds: float
    share: float
    speed: str

    def __str__(self) -> str:
        """The cost in a sentence."""
        return (
            f"about {self.trials} trainings at {self.points} points, {number(self.flops)} FLOPs "
            f"({percent(self.share)} of the sweep's allowance, beside it), "
            f"{duration(self.seconds)} ({self.speed}); fewer by tuning.trials or smaller "
            "tuning.points"
        )


def within(spec: S, seconds: float, measured: pd.DataFrame | None = None) -> S:
    """A spec whose tuning fits a time: the same sizes, on fewer tokens each.

    Raises:
        SpecError: its shortest trainings take longer; says how long.
    """
    points, cost = points_of(spec), tuning_cost(spec, measured)
    share = 1.0
    while cost.seconds > seconds:
        share *= SHORTER
        fewer = tuple((float(p), share * t) for p, t in points)
        tried = replace(spec, tuning=replace(spec.tuning, points=fewer))
        if any(t < fewest_tokens(spec.train, spec.shape(round(p)), MIN_STEPS) for p, t in fewer):
            raise SpecError(
                f"tune: {duration(seconds)} are not enough, {duration(cost.seconds)} are for "
                f"{cost.trials} trainings of {MIN_STEPS} steps or more; give that, or fewer "
                "tuning.points or tuning.trials"
            )
        cost, spec = tuning_cost(tried, measured), tried
    return spec


def tuning_cost(spec: Spec, measured: pd.DataFrame | None = None) -> TuningCost:
    """What tuning a sweep takes.

    Args:
        measured: trials of this machine (`sweeper.plan.measured`); None works it out.
    """
    speed, points = speed_of(spec.cluster, measured), points_of(spec)
    devices = max(1, devices_at_hand(spec.cluster))
    trials = flops = seconds = 0.0
    for i, (params, tokens) in enumerate(points):
        count = spec.tuning.wanted + (FIRST_MORE if i == 0 else 0)
        each = float(tokens * spec.shape(params).flops_per_token(spec.flops))
        wall_s = speed.wall_s(each, params, spec.placement, trained(spec, params, tokens))
        at_once = min(count, max(1.0, devices / held(spec.placement.rule(params))))
        trials, flops = trials + count, flops + count * each
        seconds += count * wall_s / at_once
    share = flops / spec.allowance
    return TuningCost(int(trials), len(points), flops, seconds, share, speed.source)
