"""Numbers as people read them."""

import math

import pytest

from sweeper import text
from sweeper.text import between, duration, gigabytes, number, size


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (800, "13 min"), (12600, "3.5 h"), (180000, "2.1 d")]
)
def test_durations_are_words(seconds, words):
    assert duration(seconds, digits=2) == words


def test_a_plan_says_three_digits():
    assert duration(800) == "13.3 min"


def test_bytes_are_decimal():
    shown = [gigabytes(v) for v in (1.3e9, 124e6, 512)]
    assert shown == ["1.3 GB", "124 MB", "512 B"]


def test_unknown_numbers_are_dashes():
    assert (size(math.nan), number(math.nan), between((1.0, math.inf))) == ("–", "–", "–")


def test_a_grid_and_a_sentence_keep_to_the_screen(monkeypatch):
    head, rows = ("", "best size", "tokens"), [("code", "214M", "7.8B"), ("facts", "2.7B", "")]
    monkeypatch.setattr(text, "screen_width", lambda: 80)
    assert text.grid(head, rows, right="lr") == [
        "       best size  tokens", "code        214M  7.8B", "facts       2.7B",
    ]  # fmt: skip
    assert text.fitted("short") == "short"
    monkeypatch.setattr(text, "screen_width", lambda: 22)
    assert text.grid(head, rows)[0] == "      best size tokens"
    monkeypatch.setattr(text, "screen_width", lambda: 20)
    assert text.grid(head, rows) == [
        "code", "  best size: 214M", "  tokens: 7.8B", "facts", "  best size: 2.7B",
    ]  # fmt: skip
    assert text.fitted("* a sentence of some length\nand more").splitlines() == [
        "* a sentence of some", "  length", "and more",
    ]  # fmt: skip
    assert text.fitted("known to within ±22 %") == "known to within\n  ±22 %"
    assert text.named("spent", "1e9 of 2e9 FLOPs").splitlines() == [
        "spent     1e9 of 2e9", "          FLOPs",
    ]  # fmt: skip


def test_wide_letters_and_emoji_keep_the_columns():
    rows = [("知识", "1"), ("emoji 🎉", "2"), ("cafe\u0301", "3")]
    assert [text.columns(name) for name, _ in rows] == [4, 8, 4]
    shown = text.grid(("", "n"), rows)
    assert [text.columns(line) for line in shown] == [11] * 4
    assert text.padded("知识", 6, right=True) == "  知识"


def test_one_is_one_and_two_are_many():
    said = [text.plural(n, "trial") for n in (0, 1, 2, 1.0)]
    assert said == ["0 trials", "1 trial", "2 trials", "1 trial"]


def test_intervals_and_money_in_words():
    assert text.within(math.log(1.16)) == "±16 %"
    assert text.within(math.log(3)) == "a factor of 3"
    assert text.within(20.0) == "a factor of a million or more"
    assert text.within(math.nan) == "unknown"
    assert (text.money(52_662.6), text.money(3.724)) == ("52,663", "3.72")
    assert text.between((1e-200, 1e200)) == "–"
    assert [text.ratio(v) for v in (0.0947, 7.66, 20, 3210.9)] == ["0.095", "7.7", "20", "3,211"]
    assert text.ratio(float("nan")) == "–"
    assert (text.number(5e9), text.percent(0.284), text.percent(0.284, 1)) == (
        "5e9", "28 %", "28.4 %",
    )  # fmt: skip
