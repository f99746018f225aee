from __future__ import annotations

import math

import numpy as np
import pytest

from fitting.errors import FitError, FittingError, Status
from fitting.tuning.published import STEP_LAW, HyperparameterLaw

LAW = HyperparameterLaw(
    "learning_rate",
    10.0,
    -0.5,
    0.2,
    covariance=((0.04, 0.0, 0.0), (0.0, 1e-4, 0.0), (0.0, 0.0, 0.0)),
    params_range=(1e7, 1e9),
    tokens_range=(1e9, 1e11),
    flops_range=(1e17, 1e20),
)


def test_value_and_interval() -> None:
    found = LAW.at(1e8, 1e10)
    assert found.value == pytest.approx(10 * 1e-4 * 100)
    half = 1.6449 * math.sqrt(0.04 + 1e-4 * math.log(1e8) ** 2)
    low, high = found.interval
    assert math.log(high / found.value) == pytest.approx(half, rel=1e-4)
    assert math.log(found.value / low) == pytest.approx(half, rel=1e-4)
    assert found.extrapolates == 1 and found.warning == ""


def test_outside_the_range_is_a_warning() -> None:
    far = LAW.at(1e10, 1e10)
    assert far.extrapolates == pytest.approx(10) and "params 1e10" in far.warning
    low = LAW.at(1e8, 1e8)
    assert low.extrapolates == pytest.approx(10) and "tokens" in low.warning
    assert LAW.at(1e9, 1e9).extrapolates == 1  # the end of a range is inside
    heavy = LAW.at(1e9, 1e11)
    assert heavy.extrapolates == pytest.approx(6) and "flops" in heavy.warning


def test_unknown_ranges_say_nothing() -> None:
    assert HyperparameterLaw("learning_rate", 3.7, -0.36).at(1e8, 1e30).extrapolates == 1


def test_step_law_is_of_a_sane_size() -> None:
    assert 1e-4 < STEP_LAW.learning_rate(1e8, 2e9) < 1e-2
    assert 2e4 < STEP_LAW.batch_tokens(1e8, 2e9) < 2e6
    assert STEP_LAW.learning_rate.source and STEP_LAW.learning_rate.quantity == "learning_rate"
    assert STEP_LAW.batch_tokens.quantity == "batch_tokens"
    assert str(STEP_LAW.batch_tokens).startswith("batch_tokens = ")


def test_bad_input() -> None:
    with pytest.raises(FittingError, match="tokens=-1"):
        LAW.at(1e8, -1.0)
    broken = HyperparameterLaw(
        "learning_rate", math.nan, status=Status.NOT_IDENTIFIED, reason="one size only"
    )
    with pytest.raises(FitError, match="one size only"):
        broken.at(1e8, 1e9)
    assert "one size only" in str(broken)


def test_arrays() -> None:
    assert LAW(np.array([1e7, 1e8]), 1e10).shape == (2,)
