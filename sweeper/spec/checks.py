"""What makes a spec impossible, found before compute is spent: each raises `SpecError`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sweeper.errors import SpecError, did_you_mean
from sweeper.spec.presets import PAPER
from trainables.skills.catalog import catalog

if TYPE_CHECKING:
    from sweeper.spec.spec import Sweep

MIN_STEPS = 40
"""Fewest optimiser steps of a trial (assumption: warm-up and decay need a few dozen)."""

SEED_TRIALS = 5
"""Sizes of the seed design on its first budget: the fewest that fix a curve's level, place,
width and skew with one to spare."""


def flops(name: str, value: object) -> float:
    """A field of the spec as FLOPs above 0."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise SpecError(f"{name}: {value!r} is not a positive number of FLOPs, such as 1e18")
    return number


def budgets(sweep: Sweep) -> None:
    """Refuse budgets that are no ladder."""
    if not sweep.budgets:
        raise SpecError("budgets: give at least one, e.g. budgets: [1e18, 3e18, 1e19]")
    if any(
        low * 1.01 >= high for low, high in zip(sweep.budgets, sweep.budgets[1:], strict=False)
    ):
        shown = ", ".join(f"{budget:g}" for budget in sweep.budgets)
        raise SpecError(f"budgets: [{shown}] must increase, each by more than 1 %")


def skills(sweep: Sweep) -> None:
    """Refuse skills that the data does not have."""
    if sweep.data.source == "simulated":
        return
    known = [skill.name for skill in catalog(sweep.data)]
    for name in sweep.skills:
        if name not in known:
            raise SpecError(
                f"skills: {name!r} is unknown{did_you_mean(name, known)}; "
                f"`isoskill skills {sweep.data.path}".rstrip()
                + "` lists them"
            )


def mixes(sweep: Sweep) -> None:
    """Refuse mixes that cannot be made of the data's classes, or that the search does not know."""
    if isinstance(sweep.mixes, str):
        raise SpecError(
            f"mixes: {sweep.mixes!r} is unknown; write {PAPER!r}, or names with class "
            "multipliers such as {base: {}, more-code: {code: 4}}"
        )
    for name in sweep.mixes:
        try:
            sweep.mix_data(name)
        except ValueError as error:
            where = f"mixes.{name}"
            text = str(error).replace("data.multipliers", where)
            raise SpecError(text if text.startswith(where) else f"{where}: {text}") from None
    if len(sweep.mixes) > 1 and sweep.search.policy == "optuna":
        raise SpecError("search.policy: optuna knows no mixes; use adaptive or grid")


def corpus(sweep: Sweep) -> None:
    """Refuse a prepared corpus that does not fit the model, or is too small for the budgets."""
    packed = sweep.data.corpus
    if packed is None:
        return
    try:
        packed.check_vocabulary(sweep.model.vocabulary)
        packed.check_context(sweep.model.context)
    except ValueError as error:
        raise SpecError(str(error)) from None
    for budget in sweep.budgets:
        _epochs(sweep, budget)


def _epochs(sweep: Sweep, budget: float) -> None:
    """Refuse a budget whose every trial repeats a class too often."""
    least = sweep.space.tokens(budget, len(sweep.space.params) - 1)
    if least <= sweep.space.max_tokens or sweep.data.corpus is None:
        return
    epochs = sweep.epochs(least)
    name = max(epochs, key=epochs.__getitem__)
    had = sweep.data.corpus.classes[name].tokens
    raise SpecError(
        f"data.max_epochs={sweep.data.max_epochs:g}: even the largest size asks for "
        f"{least:,} tokens on the budget {budget:.3g}, {epochs[name]:.3g} epochs of class "
        f"{name!r} ({epochs[name] * had:,.0f} tokens needed, {had:,} had); prepare more "
        "documents, lower the budget, raise sizes.high, or raise data.max_epochs"
    )


def space(sweep: Sweep) -> None:
    """Refuse budgets without sizes, and an allowance without budgets."""
    places, (low, high) = sweep.space, sweep.size_range
    for budget in places.budgets:
        if len(places.allowed(budget)) < 3:
            raise SpecError(
                f"sizes: fewer than 3 sizes between {low:.3g} and {high:.3g} params can be "
                f"built and trained for {MIN_STEPS} steps on the budget {budget:.3g}; widen "
                "sizes.low..sizes.high, lower train.batch_tokens (or choose another train.rule), "
                "or raise the budget"
                + (" or data.max_epochs" if math.isfinite(places.max_tokens) else "")
            )
    if sweep.allowance < sweep.seed_cost:
        raise SpecError(
            f"allowance: {sweep.allowance:.3g} FLOPs do not pay for one seed design "
            f"({sweep.seed_cost:.3g} FLOPs: {SEED_TRIALS} trials on the cheapest budget); "
            "raise it or lower the budgets"
        )


def trials(sweep: Sweep) -> None:
    """Build one trial of each budget: what a training would refuse is refused now."""
    places = sweep.space
    for budget in places.budgets:
        try:
            sweep.trial(places.allocation(budget, places.params[places.allowed(budget)[0]]))
        except ValueError as error:
            raise SpecError(str(error)) from error
