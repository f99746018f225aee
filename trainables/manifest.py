"""What a prepared directory says of itself. Pure Python: planning reads it.

A directory made by `isoskill prepare`:

corpora/a/
├── manifest.json            classes, counts, hashes, contamination
├── tokenizer/               as transformers saves it
├── token_bytes.bin          bytes of text each token stands for, uint16
├── shards/<class>/*.bin     token ids of training documents, each ended by the begin token
├── validation/<class>.bin   the same of held-out documents, in an order without meaning
└── skills/<name>.npz        encoded benchmarks
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

FILE = "manifest.json"
TOKEN_BYTES = "token_bytes.bin"
FORMAT = 1
"""Raised when a directory prepared earlier could not be read any more."""

ShareOf = Literal["tokens", "documents"]
"""What shares of classes count."""

PADDING = 128
"""A model's vocabulary may be the corpus's rounded up to a multiple of this: matrix products
like round sizes (Megatron-LM pads to 128)."""


class CorpusError(ValueError):
    """A prepared corpus is not there, or not what it was; a sweep ends, and no trial fails."""


@dataclass(frozen=True)
class ClassCounts:
    """One document class of a prepared corpus.

    Attributes:
        share: share of training its spec asks for, not normalised.
        documents: training documents.
        tokens: training tokens, with a begin token for each document.
        validation_tokens: held-out tokens.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    share: float
    documents: int
    tokens: int
    validation_tokens: int

    @property
    def mean_tokens(self) -> float:
        """Tokens of an average document."""
        return self.tokens / self.documents


@dataclass(frozen=True)
class SkillCounts:
    """One encoded benchmark of a prepared corpus.

    Attributes:
        skill_class: document class or family it belongs to.
        examples: how many.
        tokens: of all their sequences, contexts and targets.
        target_tokens: of the targets; 0 where an older spec does not say.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    skill_class: str
    examples: int
    tokens: int
    target_tokens: int = 0


@dataclass(frozen=True)
class Corpus:
    """What a spec needs to know of a prepared corpus; resolved specs keep it.

    Attributes:
        manifest: hash of all that decides a loss: shards, tokenizer, held-out documents, skills.
        vocabulary: tokens of its tokenizer.
        begin: the token that stands before every sequence and ends every document.
        text: as ``manifest``, without the skills: what training alone depends on.
        share_of: what the classes' shares count; documents where nothing is said, as in corpora
            prepared before there was a choice.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    manifest: str
    vocabulary: int
    begin: int
    classes: dict[str, ClassCounts]
    skills: dict[str, SkillCounts]
    text: str = ""
    share_of: ShareOf = "documents"

    def check_vocabulary(self, size: int) -> None:
        """Refuse a model whose vocabulary is not the corpus's.

        Raises:
            ValueError: names both, and what to write.
        """
        padded = -(-self.vocabulary // PADDING) * PADDING
        if not self.vocabulary <= size <= padded:
            raise ValueError(
                f"model.vocabulary: {size}, but the corpus was prepared with a tokenizer of "
                f"{self.vocabulary} tokens; set model.vocabulary: {padded}"
            )

    def check_context(self, context: int) -> None:
        """Refuse sequences longer than a class's training or held-out text.

        Raises:
            ValueError: names the class and what to do.
        """
        for name, entry in self.classes.items():
            for tokens, what in (
                (entry.tokens, "training"),
                (entry.validation_tokens, "held-out"),
            ):
                if tokens < context:
                    raise ValueError(
                        f"model.context: class {name!r} has {tokens} {what} tokens, less than one "
                        f"sequence of {context}; lower model.context, or prepare more documents"
                        + (" or a larger share of validation" if what == "held-out" else "")
                    )


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Read a prepared directory's manifest.

    Raises:
        CorpusError: there is none, it cannot be read, or another version wrote it.
    """
    path = Path(directory) / FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        begun = Path(directory, "shards").is_dir()
        how = "run the same `isoskill prepare` again to finish it" if begun else (
            "`isoskill prepare corpora.yaml DIRECTORY` makes one"
        )  # fmt: skip
        raise CorpusError(
            f"data.path: {directory} holds no {'finished' if begun else 'prepared'} corpus "
            f"({FILE} is missing); {how}"
        ) from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"data.path: {path} cannot be read: {error}") from error
    if manifest.get("format") != FORMAT:
        raise CorpusError(
            f"data.path: {path} has format {manifest.get('format')!r}, this version reads "
            f"{FORMAT}; prepare the corpus again"
        )
    return dict(manifest)


def read_unchanged(directory: str | Path, corpus: Corpus) -> dict[str, Any]:
    """Read the manifest of a corpus that a spec was resolved with.

    Raises:
        CorpusError: it is gone, or another corpus lies there now.
    """
    manifest = read_manifest(directory)
    if identity(manifest) != corpus.manifest:
        raise CorpusError(
            f"data.path: the corpus in {directory} has changed since this sweep began (manifest "
            f"{identity(manifest)}, was {corpus.manifest}); restore it, or start another sweep"
        )
    return manifest


def summary(manifest: dict[str, Any]) -> Corpus:
    """What a spec keeps of a manifest."""
    return Corpus(
        manifest=identity(manifest),
        vocabulary=manifest["tokenizer"]["vocabulary"],
        begin=manifest["tokenizer"]["begin"],
        classes={
            name: ClassCounts(
                share=entry["share"],
                documents=entry["documents"],
                tokens=entry["tokens"],
                validation_tokens=entry["validation"]["tokens"],
            )
            for name, entry in manifest["classes"].items()
        },
        skills={
            name: SkillCounts(
                entry["class"], entry["examples"], entry["tokens"], entry.get("target_tokens", 0)
            )
            for name, entry in manifest["skills"].items()
        },
        text=identity({**manifest, "skills": {}}),
        share_of=manifest.get("share_of", "documents"),
    )


def identity(manifest: dict[str, Any]) -> str:
    """Hash of what decides a loss; dates, shares and speeds do not."""
    decisive = {
        "tokenizer": manifest["tokenizer"]["sha256"],
        "classes": {
            name: [[shard["sha256"] for shard in entry["shards"]], entry["validation"]["sha256"]]
            for name, entry in manifest["classes"].items()
        },
        "skills": {name: entry["sha256"] for name, entry in manifest["skills"].items()},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
