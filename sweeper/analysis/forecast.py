"""What fits say of one budget: optima, what a wrong size costs, serving and sampling, per skill.

Answers are plain values; `sweeper.commands.analysis` prints them as text or as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fitting import (
    FitError,
    Fits,
    Optimum,
    Prediction,
    SkillFit,
    cost_of_choice,
    cost_of_overtraining,
    sampling_frontier,
)
from fitting.decisions.serving import Demand, Prices
from fitting.decisions.tradeoffs import (
    SamplingLaws,
    flops_reaching,
    pareto_front,
    sampling_laws,
    serve,
    weighted,
)
from fitting.values import CONVENTION_ROUNDS
from sweeper.analysis.hardware import Hardware
from sweeper.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from sweeper.analysis.big_run import BigRun
    from sweeper.analysis.foreign_run import ForeignRun

WEIGHTED = "weighted"
"""Name of the weighted mean of several skills among the answers."""

SERVED_FACTORS = (0.1, 1.0, 10.0)
"""Frontiers are given at these multiples of the budget per token served."""

HALF_AND_DOUBLE = (0.5, 2.0)
"""Multiples of a budget that follows from hardware, looked at beside it."""

TRAINED_FACTORS = (0.1, 1.0, 10.0)
"""And at these multiples of the training budget."""

Values = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """What is asked about a budget.

    Attributes:
        flops: the training budget; None where only ``target_loss`` is asked, or an allocation.
        hardware: what trains it, where the budget follows from devices and days; how long
            ``target_loss`` takes these devices is said, too.
        allocation: (params, tokens) whose loss is asked; what is None follows from ``flops``.
        skill: one skill; None for all.
        weights: skill to weight, for the optimum of the weighted mean loss.
        front: two skills to trade against each other.
        demand: tokens the model will serve over its life.
        prices: of training and serving; FLOPs are counted if None.
        target_loss: loss wanted, nats, instead of the best the budget can train.
        inference_flops: per token served, where answers are sampled several times.
        tokens_per_param: ratios whose cost is asked.
    """

    flops: float | None = None
    hardware: Hardware | None = None
    allocation: tuple[float | None, float | None] | None = None
    skill: str | None = None
    weights: Mapping[str, float] | None = None
    front: tuple[str, str] | None = None
    demand: Demand | None = None
    prices: Prices | None = None
    target_loss: float | None = None
    inference_flops: float | None = None
    tokens_per_param: Sequence[float] = ()


@dataclass(frozen=True)
class Forecast:
    """What fits say of one budget.

    Attributes:
        ask: the question.
        method: of the fits.
        fits: those that were asked, the weighting's among them.
        best: the fit whose optimum one would run: the weighting's, the skill's, the aggregate's.
        skills: name to answer; a part that has none holds a ``status`` and a ``reason``.
        front: trades of two skills, where they were asked for.
        warnings: what to know before trusting the numbers.
        unit: of the losses.
        run: the training to start, where it was asked for.
        files: what was written of it.
    """

    ask: Ask
    method: str
    fits: Mapping[str, SkillFit]
    best: SkillFit
    skills: Mapping[str, Values]
    front: Any = None
    warnings: tuple[str, ...] = ()
    unit: str = "nats"
    run: BigRun | ForeignRun | None = None
    files: tuple[Path, ...] = ()

    def to_dict(self) -> Values:
        """Plain values, as ``predict --json`` has them; parts not asked for are left out."""
        more = {
            "weights": dict(self.ask.weights or {}),
            "front": self.front,
            "run": self.run and self.run.to_dict(),
            "files": [str(path) for path in self.files],
        }
        hardware = self.ask.hardware if self.ask.flops else None
        held = {"hours": hardware.hours, "hardware": hardware.to_dict()} if hardware else {}
        return {
            "flops": self.ask.flops,
            **held,
            "method": self.method,
            "skills": dict(self.skills),
            **{name: value for name, value in more.items() if value},
            "warnings": list(self.warnings),
        }


def forecast(
    fits: Fits, ask: Ask, *, aggregate: str = "", questions: pd.DataFrame | None = None
) -> Forecast:
    """Answer for every skill asked about.

    Args:
        aggregate: the skill whose optimum one would run unless another is named.
        questions: results per question, for ``ask.inference_flops``.

    Raises:
        SpecError: a number or a skill in the question is not usable.
    """
    _check(fits, ask)
    chosen = _chosen(fits, ask)
    answers = {name: _answer(fit, ask) for name, fit in chosen.items()}
    if ask.inference_flops is not None:
        for name, value in _sampling(questions, ask).items():
            if ask.skill in (None, name):
                answers.setdefault(name, {})["sampling"] = value
    wanted = WEIGHTED if ask.weights else ask.skill or aggregate
    return Forecast(
        ask=ask,
        method=fits.method,
        fits=chosen,
        best=chosen[wanted if wanted in chosen else next(iter(chosen))],
        skills=answers,
        front=_front(fits, ask),
        warnings=(*fits.warnings, *_doubts(chosen, ask)),
        unit=str((fits.observations.read or {}).get("loss_unit", "nats")),
    )


def known_skill(fits: Mapping[str, Any], name: str, field: str) -> None:
    """Refuse a skill that was not measured.

    Raises:
        SpecError: names the field, the skill and the nearest known one.
    """
    if name not in fits:
        raise SpecError(
            f"{field}: {name!r} is unknown{did_you_mean(name, fits)}; known: {', '.join(fits)}"
        )


def _doubts(chosen: Mapping[str, SkillFit], ask: Ask) -> Iterator[str]:
    """What the sizes trained on the budgets next to the one asked about say of a number."""
    if ask.flops is None:
        return
    for name, fit in chosen.items():
        best = fit.at(ask.flops)
        # Other methods say by what they answer there, whatever the sizes.
        if fit.method == "guarded" and best.ok and best.reason != fit.reason:
            yield f"{name}: {best.reason}"


def _check(fits: Fits, ask: Ask) -> None:
    for name in (ask.skill,) if ask.skill is not None else ():
        known_skill(fits, name, "skill")
    for name in ask.weights or ():
        known_skill(fits, name, "weights")
    if ask.weights and not (min(ask.weights.values()) >= 0 < sum(ask.weights.values())):
        raise SpecError("weights: give weights not below 0, at least one above")
    for name in ask.front or ():
        known_skill(fits, name, "front")
    if ask.flops is None and (ask.front or ask.inference_flops or ask.tokens_per_param):
        raise SpecError("flops: fronts, sampling and ratios are of a budget: give one")
    if ask.demand is not None and ask.flops is None and ask.target_loss is None:
        raise SpecError("flops: serving is of a budget, or of a loss wanted: give one of them")
    for field, value, unit in (
        ("flops", ask.flops, "FLOPs"),
        *zip(("params", "tokens"), ask.allocation or (), ("parameters", "tokens"), strict=False),
        ("target_loss", ask.target_loss, "nats"),
        ("inference_flops", ask.inference_flops, "FLOPs per token served"),
        *(("tokens_per_param", ratio, "tokens per parameter") for ratio in ask.tokens_per_param),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise SpecError(f"{field}={value:g}: give a positive number of {unit}")


def _chosen(fits: Fits, ask: Ask) -> dict[str, SkillFit]:
    chosen = {ask.skill: fits[ask.skill]} if ask.skill else dict(fits)
    if ask.weights:
        chosen[WEIGHTED] = weighted(fits, ask.weights, name=WEIGHTED)
    return chosen


def _answer(fit: SkillFit, ask: Ask) -> Values:
    """Everything about one skill."""
    answer: Values = {} if ask.flops is None else _of_budget(fit, ask.flops, ask)
    if ask.allocation is not None:
        params, tokens = _whole(fit, ask.flops or math.nan, *ask.allocation)
        answer["allocation"] = _safely(lambda: _allocation(fit, params, tokens))
    if ask.demand is not None or ask.target_loss is not None:
        answer["serving"] = _safely(lambda: _serving(fit, ask))
    return answer


def _of_budget(fit: SkillFit, flops: float, ask: Ask) -> Values:
    """The optimum of a budget, and what lies round it."""
    best = fit.at(flops)
    answer = _optimum(fit, best)
    top = float(fit.observations["flops"].max())
    answer["extrapolates"] = max(best.extrapolates, flops / top)
    if math.isfinite(best.params):
        answer["loss_at_optimum"] = _safely(lambda: _range(fit.loss(best.params, best.tokens)))
        answer["choices"] = _safely(lambda: cost_of_choice(fit, flops))
        answer["doubt"] = _safely(lambda: _doubt(fit, best, ask))
    if ratios := ask.tokens_per_param:
        answer["ratios"] = _safely(
            lambda: cost_of_overtraining(fit, flops, tokens_per_param=ratios)
        )
    if ask.hardware is not None and math.isfinite(best.params):
        answer["memory"] = ask.hardware.fit(best.params)
        answer["around"] = [
            {"factor": factor, "flops": factor * flops, **_optimum(fit, fit.at(factor * flops))}
            for factor in HALF_AND_DOUBLE
        ]
    return answer


def _range(found: Prediction) -> Values:
    return {"loss": found.value, "low": found.interval[0], "high": found.interval[1]}


def _doubt(fit: SkillFit, best: Optimum, ask: Ask) -> Values:
    """What not knowing the size exactly costs: FLOPs wasted on average by training at p*.

    The waste grows with the square of the miss, so that one standard error either way has the
    average. Money where the devices have a price.
    """
    steps = [math.exp(-best.log_params_se), math.exp(best.log_params_se)]
    table = cost_of_choice(fit, best.flops, factors=steps)
    wasted = max(float(table["wasted"].mean()), 0.0)
    answer: Values = {"wasted": wasted, "flops": wasted * best.flops}
    hardware = ask.hardware
    if hardware is not None and math.isfinite(hardware.price_per_hour):
        held = hardware.count * hardware.hours * hardware.price_per_hour
        answer["money"] = held * wasted * best.flops / hardware.flops
    return answer


def _whole(
    fit: SkillFit, flops: float, params: float | None, tokens: float | None
) -> tuple[float, float]:
    """Params and tokens, of which one may be missing: by the FLOPs that the table counts."""
    if params is None:
        assert tokens is not None
        params = flops / fit.convention.factor / tokens
        for _ in range(CONVENTION_ROUNDS if fit.convention.varies else 0):
            params = flops / float(fit.convention.at(params)) / tokens
    return params, float(fit.convention.tokens(flops, params)) if tokens is None else tokens


def _allocation(fit: SkillFit, params: float, tokens: float) -> Values:
    """The loss of one allocation, and how far it is from the best of its FLOPs."""
    flops = float(fit.convention.flops(params, tokens))
    expected, best = fit.loss(params, tokens), fit.at(flops)
    answer: Values = {
        "params": params,
        "tokens": tokens,
        "flops": flops,
        **_range(expected),
        "status": "ok",
        "extrapolates": expected.extrapolates,
        "optimum": _optimum(fit, best),
    }
    if math.isfinite(best.params):
        (cost,) = cost_of_choice(fit, flops, factors=[params / best.params]).to_dict("records")
        answer |= {"excess": cost["excess"], "wasted": cost["wasted"]}
    return answer


def _optimum(fit: SkillFit, best: Optimum) -> Values:
    return {
        "params": best.params,
        "tokens": best.tokens,
        "low": best.interval[0],
        "high": best.interval[1],
        "interval": list(best.interval),
        "loss": math.nan if _withheld(fit, best) else best.loss,
        "status": str(best.status),
        "method": best.method,
        "reason": best.reason or best.status.advice,
    }


def _withheld(fit: SkillFit, best: Optimum) -> bool:
    """Whether the fit predicts no loss there; of other methods it only lacks an interval."""
    asked = fit.method == "guarded" and math.isfinite(best.params)
    return asked and "reason" in _safely(lambda: _range(fit.loss(best.params, best.tokens)))


def _serving(fit: SkillFit, ask: Ask) -> Values:
    flops = ask.flops if ask.target_loss is None else None
    served = ask.demand or 0.0
    found = serve(fit, served, flops=flops, loss=ask.target_loss, prices=ask.prices)
    names = (
        "params tokens interval loss training_flops cost unit saving compute_optimal_params "
        "compute_optimal_tokens status reason extrapolates"
    )
    values = _values(found, names) | {"demand_tokens": found.demand.tokens}
    if found.ok and not found.demand.tokens:
        ends = flops_reaching(fit, found.loss, found.training_flops)
        values["training_flops_interval"] = list(ends)
    if found.ok and ask.hardware is not None and ask.target_loss is not None:
        held = ask.hardware.reaching(found.training_flops)
        values |= {"hours": held.hours, "hardware": held.to_dict()}
    return values


def _values(found: object, names: str) -> Values:
    """Attributes of a result as plain values."""
    values = {name: getattr(found, name) for name in names.split()}
    return values | {"interval": list(values["interval"]), "status": str(values["status"])}


def _sampling(questions: pd.DataFrame | None, ask: Ask) -> dict[str, Values]:
    if questions is None or questions.empty:
        raise SpecError(
            "inference_flops: needs results per question (columns params, tokens, skill, and nll, "
            "or passes and samples); a sweep keeps them with train.keep_questions: true"
        )
    return {name: _both_laws(laws, ask) for name, laws in sampling_laws(questions).items()}


def _both_laws(laws: SamplingLaws, ask: Ask) -> Values:
    def one(law: Any) -> Values:
        assert ask.inference_flops is not None and ask.flops is not None
        best = law.optimum(ask.flops, ask.inference_flops)
        names = (
            "params tokens tokens_per_param k interval value quantity status reason extrapolates"
        )
        return _values(best, names) | {"frontier": list(_frontier(law, ask))}

    return {
        "nll": _safely(lambda: one(laws.nll)),
        "pass_rate": _safely(lambda: one(laws.rate)),
    }


def _frontier(law: Any, ask: Ask) -> Iterator[Values]:
    """Best allocations over both budgets, beside Chinchilla's."""
    assert ask.inference_flops is not None and ask.flops is not None
    for factor in SERVED_FACTORS:
        served = factor * ask.inference_flops
        table = sampling_frontier(law, [f * ask.flops for f in TRAINED_FACTORS], served)
        yield from table.assign(inference_flops=served).to_dict(orient="records")


def _front(fits: Fits, ask: Ask) -> Any:
    front, flops = ask.front, ask.flops
    if front is None or flops is None:
        return None
    return _safely(lambda: pareto_front(fits, *front, flops))


def _safely(answer: Callable[[], Any]) -> Any:
    """An answer, a table by its rows, or the status and reason why there is none."""
    try:
        found = answer()
        return found.to_dict(orient="records") if isinstance(found, pd.DataFrame) else found
    except FitError as error:
        return {"status": str(error.status), "reason": str(error)}
