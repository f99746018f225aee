"""The tokenizer of a corpus: loaded or trained, and kept beside the shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.manifest import TOKEN_BYTES
from trainables.prepare.files import write_bytes
from trainables.prepare.spec import PrepareError
from trainables.prepare.spec import Tokenizer as TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
"""Begin token of trained tokenizers (GPT-2's name)."""

USUAL = (END_OF_TEXT, "<|begin_of_text|>", "<s>", "<bos>", "</s>", "<eos>", "[CLS]")
"""Begin tokens looked for in a bare tokenizer.json, which does not say which is which."""

DIRECTORY = "tokenizer"

LOOKED_AT_BYTES = 2**20
"""Of the sample, for what a tokenizer does not know (assumption: a tenth of a second's work)."""

MOST_UNKNOWN = 0.001
"""Share of unknown tokens from which a text counts as lost in part (assumption)."""

LEARNED_CHARACTERS = 2**12
"""Of the pieces a tokenizer learns from: the time of learning grows with the square of a word,
and an unbroken line is one word (assumption: longer than any that is worth learning from)."""


def make_tokenizer(
    spec: TokenizerSpec, sample: Iterable[str], root: Path, say: Callable[[str], None]
) -> None:
    """Load or train the tokenizer and keep it, with the bytes of its tokens.

    Raises:
        PrepareError: it cannot be found, is a slow one, has no begin token, or cannot encode the
            sample.
    """
    tokenizer = _trained(spec, sample) if spec.source is None else _loaded(spec.source)
    tokenizer.bos_token = _begin(spec, tokenizer)
    tokenizer.save_pretrained(root / DIRECTORY)
    if spec.source is not None:
        lost = _unknown(open_tokenizer(root), sample)
        if lost > MOST_UNKNOWN:
            say(
                f"note: {100 * lost:.1f} % of the tokens are the one for what {spec.source} does "
                "not know: that text is lost. Take a byte-level tokenizer, or train one: "
                "{train: bpe, vocabulary: 8192}"
            )
    # Last, and at once: where this file is, the tokenizer is whole.
    write_bytes(root / TOKEN_BYTES, _token_bytes(tokenizer).astype("<u2").tobytes())


def _unknown(tokenizer: Tokenizer, sample: Iterable[str]) -> float:
    """The share of a text's tokens that stand for what a tokenizer does not know."""
    model = json.loads(tokenizer.to_str())["model"]
    unknown = model.get("unk_id")  # a unigram model's; others name the token
    if unknown is None:
        unknown = tokenizer.token_to_id(model.get("unk_token") or "")
    found, all_tokens = 0, 0
    try:
        for text in _capped(sample, LOOKED_AT_BYTES):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            found, all_tokens = found + ids.count(unknown), all_tokens + len(ids)
    except Exception as error:  # the library's own, of no narrower class
        raise PrepareError(
            f"tokenizer: it cannot encode the text ({error}); take another, or train one: "
            "{train: bpe, vocabulary: 8192}"
        ) from error
    return found / max(all_tokens, 1)


def pieces(text: str, most: int) -> Iterator[str]:
    """A text in pieces of at most ``most`` characters, cut at a blank where there is one."""
    first = 0
    while len(text) - first > most:
        cut = max(text.rfind(blank, first + 1, first + most) for blank in (" ", "\n"))
        cut = cut if cut > 0 else first + most
        yield text[first:cut]
        first = cut
    yield text[first:]


def open_tokenizer(root: Path) -> Tokenizer:
    """The tokenizer of a prepared directory; it cuts, pads and adds nothing.

    Text that spells a special token is encoded as text: a document cannot end another.
    """
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(str(root / DIRECTORY / "tokenizer.json"))
    plain.no_padding()
    plain.no_truncation()
    plain.encode_special_tokens = True
    return plain


def begin_token(root: Path) -> int:
    """The token before sequences and after documents, of a prepared directory."""
    config = json.loads((root / DIRECTORY / "tokenizer_config.json").read_text(encoding="utf-8"))
    token = config["bos_token"]
    index = open_tokenizer(root).token_to_id(token if isinstance(token, str) else token["content"])
    if index is None:
        raise PrepareError(f"{root / DIRECTORY}: its bos_token is not in its vocabulary")
    return int(index)


def vocabulary_size(root: Path) -> int:
    """Rows an embedding needs, of a prepared directory."""
    return (root / TOKEN_BYTES).stat().st_size // 2


def _loaded(source: str) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    bare = source.endswith(".json")
    if bare and not Path(source).is_file():
        raise PrepareError(f"tokenizer: there is no file {source}")
    try:
        if bare:
            return PreTrainedTokenizerFast(tokenizer_file=source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # of a damaged tokenizer.json the library raises no narrower class
        if not isinstance(error, OSError | ValueError):
            raise PrepareError(
                f"tokenizer: {source} cannot be read ({error}); was it copied whole?"
            ) from error
        local = "a directory without a sound tokenizer" if Path(source).is_dir() else "not found"
        raise PrepareError(
            f"tokenizer: {source} is {local}: {str(error).splitlines()[0]} Offline, give a "
            "directory or a tokenizer.json, or train one: {train: bpe, vocabulary: 8192}"
        ) from error
    if not tokenizer.is_fast:
        raise PrepareError(f"tokenizer: {source} has no fast version (a tokenizer.json)")
    return tokenizer


def _begin(spec: TokenizerSpec, tokenizer: PreTrainedTokenizerFast) -> str:
    """The token that stands before sequences."""
    known = tokenizer.get_vocab()
    if spec.begin is not None:
        if spec.begin not in known:
            raise PrepareError(f"tokenizer.begin: {spec.begin!r} is not in the vocabulary")
        return spec.begin
    own = (tokenizer.bos_token, tokenizer.eos_token)
    for token in (*own, *(token for token in USUAL if token in known)):
        if token is not None:
            return str(token)
    raise PrepareError(
        "tokenizer: it has no begin- or end-of-text token; name one with tokenizer.begin"
    )


def _trained(spec: TokenizerSpec, sample: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE; the same text gives the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_capped(sample, spec.sample_bytes), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def _capped(sample: Iterable[str], most: int) -> Iterator[str]:
    """Texts until this many bytes were given."""
    for text in sample:
        if most <= 0:
            return
        yield from pieces(text[:most], LEARNED_CHARACTERS)
        most -= len(text.encode(errors="replace"))


def _token_bytes(tokenizer: PreTrainedTokenizerFast) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Bytes of text each token stands for; 0 for special tokens."""
    vocabulary = tokenizer.get_vocab()
    sizes = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)  # ids may have gaps
    byte_level = "ByteLevel" in tokenizer.backend_tokenizer.to_str()
    special = set(tokenizer.all_special_ids)
    for token, index in vocabulary.items():
        if index not in special:
            sizes[index] = len(token) if byte_level else _sentencepiece_bytes(token)
    return sizes


def _sentencepiece_bytes(token: str) -> int:
    """Bytes of a token where a blank is written as a low line and a byte as <0x0A>."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    return len(token.replace("\u2581", " ").encode())
