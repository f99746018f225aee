"""Optima and laws of every skill of a table: the front door of this package.

Legend: p = params, t = tokens, C = flops; losses in nats, logarithms natural.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, overload

import pandas as pd

from fitting.compare.answers import Multipliers
from fitting.compare.multipliers import compare_runs
from fitting.compare.optima import Comparison, compare_optima, pool
from fitting.errors import FitError, Status, did_you_mean
from fitting.laws.bracket import spoiled
from fitting.laws.powerlaw import PowerLaw, no_law
from fitting.laws.skill_models import METHODS, Method, SkillModel
from fitting.methods import fit_single
from fitting.mixture.held_out import Score
from fitting.mixture.skills import FARTHEST, Examined, guarded_models
from fitting.reading.observations import BUDGET_TOLERANCE, Observations, Table, prepare
from fitting.values import (
    Convention,
    FloatArray,
    Optimum,
    Prediction,
    Result,
    check_all_positive,
    check_positive,
    equal_columns,
    number,
    plain,
    plain_frame,
    size,
)

FORMAT = 1
"""Version of the JSON form."""

_QUIET = ("one law holds", "no law", "too few trials to judge the law")
_BEYOND = 1 + BUDGET_TOLERANCE  # times the largest trained budget
_TELLING, _FAR = 1.7, 4.0
"""Span of a 90 % interval, as a factor, from which a forecast loss tells too little, and how far
beyond the trials that is asked: of the larger runs of three mixes it leaves out the skills near
chance that nothing predicts (chosen on the public pools, benchmarks/real_runs.py); nearer, losses
that come down to 0 have wide intervals that still say something, as knowledge's in the demo."""
_TOO_FAR = f"More than {number(FARTHEST)} times beyond what was trained."
_NOTHING = (
    "Its trials say too little of its loss there: the 90 % interval, {:.3g} to {:.3g}, spans more "
    f"than a factor of {_TELLING:g}. Train a budget nearer to it."
)


@dataclass(frozen=True)
class SkillFit(Result):
    """One skill's optima, law and losses by one method.

    Attributes:
        skill: its name.
        method: "guarded", "parabola" or "surface".
        status: of the skill.
        reason: what the status rests on.
        optima: one per budget of the table.
        law: p* as a power of flops.
    """

    skill: str
    method: Method
    status: Status
    reason: str
    optima: tuple[Optimum, ...]
    law: PowerLaw
    _lazy: _LazyFits

    @property
    def observations(self) -> pd.DataFrame:
        """The rows of the table this rests on."""
        return self._lazy.seen.of_skill(self.skill)

    def at(self, flops: float) -> Optimum:
        """Optimum of any budget, trained or not, with its 90 % interval.

        Beyond the largest trained budget there is none where the fit's own check failed
        (`score`): status NO_COMMON_LAW.

        Raises:
            ValueError: flops is not positive and finite.
        """
        check_positive(flops=flops)
        found = self._model.at(float(flops))
        if not (withheld := self._lazy.withheld(self.skill, self.method, flops)):
            return found
        nothing = Optimum.missing(Status.NO_COMMON_LAW, withheld, found.flops, self.method)
        return replace(nothing, extrapolates=found.extrapolates)

    def loss(self, params: float, tokens: float) -> Prediction:
        """Expected loss of any allocation, and the 90 % interval of what a trial would measure.

        Raises:
            FitError: the method or the skill has no loss to predict; the allocation lies beyond
                the largest trained budget and the fit's own check failed; or it lies more than
                four times beyond what was trained and the interval spans more than a factor of
                1.7 (skills near chance; far beyond short ladders), or more than 1e5 times beyond.
            ValueError: params or tokens is not positive and finite.
        """
        check_positive(params=params, tokens=tokens)
        flops = float(self.convention.flops(params, tokens))
        if withheld := self._lazy.withheld(self.skill, self.method, flops):
            raise FitError(Status.NO_COMMON_LAW, withheld)
        found = self._model.loss(float(params), float(tokens))
        if found.extrapolates > FARTHEST:
            raise FitError(Status.NOT_IDENTIFIED, _TOO_FAR)
        low, high = found.interval
        if high > _TELLING * low and found.extrapolates > _FAR:
            raise FitError(Status.NOT_IDENTIFIED, _NOTHING.format(low, high))
        return found

    def losses(self, params: FloatArray, tokens: FloatArray) -> FloatArray:
        """Expected losses of allocations (n,), also where `loss` withholds them; raises as it."""
        sizes, amounts = equal_columns(params=params, tokens=tokens)
        check_all_positive(params=sizes, tokens=amounts)
        return self._model.losses(sizes, amounts)[0]

    @property
    def _model(self) -> SkillModel:
        return self._lazy.models(self.method)[self.skill]

    @property
    def convention(self) -> Convention:
        """How the table counts FLOPs: all that is derived from it counts so, too."""
        return self._lazy.convention

    @property
    def grade(self) -> str:
        """How far the law is believed, in words; empty for methods that do not ask."""
        return self._lazy.examined.grade(self.skill) if self.method == "guarded" else ""

    @property
    def score(self) -> Score | None:
        """What a fit without the top budget predicted of it; None where too little is left."""
        return self._lazy.examined.scores.get(self.skill) if self.method == "guarded" else None

    def __repr__(self) -> str:
        if not self.ok:
            return f"<{self.skill}: {self.status}, {self.reason}>"
        return f"<{self.skill}: {self.law}>"


