"""Examples as tokens: context and targets in, what a model is scored on out. No torch.

Context and target are tokenised together, as the model meets them in training; tokenised apart,
merges across the border would burden short answers. A token belongs to the target if it holds
the target's first character or a later one, so a token across the border counts as target. Bytes
are those of the target's text alone.

An example may have several right answers. What is scored is the probability that the model's
continuation begins with one of them: answers that begin with another are left out, after which
the events exclude each other and their probabilities add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IntArray = npt.NDArray[np.int64]

BATCH = 1000
"""Texts tokenised at a time: the tokenizer runs them on all cores (assumption)."""


@dataclass(frozen=True)
class Example:
    """One question, program or sentence to complete.

    Attributes:
        targets: the right continuations, the usual one first.

    Raises:
        ValueError: there is no target, one is empty, or a text is not valid Unicode.
    """

    context: str
    targets: tuple[str, ...]
    id: str

    def __post_init__(self) -> None:
        if not self.targets or not all(self.targets):
            raise ValueError(f"example {self.id!r} has no target text to score")
        try:
            "".join((self.context, *self.targets)).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"example {self.id!r} is not valid Unicode: {error}") from None

    @property
    def answers(self) -> tuple[str, ...]:
        """The targets of which none begins with another, in the order given."""
        distinct = dict.fromkeys(self.targets)
        return tuple(t for t in distinct if not any(t != o and t.startswith(o) for o in distinct))


@dataclass(frozen=True)
class Encoded:
    """A skill's examples as token sequences, one for each right answer.

    Attributes:
        tokens: all sequences, one after the other.
        offsets: sequence s is ``tokens[offsets[s]:offsets[s + 1]]``; (sequences + 1,).
        start: where the target begins within each sequence, (sequences,).
        example: which example each sequence belongs to, ascending, (sequences,).
        target_bytes: UTF-8 bytes of each target's text, (sequences,).
        ids: names of the examples, (examples,); an index of ``example`` points here.
        truncated: sequences whose context lost tokens at its beginning.
        left_out: examples left out since no target fits the context, or leaves no token.
    """

    tokens: IntArray
    offsets: IntArray
    start: IntArray
    example: IntArray
    target_bytes: IntArray
    ids: tuple[str, ...]
    truncated: int = 0
    left_out: int = 0

    @property
    def lengths(self) -> IntArray:
        """Tokens of each sequence."""
        return np.diff(self.offsets)

    @property
    def target_tokens(self) -> IntArray:
        """Tokens of each sequence's target."""
        return self.lengths - self.start

    def within(self, context: int) -> Encoded:
        """The sequences that fit a context length.

        Longer ones lose tokens at the beginning of their context, never of their target. A
        target that does not fit by itself, or that the tokenizer dropped, is left out; an
        example that has no target left is counted in ``left_out``.
        """
        sizes = self.target_tokens
        kept = np.flatnonzero((sizes <= context) & (sizes > 0))
        cut = np.maximum(self.lengths[kept] - context, 0)
        lengths = self.lengths[kept] - cut
        first = self.offsets[kept] + cut
        rows = np.unique(self.example[kept])
        return Encoded(
            tokens=self.tokens[_ranges(first, lengths)],
            offsets=np.concatenate(([0], np.cumsum(lengths))),
            start=self.start[kept] - cut,
            example=np.searchsorted(rows, self.example[kept]),
            target_bytes=self.target_bytes[kept],
            ids=tuple(self.ids[row] for row in rows),
            truncated=self.truncated + int((cut > 0).sum()),
            left_out=self.left_out + len(self.ids) - len(rows),
        )

    def save(self, path: str | Path) -> None:
        """Write as one npz file, without pickles."""
        np.savez_compressed(
            path, tokens=self.tokens.astype(np.uint32), offsets=self.offsets, start=self.start,
            example=self.example, target_bytes=self.target_bytes,
            ids=np.frombuffer("\0".join(self.ids).encode(), dtype=np.uint8),
            counts=np.array([self.truncated, self.left_out]),
        )  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> Encoded:
        """Read what `save` wrote.

        Raises:
            ValueError: the file holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                parts: dict[str, Any] = {name: file[name] for name in file.files}
            text = parts.pop("ids").tobytes().decode()
            truncated, left_out = (int(count) for count in parts.pop("counts"))
            arrays = {name: part.astype(np.int64) for name, part in parts.items()}
            ids = tuple(text.split("\0")) if arrays["example"].size else ()
            return cls(**arrays, ids=ids, truncated=truncated, left_out=left_out)
        except (KeyError, TypeError, ValueError, OSError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} does not hold encoded examples ({error})") from error


def encode(examples: Sequence[Example], tokenizer: Any, *, context: int) -> Encoded:
    """Tokenise examples for scoring.

    Args:
        tokenizer: of the tokenizers library, or a fast one of transformers; its settings for
            padding, truncation and special tokens play no part.

    Returns:
        Sequences in the order of the examples, with what was shortened or left out.

    Raises:
        ValueError: the tokenizer gives no character offsets (a slow one).
    """
    plain = _plain(tokenizer)
    texts = [(row, e.context, t) for row, e in enumerate(examples) for t in e.answers]
    parts = list(_tokenised(plain, [(before, target) for _, before, target in texts]))
    whole = Encoded(
        tokens=np.array([token for tokens, _ in parts for token in tokens], dtype=np.int64),
        offsets=np.cumsum([0, *(len(tokens) for tokens, _ in parts)]),
        start=np.array([start for _, start in parts], dtype=np.int64),
        example=np.array([row for row, _, _ in texts], dtype=np.int64),
        target_bytes=np.array([len(t.encode()) for _, _, t in texts], dtype=np.int64),
        ids=tuple(example.id for example in examples),
    )
    return whole.within(context)


def _plain(tokenizer: Any) -> Tokenizer:
    """A copy that adds nothing, cuts nothing, and whose offsets cover every character."""
    from tokenizers import Tokenizer  # heavy

    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, Tokenizer):
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets; use a fast tokenizer "
            "(one with a tokenizer.json)"
        )
    plain = Tokenizer.from_str(backend.to_str())
    plain.no_padding()
    plain.no_truncation()
    # Byte-level post-processors trim blanks off the offsets: a target's first could be lost.
    plain.post_processor = None
    plain.encode_special_tokens = True  # a text that spells one is text, as in the shards
    return plain


def _tokenised(
    tokenizer: Tokenizer, texts: Sequence[tuple[str, str]]
) -> Iterator[tuple[list[int], int]]:
    """Token ids of each (context, target), and the index of the target's first token."""
    for first in range(0, len(texts), BATCH):
        batch = texts[first : first + BATCH]
        joined = [before + target for before, target in batch]
        found = tokenizer.encode_batch(joined, add_special_tokens=False)
        for (before, _), encoding in zip(batch, found, strict=True):
            border = len(before)
            start = (i for i, (_, end) in enumerate(encoding.offsets) if end > border)
            # Without a context even a token of no width, as some put in front, is the target's.
            yield encoding.ids, next(start, len(encoding.ids)) if before else 0


def _ranges(first: IntArray, lengths: IntArray) -> IntArray:
    """Indices first[0], first[0] + 1, ... for lengths[0] places, then those of the next."""
    shift = np.repeat(first - np.cumsum(lengths) + lengths, lengths)
    return np.arange(len(shift)) + shift
