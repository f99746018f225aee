"""Context and target are tokenised together and parted at the target's first character."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from trainables.skills.encode import Encoded, Example, encode

TEXT = (
    "the answer is Paris. the capital is London\n\n  x = 1\n def f(x):\n    return x + 1\n é ü 😀"
)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def _byte_level(*, regex: bool = True) -> Tokenizer:
    """Byte-level BPE; without the regex merges run across words and lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=ALPHABET, show_progress=False)
    tokenizer.train_from_iterator([TEXT] * 5, trainer)
    return tokenizer


WORDS, ACROSS = _byte_level(), _byte_level(regex=False)


def _bytes(tokenizer: Tokenizer, tokens: np.ndarray) -> bytes:
    """The bytes that tokens of a byte-level tokenizer spell."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    table = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(rest)}
    return bytes(table[c] for token in tokens.tolist() for c in tokenizer.id_to_token(token))


def _parts(encoded: Encoded, s: int = 0) -> tuple[np.ndarray, np.ndarray]:
    tokens = encoded.tokens[encoded.offsets[s] : encoded.offsets[s + 1]]
    return tokens[: encoded.start[s]], tokens[encoded.start[s] :]


def test_a_token_across_the_border_belongs_to_the_target() -> None:
    encoded = encode([Example("the answer is ", ("Paris",), "a")], WORDS, context=60)
    before, target = _parts(encoded)
    assert _bytes(WORDS, before) == b"the answer is"
    assert _bytes(WORDS, target) == b" Paris"
    assert encoded.target_bytes.tolist() == [5]


def test_blanks_at_the_border_are_not_lost_to_trimmed_offsets() -> None:
    encoded = encode([Example("the answer is", (" Paris",), "a")], WORDS, context=60)
    assert _bytes(WORDS, _parts(encoded)[1]) == b" Paris"
    encoded = encode([Example("x = 1", ("\n def",), "a")], ACROSS, context=60)
    assert _bytes(ACROSS, _parts(encoded)[1]).endswith(b"\n def")


@settings(max_examples=300, deadline=None)
@given(
    context=st.text(max_size=30),
    target=st.text(min_size=1, max_size=30),
    across=st.booleans(),
)
def test_the_target_tokens_hold_the_whole_target_and_no_token_more(
    context: str, target: str, across: bool
) -> None:
    tokenizer = ACROSS if across else WORDS
    encoded = encode([Example(context, (target,), "a")], tokenizer, context=10_000)
    before, after = _parts(encoded)
    spelled = _bytes(tokenizer, after)
    assert _bytes(tokenizer, before) + spelled == (context + target).encode()
    # The target's first character, whole, lies in the target's first token or begins it.
    assert spelled.endswith(target.encode())
    assert len(spelled) - len(target.encode()) < len(_bytes(tokenizer, after[:1]))
    assert encoded.target_bytes.tolist() == [len(target.encode())]


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(
        st.tuples(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=12), min_size=1)),
        max_size=6,
    ),
    context=st.integers(1, 40),
)
def test_shortening_keeps_targets_and_counts_what_it_does(
    texts: list[tuple[str, list[str]]], context: int
) -> None:
    examples = [Example(text, tuple(t), str(i)) for i, (text, t) in enumerate(texts)]
    whole = encode(examples, WORDS, context=10_000)
    short = encode(examples, WORDS, context=context)
    assert (short.lengths <= context).all() and (short.target_tokens > 0).all()
    assert len(short.ids) + short.left_out == len(examples) == len(whole.ids)
    fits = whole.target_tokens <= context
    assert fits.sum() == len(short.start)
    for s, w in enumerate(np.flatnonzero(fits)):
        assert _parts(short, s)[1].tolist() == _parts(whole, int(w))[1].tolist()
        kept = _parts(short, s)[0].tolist()
        assert kept == _parts(whole, int(w))[0].tolist()[-len(kept) :] or not kept
    assert short.truncated == (whole.lengths[fits] > context).sum()
    assert short.within(context).tokens.tolist() == short.tokens.tolist()


def test_answers_that_begin_with_another_are_left_out() -> None:
    example = Example("", ("Paris, France", "Paris", "Lutetia", "Paris"), "a")
    assert example.answers == ("Paris", "Lutetia")
    encoded = encode([example, Example("b", ("c",), "b")], WORDS, context=60)
    assert encoded.example.tolist() == [0, 0, 1] and encoded.ids == ("a", "b")


def test_settings_of_the_tokenizer_play_no_part() -> None:
    examples = [Example("the capital is ", ("London",), "a"), Example("x =", (" 1",), "b")]
    plain = encode(examples, WORDS, context=60)
    for side in ("left", "right"):
        padding = _byte_level()
        padding.enable_padding(direction=side, length=50)
        padding.enable_truncation(3, direction=side)
        padding.add_special_tokens(["<s>"])
        begin = ("<s>", padding.token_to_id("<s>"))
        padding.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[begin]
        )
        again = encode(examples, padding, context=60)
        assert again.tokens.tolist() == plain.tokens.tolist()
        assert again.start.tolist() == plain.start.tolist()
        assert padding.padding is not None  # and they are left as they were


def test_a_text_that_spells_a_special_token_is_text() -> None:
    tokenizer = _byte_level()
    tokenizer.add_special_tokens(["<s>"])
    encoded = encode([Example("x", (" <s>",), "a")], tokenizer, context=60)
    assert _bytes(tokenizer, _parts(encoded)[1]) == b" <s>"


def test_a_transformers_tokenizer_does_as_well_and_a_slow_one_is_refused() -> None:
    from transformers import PreTrainedTokenizerFast

    examples = [Example("the answer is ", ("Paris",), "a")]
    fast = PreTrainedTokenizerFast(tokenizer_object=WORDS, padding_side="left")
    found = encode(examples, fast, context=60)
    assert found.tokens.tolist() == encode(examples, WORDS, context=60).tokens.tolist()
    with pytest.raises(ValueError, match="fast tokenizer"):
        encode(examples, object(), context=60)  # type: ignore[arg-type]


def test_a_file_gives_back_what_was_saved(tmp_path) -> None:
    examples = [Example("the capital is ", ("London", "Paris"), "ä/1"), Example("", ("1",), "2")]
    for kept in (examples, []):
        encoded = encode(kept, WORDS, context=5)
        encoded.save(tmp_path / "skill.npz")
        again = Encoded.load(tmp_path / "skill.npz")
        assert again.ids == encoded.ids and again.truncated == encoded.truncated
        for name in ("tokens", "offsets", "start", "example", "target_bytes"):
            assert getattr(again, name).tolist() == getattr(encoded, name).tolist()
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="does not hold encoded examples"):
        Encoded.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("context", "targets", "said"),
    [("a", (), "no target"), ("a", ("",), "no target"), ("\ud800", ("a",), "not valid Unicode")],
)
def test_examples_that_cannot_be_scored_are_refused_by_name(
    context: str, targets: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=f"'q7'.*{said}"):
        Example(context, targets, "q7")