class _LazyFits:
    """Observations and the models fitted to them, each method when first asked for."""

    def __init__(self, seen: Observations) -> None:
        self.seen = seen
        self._models: dict[str, dict[str, SkillModel]] = {}

    @cached_property
    def examined(self) -> Examined:
        """The guarded models, and how far they are believed."""
        return guarded_models(self.seen)

    @cached_property
    def convention(self) -> Convention:
        """How the table counts FLOPs."""
        columns = (self.seen.frame[name].to_numpy(float) for name in ("flops", "params", "tokens"))
        return Convention.of(*columns)

    def withheld(self, skill: str, method: Method, flops: float = math.inf) -> str:
        """Why nothing is predicted beyond the trained budgets; empty if it is, or up to them."""
        trained = flops <= _BEYOND * float(self.seen.of_skill(skill)["budget"].max())
        return self.examined.withheld(skill) if method == "guarded" and not trained else ""

    def models(self, method: Method) -> dict[str, SkillModel]:
        """Models of all skills by one method."""
        if method == "guarded":
            return self.examined.models
        if method not in self._models:
            self._models[method] = fit_single(self.seen, method, self.convention)
        return self._models[method]

    def skill_fit(self, skill: str, method: Method) -> SkillFit:
        """One skill's values."""
        model = self.models(method)[skill]
        budgets = sorted(self.seen.of_skill(skill)["budget"].unique())
        optima, law = tuple(model.at(float(flops)) for flops in budgets), model.law()
        if law.ok and (withheld := self.withheld(skill, method)):
            law = no_law(Status.NO_COMMON_LAW, withheld, method)
        return SkillFit(skill, method, model.status, model.reason, optima, law, self)


