"""What one training is: model family, data, optimiser, and the trial that joins them.

Pure Python and JSON-able, so that a spec can embed it and a cluster can ship it. Every class
refuses unknown keys when it is loaded through pydantic, and checks its own domain when built.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainables.families import FAMILIES
from trainables.families.template import check_family, template
from trainables.manifest import Corpus, read_manifest, summary
from trainables.recipe import Recipe, recipe
from trainables.shapes import Shape
from trainables.training import RUN_ONLY, Train, require

CLASSES = ("knowledge", "code", "other")
"""Document classes of the built-in corpora."""

PAPER_SHARES = {"knowledge": 0.584, "code": 0.199, "other": 0.217}
"""Share of documents per class in the paper's base mix (Roberts et al. 2025, table 2)."""

DOCUMENTS = 256
"""Most held-out documents per class by default: their draw adds at most 3 % to the variance
between seeds (measured, benchmarks/results/scoring_noise.md)."""

EPOCHS_WARNED = 4.0
"""Repeats of a document up to which they are worth nearly as much as new ones (Muennighoff et al.
2023, section 6)."""


@dataclass(frozen=True)
class Model:
    """A family of models and the rules that turn a parameter count into a shape.

    Attributes:
        family: architecture by transformers' model type: a key of `trainables.families.FAMILIES`.
        vocabulary: rows of the embedding.
        context: tokens per sequence.
        tied: whether input embedding and head share their weights; None for what ``config``
            says, else True.
        layers: fixed depth, or None for the aspect rule.
        aspect: width per layer aimed at when ``layers`` is None. 64 is assumed; loss is flat to a
            few per cent over a wide range of aspects (Kaplan et al. 2020, figure 5).
        min_layers: depth below which the aspect rule does not go (assumption).
        head_dim: width of one attention head aimed at, or None for 16 below width 256, 64 below
            2048, 128 from there (16 against 8 trains 1.3-1.5x faster on CPU, measured; 64 and
            128 are what Llama 3 uses).
        kv_groups: query heads per key-value head; heads that do not divide fall back to 1.
        ffn_ratio: feed-forward width (of one expert) over width aimed at, or None for the
            family's: 8/3 gives a gated block the weights of a plain one at 4 (Shazeer 2020).
        state: state per channel of recurrent mixers, or None for the family's, less in narrow
            models.
        attention_every: in hybrids, one layer in so many attends, or None for the family's.
        experts: feed-forward blocks per layer of a mixture, or None for the family's.
        active_experts: how many of them a token passes, or None for the family's.
        config: further fields of the family's transformers configuration, such as
            ``{rope_theta: 500000}``, or the path of a Hugging Face config.json, which gives the
            family, its proportions where they are left out here, and those fields.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    family: str = "llama"
    vocabulary: int = 256
    context: int = 60
    tied: bool | None = None
    layers: int | None = None
    aspect: float = 64.0
    min_layers: int = 2
    head_dim: int | None = None
    kv_groups: int = 1
    ffn_ratio: float | None = None
    state: int | None = None
    attention_every: int | None = None
    experts: int | None = None
    active_experts: int | None = None
    config: str | dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.config, str):
            for name, value in template(self).items():
                object.__setattr__(self, name, value)
        object.__setattr__(self, "tied", self.tied is not False)
        check_family(self)
        require(self.vocabulary >= 2, "model.vocabulary must be at least 2")
        require(self.context >= 2, "model.context must be at least 2 tokens")
        require(
            self.layers is None or self.layers >= 1,
            "model.layers must be at least 1, or left out for the aspect rule",
        )
        require(self.aspect > 0, "model.aspect must be positive (64 is usual)")
        require(self.min_layers >= 1, "model.min_layers must be at least 1")
        require(
            self.head_dim is None or (self.head_dim >= 2 and self.head_dim % 2 == 0),
            "model.head_dim must be even (rotary embeddings turn pairs), or left out",
        )
        require(self.kv_groups >= 1, "model.kv_groups must be at least 1")

    @property
    def extra(self) -> dict[str, Any]:
        """Further fields of the library's configuration."""
        return self.config if isinstance(self.config, dict) else {}

    @property
    def mixture(self) -> tuple[int, int]:
        """Experts per layer and how many a token passes; 0 and 0 for a dense family."""
        usual = FAMILIES[self.family].experts
        if usual is None:
            return 0, 0
        experts = self.experts or usual[0]
        return experts, self.active_experts or min(usual[1], experts)


