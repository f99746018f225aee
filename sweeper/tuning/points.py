"""What is tuned before a sweep: where in params and tokens, and the trainings that makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sweeper.errors import SpecError, did_you_mean
from sweeper.spec.spec import AGGREGATE, Spec
from trainables.config import TrialConfig
from trainables.shapes import solve
from trainables.training import Power

Values = dict[str, float]

FIELDS = {"learning_rate": "learning_rate", "batch_tokens": "batch"}
"""What is tuned, and its field of `trainables.training.Law`."""


def require_own_loop(spec: Spec) -> None:
    """Refuse to tune for a trainer of the user's.

    Raises:
        SpecError: the spec has one.
    """
    if spec.trainer is not None:
        raise SpecError(
            "tune: trains with isoskill's own loop, not with a trainer of yours; give its "
            "rates by train.law, a rule of train.rule, or a column learning_rate of the ladder"
        )


def points_of(sweep: Spec) -> tuple[tuple[int, int], ...]:
    """The (params, tokens) a sweep is tuned at, realisable and cheapest first.

    By default three sizes a factor of 3 apart around the guess for half the cheapest budget, on
    one token count, and the two smaller ones on three times as many.

    Raises:
        SpecError: a trainer of the user's trains, or a point cannot be built.
    """
    require_own_loop(sweep)
    points = []
    for params, tokens in sweep.tuning.points or _few_small(sweep):
        try:
            shape = solve(params, sweep.model, count=sweep.sizes.count)
        except ValueError as error:
            raise SpecError(f"tuning.points: {error}") from error
        whole = int(tokens / shape.context) * shape.context
        points.append((int(getattr(shape, sweep.sizes.count)), whole))
    return tuple(sorted(set(points), key=lambda point: point[0] * point[1]))


def _few_small(sweep: Spec) -> tuple[tuple[float, float], ...]:
    flops = sweep.budgets[0] / 2
    middle = sweep.search.guess(flops)
    tokens = flops / 6 / (3 * middle)
    least, most = min(sweep.shapes), max(sweep.shapes)
    low, mid, high = (min(max(middle * f, least), most) for f in (1 / 3, 1, 3))
    return (*((p, tokens) for p in (low, mid, high)), *((p, 3 * tokens) for p in (low, mid)))


def check(sweep: Spec) -> None:
    """Refuse what cannot be tuned as asked.

    Raises:
        SpecError: an objective is not measured.
    """
    for name in sweep.tuning.objectives:
        if name not in sweep.measured:
            raise SpecError(
                f"tuning.objectives: {name!r} is not measured"
                f"{did_you_mean(name, sweep.measured)}; measured: {', '.join(sweep.measured)}"
            )


def objectives_of(sweep: Spec) -> tuple[str, ...]:
    """Skills whose losses are minimised."""
    return sweep.tuning.objectives or (AGGREGATE,)


def base_trial(sweep: Spec, point: tuple[int, int]) -> TrialConfig:
    """The training of a point as the spec has it, of the reference mix, before tuning."""
    params, tokens = point
    shape = solve(params, sweep.model, count=sweep.sizes.count)
    return TrialConfig(
        shape=shape,
        tokens=tokens,
        seed=sweep.tuning.seed,
        data=replace(sweep.mix_data(sweep.space.mix), evaluation_documents=sweep.documents),
        train=replace(sweep.train, checkpoint_every_s=0.0),
        skills=tuple(dict.fromkeys((*objectives_of(sweep), *sweep.measured))),
        flops=float(tokens * shape.flops_per_token(sweep.flops)),
        params=float(params),
    )


def current_values(config: TrialConfig, names: Sequence[str]) -> Values:
    """What the recipe gives the hyperparameters now."""
    batch_tokens = float(config.recipe.batch * config.shape.context)
    values = {"learning_rate": config.recipe.learning_rate, "batch_tokens": batch_tokens}
    return {name: values[name] for name in names}


def with_hyperparameters(config: TrialConfig, values: Mapping[str, float]) -> TrialConfig:
    """The same training with other values of what is tuned."""
    powers = {FIELDS[name]: Power(value) for name, value in values.items()}
    law = replace(config.train.law, **powers)
    return replace(config, train=replace(config.train, law=law))
