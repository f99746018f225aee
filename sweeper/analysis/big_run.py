"""From a sweep's optimum to the run it was made for: a config that can be started as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fitting import FitError, Optimum, Prediction, SkillFit
from fitting.decisions.tradeoffs import one_run
from sweeper.analysis.conclusions import status_word
from sweeper.errors import SpecError
from sweeper.plan.speed import held, speed_of
from sweeper.spec.placement import Placement, place
from sweeper.spec.spec import Spec
from sweeper.text import gigabytes, number, percent, ratio, si
from trainables.config import TrialConfig
from trainables.shapes import solve


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training worth its budget, what it will take, and what it should reach.

    Attributes:
        skill: whose optimum it is.
        losses: what one such training is predicted to reach, per skill, 90 % intervals with the
            noise of a single training.
        devices: of the spec's kind that train it together.
        device: their kind.
        device_hours: of all devices.
        price: money, or NaN without a price per hour.
        speed_source: where the hours come from.
        warnings: what to know before starting it.
    """

    skill: str
    losses: Mapping[str, Prediction]
    devices: int
    device: str
    device_hours: float
    price: float
    speed_source: str
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "skill": self.skill,
            "losses": {
                skill: {"value": loss.value, "interval": list(loss.interval)}
                for skill, loss in self.losses.items()
            },
            "devices": self.devices,
            "device": self.device,
            "device_hours": self.device_hours,
            "price": None if math.isnan(self.price) else self.price,
            "speed": self.speed_source,
            "warnings": list(self.warnings),
        }

    def shown(
        self, place: tuple[float, float, float], *parts: tuple[str, str], each: str = ""
    ) -> str:
        """The run as a terminal shows it.

        Args:
            place: its FLOPs, params and tokens.
            parts: further lines, each with its name.
            each: what each device needs.
        """
        flops, params, tokens = place
        money = "" if math.isnan(self.price) else f", cost {self.price:,.0f}"
        expected = [
            ("expect", f"{skill} {loss.value:.4g} nats, 90 % {loss.interval[0]:.4g} to "
                       f"{loss.interval[1]:.4g} for one training")
            for skill, loss in self.losses.items()
        ]  # fmt: skip
        lines = [
            *parts,
            ("takes", f"{number(self.device_hours)} {self.device} hours on {self.devices} "
                      f"device(s) ({self.speed_source}){each}{money}"),
            *expected,
            *(("warning", warning) for warning in self.warnings),
        ]  # fmt: skip
        return "\n".join([
            f"the run for {self.skill} on {number(flops)} FLOPs: {si(params)} params on "
            f"{si(tokens)} tokens ({ratio(tokens / params)} per param)",
            *(f"  {name:<9} {text}" for name, text in lines),
        ])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BigRun(Run):
    """A run of our own loop.

    Attributes:
        trial: the training, as `trainables` takes it.
        memory_bytes: of one device, estimated.
    """

    trial: TrialConfig
    memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values: ``trial`` feeds `TrialConfig.from_dict`, the rest is for people."""
        trial, recipe = self.trial, self.trial.recipe
        return {
            "trial": trial.to_dict(),
            **super().to_dict(),
            "params": trial.params,
            "tokens": trial.tokens,
            "learning_rate": recipe.learning_rate,
            "batch_tokens": recipe.batch * trial.shape.context,
            "steps": recipe.steps,
            "schedule": trial.train.schedule,
            "mix": trial.data.mix,
            "token_mix": trial.data.token_mix,
            "memory_bytes_per_device": self.memory_bytes,
        }

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write the trial as YAML, and transformers' config.json in a folder beside it.

        Returns:
            The YAML file, which `TrialConfig.from_dict` takes, and the folder, which
            `transformers.AutoConfig.from_pretrained` reads.
        """
        path = Path(path)
        folder = path.with_suffix("")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            body = yaml.safe_dump(self.trial.to_dict(), sort_keys=False)
            comments = "".join(f"# {line}\n" for line in str(self).splitlines())
            path.write_text(comments + body, encoding="utf-8")
            text = json.dumps(hf_config(self.trial), indent=2)
            (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise SpecError(f"{path}: cannot be written: {error.strerror}") from error
        return path, folder

    def __str__(self) -> str:
        trial, recipe, shape = self.trial, self.trial.recipe, self.trial.shape
        shares = ", ".join(f"{n} {percent(share)}" for n, share in trial.data.token_mix.items())
        return self.shown(
            (trial.flops, trial.params, trial.tokens),
            ("shape", f"{shape.layers} layers, width {shape.width}, {shape.heads} heads, "
                      f"feed-forward {shape.ffn_width}, vocabulary {shape.vocabulary}, "
                      f"context {shape.context}"),
            ("training", f"batch {si(recipe.batch * shape.context)} tokens, {recipe.steps} steps, "
                         f"peak rate {recipe.learning_rate:.3g}, {trial.train.schedule}; of the "
                         f"tokens: {shares}"),
            each=f", {gigabytes(self.memory_bytes)} each",
        )  # fmt: skip


def optimum_of(best: SkillFit, flops: float) -> Optimum:
    """The optimum to run.

    Raises:
        FitError: there is none.
    """
    found = best.at(flops)
    if not found.ok:
        text = f"{best.skill}: no optimum to run ({status_word(found.status)}): {found.reason}"
        raise FitError(found.status, f"{text} {found.status.advice}")
    return found


def expected(
    fits: Mapping[str, SkillFit], params: float, tokens: float
) -> tuple[dict[str, Prediction], tuple[str, ...]]:
    """What one training should reach, per skill that has a law of its loss; why others have none.

    A size may be known well where its loss is not.
    """
    found, withheld = {}, []
    for name, fit in fits.items():
        if fit.ok:
            try:
                found[name] = one_run(fit, params, tokens)
            except FitError as error:
                withheld.append(f"{name}: its loss is not predicted: {error}")
    return found, tuple(withheld)


def recommend(
    best: SkillFit,
    sweep: Spec,
    flops: float,
    *,
    losses: Mapping[str, SkillFit],
    measured: pd.DataFrame | None = None,
) -> BigRun:
    """The training to start for a budget, at one skill's optimum.

    Args:
        best: fit of the skill, or of a weighting of skills, whose optimum is wanted.
        sweep: the spec it was measured with: family, data, training and cluster.
        measured: trials of the sweep's ledger, for speed; see `sweeper.plan.speed.speed_of`.

    Raises:
        FitError: the skill has no optimum there.
        SpecError: the size cannot be built, or the device is unknown.
    """
    found = optimum_of(best, flops)
    trial = _trial(sweep, flops, found.params)
    placement = _placement(sweep, trial)
    speed = speed_of(sweep.cluster, measured)
    batch = trial.recipe.batch * trial.shape.context
    whole = trial.tokens * trial.shape.flops_per_token(sweep.flops)
    wall_s = speed.wall_s(whole, trial.params, placement, (trial.shape, trial.tokens))
    devices = held(placement.rule(trial.params))
    hours = wall_s / 3600 * devices
    price = sweep.cluster.price_per_hour
    memory = placement.memory(trial.shape, trial.params, batch)
    told, withheld = expected({best.skill: best, **losses}, trial.params, trial.tokens)
    return BigRun(
        trial=trial,
        skill=best.skill,
        losses=told,
        devices=math.ceil(devices),
        device=str(sweep.cluster.device),
        memory_bytes=int(memory.total),
        device_hours=hours,
        price=math.nan if price is None else hours * price,
        speed_source=speed.source,
        warnings=(*_warnings(trial, found.extrapolates), *withheld),
    )


def hf_config(trial: TrialConfig) -> dict[str, Any]:
    """transformers' configuration of a training's model, as config.json holds it."""
    from trainables.engine.model import library_config

    config = library_config(trial.shape, attention="sdpa")
    names = [config.__class__.__name__.removesuffix("Config") + "ForCausalLM"]
    return {**config.to_diff_dict(), "architectures": names, "use_cache": True}


def _trial(sweep: Spec, flops: float, params: float) -> TrialConfig:
    """The training nearest to an optimum that can really be built, within the budget."""
    try:
        shape = solve(params, sweep.model, count=sweep.sizes.count)
    except ValueError as error:
        raise SpecError(f"the optimum of {params:.4g} params: {error}") from error
    counted = float(getattr(shape, sweep.sizes.count))
    per_token = 6 * counted if sweep.flops == "6p" else shape.flops_per_token("exact")
    tokens = int(flops / per_token / shape.context) * shape.context
    if tokens < shape.context:
        raise SpecError(
            f"flops={flops:g}: less than one sequence of {shape.context} tokens for "
            f"{params:.4g} params; give a larger budget"
        )
    return TrialConfig(
        shape=shape,
        tokens=tokens,
        data=sweep.mix_data(sweep.space.mix),
        train=sweep.train,
        skills=sweep.measured,
        flops=flops,
        params=counted,
    )


def _placement(sweep: Spec, trial: TrialConfig) -> Placement:
    """What the run holds: the spec's rules, or those its own memory asks for."""
    cluster = sweep.cluster
    if cluster.resources:
        return replace(sweep.placement, train=trial.train)
    shapes = {int(trial.params): trial.shape}
    try:
        return place(shapes, trial.train, cluster.hardware, gpus=cluster.gpus)
    except ValueError as error:
        raise SpecError(str(error)) from None


def _warnings(trial: TrialConfig, extrapolates: float) -> tuple[str, ...]:
    """How far the run lies from what was measured."""
    said = []
    if extrapolates > 1:
        said.append(f"the budget lies {number(extrapolates)} times beyond the largest one trained")
    law, params = trial.train.law, trial.shape.params_with_head
    for name, power in (("learning_rate", law.learning_rate), ("batch", law.batch)):
        beyond = 1.0 if power is None else power.beyond(params, trial.tokens)
        if beyond > 1:
            said.append(
                f"train.law.{name} is used a factor of {beyond:.2g} outside the params and tokens "
                "it was measured at"
            )
    return tuple(said)
