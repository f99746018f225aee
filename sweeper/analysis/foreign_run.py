"""The run that a sweep with a foreign trainer was made for: its command, filled in."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fitting import SkillFit
from sweeper.analysis.big_run import Run, expected, optimum_of
from sweeper.errors import SpecError
from sweeper.plan.speed import held, speed_of
from sweeper.spec import foreign
from sweeper.spec.spec import Spec
from sweeper.text import number, si
from trainables.foreign.placeholders import Value, filled
from trainables.shapes import solve

MARGIN = 1.06
"""Factor beyond a ladder's ends up to which its last size stands for an optimum: as far apart as a
sweep's own sizes are."""


@dataclass(frozen=True, kw_only=True)
class ForeignRun(Run):
    """A run in the words of the trainer that will do it.

    Attributes:
        flops: its budget.
        params: wanted; of a size there is, its own.
        tokens: to train on.
        command: of the spec, filled; what is not known of the size stays as it is written.
    """

    flops: float
    params: int
    tokens: int
    command: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = ("flops", "params", "tokens")
        own = {name: getattr(self, name) for name in names} | {"command": list(self.command)}
        return {"skill": self.skill, **own, **super().to_dict()}

    def save(self, path: str | Path) -> tuple[Path, ...]:
        """Write it as YAML, and its command beside it as a shell script.

        Raises:
            SpecError: it cannot be written.
        """
        path = Path(path)
        script = path.with_suffix(".sh")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(self.to_dict(), sort_keys=False), encoding="utf-8")
            script.write_text(f"{shlex.join(self.command)}\n", encoding="utf-8")
        except OSError as error:
            raise SpecError(f"{path}: cannot be written: {error.strerror}") from error
        return path, script

    def __str__(self) -> str:
        command = shlex.join(self.command) or "none: the spec names none"
        return self.shown((self.flops, self.params, self.tokens), ("command", command))


def recommend(
    best: SkillFit,
    spec: Spec,
    flops: float,
    *,
    losses: Mapping[str, SkillFit],
    measured: pd.DataFrame | None = None,
) -> ForeignRun:
    """The training to start for a budget, at one skill's optimum.

    Args:
        best: fit of the skill whose optimum is wanted.

    Raises:
        FitError: the skill has no optimum there.
    """
    found = optimum_of(best, flops)
    assert spec.trainer is not None
    params, per_token, size, said = _size(spec, found.params)
    granule = spec.trainer.granule
    tokens = int(flops / per_token / granule) * granule
    if not tokens:
        raise SpecError(f"flops={flops:g}: less than trainer.granule={granule} tokens")
    if found.extrapolates > 1:
        said += (f"the budget lies {number(found.extrapolates)} times beyond the largest trained",)
    speed, rule = speed_of(spec.cluster, measured), spec.placement.rule(params)
    hours = speed.wall_s(flops, params, spec.placement, None) / 3600 * held(rule)
    price = spec.cluster.price_per_hour
    told, withheld = expected({best.skill: best, **losses}, params, tokens)
    return ForeignRun(
        skill=best.skill,
        flops=flops,
        params=params,
        tokens=tokens,
        command=_command(spec, params, tokens, flops, size),
        losses=told,
        devices=math.ceil(held(rule)),
        device=str(spec.cluster.device),
        device_hours=hours,
        price=math.nan if price is None else hours * price,
        speed_source=speed.source,
        warnings=(*said, *withheld),
    )


def _size(spec: Spec, wanted: float) -> tuple[int, float, foreign.Size | None, tuple[str, ...]]:
    """Params and FLOPs per token of an optimum, the size that is it, if any, and warnings."""
    if not spec.rungs:
        shape = solve(wanted, spec.model, count=spec.sizes.count)
        params = int(getattr(shape, spec.sizes.count))
        cost = 6.0 * params if spec.flops == "6p" else shape.flops_per_token("exact")
        return params, cost, shape, ()
    nearest = min(spec.rungs.values(), key=lambda rung: abs(math.log(rung.params / wanted)))
    cost = nearest.flops_per_token("6p" if spec.flops == "6p" else "exact")
    if min(spec.rungs) / MARGIN <= wanted <= max(spec.rungs) * MARGIN:
        return nearest.params, cost, nearest, ()
    params = round(wanted)
    said = (
        f"sizes.ladder ends before {si(params)} params (the nearest size has "
        f"{si(nearest.params)}): what the command names of it is left open"
    )
    return params, cost / nearest.params * params, None, (said,)


def _command(
    spec: Spec, params: int, tokens: int, flops: float, size: foreign.Size | None
) -> tuple[str, ...]:
    """The spec's command with all that is known; other placeholders as they are written."""
    assert spec.trainer is not None
    rule = spec.placement.rule(params)
    values: dict[str, Value] = {
        "params": params, "tokens": tokens, "flops": flops, "seed": 0, "mix": spec.space.mix,
        "gpus": math.ceil(rule.gpus), "cpus": math.ceil(rule.cpus), "nodes": max(1, rule.workers),
        **{f"share.{name}": share for name, share in spec.mix_data(spec.space.mix).mix.items()},
    }  # fmt: skip
    if size is not None:
        values |= foreign.columns(size)
        values |= foreign.used_recipe(spec.trainer, spec.train, size, tokens)
    return tuple(filled(spec.trainer.command, values))
