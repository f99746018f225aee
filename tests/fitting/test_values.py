"""Numbers in messages."""

import math

import pytest

from fitting.values import number, p_words, size


@pytest.mark.parametrize(
    ("value", "flops", "params"),
    [
        (1e18, "1e18", "1e+06T"), (1.8e11, "1.8e11", "180B"), (14_723, "1.47e4", "14.7k"),
        (999.8, "1e3", "1k"), (20, "20", "20"), (math.inf, "inf", "inf"), (math.nan, "nan", "nan"),
    ],
)  # fmt: skip
def test_numbers_are_those_people_write(value, flops, params):
    assert (number(value), size(value)) == (flops, params)


def test_no_p_value_is_zero():
    assert [p_words(p) for p in (0.0, 5e-5, 1e-4, 0.0452)] == [
        "p < 0.0001", "p < 0.0001", "p = 0.0001", "p = 0.045",
    ]  # fmt: skip
