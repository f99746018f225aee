"""Sections of a spec: which sizes may be trained, where the sweep runs, what is tuned before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from sweeper.errors import did_you_mean
from sweeper.spec.devices import Device, OwnDevice, device_of, local
from sweeper.spec.placement import Resources
from sweeper.text import number
from trainables.families import Count
from trainables.families.checks import Strict, fill
from trainables.shapes import PER_DECADE


@dataclass(frozen=True)
class Sizes(Strict):
    """Which model sizes may be trained.

    Attributes:
        low: smallest size, in params; None: from the budgets and ``search.tokens_per_param``.
        high: largest size.
        ladder: the sizes of a foreign trainer: a CSV file, ``package.module:function``, or rows;
            each with ``params``, where known ``flops_per_token``, and whatever the command names.
        count: what "params" counts. The default leaves out the input embedding alone, so that
            6 p t covers every matrix product but attention's scores.
        per_decade: sizes per factor of ten, the same on every budget.
    """

    low: float | None = None
    high: float | None = None
    ladder: str | tuple[dict[str, int | float | str], ...] = ()
    count: Literal["params_with_head", "params_total", "params_without_embeddings"] = (
        "params_with_head"
    )
    per_decade: int = PER_DECADE

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"sizes.{name}={value}: give a parameter count above 0")
        if self.low and self.high and self.low >= self.high:
            raise ValueError(
                f"sizes: low={number(self.low)} must be below high={number(self.high)}"
            )
        if self.count not in get_args(Count):
            known = ", ".join(get_args(Count))
            raise ValueError(f"sizes.count={self.count!r}: choose one of {known}")
        if not 3 <= self.per_decade <= 100:
            raise ValueError(f"sizes.per_decade={self.per_decade}: must lie in 3..100")


@dataclass(frozen=True)
class Cluster(Strict):
    """Where the sweep runs; nothing else in a spec differs from laptop to cluster.

    Attributes:
        address: "local" starts Ray on this machine; "auto" or host:port joins a cluster.
        cpus: CPUs to use when local, None for all; on a cluster that scales itself, how many it
            may grow to: this many trials are asked for, and their waiting brings the nodes.
        gpus: the same of GPUs.
        resources: rules by size, ascending in ``from_params``; left out, they are made from the
            memory that models need on the device (`sweeper.spec.placement`).
        retries: restarts of a trial after faults (docs/faults.md), before it counts as failed.
        hang_s: seconds without a report after which a trial's process is killed and the trial
            started again; longer than ten steps, the start of a process, and its scoring.
        dashboard: serve Ray's dashboard, on 127.0.0.1 only.
        device: what trials run on: a name of `sweeper.spec.devices.DEVICES`, or a data sheet such
            as {peak: 165e12, memory: 24e9}; "auto" is this machine's GPU type, or "cpu-core".
        mfu: share of its peak that training reaches, where you know it; None works it out by
            size (`sweeper.spec.roofline`).
        max_trial_hours: trials that would take longer hold more GPUs than their memory needs.
        mps: run NVIDIA's Multi-Process Service for trials that share a GPU of this machine, where
            it is installed.
        price_per_hour: money per hour of one device, for plans.
    """

    address: str = "local"
    cpus: int | None = None
    gpus: int | None = None
    resources: tuple[Resources, ...] = ()
    retries: int = 2
    hang_s: float = 1800.0
    dashboard: bool = True
    device: str | OwnDevice = "auto"
    mfu: float | None = None
    max_trial_hours: float | None = None
    mps: bool = True
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        rules = tuple(self.resources)
        if rules == (Resources(),):  # what earlier versions wrote into specs without rules
            rules = ()
        fill(self, resources=rules)
        starts = [rule.from_params for rule in self.resources]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise ValueError(
                "cluster.resources: the first rule starts at from_params 0, the others ascend"
            )
        if self.cpus is not None and self.cpus < 1:
            raise ValueError(f"cluster.cpus={self.cpus}: give 1 or more, or leave it out for all")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"cluster.gpus={self.gpus}: not below 0, or leave it out for all")
        if self.retries < 0:
            raise ValueError(f"cluster.retries={self.retries}: must not be negative")
        if self.mfu is not None and not 0 < self.mfu <= 1:
            raise ValueError(f"cluster.mfu={self.mfu}: give a share of the peak, in (0, 1]")
        if self.max_trial_hours is not None and not self.max_trial_hours > 0:
            raise ValueError(f"cluster.max_trial_hours={self.max_trial_hours}: give hours above 0")
        if self.price_per_hour is not None and not self.price_per_hour >= 0:
            raise ValueError(f"cluster.price_per_hour={self.price_per_hour}: not below 0")
        if not self.hang_s > 0:
            raise ValueError(f"cluster.hang_s={self.hang_s}: give seconds above 0, such as 1800")
        if self.device == "auto":
            fill(self, device=local())
        device_of(self.device)

    @property
    def hardware(self) -> Device:
        """What is known of the device."""
        return device_of(self.device)


HYPERPARAMETERS = ("learning_rate", "batch_tokens")
"""What may be tuned; each gets a law."""


@dataclass(frozen=True)
class Tuning(Strict):
    """How hyperparameters are tuned before a sweep.

    Attributes:
        hyperparameters: what is tuned (`HYPERPARAMETERS`), and the factor either side of the
            spec's value within which it is tried.
        points: (params, tokens) to tune at; empty for five small ones from the spec. A law of
            params and tokens needs points that differ in each.
        trials: per point; None for as many as a quadratic needs, and one more.
        sampler: Optuna's "tpe" or "gp".
        objectives: skills whose losses are minimised; empty for the aggregate. With several, the
            law that a run uses goes through the least geometric mean of them.
        seed: of the sampler, and of all trainings, so that trials differ by what is tuned alone.
    """

    hyperparameters: dict[str, float] = field(default_factory=lambda: {"learning_rate": 6.0})
    points: tuple[tuple[float, float], ...] = ()
    trials: int | None = None
    sampler: Literal["tpe", "gp"] = "tpe"
    objectives: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        fill(self, points=tuple(map(tuple, self.points)), objectives=tuple(self.objectives))
        where = "tuning.hyperparameters"
        for name, factor in self.hyperparameters.items():
            if name not in HYPERPARAMETERS:
                near, known = did_you_mean(name, HYPERPARAMETERS), ", ".join(HYPERPARAMETERS)
                raise ValueError(f"{where}: {name!r} is unknown{near}; known: {known}")
            if not 1 < factor <= 1000:
                raise ValueError(f"{where}.{name}={factor}: give a factor above 1, e.g. 6")
        if not self.hyperparameters:
            raise ValueError(f"{where}: name at least one, e.g. learning_rate: 6")
        if any(len(point) != 2 or min(point) <= 0 for point in self.points):
            raise ValueError("tuning.points: give pairs of params and tokens above 0")
        if self.trials is not None and self.trials < 3:
            raise ValueError(f"tuning.trials={self.trials}: a minimum needs at least 3")
        if self.sampler not in ("tpe", "gp"):
            raise ValueError(f"tuning.sampler={self.sampler!r}: choose tpe or gp")
        if self.seed < 0:
            raise ValueError("tuning.seed must not be negative")

    @property
    def wanted(self) -> int:
        """Trials per point."""
        d = len(self.hyperparameters)
        return self.trials or 2 + d * (d + 3) // 2
