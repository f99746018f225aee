"""What a sweep is: a frozen, validated value, written in Python or as YAML.

It has no verbs: `sweeper.sweep.Sweep` adds those.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from sweeper.budget import Allocation, Space
from sweeper.errors import SpecError
from sweeper.spec import checks, foreign, variants
from sweeper.spec.defaults import model_of, train_of
from sweeper.spec.placement import Placement, limit_of, place
from sweeper.spec.presets import PAPER, SKILLS, Study, followed, paper_multipliers
from sweeper.spec.reading import build, read_yaml
from sweeper.spec.scoring import Scoring, scoring
from sweeper.spec.search import SearchSettings
from sweeper.spec.sections import Cluster, Sizes, Tuning
from sweeper.text import write_whole
from trainables.config import TrialConfig
from trainables.data import Data, decisive
from trainables.families import Model, Shape
from trainables.families.checks import Strict, fill
from trainables.foreign.ladder import Rung
from trainables.foreign.settings import Trainer
from trainables.foreign.trial import ForeignTrial
from trainables.recipe import fewest_tokens
from trainables.shapes import sizes, smallest, solve
from trainables.skills.catalog import catalog
from trainables.training import RUN_ONLY, Train

AGGREGATE = "validation"
"""The skill whose optimum every other is compared to: loss on the whole validation set."""

SIZE_MARGIN = 5.0
"""Default range of sizes: this factor below and above the guessed optima; the search reaches
e^1.6 = 5 beyond them (docs/adaptive_study.md, section 4)."""

SECTIONS: dict[str, type[Any]] = {
    "sizes": Sizes, "model": Model, "data": Data, "train": Train, "search": SearchSettings,
    "cluster": Cluster, "tuning": Tuning, "trainer": Trainer,
}  # fmt: skip
"""Fields that have fields of their own."""


@dataclass(frozen=True)
class Spec(Strict):
    """One sweep: which budgets, what to spend, which skills; everything else has a default.

    Attributes:
        budgets: training FLOPs per trial, ascending: the ladder.
        allowance: FLOPs the whole sweep may spend.
        skills: names from `trainables.skills.catalog`; empty for its defaults. The aggregate
            (`AGGREGATE`) is always measured too.
        name: for people; names the Ray job and the report.
        flops: what a budget counts: "6p" (6 p t) or "exact" (with attention's scores).
        trackers: "tensorboard", "mlflow" or "wandb": where trials are logged too.
        sizes, model, data, train, search, cluster, tuning: see their classes; a mapping of a
            section's fields will do.
        trainer: a command or function that trains in place of our loop
            (`trainables.foreign.settings.Trainer`); it brings its own data and measures its own
            skills.
        mixes: data mixes to train on, each a name and its class multipliers, which multiply
            those of ``data``; the first is the reference. "paper" stands for the thirteen of
            arXiv 2503.10061. Without any, ``data`` is the only mix.
        variants: trainings to compare, each a name and what it overrides in ``model``, ``data``,
            ``train`` or ``trainer``; the first is the reference. In place of mixes.
        study: "datamix", "validation" or "skills" fills ``mixes`` or ``skills`` in where the
            spec leaves them out, and adds the study to the report.

    Raises:
        SpecError: a field is out of its domain; the message names it and the remedy.
    """

    budgets: tuple[float, ...]
    allowance: float
    skills: tuple[str, ...] = ()
    name: str = "sweep"
    flops: Literal["6p", "exact"] = "6p"
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    sizes: Sizes = field(default_factory=Sizes)
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    search: SearchSettings = field(default_factory=SearchSettings)
    cluster: Cluster = field(default_factory=Cluster)
    tuning: Tuning = field(default_factory=Tuning)
    trainer: Trainer | None = None
    mixes: Mapping[str, Mapping[str, float]] | str = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    study: Study = ""

    def __post_init__(self) -> None:
        for name, kind in SECTIONS.items():
            if isinstance(given := getattr(self, name), Mapping):
                fill(self, **{name: build(kind, given, source=name)})
            elif given is not None or name != "trainer":
                checks.section(name, given, kind)
        for name in ("budgets", "skills", "trackers"):
            checks.listed(name, getattr(self, name))
        checks.words(name=self.name, flops=self.flops, trackers=self.trackers, study=self.study)
        fill(self, budgets=tuple(checks.flops("budgets", b) for b in self.budgets))
        checks.budgets(self.budgets)
        self._fill_in()
        fill(self, allowance=checks.flops("allowance", self.allowance))
        fill(self, skills=tuple(self.skills), trackers=tuple(self.trackers))
        if self.trainer is None:
            checks.skills(self.skills, self.data)
        else:
            foreign.check_trainer(self.trainer, self.sized, self.data.classes, self.skills)
        variants.check(self.variants, self.mixes, self.search)
        checks.mixes(self.mixes, self.mix_data, self.search.policy)
        checks.corpus(self.data, self.model)
        checks.repetition(self.data, self.space, self.epochs)
        if self.rungs:
            foreign.check_space(self.space)
            foreign.require_resources(self.cluster)
        else:
            checks.space(self.space, self.size_range)
        checks.allowance(self.allowance, self.budgets[0])
        for space in self.spaces.values():
            checks.trials(space, self.trial)

    def _fill_in(self) -> None:
        """Take from the study and the trainer what the spec leaves out."""
        fill(self, **foreign.filled_in(self.trainer, self.sizes, self.data, self.flops))
        if self.trainer is None:
            model = model_of(self.model, self.data, self.cluster.hardware, self.train)
            train = train_of(self.train, self.data, self.budgets, model.context)
            fill(self, model=model, train=train)
        builtin = self.data.source == "builtin"
        if self.study in SKILLS and not self.skills and builtin:
            fill(self, skills=SKILLS[self.study])
        if self.study == "datamix" and not self.mixes:
            fill(self, mixes=PAPER)
        if self.mixes == PAPER:
            fill(self, mixes=paper_multipliers())

    # -- reading and writing -----------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path, overrides: Mapping[str, str] | None = None) -> Self:
        """Read a sweep from YAML.

        Args:
            path: the file, or a sweep's directory; ``1e18`` is a number there, quoted or not.
            overrides: dotted keys to YAML values, such as ``{"data.shares.code": "0.3"}``.

        Raises:
            SpecError: the file cannot be read, has an unknown key, or a bad value.
        """
        return cls.from_dict(read_yaml(path, overrides), source=str(path))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "spec") -> Self:
        """Build a sweep from nested mappings, checking every key and type.

        Raises:
            SpecError: names the source, the key's path, the value and the remedy.
        """
        return build(cls, values, source=source)

    def to_dict(self) -> dict[str, Any]:
        """The sweep as nested plain values: what the sweep directory keeps."""
        return dict(json.loads(json.dumps(asdict(self))))

    def save(self, path: str | Path) -> None:
        """Write the resolved spec as YAML, whole or not at all."""
        write_whole(Path(path), yaml.safe_dump(self.to_dict(), sort_keys=False))

    def _repr_html_(self) -> str:
        text = yaml.safe_dump(self.to_dict(), sort_keys=False)
        return f"<b>{html.escape(self.name)}</b><pre>{html.escape(text)}</pre>"

    @property
    def identity(self) -> dict[str, Any]:
        """What decides a trial's outcome: a directory holds one identity.

        The allowance, the search and the cluster may change between runs: more money, another
        tolerance or another machine does not make the finished trials wrong; another precision
        of the products, which ``train.dtype: auto`` leaves to the device, would.
        """
        values = self.to_dict()
        for key in ("name", "allowance", "trackers", "search", "cluster", "tuning", "study"):
            del values[key]
        values["data"] = decisive(values["data"])
        for key in RUN_ONLY:
            del values["train"][key]
        values["train"]["dtype"] = self.dtype
        if self.trainer is not None:
            values["trainer"] = foreign.identity(self.trainer)
        # The default follows from sizes and budgets: a search may not change it half-way.
        values["data"]["evaluation_documents"] = self.documents
        return values

    # -- what follows from the spec ------------------------------------------------------------

    @property
    def dtype(self) -> Literal["auto", "float32", "bfloat16"]:
        """Precision of matrix products: as stated, or what the device is made for."""
        device = self.cluster.hardware
        if self.train.dtype != "auto":
            return self.train.dtype
        return "bfloat16" if device.is_gpu and device.bf16 else "float32"

    def shape(self, params: int) -> Shape:
        """The model of a size: of the ladder, or as near to it for trials of another ladder."""
        return self.shapes.get(params) or solve(params, self.model, count=self.sizes.count)

    @property
    def size_range(self) -> tuple[float, float]:
        """Least and most params that may be trained."""
        if self.rungs:
            return min(self.rungs), max(self.rungs)
        floor = float(getattr(smallest(self.model), self.sizes.count))
        low = self.sizes.low or max(self.search.guess(self.budgets[0]) / SIZE_MARGIN, floor)
        return low, self.sizes.high or self.search.guess(self.budgets[-1]) * SIZE_MARGIN

    @cached_property
    def shapes(self) -> dict[int, Shape]:
        """The models that can be built in the range of sizes, by params; none of a ladder."""
        if self.rungs:
            return {}
        low, high = self.size_range
        checks.size_range(self.sizes, low, high)
        try:
            built = sizes(
                low, high, self.model, count=self.sizes.count, per_decade=self.sizes.per_decade
            )
        except ValueError as error:
            raise SpecError(f"sizes: {error}") from error
        return {int(getattr(shape, self.sizes.count)): shape for shape in built}

    @cached_property
    def rungs(self) -> dict[int, Rung]:
        """The sizes of the ladder, by params; none where models are ours."""
        return {} if self.trainer is None else foreign.rungs(self.sizes, self.trainer.granule)

    @property
    def sized(self) -> Mapping[int, Shape | Rung]:
        """What may be trained, by params: the ladder's sizes, or models of ours."""
        return self.rungs or self.shapes

    @cached_property
    def space(self) -> Space:
        """The realisable allocations."""
        return Space(
            budgets=self.budgets,
            params=tuple(self.sized),
            flops_per_token=tuple(
                float(6 * p if self.flops == "6p" else size.flops_per_token("exact"))
                for p, size in self.sized.items()
            ),
            granule=self.trainer.granule if self.rungs and self.trainer else self.model.context,
            min_tokens=tuple(self._fewest(size) for size in self.sized.values()),
            max_tokens=min(data.max_tokens for data in self._every_data),
            mix=next(iter(self.variants or self.mixes), "base"),
        )

    @cached_property
    def alone(self) -> dict[str, Spec]:
        """The spec of each variant by itself; empty without any."""
        if not self.variants:
            return {}
        values = self.to_dict() | {"skills": list(self.measured)}
        values["data"]["evaluation_documents"] = self.documents
        return variants.specs(values, self.variants, lambda v, at: build(Spec, v, source=at))

    def of(self, allocation: Allocation) -> Spec:
        """The spec that an allocation is trained by: its variant's, or this one."""
        return self.alone.get(allocation.mix, self)

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """The realisable allocations under each variant or mix, the reference first.

        Variants are matched by params (``sizes.count``), each by the nearest it can build.
        """
        names = list(self.variants or self.mixes) or [self.space.mix]
        return {name: replace(self.alone.get(name, self).space, mix=name) for name in names}

    @cached_property
    def placement(self) -> Placement:
        """What trials hold: ``cluster.resources``, or rules made for the device; never stored."""
        on = self.cluster
        hours = on.max_trial_hours if self.trainer is None else None
        limit = limit_of(hours, self.shapes, self.space)
        rules, gpus = on.resources, on.gpus
        try:
            return place(self.shapes, self.train, on.hardware, rules=rules, gpus=gpus, limit=limit)
        except ValueError as error:
            raise SpecError(str(error)) from None

    def _fewest(self, size: Shape | Rung) -> int:
        """Fewest tokens of a trial of a size."""
        if self.trainer is None:
            return fewest_tokens(self.train, size, checks.MIN_STEPS)
        return foreign.fewest(self.trainer, self.train, size, checks.MIN_STEPS)

    def mix_data(self, mix: str) -> Data:
        """The data of one mix."""
        if not self.mixes or isinstance(self.mixes, str):
            return self.data
        own = self.mixes[mix]
        factors = self.data.multipliers | {
            name: self.data.multipliers.get(name, 1.0) * factor for name, factor in own.items()
        }
        return replace(self.data, multipliers=factors)

    @property
    def _every_data(self) -> list[Data]:
        """The data of every mix."""
        return [self.mix_data(name) for name in self.mixes] or [self.data]

    def epochs(self, tokens: float) -> dict[str, float]:
        """How often trials of this many tokens see each class of a prepared corpus, at most."""
        each = [data.epochs(tokens) for data in self._every_data]
        return {name: max(epochs[name] for epochs in each) for name in each[0]}

    @property
    def mix_shares(self) -> dict[str, dict[str, float]]:
        """Share of training documents per class, of every mix by name."""
        if self.variants:
            return {name: one.data.mix for name, one in self.alone.items()}
        return {name: self.mix_data(name).mix for name in self.mixes or [self.space.mix]}

    @property
    def measured(self) -> tuple[str, ...]:
        """The skills every trial is scored on, the aggregate among them unless a trainer of the
        user's does not measure it.
        """
        if self.trainer is not None:
            return self.skills or tuple(self.trainer.skills)
        names = self.skills or tuple(skill.name for skill in catalog(self.data) if skill.default)
        return names if AGGREGATE in names else (*names, AGGREGATE)

    @cached_property
    def scoring(self) -> Scoring | None:
        """What measuring the skills costs; None where that is not our doing."""
        if self.data.source == "simulated" or self.trainer is not None:
            return None
        return scoring(self.data, self.measured, self.space)

    @property
    def documents(self) -> int | None:
        """Held-out documents that every trial is scored on, per class."""
        return self.scoring.documents if self.scoring else self.data.evaluation_documents

    def followed(self, skills: Sequence[str]) -> dict[str, str]:
        """The class of documents whose share each skill follows, for those that follow one."""
        stated = self.trainer.skills if self.trainer else None
        return followed(skills, self.data.classes, data=self.data, stated=stated)

    def trial(self, allocation: Allocation) -> TrialConfig | ForeignTrial:
        """The training that an allocation stands for."""
        own = self.of(allocation)
        make = own.own_trial if own.trainer is None else own.foreign_trial
        return make(allocation)

    def trial_id(self, allocation: Allocation) -> str:
        """Identity of an allocation's training: its variant's name is part of it."""
        return variants.trial_id(self.trial(allocation), allocation.mix if self.variants else "")

    def foreign_trial(self, allocation: Allocation) -> ForeignTrial:
        """The training of a trainer of the user's, which the spec must have."""
        assert self.trainer is not None
        size, shares = self.sized[allocation.params], self.mix_data(allocation.mix).mix
        return foreign.trial(
            self.trainer, size, allocation, self.train, shares=shares, skills=self.measured
        )

    def own_trial(self, allocation: Allocation) -> TrialConfig:
        """The training of our own loop, made to fit what its trial holds."""
        shape = self.shape(allocation.params)
        return TrialConfig(
            shape=shape,
            tokens=allocation.tokens,
            seed=allocation.seed,
            data=replace(self.mix_data(allocation.mix), evaluation_documents=self.documents),
            train=replace(self.placement.trained(shape, allocation.params), dtype=self.dtype),
            skills=self.measured,
            flops=allocation.flops,
            params=allocation.params,
        )
