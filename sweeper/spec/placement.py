"""Which trials share a GPU and which take several: a rule by size, from the memory they need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper.budget import Space
from sweeper.spec.devices import Device
from sweeper.spec.roofline import Timing, step, trial_s
from sweeper.text import gigabytes, number, si
from trainables.families import Shape
from trainables.families.checks import Strict
from trainables.families.memory import (
    CPU_MICRO_TOKENS,
    GPU_MICRO_TOKENS,
    Memory,
    Settings,
    estimate,
    most_tokens,
)
from trainables.recipe import recipe
from trainables.training import Train

SHARED = ((10e6, 8), (30e6, 4), (100e6, 2))
"""Up to this many params, this many trials share a GPU (assumption, to be measured there: smaller
models leave most of a GPU idle, and each trial brings a CUDA context of its own)."""

SHARED_TOKENS = 16_384
"""Tokens that each of the trials that share a GPU must be able to hold at once (assumption)."""

MOST_GPUS = 1024
"""GPUs of one trial at most (assumption: beyond, data parallelism alone is the wrong tool)."""


@dataclass(frozen=True)
class Resources(Strict):
    """What trials of a size hold.

    Attributes:
        from_params: the rule holds from this size up, until the next rule.
        workers: 0 trains in one process (several such trials may share a node or a GPU);
            more is a worker group with data parallelism.
        cpus: CPU cores per worker.
        gpus: GPUs per worker; a fraction lets small trials share one.
    """

    from_params: float = 0.0
    workers: int = 0
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus < 0 or self.gpus < 0 or self.cpus + self.gpus <= 0:
            raise ValueError(
                "cluster.resources: workers, cpus and gpus must not be negative, and a worker "
                "needs a CPU or a GPU"
            )

    @property
    def devices(self) -> float:
        """GPUs of the whole trial."""
        return self.gpus * max(1, self.workers)

    @property
    def held(self) -> dict[str, float]:
        """What a trial holds in all, by Ray's names."""
        wanted = {"CPU": self.cpus * max(1, self.workers), "GPU": self.devices}
        return {name: amount for name, amount in wanted.items() if amount > 0}


@dataclass(frozen=True)
class Limit:
    """How long trials may take.

    Attributes:
        hours: of one trial.
        tokens: of the longest trial of each model.
    """

    hours: float
    tokens: Mapping[Shape, int]


@dataclass(frozen=True)
class Placement:
    """What the trials of a sweep hold, by size, and how they are trained to fit it.

    Attributes:
        rules: ascending in ``from_params``: the spec's, or made from the memory models need.
        device: what trials run on.
        train: how the spec trains.
        shapes: the models, by params.
    """

    rules: tuple[Resources, ...]
    device: Device
    train: Train
    shapes: Mapping[int, Shape]

    def rule(self, params: float) -> Resources:
        """The rule that holds for a size."""
        return [rule for rule in self.rules if rule.from_params <= params][-1]

    def trained(self, shape: Shape, params: float) -> Train:
        """How a model of a size is trained; see `fitted`."""
        return fitted(self.train, shape, self.device, self.rule(params))

    @property
    def worker_groups(self) -> bool:
        """Whether some trials run on several workers."""
        return any(rule.workers > 0 for rule in self.rules)

    def memory(self, shape: Shape, params: float, batch_tokens: int) -> Memory:
        """What each device of a trial needs: a GPU one sequence at a time, and more as they fit.

        Args:
            batch_tokens: of one step, on all workers.
        """
        rule, train = self.rule(params), self.trained(shape, params)
        own = math.ceil(batch_tokens / max(1, rule.workers))
        if train.micro_batch:
            own = min(own, train.micro_batch * shape.context)
        elif rule.gpus and self.device.is_gpu:
            own = shape.context
        else:
            own = min(own, CPU_MICRO_TOKENS)
        return estimate(shape, max(own, shape.context), **_settings(train, rule))

    def rows(self, ladder: Mapping[int, object]) -> Iterator[dict[str, Any]]:
        """A row per rule on GPUs: sizes from and to, what a trial holds, the largest's need.

        Args:
            ladder: by params, the sizes of a user's trainer, whose memory nobody knows; or none.
        """
        for rule, sizes in _held(ladder or self.shapes, self.rules):
            if not rule.gpus or not (ladder or self.device.is_gpu):
                continue
            sharded, recompute, memory_bytes = False, False, math.nan
            if not ladder:
                largest = self.shapes[max(sizes)]
                way = fitted(self.train, largest, self.device, rule)
                sharded, recompute = rule.workers > 1 and way.parallel == "fsdp", way.recompute
                memory_bytes = need(largest, self.train, self.device, rule).total
            yield {
                "params_low": min(sizes),
                "params_high": max(sizes),
                "gpus": rule.devices,
                "sharded": sharded,
                "recompute": recompute,
                "memory_bytes": memory_bytes,
                "device_bytes": self.device.memory_bytes * min(1.0, rule.gpus),
            }


