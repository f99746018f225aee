"""What makes a spec impossible, found before compute is spent: each raises `SpecError`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import get_args

from sweeper.budget import Allocation, Space
from sweeper.errors import SpecError, did_you_mean
from sweeper.spec.presets import PAPER, Study
from sweeper.spec.sections import Sizes
from sweeper.text import number, si
from trainables.corpora.vocabulary import check_vocabulary
from trainables.data import Data, Prepared
from trainables.families import Model
from trainables.skills.catalog import catalog

MIN_STEPS = 40
"""Fewest optimiser steps of a trial (assumption: warm-up and decay need a few dozen)."""

SEED_TRIALS = 5
"""Sizes of the seed design on its first budget: the fewest that fix a curve's level, place,
width and skew with one residual degree of freedom."""


def flops(name: str, value: object) -> float:
    """A field of the spec as FLOPs above 0."""
    try:
        flops = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        flops = math.nan
    if not (math.isfinite(flops) and flops > 0):
        raise SpecError(f"{name}: {value!r} is not a positive number of FLOPs, such as 1e18")
    return flops


def section(name: str, value: object, kind: type) -> None:
    """Refuse a plain value where a section belongs."""
    if not isinstance(value, kind):
        raise SpecError(f"{name}: write a section, such as {{key: value}}, got {value!r}")


WORDS = {
    "flops": ("6p", "exact"),
    "trackers": ("tensorboard", "mlflow", "wandb"),
    "study": get_args(Study),
}
"""What these fields may say."""


def words(**given: str | Sequence[str]) -> None:
    """Refuse what is no text, or none of a field's `WORDS`."""
    for name, value in given.items():
        for word in [value] if isinstance(value, str) or name == "name" else value:
            if not isinstance(word, str):
                raise SpecError(f"{name}: write text, got {word!r}")
            if word not in (known := WORDS.get(name, (word,))):
                said = ", ".join(filter(None, known))
                raise SpecError(
                    f"{name}: {word!r} is unknown{did_you_mean(word, known)}; use {said}"
                )


def listed(name: str, value: object) -> None:
    """Refuse one value, or a text, where a list belongs."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise SpecError(f"{name}: write a list, such as [a, b], got {value!r}")


def budgets(ladder: Sequence[float]) -> None:
    """Refuse budgets that are no ladder."""
    if not ladder:
        raise SpecError("budgets: give at least one, e.g. budgets: [1e18, 3e18, 1e19]")
    if any(low * 1.01 >= high for low, high in pairwise(ladder)):
        shown = ", ".join(number(budget) for budget in ladder)
        raise SpecError(f"budgets: [{shown}] must increase, each by more than 1 %")


def skills(names: Sequence[str], data: Data) -> None:
    """Refuse skills that the data does not have."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise SpecError(f"skills: {', '.join(twice)}: given twice; name each skill once")
    if data.source == "simulated":
        return
    known = [skill.name for skill in catalog(data)]
    for name in names:
        if name not in known:
            raise SpecError(
                f"skills: {name!r} is unknown{did_you_mean(name, known)}; "
                f"`isoskill skills {getattr(data, 'path', '')}".rstrip()
                + "` lists them"
            )


def mixes(
    named: Mapping[str, Mapping[str, float]] | str, data_of: Callable[[str], Data], policy: str
) -> None:
    """Refuse mixes that cannot be made of the data's classes, or that the search does not know.

    Args:
        named: ``mixes`` of the spec.
    """
    if isinstance(named, str):
        raise SpecError(
            f"mixes: {named!r} is unknown; write {PAPER!r}, or names with class "
            "multipliers such as {base: {}, more-code: {code: 4}}"
        )
    for name in named:
        try:
            data_of(name)
        except ValueError as error:
            where = f"mixes.{name}"
            text = str(error).replace("data.multipliers", where)
            raise SpecError(text if text.startswith(where) else f"{where}: {text}") from None
    if len(named) > 1 and policy == "optuna":
        raise SpecError("search.policy: optuna knows no mixes; use adaptive or grid")


def corpus(data: Data, model: Model) -> None:
    """Refuse a prepared corpus that does not fit the model."""
    try:
        if data.corpus is None:
            if data.source == "builtin":
                check_vocabulary(model.vocabulary)
            return
        data.corpus.check_vocabulary(model.vocabulary)
        data.corpus.check_context(model.context)
    except ValueError as error:
        raise SpecError(str(error)) from None


def repetition(
    data: Data, space: Space, epochs_of: Callable[[float], Mapping[str, float]]
) -> None:
    """Refuse a budget whose every trial repeats a class of a prepared corpus too often.

    Args:
        epochs_of: epochs of every class that this many tokens take, at most.
    """
    if not isinstance(data, Prepared):
        return
    for budget in space.budgets:
        least = space.tokens(budget, len(space.params) - 1)
        if least <= space.max_tokens:
            continue
        epochs = epochs_of(least)
        name = max(epochs, key=epochs.__getitem__)
        available = data.packed.classes[name].tokens
        raise SpecError(
            f"data.max_epochs={data.max_epochs:g}: even the largest size asks for "
            f"{least:,} tokens on the budget {number(budget)}, {epochs[name]:.3g} epochs of class "
            f"{name!r} ({epochs[name] * available:,.0f} tokens needed, {available:,} available); "
            "prepare more documents, lower the budget, raise sizes.high, or raise data.max_epochs"
        )


def size_range(asked: Sizes, low: float, high: float) -> None:
    """Refuse a given end of the sizes that lies beyond the other, which the budgets suggest."""
    if low <= high:
        return
    if not (asked.low or asked.high):
        raise SpecError(
            f"budgets: they suggest sizes up to {si(high)} params, and the smallest model that "
            f"can be built has {si(low)}; raise them, or lower model.vocabulary"
        )
    name, other, suggested = ("low", "high", high) if asked.low else ("high", "low", low)
    beyond = "above the largest" if asked.low else "below the smallest"
    raise SpecError(
        f"sizes.{name}={number(getattr(asked, name))} is {beyond} size that the budgets suggest, "
        f"{si(suggested)} params; give sizes.{other} too, or other budgets"
    )


def space(places: Space, size_range: tuple[float, float]) -> None:
    """Refuse budgets without sizes."""
    low, high = size_range
    for budget in places.budgets:
        if len(places.allowed(budget)) < 3:
            raise SpecError(
                f"sizes: fewer than 3 sizes between {si(low)} and {si(high)} params can be "
                f"built and trained for {MIN_STEPS} steps on the budget {number(budget)}; widen "
                "sizes.low..sizes.high, lower train.batch_tokens (or choose another train.rule), "
                "or raise the budget"
                + (" or data.max_epochs" if math.isfinite(places.max_tokens) else "")
            )


def allowance(given: float, cheapest: float) -> None:
    """Refuse an allowance that does not pay for one seed design on the cheapest budget."""
    seed_cost = SEED_TRIALS * cheapest
    if given < seed_cost:
        raise SpecError(
            f"allowance: {number(given)} FLOPs do not pay for one seed design "
            f"({number(seed_cost)} FLOPs: {SEED_TRIALS} trials on the cheapest budget); "
            "raise it or lower the budgets"
        )


def trials(places: Space, build: Callable[[Allocation], object]) -> None:
    """Build one trial of each budget: what a training would refuse is refused now."""
    for budget in places.budgets:
        try:
            build(places.allocation(budget, places.params[places.allowed(budget)[0]]))
        except ValueError as error:
            raise SpecError(str(error)) from error
