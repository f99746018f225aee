"""From what one has to what one trains: budgets and allowance for a time or a sum of money."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sweeper.errors import SpecError
from sweeper.plan.estimate import around_s, plan
from sweeper.plan.measured import timed
from sweeper.plan.plan import Plan
from sweeper.plan.recipe import FEW_STEPS, ROOM
from sweeper.plan.speed import devices_at_hand
from sweeper.spec.spec import Spec
from sweeper.text import duration, number, percent
from trainables.data import EPOCHS_WARNED

SPANS = (10.0, 4.0)
"""Largest over least budget that is tried, the widest first: a law wants a decade."""

BUDGETS = 3
"""Budgets of the ladder: what a curve in ln C needs (assumption)."""

TRIALS_EACH = 8
"""Trials a budget on average: the usual grid has as many sizes (Hoffmann et al. 2022 have 9)."""

MOST_TIMES = 5.0
"""Times as many trials as that where a corpus ends the ladder (assumption: an interval falls with
the root of their number, and who has more time than that wants more text)."""

LEAST, MOST, STEP, HALVINGS = 1e7, 1e25, 10**0.25, 5
"""Top budgets looked through, FLOPs, and how often the last step between them is halved."""

BUSY = 0.7
"""Share of a core below which others are said to use the machine (assumption)."""


_OF_LADDER = "smaller sizes in sizes.ladder"
_OF_OURS = (
    "a smaller tokenizer.vocabulary to the corpus, train.batch_tokens or model.context, whichever "
    "keeps sizes or steps large"
)


@dataclass(frozen=True)
class Given:
    """What there is to spend: one of the three.

    Attributes:
        minutes: of the clock, on the devices at hand.
        device_hours: of one device, all together.
        money: at ``cluster.price_per_hour``.
    """

    minutes: float | None = None
    device_hours: float | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        named = {
            "--minutes": self.minutes,
            "--gpu-hours": self.device_hours,
            "--money": self.money,
        }
        said = {name: value for name, value in named.items() if value is not None}
        if len(said) != 1:
            raise SpecError(f"{' and '.join(said)}: give one of {', '.join(named)}")
        ((name, value),) = said.items()
        if not (math.isfinite(value) and value > 0):
            raise SpecError(f"{name} {value:g}: give a positive number")

    def seconds(self, spec: Spec) -> float:
        """Seconds of the clock, or of one device all together: whichever is limited.

        Raises:
            SpecError: no price is known.
        """
        if self.minutes is not None:
            return 60 * self.minutes
        hours = self.device_hours
        if self.money is not None:
            price = spec.cluster.price_per_hour
            if not price:
                what = "--money: what an hour costs is not known; set cluster.price_per_hour"
                raise SpecError(what)
            hours = self.money / price
        assert hours is not None
        return 3600 * hours


@dataclass(frozen=True)
class Chosen:
    """A sweep that fits what there is.

    Attributes:
        spec: with budgets and allowance.
        plan: its plan, by measured speed, with the intervals to expect.
        seconds: of the clock that it is expected to take.
        notes: what could not be had, a sentence each.
    """

    spec: Spec
    plan: Plan
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """What a spec has to say to be this sweep."""
        return {"budgets": list(self.spec.budgets), "allowance": self.spec.allowance}

    def written(self, values: Mapping[str, Any]) -> str:
        """A spec's own values with what was chosen, as YAML under its reasons."""
        said = "".join(f"{line}\n" for line in self.lines() if line.startswith("#"))
        return said + yaml.safe_dump({**values, **self.fields}, sort_keys=False)

    def to_json(self) -> str:
        """The plan as JSON, with ``chosen``: fields, seconds and notes."""
        chosen = {"fields": self.fields, "seconds": self.seconds, "notes": list(self.notes)}
        return json.dumps({**json.loads(self.plan.to_json()), "chosen": chosen}, indent=2)

    def lines(self) -> list[str]:
        """What was chosen, for a terminal."""
        budgets = ", ".join(number(flops) for flops in self.spec.budgets)
        return [
            f"budgets: [{budgets}]",
            f"allowance: {number(self.spec.allowance)}",
            f"# about {duration(self.seconds)} on {max(1, self.plan.devices)} device(s), "
            f"{self.plan.speed}",
            *(f"# {note}" for note in self.notes),
        ]


