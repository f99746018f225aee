"""What a tuning found: laws, constants, how flat the optimum is, and the spec that uses them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sweeper.text import si
from sweeper.tuning.points import base_trial
from sweeper.tuning.studies import Studies
from trainables.recipe import recipe
from trainables.training import Law, Power, RuleName, Train

if TYPE_CHECKING:
    import pandas as pd

    from fitting import HyperparameterLaw
    from fitting.tuning.constants import TunedConstant
    from fitting.tuning.optima import TunedPoint
    from sweeper.spec.spec import Spec

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
        constants: of the hyperparameters that have one value for all allocations.
        compared: one row per point: params, tokens, the law's rate, the spec's present one, and
            each published rule's.
        flat: by hyperparameter, the factor off the optimum that costs .25 % of the loss.
        shift: factor by which the present recipe's mistuning moves p* at the largest budget, in a
            world like the pilot's or the stand-in's; NaN where it cannot be said.
        sweep: the spec with laws and constants in its ``train`` section.
    """

    table: pd.DataFrame
    flops: float
    points: Mapping[str, Sequence[TunedPoint]]
    laws: Mapping[str, HyperparameterLaw]
    skill_laws: Mapping[str, Mapping[str, HyperparameterLaw]]
    constants: Mapping[str, TunedConstant]
    compared: pd.DataFrame
    flat: Mapping[str, float]
    shift: float
    sweep: Spec

    def to_dict(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        from fitting.values import plain

        values: dict[str, Any] = plain(
            {
                "trials": len(self.table),
                "flops": self.flops,
                "laws": {name: _law(law) for name, law in self.laws.items()},
                "skills": {
                    name: {skill: _law(law) for skill, law in by_skill.items()}
                    for name, by_skill in self.skill_laws.items()
                },
                "constants": {
                    name: {
                        "value": _shown(name, one.value),
                        "status": str(one.status),
                        "reason": one.reason,
                    }
                    for name, one in self.constants.items()
                },
                "points": {
                    name: [
                        {
                            "params": p.params,
                            "tokens": p.tokens,
                            "value": p.value,
                            "log_se": p.log_se,
                            "flat": list(p.flat),
                            "status": str(p.status),
                            "reason": p.reason,
                        }
                        for p in points
                    ]
                    for name, points in self.points.items()
                },
                "flat": dict(self.flat),
                "compared": self.compared.to_dict(orient="records"),
                "shift": self.shift,
                "train": self.sweep.to_dict()["train"],
            }
        )
        return values

    def to_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def save(self, path: Path) -> None:
        """Write the spec that uses what was found."""
        self.sweep.save(path)

    def __str__(self) -> str:
        """The outcome as a terminal shows it."""
        lines = [f"{len(self.table)} trials, {self.flops:.3g} FLOPs"]
        for name, law in self.laws.items():
            lines += ["", *self._law_lines(name, law)]
        for name, one in self.constants.items():
            lines.append(_constant_line(name, one))
        if math.isfinite(self.shift):
            lines += [
                "",
                f"The recipe as the spec had it would move p* at {self.sweep.budgets[-1]:.3g} "
                f"FLOPs by a factor of {self.shift:.2f} (in a stand-in world).",
            ]
        return "\n".join(lines)

    def _law_lines(self, name: str, law: HyperparameterLaw) -> list[str]:
        from fitting import FitError

        lines = [_described(law)]
        for skill, own in self.skill_laws.get(name, {}).items():
            lines.append(f"  for {skill}: {_described(own)}")
        for point in self.points[name]:
            here = f"  p={si(point.params):>6} t={si(point.tokens):>6}  "
            if not point.ok:
                lines.append(f"{here}no optimum: {point.status} ({point.reason})")
                continue
            try:
                fitted = f"law {law.at(point.params, point.tokens).value:.3g}"
            except FitError:
                fitted = "no law"
            low, high = point.flat
            lines.append(
                f"{here}best {point.value:.3g} (within .25 % from {low:.3g} to {high:.3g}), "
                f"{fitted}{self._others(name, point)}"
            )
        if name in self.flat:
            lines.append(
                f"  a factor of {self.flat[name]:.2f} off the optimum costs .25 % of the loss"
            )
        return lines

    def _others(self, name: str, point: TunedPoint) -> str:
        """What the spec and the published rules say there."""
        rows = self.compared
        rows = rows[(rows["params"] == point.params) & (rows["tokens"] == point.tokens)]
        rows = rows[rows["quantity"] == name]
        if rows.empty:
            return ""
        row = rows.iloc[0]
        return "".join(f", {rule} {row[rule]:.3g}" for rule in ("spec", *PUBLISHED))


def conclude(studies: Studies) -> Tuned:
    """Fit laws and constants through a tuning's trials, and write them into the spec.

    Raises:
        SpecError: no trial has finished.
    """
    from fitting import FittingError, flat_factor
    from fitting.tuning.constants import tuned_constants, without
    from sweeper.errors import SpecError

    sweep, table = studies.sweep, studies.table()
    if table.empty:
        raise SpecError("tune: no trial has finished; its database says why (tuning.sqlite)")
    knobs = list(sweep.tuning.knobs)
    with_laws = [name for name in knobs if name in LAWS]
    rest = [name for name in knobs if name not in LAWS]
    trials = table.rename(columns={"objective": "loss"})
    constants = tuned_constants(trials, rest, with_laws=with_laws) if rest else {}
    skills = ["objective", *studies.objectives]
    table[skills] = table[skills].mul(without(table, constants), axis=0)
    points = {name: _points(table, name) for name in with_laws}
    laws = {name: _fit(points[name], name) for name in with_laws}
    several = len(studies.objectives) > 1
    skill_laws = {
        name: {s: _fit(_points(table, name, s), name) for s in studies.objectives}
        for name in with_laws
        if several
    }
    flat = {}
    for name in with_laws:
        try:
            flat[name] = flat_factor(points[name])
        except FittingError:  # no point has an optimum: its line says so
            continue
    return Tuned(
        table=studies.table(),
        flops=studies.flops,
        points=points,
        laws=laws,
        skill_laws=skill_laws,
        constants=constants,
        compared=_compared(sweep, studies.points, with_laws),
        flat=flat,
        shift=_shift(sweep, points, laws),
        sweep=replace(sweep, train=_trained(sweep, laws, constants)),
    )


def _points(table: pd.DataFrame, name: str, skill: str = "objective") -> tuple[TunedPoint, ...]:
    from fitting import tuned_points

    trials = table.assign(loss=table[skill])
    kept = [c for c in ("params", "tokens", "loss", *LAWS) if c in trials]
    return tuned_points(trials[kept], name)  # type: ignore[arg-type] # a key of LAWS


def _fit(points: Sequence[TunedPoint], name: str) -> HyperparameterLaw:
    """The law through the optima, of as much as they tell apart with one to spare."""
    from fitting.tuning.optima import fit_points

    tried = [LAWS[name], ("params",), ("tokens",)]
    laws = [fit_points(points, name, predictors=p) for p in tried]  # type: ignore[arg-type]
    spare = [law for law in laws if law.ok and math.isfinite(law.dof)]
    return next((law for law in (*spare, *laws) if law.ok), laws[0])


def _trained(
    sweep: Spec, laws: Mapping[str, HyperparameterLaw], constants: Mapping[str, TunedConstant]
) -> Any:
    """The spec's training with what was found in it."""
    fields = {"learning_rate": "learning_rate", "batch_tokens": "batch"}
    found = {fields[name]: _power(law) for name, law in laws.items() if law.ok}
    changes: dict[str, Any] = {
        name: _shown(name, one.value) for name, one in constants.items() if one.ok
    }
    law = Law(**{**vars(sweep.train.law), **found})
    return replace(sweep.train, law=law, **changes)


def _power(law: HyperparameterLaw) -> Power:
    return Power(
        law.coefficient,
        law.params_exponent,
        law.tokens_exponent,
        params_range=law.params_range,
        tokens_range=law.tokens_range,
    )


def _compared(
    sweep: Spec, points: Sequence[tuple[int, int]], names: Sequence[str]
) -> pd.DataFrame:
    """The spec's present recipe and the published rules at every point."""
    import pandas as pd

    rows = []
    for point in points:
        config = base_trial(sweep, point)
        recipes = {"spec": config.recipe}
        for rule in PUBLISHED:
            plain = Train(rule=rule)
            recipes[rule] = recipe(plain, config.shape, config.tokens)
        for name in names:
            values = {
                who: r.learning_rate if name == "learning_rate" else r.batch * config.shape.context
                for who, r in recipes.items()
            }
            p, t = float(point[0]), float(point[1])
            rows.append({"quantity": name, "params": p, "tokens": t, **values})
    return pd.DataFrame(rows)


def _shift(
    sweep: Spec,
    points: Mapping[str, Sequence[TunedPoint]],
    laws: Mapping[str, HyperparameterLaw],
) -> float:
    """How far the present rate's mistuning moves p* at the largest budget."""
    import numpy as np

    from fitting.tuning.optima import recipe_shift
    from sweeper.plan.expected import world_of

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
    for i, name in ((1, "params"), (2, "tokens")):
        exponent = (law.params_exponent, law.tokens_exponent)[i - 1]
        half = law.half_width(i)
        if exponent:
            spans.append(f"{name} exponent {exponent:.3f} [{exponent - half:.3f}, "
                         f"{exponent + half:.3f}]")  # fmt: skip
    (p0, p1), (t0, t1) = law.params_range, law.tokens_range
    return (
        f"{law}; 90 %: {', '.join(spans) or 'a constant'}; measured at {si(p0)} to {si(p1)} "
        f"params, {si(t0)} to {si(t1)} tokens"
    )


def _law(law: HyperparameterLaw) -> dict[str, Any]:
    halves = [law.half_width(i) if law.ok else math.nan for i in (1, 2)]
    exponents = (law.params_exponent, law.tokens_exponent)
    return {
        "coefficient": law.coefficient,
        "params_exponent": law.params_exponent,
        "tokens_exponent": law.tokens_exponent,
        "params_exponent_interval": [exponents[0] - halves[0], exponents[0] + halves[0]],
        "tokens_exponent_interval": [exponents[1] - halves[1], exponents[1] + halves[1]],
        "params_range": list(law.params_range),
        "tokens_range": list(law.tokens_range),
        "status": str(law.status),
        "reason": law.reason,
    }


def _shown(name: str, value: float) -> float:
    """beta2 was tuned as 1 - beta2."""
    return 1 - value if name == "beta2" else value


def _constant_line(name: str, one: TunedConstant) -> str:
    if not one.ok:
        return f"{name} stays: {one.status} ({one.reason})"
    low, high = sorted(_shown(name, v) for v in one.flat)
    return f"{name} = {_shown(name, one.value):.4g} (within .25 % from {low:.4g} to {high:.4g})"
