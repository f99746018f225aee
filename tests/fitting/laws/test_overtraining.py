from __future__ import annotations

import numpy as np
import pytest

from fitting.errors import FitError, FittingError, Status
from fitting.laws.overtraining import OvertrainingLaw, fit_overtraining
from fitting.values import FloatArray

TRUTH = OvertrainingLaw(E=1.8, a=150.0, b=420.0, eta=0.14)


def runs() -> tuple[FloatArray, FloatArray]:
    params = np.repeat([1e7, 8e7, 1.5e8, 4e8], 5)
    return params, params * np.tile([5.0, 20.0, 80.0, 320.0, 640.0], 4)


def test_constants_are_recovered_from_five_runs() -> None:
    p, t = (v[[1, 6, 11, 16, 3]] for v in runs())
    found = fit_overtraining(p, t, TRUTH.loss(p, t))
    for name in ("E", "a", "b", "eta"):
        assert getattr(found, name) == pytest.approx(getattr(TRUTH, name), rel=1e-3)
    assert found.rmse < 1e-6 and found.ok


def test_it_is_a_surface_with_one_exponent() -> None:
    surface = TRUTH.surface()
    p, t = runs()
    np.testing.assert_allclose(surface.loss(p, t), TRUTH.loss(p, t))
    best = TRUTH.optimum(1e21)
    assert best.tokens / best.params == pytest.approx(TRUTH.best_ratio)
    assert surface.exponent == 0.5
    np.testing.assert_allclose(TRUTH.at(6 * p * t, t / p), TRUTH.loss(p, t))


def test_errors_hold_the_truth() -> None:
    p, t = runs()
    off = []
    for seed in range(40):
        noise = np.random.default_rng(seed).standard_normal(len(p))
        found = fit_overtraining(p, t, TRUTH.loss(p, t) + 0.01 * noise)
        off.append((found.eta - TRUTH.eta) / np.sqrt(found.covariance[3][3]))
    assert np.std(off) == pytest.approx(1.0, abs=0.35)


def test_what_the_data_do_not_fix_is_said() -> None:
    p, t = runs()
    only = fit_overtraining(p, t, 1.8 + 3 * p**-0.1)
    assert only.status is Status.NOT_IDENTIFIED and "b" in only.reason
    few = fit_overtraining(p[:4], t[:4], TRUTH.loss(p, t)[:4])
    assert not few.ok and "4 distinct" in few.reason
    with pytest.raises(FitError, match="4 distinct"):
        fit_overtraining(p[:4], t[:4], TRUTH.loss(p, t)[:4], throw=True)


def test_bad_input() -> None:
    p, t = runs()
    with pytest.raises(FittingError, match="one length"):
        fit_overtraining(p, t, [1.0])
    with pytest.raises(FittingError, match="tokens must be finite and positive"):
        fit_overtraining(p, -t, TRUTH.loss(p, t))