def limit_of(hours: float | None, shapes: Mapping[int, Shape], space: Space) -> Limit | None:
    """How long a trial may take, with the tokens each size trains at most."""
    if hours is None:
        return None
    tokens = {shape: shape.context for shape in shapes.values()}
    for flops in space.budgets:  # ascending
        for i in space.allowed(flops):
            tokens[shapes[space.params[i]]] = space.tokens(flops, i)
    return Limit(hours, tokens)


def place(
    shapes: Mapping[int, Shape],
    train: Train,
    device: Device,
    *,
    rules: tuple[Resources, ...] = (),
    gpus: int | None = None,
    limit: Limit | None = None,
) -> Placement:
    """What trials hold: by rules, which are checked, or by those that memory asks for.

    Args:
        rules: of the spec; none to make them.
        gpus: how many there are; None if that is not known.
        limit: how long a trial may take; longer ones hold more GPUs.

    Raises:
        ValueError: a model does not fit; the message says what would help.
    """
    if rules:
        _check(shapes, train, device, rules)
    elif device.is_gpu:
        rules = _by_size(shapes, train, device, gpus or MOST_GPUS, limit)
    return Placement(rules or (Resources(),), device, train, shapes)


def _by_size(
    shapes: Mapping[int, Shape], train: Train, device: Device, most: int, limit: Limit | None
) -> tuple[Resources, ...]:
    """The rules that memory asks for."""
    rules: list[Resources] = []
    for params, shape in sorted(shapes.items()):
        rule = _rule(params, shape, train, device, most)
        if limit is not None:
            rule = _sped_up(rule, shape, train, device, most, limit)
        if not rules:
            rules.append(replace(rule, from_params=0.0))
        elif rule.devices > rules[-1].devices:  # larger models never get less
            rules.append(replace(rule, from_params=float(params)))
    return tuple(rules)


def _rule(params: int, shape: Shape, train: Train, device: Device, most: int) -> Resources:
    """The smallest holding that a model fits."""
    for limit, sharers in SHARED:
        rule = Resources(gpus=1 / sharers)
        if params <= limit and _most(shape, train, device, rule) >= SHARED_TOKENS:
            return rule
    workers = 1
    while workers <= most:
        rule = Resources(workers=0 if workers == 1 else workers, gpus=1.0)
        if any(_most(shape, way, device, rule) for way in _ways(train, rule)):
            return rule
        workers *= 2
    raise ValueError(_too_large(params, shape, train, device, most))


def _sped_up(
    rule: Resources, shape: Shape, train: Train, device: Device, most: int, limit: Limit
) -> Resources:
    """A rule with as many GPUs as keep the longest trial of a size within the limit."""
    tokens = limit.tokens[shape]
    rows = recipe(train, shape, tokens).batch
    while timing(shape, train, device, rule, tokens).wall_s > 3600 * limit.hours:
        workers = 2 * max(1, rule.workers)
        faster = replace(rule, gpus=1.0, workers=0 if rule.gpus < 1 else workers)
        if max(1, faster.workers) > min(most, rows):
            break
        rule = faster
    return rule


