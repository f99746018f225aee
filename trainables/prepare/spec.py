"""What a corpus is prepared from. Pure Python, refuses unknown keys through pydantic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trainables.families.checks import Strict, fill, require
from trainables.manifest import ShareOf
from trainables.skills.benchmarks import LIMIT


class PrepareError(ValueError):
    """A corpus cannot be prepared: names the field or file, and the remedy."""


def _is_codec(name: str) -> bool:
    try:
        return "a".encode(name).decode(name) == "a"
    except (LookupError, UnicodeError):
        return False


@dataclass(frozen=True)
class Source(Strict):
    """Documents of one origin; give ``hub`` or ``files``.

    Attributes:
        hub: a Hugging Face dataset's id, or the directory of one.
        config: its configuration, where it has several.
        split: its split.
        revision: its git revision; pin it to prepare the same again.
        files: local files by glob; parquet, CSV and JSON lines (the last two also
            compressed) give a document per row, any other file is one document.
        text: the column that holds the text; meta.text for a field within one.
        where: keeps the rows whose columns have these values, such as {language: Python}.
        limit: most documents to take, spread evenly over a large source's files; None for all.
        encoding: of text files, CSV and JSON lines: a Python codec's name.
    """

    hub: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    files: tuple[str, ...] = ()
    text: str = "text"
    where: dict[str, str | int | bool] = field(default_factory=dict)
    limit: int | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        fill(self, files=tuple(self.files))
        require(
            _is_codec(self.encoding),
            f"classes.*.sources.encoding: {self.encoding!r} is unknown; utf-8, latin-1, cp1252, "
            "utf-16 and shift_jis are some that Python knows",
        )
        require(
            (self.hub is None) != (not self.files),
            "classes.*.sources: each source needs either hub: ID or files: GLOB",
        )
        require(self.limit is None or self.limit > 0, "classes.*.sources.limit must be at least 1")

    def __str__(self) -> str:
        """How messages call it."""
        return self.hub if self.hub is not None else ", ".join(self.files)


@dataclass(frozen=True)
class DocumentClass(Strict):
    """One class of documents.

    Attributes:
        sources: where they come from.
        share: share of training, normalised over classes (of its tokens, unless the corpus's
            ``share_of`` says documents); None in all classes means what there is of each.
    """

    sources: tuple[Source, ...]
    share: float | None = None

    def __post_init__(self) -> None:
        fill(self, sources=tuple(self.sources))
        require(bool(self.sources), "classes.*.sources: give at least one source")
        require(
            self.share is None or (math.isfinite(self.share) and self.share >= 0),
            f"classes.*.share must be a number not below 0, got {self.share}",
        )


@dataclass(frozen=True)
class Tokenizer(Strict):
    """The tokenizer: a ready one, or one to train.

    Attributes:
        source: a Hub id, a directory, or a tokenizer.json; None trains one.
        train: "bpe": byte-level BPE, the only kind trained.
        vocabulary: tokens to train.
        sample_bytes: text to train on, taken evenly from all sources. 50 MB are plenty for some
            ten thousand tokens (assumption).
        begin: the token before sequences and after documents; None for the tokenizer's own
            begin- or end-of-text token.
    """

    source: str | None = None
    train: str | None = None
    vocabulary: int = 8192
    sample_bytes: int = 50_000_000
    begin: str | None = None

    def __post_init__(self) -> None:
        require(
            (self.source is None) != (self.train is None),
            "tokenizer: name one (a Hub id, a directory or a tokenizer.json), or write "
            "tokenizer: {train: bpe, vocabulary: 8192}",
        )
        require(
            self.train in (None, "bpe"), f"tokenizer.train: {self.train!r} is unknown; use 'bpe'"
        )
        require(
            257 <= self.vocabulary <= 2**20,
            "tokenizer.vocabulary must lie in 257 (bytes and one more) .. 1048576",
        )
        require(self.sample_bytes > 0, "tokenizer.sample_bytes must be positive")


@dataclass(frozen=True)
class SkillSource(Strict):
    """Held-out examples to encode beside the shards, in lm-evaluation-harness's words.

    Attributes:
        name: of the skill. One of the paper's nineteen benchmarks needs no more.
        path: JSON lines or parquet with a context and a target a row; or, for one of the
            nineteen, a local copy of its dataset.
        lm_eval: a task of lm-evaluation-harness to borrow (extra ``evals``), instead of a dataset.
        include_path: directory with own task files for it.
        dataset_path: a dataset of the hub.
        dataset_name: its configuration, where it has several.
        test_split: its split; slices such as ``train[-1000:]`` are allowed.
        doc_to_text: the context: a column's name, or a Jinja template over the columns.
        doc_to_target: the right answer, or a list of them, the usual one first; with ``lm_eval``
            in place of the task's own target.
        target_delimiter: stands between the two.
        skill_class: document class or family the skill belongs to (``class`` in YAML).
        limit: most examples to encode, a random sample; None for all.
    """

    name: str
    path: str | None = None
    lm_eval: str | None = None
    include_path: str | None = None
    dataset_path: str | None = None
    dataset_name: str | None = None
    test_split: str = "test"
    doc_to_text: str = "context"
    doc_to_target: str | None = None
    target_delimiter: str = ""
    skill_class: str | None = None
    limit: int | None = LIMIT

    def __post_init__(self) -> None:
        safe = self.name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        require(safe, f"skills: {self.name!r}: a name has letters, digits, '-', '_' and '.' only")
        require(
            self.name != "validation",
            "skills: 'validation' is the loss on all held-out documents; choose another name",
        )
        given = [n for n in ("path", "lm_eval", "dataset_path") if getattr(self, n) is not None]
        require(len(given) <= 1, f"skills.{self.name}: give only one of {' and '.join(given)}")
        require(
            self.limit is None or self.limit > 0, f"skills.{self.name}.limit must be at least 1"
        )


@dataclass(frozen=True)
class Corpora(Strict):
    """What a corpus is prepared from.

    Attributes:
        classes: document classes by name.
        tokenizer: see `Tokenizer`; a plain string is its ``source``.
        name: for people.
        share_of: what shares count: "tokens", or "documents", as in the paper's mixes.
        validation: share of documents held out, by a hash of their text: the same text is never
            on both sides, whichever class it is in.
        seed: of that hash.
        shard_tokens: tokens of a training file; what a kill loses at most, per process.
        skills: benchmarks to encode; a plain string is a catalog's name.
        ngram: tokens in a row that count as the same text when benchmarks and held-out documents
            are looked for in the shards. 13 as in GPT-3 (Brown et al. 2020, appendix C), there
            of words.
    """

    classes: dict[str, DocumentClass]
    tokenizer: Tokenizer
    name: str = "corpus"
    share_of: ShareOf = "tokens"
    validation: float = 0.01
    seed: int = 0
    shard_tokens: int = 2**26
    skills: tuple[SkillSource, ...] = ()
    ngram: int = 13

    def __post_init__(self) -> None:
        fill(self, skills=tuple(self.skills))
        require(bool(self.classes), "classes: give at least one")
        for name in self.classes:
            require(
                name.replace("-", "").replace("_", "").isalnum(),
                f"classes: {name!r}: a class's name has letters, digits, '-' and '_' only",
            )
        given = [entry.share is not None for entry in self.classes.values()]
        require(
            all(given) or not any(given),
            "classes: give every class a share, or none (then each counts by what there is of it)",
        )
        require(
            not any(given) or sum(entry.share or 0.0 for entry in self.classes.values()) > 0,
            "classes: at least one share must be positive",
        )
        require(0 < self.validation < 1, "validation must lie between 0 and 1; 0.01 is usual")
        require(self.shard_tokens >= 1, "shard_tokens must be at least 1")
        require(self.ngram >= 2, "ngram must be at least 2; 13 is usual")
        names = [skill.name for skill in self.skills]
        require(len(names) == len(set(names)), f"skills: two have the same name: {names}")

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the shards: shares, skills and the check may change afterwards."""
        values = asdict(self)
        for key in ("name", "share_of", "skills", "ngram"):
            del values[key]
        for entry in values["classes"].values():
            del entry["share"]
        return values


def spelled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with its short forms written in full, for validation.

    A tokenizer or skill that is a string, ``files`` that is one glob, and ``class`` of a skill.
    """
    out = dict(values)
    if isinstance(out.get("tokenizer"), str):
        out["tokenizer"] = {"source": out["tokenizer"]}
    if isinstance(out.get("skills"), list):
        out["skills"] = [_skill(skill) for skill in out["skills"]]
    if isinstance(out.get("classes"), dict):
        out["classes"] = {name: _class(entry) for name, entry in out["classes"].items()}
    return out


def _skill(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "class" in value:
        return {("skill_class" if key == "class" else key): v for key, v in value.items()}
    return value


def _class(value: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("sources"), list):
        return value
    return {**value, "sources": [_source(source) for source in value["sources"]]}


def _source(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("files"), str):
        return {**value, "files": [value["files"]]}
    return value