@dataclass(frozen=True)
class Data:
    """What is trained on: classes of documents, their shares, and the worlds they speak of.

    Attributes:
        source: "builtin" generates documents; "prepared" reads what `isoskill prepare` wrote;
            "simulated" draws losses from a surface.
        path: directory of the prepared corpus, on storage every node sees.
        shares: class -> share of documents, normalised; by default those of the prepared corpus,
            or the paper's base mix. Classes it does not name share the rest of 1 as they do there.
        multipliers: class -> factor on its share before normalising (the paper's mix knob).
        world_seed: which world (facts, templates, topics) the documents describe.
        max_epochs: refuse trials that would see a class of the prepared corpus more often; None
            only warns above `EPOCHS_WARNED`.
        evaluation_documents: held-out documents (sequences of a prepared corpus) scored per
            class, the same in every trial; None: in a sweep as many as keep scoring below 3 % of
            every trial's FLOPs (`sweeper.spec.scoring`), `DOCUMENTS` at most.
        entities: entities of the knowledge world.
        attributes: facts per entity.
        values: distinct values per attribute (6 bits at 64).
        zipf: exponent of the entities' frequency, rank shifted by 8 (natural text is near 1).
        qa_share: share of entities asked about in training; the rest test generalisation.
        grades: hardest grade of the code ladder; programs have 1..grades functions a line.
        ladder: exponent of the grades' frequency, grade^-ladder.
        surface: skill -> parameters E, A, B, alpha, beta of E + A/p^alpha + B/t^beta, for
            "simulated" only.
        noise: standard deviation of a simulated loss between seeds, nats.
        corpus: what the prepared corpus holds; read from ``path``, kept in resolved specs.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    source: Literal["builtin", "prepared", "simulated"] = "builtin"
    path: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    multipliers: dict[str, float] = field(default_factory=dict)
    world_seed: int = 0
    max_epochs: float | None = None
    evaluation_documents: int | None = None
    entities: int = 512
    attributes: int = 4
    values: int = 64
    zipf: float = 1.0
    qa_share: float = 0.8
    grades: int = 6
    ladder: float = 0.5
    surface: dict[str, dict[str, float]] = field(default_factory=dict)
    noise: float = 0.01
    corpus: Corpus | None = None

    def __post_init__(self) -> None:
        require(
            self.source in ("builtin", "prepared", "simulated"),
            f"data.source: {self.source!r} is unknown; use 'builtin', 'prepared' or 'simulated'",
        )
        self._find_corpus()
        self._check_parts()
        object.__setattr__(self, "shares", self._filled_shares())
        require(
            sum(self._weights().values()) > 0,
            "data.shares times data.multipliers leave nothing to train on; "
            "give at least one class a positive share",
        )
        require(
            self.max_epochs is None or self.max_epochs > 0,
            "data.max_epochs must be positive, or left out to be warned only",
        )
        require(
            self.evaluation_documents is None or self.evaluation_documents >= 1,
            "data.evaluation_documents must be at least 1, or left out for as many as are cheap",
        )
        require(2 <= self.entities <= 262144, "data.entities must lie in 2..262144")
        require(1 <= self.attributes <= 8, "data.attributes must lie in 1..8")
        require(2 <= self.values <= 64, "data.values must lie in 2..64")
        require(self.zipf >= 0, "data.zipf must not be negative (0 makes all facts alike)")
        require(
            round(self.qa_share * self.entities) in range(self.entities),
            "data.qa_share must lie in [0, 1) and leave at least one entity held out",
        )
        require(1 <= self.grades <= 6, "data.grades must lie in 1..6")
        require(self.ladder >= 0, "data.ladder must not be negative (0 makes grades alike)")
        require(self.noise >= 0, "data.noise must not be negative")

    def _find_corpus(self) -> None:
        """Read what the prepared corpus holds, unless a resolved spec says it already."""
        prepared = self.source == "prepared"
        require(
            prepared == bool(self.path),
            "data.path: is needed for data.source: prepared, and only there",
        )
        require(
            self.corpus is None or prepared, "data.corpus: only a prepared corpus has one; drop it"
        )
        if prepared:
            object.__setattr__(self, "path", str(Path(self.path).resolve()))
            if self.corpus is None:
                object.__setattr__(self, "corpus", summary(read_manifest(self.path)))

    def _default_shares(self) -> dict[str, float]:
        """The prepared corpus's shares, or the paper's."""
        if self.corpus is None:
            return dict(PAPER_SHARES)
        return {name: entry.share for name, entry in self.corpus.classes.items()}

    @property
    def documents(self) -> int:
        """Held-out documents scored per class."""
        return self.evaluation_documents or DOCUMENTS

    @property
    def classes(self) -> tuple[str, ...]:
        """The document classes there are."""
        return CLASSES if self.corpus is None else tuple(self.corpus.classes)

    def _filled_shares(self) -> dict[str, float]:
        """The shares, what they leave of 1 divided among the classes they do not name."""
        default, named = self._default_shares(), sum(self.shares.values())
        others = {name: share for name, share in default.items() if name not in self.shares}
        if not self.shares:
            return default
        require(
            not others or named <= 1 + 1e-9,
            f"data.shares: {', '.join(self.shares)} add up to {named:g}, which leaves nothing for "
            f"{', '.join(others)}; name every class (0 leaves one out), or move one class by "
            "data.multipliers",
        )
        left = 1 - named
        if not sum(others.values()) or left <= 1e-9:
            return self.shares
        filled = _normalised(others)
        return {n: self.shares.get(n, left * filled.get(n, 0.0)) for n in default}

    def _check_parts(self) -> None:
        """Check that shares and multipliers are numbers of known classes."""
        for name, part in (("shares", self.shares), ("multipliers", self.multipliers)):
            for key, value in part.items():
                require(
                    key in self.classes,
                    f"data.{name}: {key!r} is no document class; use {', '.join(self.classes)}",
                )
                require(
                    math.isfinite(value) and value >= 0,
                    f"data.{name}.{key} must be a number not below 0, got {value}",
                )

    def _weights(self) -> dict[str, float]:
        """Shares times multipliers, not yet normalised."""
        return {c: self.shares.get(c, 0.0) * self.multipliers.get(c, 1.0) for c in self.classes}

    @property
    def mix(self) -> dict[str, float]:
        """Share of training documents per class, after multipliers; sums to 1."""
        return _normalised(self._weights())

    @property
    def token_mix(self) -> dict[str, float]:
        """Share of training tokens per class: the mix, by the mean length of documents."""
        return _normalised(self._in_tokens(self._weights()))

    @property
    def reference_mix(self) -> dict[str, float]:
        """Weight of each class in the validation loss: its tokens without multipliers.

        The aggregate of a mix ablation thus stays comparable between its arms.
        """
        return _normalised(
            self._in_tokens({name: self.shares.get(name, 0.0) for name in self.classes})
        )

    def _in_tokens(self, weights: dict[str, float]) -> dict[str, float]:
        """Weights of documents as weights of tokens; built-in documents are of one length."""
        if self.corpus is None:
            return weights
        counts = self.corpus.classes
        return {name: weight * counts[name].mean_tokens for name, weight in weights.items()}

    def epochs(self, tokens: float) -> dict[str, float]:
        """How often a trial of so many tokens sees each class; empty for generated data."""
        if self.corpus is None:
            return {}
        counts = self.corpus.classes
        return {n: tokens * share / counts[n].tokens for n, share in self.token_mix.items()}

    @property
    def max_tokens(self) -> float:
        """Most tokens a trial may have by ``max_epochs``."""
        most = max(self.epochs(1.0).values(), default=0.0)
        return math.inf if self.max_epochs is None or most == 0 else self.max_epochs / most


def _normalised(weights: dict[str, float]) -> dict[str, float]:
    """Weights that sum to 1."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