def choose(
    values: Mapping[str, Any],
    given: Given,
    kind: type[Spec],
    *,
    memory: Path | None = None,
    simulate: bool = True,
) -> Chosen:
    """Budgets and allowance for a spec that leaves them out.

    Args:
        values: the spec; its own budgets and allowance are not looked at.
        given: what there is.
        kind: class of the spec that is made.
        memory: where timings are kept.
        simulate: also say what intervals to expect (seconds).

    Raises:
        SpecError: it does not pay for the least ladder that can be trained, or the corpus does
            not; says what would.
    """
    make = _Maker(values, kind, clock=given.minutes is not None)
    least = make.least()
    seconds = given.seconds(least)
    _require_text(least)
    first = make.best(seconds, None) or least
    measured = timed(first, memory)
    found = make.best(seconds, measured) if measured is not None else first
    if found is None or (measured is None and make.seconds(found, None) > seconds):
        needed = make.seconds(least, measured)
        raise SpecError(
            f"{duration(seconds)} buy no sweep: the least ladder that can be trained here, up to "
            f"{number(least.budgets[-1])} FLOPs, takes about {duration(needed)}, "
            f"{duration(around_s(least))} of them around the trainings; give that, or "
            f"{_OF_LADDER if least.rungs else _OF_OURS}"
        )
    shown = plan(found, measured=measured, devices=max(1, devices_at_hand(found.cluster)))
    seconds = 3600 * shown.wall_hours
    if simulate:
        shown = plan(found, measured=measured, simulate=True)
    return Chosen(found, shown, seconds, (*make.notes(found), *_busy(found, measured)))


def _require_text(least: Spec) -> None:
    """Refuse a corpus that even the least ladder would repeat too often.

    Raises:
        SpecError: says how much more text it takes.
    """
    tokens = least.budgets[-1] / 6 / least.search.guess(least.budgets[-1])
    times = {name: epochs / EPOCHS_WARNED for name, epochs in least.epochs(tokens).items()}
    worst = max(times, key=times.__getitem__, default="")
    if worst and times[worst] > 1:
        raise SpecError(
            f"data.path: the corpus is too small for any ladder: class {worst!r} would be "
            f"repeated {EPOCHS_WARNED * times[worst]:.2g} times at the optimum of the least one; "
            f"prepare {times[worst]:.2g} times as many documents of it"
        )


def _busy(spec: Spec, measured: pd.DataFrame | None) -> Iterator[str]:
    """Say that others used the machine while it was timed."""
    core = 1.0 if measured is None else float(measured["core"].median())
    if core < BUSY and not spec.cluster.hardware.is_gpu:
        yield (
            f"this machine was busy while it was timed: training got {percent(core)} of a core; "
            "if that changes, so does the time"
        )


