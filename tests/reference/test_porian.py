"""Porian et al. 2024: exponents of N*(C) along their path from Kaplan's to Chinchilla's law."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fitting import fit_isoflop, fit_power_law

FOLDER = Path(__file__).parents[2].parent / "shared/data/porian"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="measured data not at hand")


@pytest.mark.parametrize(
    ("setting", "exponent"), list(enumerate([0.834, 0.701, 0.604, 0.571, 0.497]))
)
def test_refinedweb_exponents(setting: int, exponent: float) -> None:
    points = pd.read_csv(FOLDER / "isoflop_points.csv")
    points = points[(points["file"] == "summary_df") & (points["setting"] == setting)]
    optima = [
        fit_isoflop(rows["n"], rows["loss"], flops=float(flops), method="akima", draws=200)
        for flops, rows in points.groupby("flops")
    ]
    usable = [o for o in optima if o.ok]
    assert len(usable) >= 11
    flops, params = [o.flops for o in usable], [o.params for o in usable]
    plain = fit_power_law(flops, params)
    assert plain.exponent == pytest.approx(exponent, abs=0.02)
    weighted = fit_power_law(flops, params, se=[o.log_params_se for o in usable])
    assert weighted.exponent == pytest.approx(exponent, abs=0.02)
