"""What a tuning found: laws, how flat the optimum is, and the spec that uses them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args

import numpy as np
import pandas as pd

from fitting import FittingError, HyperparameterLaw, flat_factor, tuned_points
from fitting.tuning.optima import TunedPoint, fit_points, recipe_shift
from fitting.values import plain
from sweeper.errors import SpecError
from sweeper.plan.expected import world_of
from sweeper.spec.spec import Spec
from sweeper.text import number, si
from sweeper.tuning.points import FIELDS, base_trial, current_values
from sweeper.tuning.studies import Studies
from trainables.recipe import recipe
from trainables.training import Power, RuleName, Train

LAWS = {"learning_rate": ("params", "tokens"), "batch_tokens": ("tokens",)}
"""What each law may depend on; params alone where tokens were not varied. Batches follow tokens
or FLOPs in all published laws but one."""

PUBLISHED = tuple(name for name in get_args(RuleName) if name != "width")
"""Rules shown beside the fitted laws."""


@dataclass(frozen=True)
class Tuned:
    """The outcome of a tuning.

    Attributes:
        table: its finished trials; see `sweeper.tuning.studies.Studies.table`.
        flops: spent on it.
        points: per law's hyperparameter, the optimum at every point.
        laws: by hyperparameter, through the objectives' least geometric mean.
        skill_laws: the same by hyperparameter and skill, where there are several objectives.
        compared: one row per point: params, tokens, the law's rate, the spec's present one, and
            each published rule's.
        flat: by hyperparameter, the factor off the optimum that costs .25 % of the loss.
        shift: factor by which the present recipe's mistuning moves p* at the largest budget, in a
            world like the pilot's or the stand-in's; NaN where it cannot be said.
        sweep: the spec with the laws in its ``train`` section.
    """

    table: pd.DataFrame
    flops: float
    points: Mapping[str, Sequence[TunedPoint]]
    laws: Mapping[str, HyperparameterLaw]
    skill_laws: Mapping[str, Mapping[str, HyperparameterLaw]]
    compared: pd.DataFrame
    flat: Mapping[str, float]
    shift: float
    sweep: Spec

    def to_json(self) -> str:
        """The outcome as JSON text; what is not known is null."""
        values = {
            "trials": len(self.table),
            "flops": self.flops,
            "laws": {name: _law(law) for name, law in self.laws.items()},
            "skills": {
                name: {skill: _law(law) for skill, law in laws.items()}
                for name, laws in self.skill_laws.items()
            },
            "points": {name: list(map(asdict, points)) for name, points in self.points.items()},
            "flat": dict(self.flat),
            "compared": self.compared.to_dict(orient="records"),
            "shift": self.shift,
            "train": self.sweep.to_dict()["train"],
        }
        return json.dumps(plain(values), indent=2, allow_nan=False)

    def __str__(self) -> str:
        """The outcome as a terminal shows it."""
        lines = [f"{len(self.table)} trials, {number(self.flops)} FLOPs"]
        for name, law in self.laws.items():
            lines += ["", *self._law_lines(name, law)]
        if math.isfinite(self.shift):
            lines += [
                "",
                f"The recipe as the spec had it would move p* at {number(self.sweep.budgets[-1])} "
                f"FLOPs by a factor of {self.shift:.2f} (in a stand-in world).",
            ]
        return "\n".join(lines)

    def _law_lines(self, name: str, law: HyperparameterLaw) -> Iterator[str]:
        yield _described(law)
        for skill, own in self.skill_laws.get(name, {}).items():
            yield f"  for {skill}: {_described(own)}"
        for point in self.points[name]:
            here = f"  p={si(point.params):>6} t={si(point.tokens):>6}  "
            if not point.ok:
                yield f"{here}no optimum: {point.reason}"
                continue
            fitted = f"law {law.at(point.params, point.tokens).value:.3g}" if law.ok else "no law"
            low, high = point.flat
            yield (
                f"{here}best {point.value:.3g} (within .25 % from {low:.3g} to {high:.3g}), "
                f"{fitted}{self._others(name, point)}"
            )
        if name in self.flat:
            yield f"  a factor of {self.flat[name]:.2f} off the optimum costs .25 % of the loss"

    def _others(self, name: str, point: TunedPoint) -> str:
        """What the spec and the published rules say there."""
        rows = self.compared.set_index(["quantity", "params", "tokens"])
        key = (name, point.params, point.tokens)
        if key not in rows.index:
            return ""
        row = rows.loc[[key]].iloc[0]
        return "".join(f", {rule} {row[rule]:.3g}" for rule in ("spec", *PUBLISHED))


def conclude(studies: Studies) -> Tuned:
    """Fit laws through a tuning's trials, and write them into the spec.

    Raises:
        SpecError: no trial has finished.
    """
    sweep, table = studies.sweep, studies.table()
    names = list(sweep.tuning.hyperparameters)
    if table.empty:
        why = f": {studies.reasons[-1]}" if studies.reasons else ""
        raise SpecError(f"tune: no trial has finished{why}; correct the spec and tune again")
    points = {name: _points(table, name) for name in names}
    laws = {name: _fit(points[name], name) for name in names}
    skill_laws = {
        name: {s: _fit(_points(table, name, s), name) for s in studies.objectives}
        for name in names
        if len(studies.objectives) > 1
    }
    return Tuned(
        table=table,
        flops=studies.flops,
        points=points,
        laws=laws,
        skill_laws=skill_laws,
        compared=_compared(sweep, studies.points, names),
        flat=_flat(points),
        shift=_shift(sweep, points, laws),
        sweep=replace(sweep, train=_trained(sweep.train, laws)),
    )


def _flat(points: Mapping[str, Sequence[TunedPoint]]) -> dict[str, float]:
    """How far off its optimum each value may be for .25 % of the loss, where that is known."""
    flat = {}
    for name, found in points.items():
        with suppress(FittingError):  # no point has an optimum: its line says so
            flat[name] = flat_factor(found)
    return flat


def _points(table: pd.DataFrame, name: str, skill: str = "objective") -> tuple[TunedPoint, ...]:
    trials = table.assign(loss=table[skill])
    kept = [c for c in ("params", "tokens", "loss", *LAWS) if c in trials]
    return tuned_points(trials[kept], name)  # type: ignore[arg-type] # a key of LAWS


def _fit(points: Sequence[TunedPoint], name: str) -> HyperparameterLaw:
    """The law through the optima, of as many predictors as leave a residual degree of freedom."""
    tried = [LAWS[name], ("params",), ("tokens",)]
    laws = [fit_points(points, name, predictors=p) for p in tried]  # type: ignore[arg-type]
    determined = [law for law in laws if law.ok and math.isfinite(law.dof)]
    return next((law for law in (*determined, *laws) if law.ok), laws[0])


def _trained(train: Train, laws: Mapping[str, HyperparameterLaw]) -> Train:
    """The spec's training with the laws that were found."""
    names = [f.name for f in fields(Power)]
    found = {
        FIELDS[name]: Power(**{field: getattr(law, field) for field in names})
        for name, law in laws.items()
        if law.ok
    }
    return replace(train, law=replace(train.law, **found))


