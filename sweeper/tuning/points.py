"""What is tuned before a sweep: the knobs, the (params, tokens) of it, the trainings they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sweeper.errors import SpecError, did_you_mean
from trainables.config import TrialConfig
from trainables.recipe import Power
from trainables.shapes import solve

if TYPE_CHECKING:
    from sweeper.spec.spec import Sweep

Values = dict[str, float]

KNOBS = ("learning_rate", "batch_tokens", "beta2", "weight_decay", "warmup")
"""What may be tuned. The first two get laws, the others one value for all allocations."""


@dataclass(frozen=True)
class Tuning:
    """How hyperparameters are tuned before a sweep.

    Attributes:
        knobs: what is tuned (`KNOBS`), and the factor either side of the present recipe's value
            within which it is tried; for beta2 the factor is on 1 - beta2.
        points: (params, tokens) to tune at; empty for five small ones from the spec. A law of
            params and tokens needs points that differ in each.
        trials: per point; None for as many as a paraboloid in the knobs needs and one to spare.
        sampler: Optuna's "tpe" or "gp".
        objectives: skills whose losses are minimised; empty for the aggregate. With several, the
            law that a run uses goes through the least geometric mean of them.
        asha: stop the worse trials at rungs (asynchronous successive halving), after an opening
            that is trained to its end, so that ``trials`` trainings' worth of FLOPs try more
            values; only where the rate is constant, as a loss in the middle of a falling schedule
            compares with nothing.
        seed: of the sampler, and of all trainings, so that trials differ by their knobs alone.
    """

    knobs: dict[str, float] = field(default_factory=lambda: {"learning_rate": 6.0})
    points: tuple[tuple[float, float], ...] = ()
    trials: int | None = None
    sampler: Literal["tpe", "gp"] = "tpe"
    objectives: tuple[str, ...] = ()
    asha: bool = False
    seed: int = 0

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(tuple(point) for point in self.points))
        object.__setattr__(self, "objectives", tuple(self.objectives))
        for name, factor in self.knobs.items():
            if name not in KNOBS:
                raise ValueError(
                    f"tuning.knobs: {name!r} is unknown{did_you_mean(name, KNOBS)}; "
                    f"known: {', '.join(KNOBS)}"
                )
            if not 1 < factor <= 1000:
                raise ValueError(f"tuning.knobs.{name}={factor}: give a factor above 1, e.g. 6")
        if not self.knobs:
            raise ValueError("tuning.knobs: name at least one, e.g. learning_rate: 6")
        if any(len(point) != 2 or min(point) <= 0 for point in self.points):
            raise ValueError("tuning.points: give pairs of params and tokens above 0")
        if self.trials is not None and self.trials < 3:
            raise ValueError(f"tuning.trials={self.trials}: a minimum needs at least 3")
        if self.sampler not in ("tpe", "gp"):
            raise ValueError(f"tuning.sampler={self.sampler!r}: choose tpe or gp")
        if self.asha and len(self.objectives) > 1:
            raise ValueError("tuning.asha: rungs rank trials by one loss; name one objective")
        if self.seed < 0:
            raise ValueError("tuning.seed must not be negative")

    @property
    def wanted(self) -> int:
        """Trials per point."""
        d = len(self.knobs)
        return self.trials or (2 + d * (d + 3) // 2 if d < 3 else 3 * d + 2)


def points_of(sweep: Sweep) -> tuple[tuple[int, int], ...]:
    """The (params, tokens) a sweep is tuned at, realisable and cheapest first.

    By default three sizes a factor of 3 apart round the guess for half the cheapest budget, on
    one token count, and the two smaller ones on three times as many.
    """
    settings, flops = sweep.tuning, sweep.budgets[0] / 2
    wanted = settings.points
    if not wanted:
        middle = math.sqrt(flops / 6 / sweep.search.tokens_per_param)
        tokens = flops / 6 / (3 * middle)
        low, mid, high = (
            min(max(middle * f, min(sweep.shapes)), max(sweep.shapes)) for f in (1 / 3, 1, 3)
        )
        few = [(low, tokens), (mid, tokens), (high, tokens)]
        wanted = (*few, (low, 3 * tokens), (mid, 3 * tokens))
    points = []
    for params, tokens in wanted:
        try:
            shape = solve(params, sweep.model, count=sweep.sizes.count)
        except ValueError as error:
            raise SpecError(f"tuning.points: {error}") from error
        whole = int(tokens / shape.context) * shape.context
        points.append((int(getattr(shape, sweep.sizes.count)), whole))
    return tuple(sorted(set(points), key=lambda point: point[0] * point[1]))


def check(sweep: Sweep) -> None:
    """Refuse what cannot be tuned as asked.

    Raises:
        SpecError: rungs under a falling rate, an objective nobody measures, a knob the rule
            brings itself.
    """
    settings, train = sweep.tuning, sweep.train
    if settings.asha and train.final < 1 and train.schedule != "wsd":
        raise SpecError(
            f"tuning.asha: with train.schedule {train.schedule!r} the rate falls with the "
            "horizon, so that a loss at a rung says nothing of the loss at the end; use "
            "train.schedule: wsd (rungs in its constant part) or train.final: 1, or leave asha out"
        )
    for name in settings.objectives:
        if name not in sweep.measured:
            raise SpecError(
                f"tuning.objectives: {name!r} is not measured"
                f"{did_you_mean(name, sweep.measured)}; measured: {', '.join(sweep.measured)}"
            )
    for name in ("beta2", "warmup"):
        if name in settings.knobs and train.rule != "width":
            raise SpecError(
                f"tuning.knobs.{name}: train.rule {train.rule!r} brings its own; "
                "tune it under rule 'width'"
            )
    if "weight_decay" in settings.knobs and train.weight_decay <= 0:
        raise SpecError("tuning.knobs.weight_decay: factors of 0 are 0; set train.weight_decay")
    if "warmup" in settings.knobs and train.warmup <= 0:
        raise SpecError("tuning.knobs.warmup: factors of 0 are 0; set train.warmup")


def objectives_of(sweep: Sweep) -> tuple[str, ...]:
    """Skills whose losses are minimised."""
    from sweeper.spec.spec import AGGREGATE

    return sweep.tuning.objectives or (AGGREGATE,)


def base_trial(sweep: Sweep, point: tuple[int, int]) -> TrialConfig:
    """The training of a point as the spec has it, before anything is tuned."""
    params, tokens = point
    shape = solve(params, sweep.model, count=sweep.sizes.count)
    return TrialConfig(
        shape=shape,
        tokens=tokens,
        seed=sweep.tuning.seed,
        data=sweep.data,
        train=replace(sweep.train, checkpoint_every_s=0.0),
        skills=tuple(dict.fromkeys((*objectives_of(sweep), *sweep.measured))),
        flops=float(tokens * shape.flops_per_token(sweep.flops)),
        params=float(params),
    )


def present(config: TrialConfig, knobs: Sequence[str]) -> Values:
    """What the recipe gives the knobs now; 1 - beta2 stands for beta2."""
    recipe, train = config.recipe, config.train
    values = {
        "learning_rate": recipe.learning_rate,
        "batch_tokens": float(recipe.batch * config.shape.context),
        "beta2": 1 - recipe.beta2,
        "weight_decay": train.weight_decay,
        "warmup": train.warmup,
    }
    return {name: values[name] for name in knobs}


def turned(config: TrialConfig, values: Mapping[str, float]) -> TrialConfig:
    """The same training with other values of the knobs."""
    train, law = config.train, config.train.law
    if "learning_rate" in values:
        law = replace(law, learning_rate=Power(values["learning_rate"]))
    if "batch_tokens" in values:
        law = replace(law, batch=Power(values["batch_tokens"]))
    changes: dict[str, Any] = {"law": law}
    if "beta2" in values:
        changes["beta2"] = 1 - values["beta2"]
    changes |= {name: values[name] for name in ("weight_decay", "warmup") if name in values}
    return replace(config, train=replace(train, **changes))
