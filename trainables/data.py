"""What is trained on: classes of documents, their shares, and where they come from.

Each source is a class of its own. `Data(source="prepared", ...)`, and ``data: {source: ...}`` in a
spec, make one of the class that the source names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from trainables.families.checks import did_you_mean, fill, require
from trainables.manifest import Corpus, ShareOf, read_manifest, summary

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

RUN_ONLY_DATA = ("path", "max_epochs")
"""Settings that decide no loss: a prepared corpus is known by its manifest's hash."""


def decisive(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of the data, as plain values, decides a loss.

    ``share_of: documents`` is left out, as it is what specs and corpora without the field meant,
    and the number of target tokens, which older ones do not say.
    """
    kept = {name: value for name, value in data.items() if name not in RUN_ONLY_DATA}
    if kept.get("share_of") == "documents":
        del kept["share_of"]
    if kept.get("corpus"):
        corpus = {name: value for name, value in kept["corpus"].items() if name != "share_of"}
        corpus["skills"] = {
            skill: {name: value for name, value in entry.items() if name != "target_tokens"}
            for skill, entry in corpus["skills"].items()
        }
        kept["corpus"] = corpus
    return kept


@dataclass(frozen=True, init=False)
class Data:
    """What every source has: classes of documents and their shares.

    Attributes:
        source: "builtin" generates documents; "prepared" reads what `isoskill prepare` wrote;
            "simulated" draws losses from a surface; "own" is what a trainer of the user's brings.
        shares: class -> share of training, normalised; by default those of the prepared corpus,
            or the paper's base mix. Classes it does not name share the rest of 1 as they do there.
            A prepared corpus says whether shares count tokens or documents; generated documents
            are of one length.
        multipliers: class -> factor on its share before normalising (the paper's mix knob).
        world_seed: which world (facts, templates, topics) the documents describe, and the order
            of a prepared corpus.
        evaluation_documents: held-out documents (sequences of a prepared corpus) scored per
            class, the same in every trial; None: in a sweep as many as keep scoring below 3 % of
            every trial's FLOPs (`sweeper.spec.scoring`), `DOCUMENTS` at most.
    """

    source: str = "builtin"
    shares: dict[str, float] = field(default_factory=dict)
    multipliers: dict[str, float] = field(default_factory=dict)
    world_seed: int = 0
    evaluation_documents: int | None = None

    def __new__(cls, *, source: str = "builtin", **values: Any) -> Data:
        """Make one of the class that the source names."""
        return object.__new__(_of(source) if cls is Data else cls)

    def __post_init__(self) -> None:
        self._check_parts()
        fill(self, shares=self._filled_shares())
        require(
            sum(self._weights().values()) > 0,
            "data.shares times data.multipliers leave nothing to train on; "
            "give at least one class a positive share",
        )
        require(
            self.evaluation_documents is None or self.evaluation_documents >= 1,
            "data.evaluation_documents must be at least 1, or left out for as many as are cheap",
        )

    @property
    def corpus(self) -> Corpus | None:
        """What the prepared corpus holds; None for other sources."""
        return None

    @property
    def documents(self) -> int:
        """Held-out documents scored per class."""
        return self.evaluation_documents or DOCUMENTS

    @property
    def _default_shares(self) -> dict[str, float]:
        return PAPER_SHARES

    @property
    def classes(self) -> tuple[str, ...]:
        """The document classes there are."""
        return tuple(self._default_shares)

    def _filled_shares(self) -> dict[str, float]:
        """The shares, what they leave of 1 divided among the classes they do not name."""
        default, named = self._default_shares, sum(self.shares.values())
        others = {name: share for name, share in default.items() if name not in self.shares}
        if not self.shares:
            return dict(default)
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
        return _normalised(self._counted(self._weights(), "documents"))

    @property
    def token_mix(self) -> dict[str, float]:
        """Share of training tokens per class, after multipliers; sums to 1."""
        return _normalised(self._counted(self._weights(), "tokens"))

    @property
    def reference_mix(self) -> dict[str, float]:
        """Weight of each class in the validation loss: its tokens without multipliers.

        The aggregate of a mix ablation thus stays comparable between its arms.
        """
        weights = {name: self.shares.get(name, 0.0) for name in self.classes}
        return _normalised(self._counted(weights, "tokens"))

    def _counted(self, weights: dict[str, float], unit: ShareOf) -> dict[str, float]:
        """Weights as weights of tokens or documents; built-in documents are of one length."""
        return weights

    def epochs(self, tokens: float) -> dict[str, float]:
        """How often a trial of this many tokens sees each class; empty for generated data."""
        return {}

    @property
    def max_tokens(self) -> float:
        """Most tokens a trial may have by ``max_epochs``."""
        return math.inf

    @classmethod
    def __get_pydantic_core_schema__(cls, kind: Any, handler: Any) -> Any:
        """Let a spec's section become the class that its source names."""
        if cls is not Data:
            return handler(kind)
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(_read)


@dataclass(frozen=True, kw_only=True)
class BuiltIn(Data):
    """Documents generated on the fly: see `trainables.corpora`.

    Attributes:
        entities: entities of the knowledge world.
        attributes: facts per entity.
        values: distinct values per attribute (6 bits at 64).
        zipf: exponent of the entities' frequency, rank shifted by 8 (natural text is near 1).
        qa_share: share of entities asked about in training; the rest test generalisation.
        grades: hardest grade of the code ladder; programs have 1..grades functions a line.
        ladder: exponent of the grades' frequency, grade^-ladder.
    """

    source: Literal["builtin"] = "builtin"
    entities: int = 512
    attributes: int = 4
    values: int = 64
    zipf: float = 1.0
    qa_share: float = 0.8
    grades: int = 6
    ladder: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
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


@dataclass(frozen=True, kw_only=True)
class Prepared(Data):
    """Documents that `isoskill prepare` tokenised and packed.

    Attributes:
        path: directory of the prepared corpus, on storage every node sees.
        max_epochs: refuse trials that would see a class more often; None only warns above
            `EPOCHS_WARNED`.
        share_of: what shares count, "tokens" or "documents"; None for what the corpus says.
        corpus: what it holds; read from ``path``, kept in resolved specs.
    """

    source: Literal["prepared"] = "prepared"
    path: str = ""
    max_epochs: float | None = None
    share_of: ShareOf | None = None
    corpus: Corpus | None = None

    def __post_init__(self) -> None:
        require(bool(self.path), "data.path: is needed for data.source: prepared")
        require(
            self.max_epochs is None or self.max_epochs > 0,
            "data.max_epochs must be positive, or left out to be warned only",
        )
        fill(self, path=str(Path(self.path).resolve()))
        fill(self, corpus=self.corpus or summary(read_manifest(self.path)))
        fill(self, share_of=self.share_of or self.packed.share_of)
        super().__post_init__()

    @property
    def packed(self) -> Corpus:
        """What the corpus holds, read by now."""
        assert self.corpus is not None
        return self.corpus

    @property
    def _default_shares(self) -> dict[str, float]:
        shares = {name: entry.share for name, entry in self.packed.classes.items()}
        return self._converted(shares, self.packed.share_of, self.share_of)

    def _counted(self, weights: dict[str, float], unit: ShareOf) -> dict[str, float]:
        """Weights, in what the shares count, as weights of tokens or documents."""
        return self._converted(weights, self.share_of, unit)

    def _converted(
        self, weights: dict[str, float], have: ShareOf | None, want: ShareOf | None
    ) -> dict[str, float]:
        """Weights of documents as those of tokens or the reverse, by documents' mean length."""
        if have == want:
            return weights
        power = 1 if want == "tokens" else -1
        counts = self.packed.classes
        return {n: weight * counts[n].mean_tokens ** power for n, weight in weights.items()}

    def epochs(self, tokens: float) -> dict[str, float]:
        """How often a trial of this many tokens sees each class."""
        counts = self.packed.classes
        return {n: tokens * share / counts[n].tokens for n, share in self.token_mix.items()}

    @property
    def max_tokens(self) -> float:
        """Most tokens a trial may have by ``max_epochs``."""
        return (
            math.inf
            if self.max_epochs is None
            else self.max_epochs / max(self.epochs(1.0).values())
        )


@dataclass(frozen=True, kw_only=True)
class Simulated(Data):
    """Losses drawn from surfaces, nothing trained: see `trainables.simulated`.

    Attributes:
        surface: skill -> parameters E, A, B, alpha, beta of E + A/p^alpha + B/t^beta.
        noise: standard deviation of a loss between seeds, nats.
    """

    source: Literal["simulated"] = "simulated"
    surface: dict[str, dict[str, float]] = field(default_factory=dict)
    noise: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.noise >= 0, "data.noise must not be negative")


@dataclass(frozen=True, kw_only=True)
class Own(Data):
    """Documents that a trainer of the user's brings: their classes are those of ``shares``."""

    source: Literal["own"] = "own"

    @property
    def _default_shares(self) -> dict[str, float]:
        return self.shares or {"all": 1.0}


SOURCES: dict[str, type[Data]] = {
    "builtin": BuiltIn, "prepared": Prepared, "simulated": Simulated, "own": Own,
}  # fmt: skip
"""The classes by the name of their source."""


def _of(source: object) -> type[Data]:
    """The class of a source."""
    known = " or ".join(map(repr, SOURCES))
    require(source in SOURCES, f"data.source: {source!r} is unknown; use {known}")
    return SOURCES[str(source)]


def _read(values: object) -> Data:
    """The section of a spec, or data as they are.

    A field of another source at its default is passed over: specs resolved before the sources
    were split hold them all.
    """
    from pydantic import TypeAdapter  # kept out of import time, which planning pays

    if isinstance(values, Data):
        return values
    if not isinstance(values, Mapping):
        raise ValueError(f"data: write a section, such as {{key: value}}, got {values!r}")
    kind = _of(values.get("source", "builtin"))
    known = [entry.name for entry in fields(kind)]
    own = {name: value for name, value in values.items() if name in known}
    for name in values.keys() - own.keys():
        there = {s: f for s, k in SOURCES.items() for f in fields(k) if f.name == name}
        require(
            bool(there),
            f"data.{name}: unknown key{did_you_mean(str(name), known)}; known: {', '.join(known)}",
        )
        source, entry = next(iter(there.items()))
        usual = entry.default if entry.default_factory is MISSING else entry.default_factory()
        empty = values[name] == usual
        require(empty, f"data.{name}: only data.source: {source} has it; leave it out")
    return TypeAdapter(kind).validate_python(own)


def _normalised(weights: dict[str, float]) -> dict[str, float]:
    """Weights that sum to 1."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
