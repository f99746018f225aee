"""Porian et al. 2024: exponents of N*(C) along their path from Kaplan's to Chinchilla's law."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.akima import akima_optimum
from fitting import fit_power_law

FOLDER = Path(__file__).parents[2].parent / "shared/data/porian"


@pytest.mark.skipif(not FOLDER.exists(), reason="measured data not at hand")
@pytest.mark.parametrize(
    ("setting", "exponent"), list(enumerate([0.834, 0.701, 0.604, 0.571, 0.497]))
)
def test_refinedweb_exponents(setting: int, exponent: float) -> None:
    points = pd.read_csv(FOLDER / "isoflop_points.csv")
    points = points[(points["file"] == "summary_df") & (points["setting"] == setting)]
    optima = [
        akima_optimum(rows["n"], rows["loss"], flops=float(flops), draws=200)
        for flops, rows in points.groupby("flops")
    ]
    usable = [o for o in optima if o.ok]
    assert len(usable) >= 11
    flops, params = [o.flops for o in usable], [o.params for o in usable]
    plain = fit_power_law(flops, params)
    assert plain.exponent == pytest.approx(exponent, abs=0.02)
    weighted = fit_power_law(flops, params, se=[o.log_params_se for o in usable])
    assert weighted.exponent == pytest.approx(exponent, abs=0.02)


def test_akima_finds_the_minimum_and_is_reproducible() -> None:
    rng = np.random.default_rng(5)
    sizes = np.geomspace(1e8, 1.6e9, 14)
    loss = 2.0 + 0.05 * np.log(sizes / 4.2e8) ** 2 + 0.0005 * rng.standard_normal(14)
    found = akima_optimum(sizes, loss, flops=1e19)
    assert found.ok and found.method == "akima"
    assert found.params == pytest.approx(4.2e8, rel=0.15)
    assert found.log_params_se >= math.log(sizes[1] / sizes[0]) / 3
    assert repr(found) == repr(akima_optimum(sizes, loss, flops=1e19))  # it holds a NaN
    for poor in (4.0 - loss, np.full(14, 2.0)):
        assert not akima_optimum(sizes, poor, flops=1e19).ok
