"""Numbers in messages."""

import math

import pytest

from fitting.values import number, size


@pytest.mark.parametrize(
    ("value", "flops", "params"),
    [
        (1e18, "1e18", "1e+06T"), (1.8e11, "1.8e11", "180B"), (14_723, "1.47e4", "14.7k"),
        (999.8, "1e3", "1k"), (20, "20", "20"), (math.inf, "inf", "inf"), (math.nan, "nan", "nan"),
    ],
)  # fmt: skip
def test_numbers_are_those_people_write(value, flops, params):
    assert (number(value), size(value)) == (flops, params)