def _compared(
    sweep: Spec, points: Sequence[tuple[int, int]], names: Sequence[str]
) -> pd.DataFrame:
    """The spec's present recipe and the published rules at every point."""
    rows: list[dict[str, Any]] = []
    for point in points:
        config = base_trial(sweep, point)
        trains = {"spec": config.train} | {rule: Train(rule=rule) for rule in PUBLISHED}
        for name in names:
            values = {
                who: current_values(replace(config, train=train), [name])[name]
                for who, train in trains.items()
            }
            params, tokens = map(float, point)
            rows.append({"quantity": name, "params": params, "tokens": tokens, **values})
    return pd.DataFrame(rows)


def _shift(
    sweep: Spec, points: Mapping[str, Sequence[TunedPoint]], laws: Mapping[str, HyperparameterLaw]
) -> float:
    """How far the present rate's mistuning moves p* at the largest budget."""
    law = laws.get("learning_rate")
    curvatures = [p.curvature for p in points.get("learning_rate", ()) if p.ok]
    if law is None or not law.ok or not curvatures:
        return math.nan
    world, flops = world_of(sweep), sweep.budgets[-1]
    truth = world.truths[len(world.truths) // 2]

    def off(params: float, tokens: float) -> float:
        whole = max(int(tokens), 1)
        size = sweep.space.params[sweep.space.nearest(params)]
        now = recipe(sweep.train, sweep.shapes[size], whole).learning_rate
        return math.log(now / float(law(params, tokens)))

    return recipe_shift(
        lambda p, t: float(truth.expected(np.asarray(p), np.asarray(t))),
        flops,
        params=math.exp(truth.log_optimum(flops)),
        curvature=float(np.median(curvatures)),
        log_off=off,
    )


def _described(law: HyperparameterLaw) -> str:
    """A law with the 90 % intervals of its exponents and the range it holds in."""
    if not law.ok:
        return str(law)
    spans = []
    exponents = {"params": law.params_exponent, "tokens": law.tokens_exponent}
    for i, (name, exponent) in enumerate(exponents.items(), start=1):
        low, high = exponent - law.half_width(i), exponent + law.half_width(i)
        if exponent:
            spans.append(f"{name} exponent {exponent:.3f} [{low:.3f}, {high:.3f}]")
    (p0, p1), (t0, t1) = law.params_range, law.tokens_range
    return (
        f"{law}; 90 %: {', '.join(spans) or 'a constant'}; measured at {si(p0)} to {si(p1)} "
        f"params, {si(t0)} to {si(t1)} tokens"
    )


def _law(law: HyperparameterLaw) -> dict[str, Any]:
    """A law with the 90 % intervals of its exponents, as plain values."""
    values = asdict(law)
    for i, name in ((1, "params_exponent"), (2, "tokens_exponent")):
        half = law.half_width(i) if law.ok else math.nan
        values[f"{name}_interval"] = [values[name] - half, values[name] + half]
    return values
