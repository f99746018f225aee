"""Numbers as people read them."""

import math

import pytest

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