def timing(shape: Shape, train: Train, device: Device, rule: Resources, tokens: int) -> Timing:
    """How long a training takes on what its trial holds."""
    way, plan = fitted(train, shape, device, rule), recipe(train, shape, tokens)
    if device.is_gpu and rule.gpus:
        micro = min(_most(shape, way, device, rule) or shape.context, GPU_MICRO_TOKENS)
    else:
        micro = CPU_MICRO_TOKENS
    one = step(
        shape,
        way,
        device,
        batch_tokens=plan.batch * shape.context,
        workers=max(1, rule.workers),
        micro_tokens=way.micro_batch * shape.context or micro,
        cores=rule.cpus,
    )
    start_s = trial_s(way, device, shape, workers=rule.workers)
    return Timing(plan.steps, one, min(1.0, rule.gpus) if device.is_gpu else 1.0, start_s)


def _most(shape: Shape, train: Train, device: Device, rule: Resources) -> int:
    """Most tokens a worker can hold at once in its share of a GPU."""
    room = device.memory_bytes * min(1.0, rule.gpus)
    return most_tokens(shape, room, **_settings(train, rule))


def _ways(train: Train, rule: Resources) -> Iterator[Train]:
    """Ways to train, each leaner than the one before: as asked, in shards, recomputing blocks."""
    yield train
    if rule.workers > 1:
        train = replace(train, parallel="fsdp")
        yield train
    yield replace(train, recompute=True)


def fitted(train: Train, shape: Shape, device: Device, rule: Resources) -> Train:
    """How a model of this size is trained, so that it fits what its trial holds.

    Where not one sequence fits, the model is sharded over the workers, and then its blocks are
    recomputed on the way back. Trials that share a GPU take micro-batches that fit their share,
    as the loop would take them from all that is free.
    """
    if not (rule.gpus and device.is_gpu):
        return train
    ways = list(_ways(train, rule))
    train = next((way for way in ways if _most(shape, way, device, rule)), ways[-1])
    if rule.gpus < 1 and not train.micro_batch:
        tokens = min(_most(shape, train, device, rule), GPU_MICRO_TOKENS)
        train = replace(train, micro_batch=max(1, tokens // shape.context))
    return train


def need(shape: Shape, train: Train, device: Device, rule: Resources) -> Memory:
    """What each device of a trial must hold: one sequence at a time at the least."""
    way = fitted(train, shape, device, rule)
    return estimate(shape, shape.context, **_settings(way, rule))


def _settings(train: Train, rule: Resources) -> Settings:
    """How the estimate has to be made."""
    return {
        "workers": max(1, rule.workers),
        "sharded": train.parallel == "fsdp",
        "bf16": rule.gpus > 0 and train.dtype != "float32",
        "recompute": train.recompute,
        "eager": train.attention == "eager",
        "gpu": rule.gpus > 0,
    }


def _held(
    shapes: Mapping[int, Any], rules: tuple[Resources, ...]
) -> Iterator[tuple[Resources, list[int]]]:
    """Rules with the sizes they hold for."""
    for rule, following in zip(rules, [*rules[1:], None], strict=True):
        end = math.inf if following is None else following.from_params
        sizes = [params for params in shapes if rule.from_params <= params < end]
        if sizes:
            yield rule, sizes


def _check(
    shapes: Mapping[int, Shape], train: Train, device: Device, rules: tuple[Resources, ...]
) -> None:
    """Check that the largest model of every rule fits its share of a GPU."""
    for rule, sizes in _held(shapes, rules):
        room = device.memory_bytes * min(1.0, rule.gpus)
        needed = need(shapes[max(sizes)], train, device, rule).total
        if rule.gpus and needed > room:
            raise ValueError(
                f"cluster.resources: the rule from_params={number(rule.from_params)} gives each "
                f"worker {gigabytes(room)} of a GPU, a trial of {si(max(sizes))} params needs "
                f"about {gigabytes(needed)}; give it more gpus or workers, or leave out the rules"
            )


def _too_large(params: int, shape: Shape, train: Train, device: Device, most: int) -> str:
    rule = Resources(workers=most, gpus=1.0) if most > 1 else Resources(gpus=1.0)
    needed = need(shape, train, device, rule)
    remedy = "lower model.context" if needed.activations > needed.total / 2 else "allow more GPUs"
    return (
        f"cluster.device: a trial of {si(params)} params needs about {gigabytes(needed.total)} "
        f"on each of {most} GPU(s), which have {gigabytes(device.memory_bytes)}; lower "
        f"sizes.high, {remedy}, or take a larger device"
    )