RUN_ONLY_DATA = ("path", "max_epochs")
"""Settings of `Data` that decide no loss: a prepared corpus is known by its manifest's hash."""


@dataclass(frozen=True)
class TrialConfig:
    """One training: an allocation (shape, tokens) of a budget, a seed, and what all trials share.

    Attributes:
        shape: the model to train.
        tokens: tokens to train on; realised to the nearest sequence.
        seed: of initial weights and of the order of documents.
        data: what is trained on.
        train: how.
        skills: names to measure; empty for the catalog's defaults.
        flops: budget the allocation was cut from, for the record; 0 if there was none.
        params: parameter count the search asked for, for the record; 0 if there was none.
        halvings: times that memory ran out in earlier attempts; each halves the micro-batch.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    shape: Shape
    tokens: int
    seed: int = 0
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    skills: tuple[str, ...] = ()
    flops: float = 0.0
    params: float = 0.0
    halvings: int = 0

    def __post_init__(self) -> None:
        require(
            self.tokens >= self.shape.context,
            f"trial.tokens: {self.tokens} is less than one sequence of {self.shape.context}; "
            "raise the budget or lower the size",
        )
        require(self.seed >= 0, "trial.seed must not be negative")
        if self.data.corpus is not None:
            self.data.corpus.check_vocabulary(self.shape.vocabulary)
        require(
            self.train.rule != "width"
            or self.train.law.batch is not None
            or self.train.batch_tokens >= self.shape.context,
            f"train.batch_tokens: {self.train.batch_tokens} is less than one sequence of "
            f"{self.shape.context}; raise it or lower model.context",
        )

    def to_dict(self) -> dict[str, Any]:
        """The config as nested dicts that JSON can carry."""
        return {**asdict(self), "skills": list(self.skills)}

    def identity(self) -> dict[str, Any]:
        """What decides the outcome: the config without `RUN_ONLY` settings."""
        values = self.to_dict()
        for name in RUN_ONLY:
            del values["train"][name]
        del values["halvings"]
        for name in RUN_ONLY_DATA:
            del values["data"][name]
        return values

    @property
    def recipe(self) -> Recipe:
        """Peak rate, batch, beta2, warm-up and steps of this training."""
        return recipe(self.train, self.shape, self.tokens)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrialConfig:
        """Rebuild a config from `to_dict`'s output.

        Raises:
            ValueError: an unknown key, a wrong type, or a value outside its domain.
        """
        from pydantic import TypeAdapter  # kept out of import time, which planning pays

        return TypeAdapter(cls).validate_python(values)