class _Maker:
    """Makes specs of a top budget and a span, and says what they take.

    Args:
        values: of the spec.
        kind: its class.
        clock: whether seconds of the clock count, or those of all devices together.
    """

    def __init__(self, values: Mapping[str, Any], kind: type[Spec], *, clock: bool) -> None:
        self._clock = clock
        self._values = {k: v for k, v in values.items() if k not in ("budgets", "allowance")}
        self._kind = kind

    def spec(self, top: float, span: float, times: float = 1.0) -> Spec:
        """The sweep up to a top budget; raises SpecError where it cannot be."""
        ratios = [span ** (i / (BUDGETS - 1)) / span for i in range(BUDGETS)]
        budgets = [float(f"{top * ratio:.2g}") for ratio in ratios]
        allowance = float(f"{TRIALS_EACH * times * sum(budgets):.2g}")
        found = self._kind.from_dict(
            {**self._values, "budgets": budgets, "allowance": allowance}, source="spec"
        )
        low, high = ROOM * found.space.params[0], found.space.params[-1] / ROOM
        for flops in (budgets[0], budgets[-1]):
            if not low <= found.search.guess(flops) <= high:
                raise SpecError(
                    f"budgets: the optimum guessed at {number(flops)} FLOPs is not between sizes "
                    "that can be trained"
                )
        return found

    def least(self) -> Spec:
        """The sweep of the smallest budgets that can be trained."""
        top, last = LEAST, SpecError("no budget can be trained")
        while top < MOST:
            try:
                return self.spec(top, SPANS[-1])
            except SpecError as error:
                last, top = error, top * STEP
        raise last

    def best(self, seconds: float, measured: pd.DataFrame | None) -> Spec | None:
        """The largest ladder that fits, the widest first; None where none does."""
        for span in SPANS:
            found = self._largest(span, seconds, measured)
            if found is not None and (span == SPANS[-1] or _steps(found) >= FEW_STEPS):
                return found
        return None

    def _largest(self, span: float, seconds: float, measured: pd.DataFrame | None) -> Spec | None:
        """The sweep of the largest top budget that fits the time, and the corpus."""

        def fits(top: float) -> Spec | None:
            tried = self.spec_or_none(top, span)
            if tried is None or repeated(tried) or self.seconds(tried, measured) > seconds:
                return None
            return tried

        found, top = None, LEAST
        while top < MOST:
            tried = fits(top)
            if tried is None and (found is not None or self.spec_or_none(top, span) is not None):
                break
            found, top = tried or found, top * STEP
        if found is None:
            return None
        low, high = math.log(top / STEP), math.log(top)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            tried = fits(math.exp(middle))
            low, high, found = (middle, high, tried) if tried else (low, middle, found)
        return self._with_more_trials(found, span, seconds, measured)

    def _with_more_trials(
        self, spec: Spec, span: float, seconds: float, measured: pd.DataFrame | None
    ) -> Spec:
        """The same ladder, with as many trials as the time that is left pays for, or help."""
        around = around_s(spec)
        more = (seconds - around) / max(self.seconds(spec, measured) - around, 1)
        return self.spec(spec.budgets[-1], span, min(more, MOST_TIMES)) if more > 1.1 else spec

    def spec_or_none(self, top: float, span: float) -> Spec | None:
        """The sweep up to a top budget, or None where it cannot be."""
        try:
            return self.spec(top, span)
        except SpecError:
            return None

    def seconds(self, spec: Spec, measured: pd.DataFrame | None) -> float:
        """What a sweep takes of what is limited."""
        devices = max(1, devices_at_hand(spec.cluster))
        shown = plan(spec, measured=measured, devices=devices)
        if not self._clock:
            return 3600 * shown.device_hours + around_s(spec) * devices
        return 3600 * shown.wall_hours

    def notes(self, spec: Spec) -> list[str]:
        """What the choice gives up."""
        said = []
        span = spec.budgets[-1] / spec.budgets[0]
        if span < 0.9 * SPANS[0]:
            said.append(f"a decade of budgets does not fit: a factor of {span:.2g}")
        bigger = self.spec_or_none(spec.budgets[-1] * STEP, span)
        if bigger is None:
            said.append(
                "the sizes end the ladder: above it, optima lie beyond the largest; what time is "
                f"left gives more trials, up to {MOST_TIMES:g} times as many"
            )
        elif repeated(bigger):
            said.append(
                "the corpus ends the ladder: above it, the optimum itself would repeat a class "
                f"more than {EPOCHS_WARNED:g} times; what time is left gives more trials, up to "
                f"{MOST_TIMES:g} times as many"
            )
        return said


def repeated(spec: Spec) -> bool:
    """Whether the optimum of the top budget would see a class of a corpus too often."""
    tokens = spec.budgets[-1] / 6 / spec.search.guess(spec.budgets[-1])
    return any(epochs > EPOCHS_WARNED for epochs in spec.epochs(tokens).values())


def _steps(spec: Spec) -> int:
    """Steps of the least budget's guessed optimum."""
    if spec.trainer is not None:
        return FEW_STEPS
    flops = spec.budgets[0]
    return spec.own_trial(spec.space.allocation(flops, spec.search.guess(flops))).recipe.steps