class Fits(Mapping[str, SkillFit]):
    """Fits of all skills of one table, by name."""

    def __init__(self, fits: Mapping[str, SkillFit], lazy: _LazyFits, method: Method) -> None:
        self._fits = dict(fits)
        self._lazy = lazy
        self.method = method

    def __getitem__(self, skill: str) -> SkillFit:
        if skill not in self._fits:
            near = did_you_mean(skill, self)
            raise KeyError(f"{skill!r} was not measured{near}; measured: {', '.join(self)}")
        return self._fits[skill]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fits)

    def __len__(self) -> int:
        return len(self._fits)

    @property
    def observations(self) -> Observations:
        """The checked table."""
        return self._lazy.seen

    @property
    def excluded(self) -> pd.DataFrame:
        """Rows left out, with their reasons."""
        return self._lazy.seen.excluded

    @property
    def alarm(self) -> bool:
        """Whether the trials speak against the plain surface: a warning, no more."""
        return self._lazy.examined.checked.off_surface

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What to know before trusting these numbers."""
        poor = [f"{s}: {f.reason} {f.status.advice}" for s, f in self.items() if not f.ok]
        graded = [] if self.method != "guarded" else self._grades()
        odd = [line for s, f in self.items() if (line := _odd(s, spoiled(f.observations)))]
        return (*self._lazy.seen.warnings, *odd, *graded, *poor)

    def _grades(self) -> list[str]:
        """Skills by grade, but for those with nothing to say; and those whose fit did not end."""
        by: dict[str, list[str]] = {}
        for skill, fit in self.items():
            if fit.ok and fit.grade not in _QUIET:
                by.setdefault(fit.grade, []).append(skill)
        said = [f"{', '.join(skills)}: {grade}." for grade, skills in by.items()]
        missed = [s for s, fit in self.items() if fit.ok and s in self._lazy.examined.unsettled]
        unsure = f"{', '.join(missed)}: the fit ran out of steps: intervals may be wrong."
        return [*said, unsure] if missed else said

    @overload
    def compare(self, other: str, aggregate: str) -> Comparison: ...
    @overload
    def compare(self, other: Fits | pd.DataFrame, **asked: Any) -> Multipliers: ...
    def compare(
        self, other: str | Fits | pd.DataFrame, aggregate: str = "", **asked: Any
    ) -> object:
        """A skill's optima against another skill's; or a variant against these runs.

        Args:
            other: a skill, with ``aggregate``, the one it is compared to; or the variant's fits or
                table.
            asked: for a variant, the options of `fitting.compare_runs`.

        Raises:
            KeyError: a name was not measured.
            TableError: the variant is neither fits nor a table.
        """
        if not isinstance(other, str):
            return compare_runs({"reference": self, "variant": other}, **asked)
        one, two, models = self[other], self[aggregate], self._lazy.models(self.method)
        found = compare_optima(one.optima, two.optima)
        return pool(found, (models[other], models[aggregate]), (one.law, two.law))

    def table(self) -> pd.DataFrame:
        """Optima of every skill on every budget, all methods side by side.

        Returns:
            Columns skill, flops, method, params, tokens, low, high, log_params_se, loss, bias,
            status, reason; params, tokens, low and high are NaN where the status forbids.
        """
        rows = []
        for skill, fit in self.items():
            for method in METHODS:
                own = fit if method == self.method else self._lazy.skill_fit(skill, method)
                rows += [_row(skill, optimum) for optimum in own.optima]
        return pd.DataFrame(rows).sort_values(["skill", "flops", "method"], ignore_index=True)

    def _repr_html_(self) -> str:
        rows = [_row(skill, optimum) for skill, fit in self.items() for optimum in fit.optima]
        frame = pd.DataFrame(rows)[["skill", "flops", "params", "low", "high", "tokens", "status"]]
        page: str = frame.to_html(index=False, float_format="{:.4g}".format, na_rep="–")
        notes = "".join(f"<li>{html.escape(line)}</li>" for line in self.warnings)
        return f"{page}<p>{self.method}, 90 % intervals</p><ul>{notes}</ul>"

    def to_json(self, path: str | Path | None = None) -> str:
        """Plain values as JSON text, with the observations they rest on; also written to path."""
        content = {
            "format": FORMAT,
            "method": self.method,
            "skills": {skill: _plain_fit(fit) for skill, fit in self.items()},
            "warnings": list(self.warnings),
            "observations": {
                "frame": plain_frame(self.observations.frame),
                "excluded": plain_frame(self.excluded),
                "warnings": list(self.observations.warnings),
            },
        }
        text = json.dumps(plain(content), allow_nan=False, indent=1)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __repr__(self) -> str:
        lines = [
            f"{len(self)} skill(s), method {self.method}, {len(self.excluded)} row(s) excluded"
        ]
        width = max((len(s) for s in self), default=5)
        for skill, fit in self.items():
            said = f"{fit.status if not fit.ok else fit.law.status}"
            if fit.ok and fit.law.ok:
                said = f"b = {fit.law.exponent:.3f} ± {fit.law.exponent_se:.3f}"
            if fit.ok and fit.law.status in (Status.OK, Status.NO_COMMON_LAW):
                top = fit.optima[-1]
                said += f"   p*({number(top.flops)}) = {_span(top)}" + f" ({top.status})" * (
                    not top.ok
                )
            lines.append(f"  {skill:<{min(width, 30)}}  {said}")
        return "\n".join(lines)


def fit_skills(table: Table, method: Method = "guarded") -> Fits:
    """Fit optima and laws of every skill of a table.

    Args:
        table: long table, one row per trial and skill: flops, params, tokens, skill, loss, and
            trial_id, seed, mix where known; or any source that `fitting.read_runs` reads, or what
            it or `fitting.prepare` returned. See `fitting.prepare`.
        method: "guarded" (default), "parabola" (the paper's) or "surface" (Approach 3).

    Returns:
        One `SkillFit` per skill; a skill without a usable answer has a status and a reason.

    Raises:
        TableError: the table breaks the column contract.
        ValueError: unknown method.
    """
    if method not in get_args(Method):
        raise ValueError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    lazy = _LazyFits(prepare(table))
    fits = {skill: lazy.skill_fit(skill, method) for skill in lazy.seen.skills}
    return Fits(fits, lazy, method)


def _odd(skill: str, rows: pd.DataFrame) -> str:
    """What to say of losses far from their curve; "" without any."""
    if rows.empty:
        return ""
    first = rows.iloc[0]
    of = f", run {first['trial_id']}" if str(first["trial_id"]) else ""
    return (
        f"{skill}: losses far from others of their budget: {len(rows)} (the first{of}: "
        f"{first['loss']:.3g}, where {first['usual']:.3g} is usual). Are they in other units, or "
        "of another training? Correct them, or leave them out."
    )


def _span(optimum: Optimum) -> str:
    if not math.isfinite(optimum.params):
        return str(optimum.status)
    low, high = optimum.interval
    known = f"[{size(low)}, {size(high)}]" if math.isfinite(low) else "(interval unknown)"
    return f"{size(optimum.params)} {known}"


_SHOWN = ("method", "params", "tokens", "low", "high", "log_params_se", "loss", "bias", "status")


def _row(skill: str, optimum: Optimum) -> dict[str, Any]:
    low, high = optimum.interval
    known = {**vars(optimum), "low": low, "high": high, "status": str(optimum.status)}
    names = ("flops", *_SHOWN, "reason")
    return {"skill": skill, **{name: known[name] for name in names}}


def _plain_fit(fit: SkillFit) -> dict[str, Any]:
    return {
        "status": str(fit.status),
        "reason": fit.reason,
        "method": fit.method,
        "grade": fit.grade,
        "score": None if fit.score is None else asdict(fit.score),
        "law": asdict(fit.law),
        "optima": [asdict(optimum) for optimum in fit.optima],
    }
