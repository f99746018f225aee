from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fitting.compare.optima import compare_optima, compare_skills, pool_gap
from fitting.errors import FittingError, Status, TableError
from fitting.isoflop import fit_isoflop
from fitting.laws.powerlaw import fit_power_law
from fitting.mixture.contrast import SkillGap
from fitting.values import Optimum

BUDGETS = np.array([6e18, 1e19, 3e19, 6e19, 1e20])


def optimum(flops: float, params: float, se: float = 0.03) -> Optimum:
    return Optimum(params, se, Status.OK, 0.1, flops)


def table(shift: float, *, noise: float = 0.0, shared: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Two skills whose optima differ by a factor e^shift, with errors common to a trial."""
    rng = np.random.default_rng(seed)
    rows = []
    for flops in BUDGETS:
        middle = 0.1 * flops**0.5
        for i, params in enumerate(middle * np.geomspace(0.3, 4, 9)):
            common = shared * rng.standard_normal()
            for skill, offset in (("facts", shift), ("all", 0.0)):
                loss = 2 + 0.06 * (np.log(params / middle) - offset) ** 2
                error = common + noise * rng.standard_normal()
                rows.append((f"{flops:.0e}-{i}", flops, params, skill, loss + error))
    return pd.DataFrame(rows, columns=["trial_id", "flops", "params", "skill", "loss"])


def test_exact_ratio_is_recovered() -> None:
    found = compare_skills(table(0.2), "facts", "all")
    np.testing.assert_allclose(found.frame["log_ratio"], 0.2, atol=1e-9)
    assert found.ratio == pytest.approx(math.exp(0.2))
    assert found.excluded.empty


def test_pooled_interval_and_test_hold() -> None:
    hits = 0
    p_values = []
    for seed in range(100):
        data = table(0.1, noise=0.002, shared=0.004, seed=seed)
        found = compare_skills(data, "facts", "all")
        low, high = found.interval()
        hits += low < 0.1 < high
        p_values.append(found.p_value)
    assert 0.82 < hits / 100 < 0.99
    assert np.median(p_values) < 0.05


def test_pairing_uses_what_a_trial_has_in_common() -> None:
    errors, claimed, independent = [], [], []
    for seed in range(40):
        data = table(0.1, noise=0.002, shared=0.005, seed=seed)
        paired = compare_skills(data, "facts", "all").frame
        errors += list(paired["log_ratio"] - 0.1)
        claimed += list(paired["se"])
        curves = {s: data[data["skill"] == s] for s in ("facts", "all")}
        apart = compare_optima(
            *(
                [
                    fit_isoflop(g["params"], g["loss"], flops=c)
                    for c, g in curves[s].groupby("flops")
                ]
                for s in ("facts", "all")
            )
        )
        independent += list(apart.frame["se"])
    rms = float(np.sqrt(np.mean(np.square(errors))))
    assert np.sqrt(np.mean(np.square(claimed))) == pytest.approx(rms, rel=0.15)
    assert np.mean(independent) > 1.4 * np.mean(claimed)


def test_less_than_no_variance_leaves_the_ratio_without_an_interval() -> None:
    """Two all but equal skills of one sweep: rounding left -1e-18, and the report did not come."""
    found = compare_skills(table(0.2), "facts", "all")
    n = len(found.frame)
    gap = SkillGap(np.full(n, 0.1), np.full((n, n), -1e-18))
    pooled = pool_gap(found, gap)
    assert pooled.ratio == pytest.approx(math.exp(0.1))
    assert all(math.isnan(end) for end in pooled.interval())
    assert pooled.frame["se"].isna().all()


def test_unusable_budgets_are_listed() -> None:
    good = [optimum(c, 0.1 * c**0.5) for c in BUDGETS]
    bad = [*good[:2], replace(good[2], status=Status.CONCAVE, reason="Bent."), *good[3:]]
    found = compare_optima(bad, good[:-1])
    assert list(found.frame["flops"]) == [6e18, 1e19, 6e19]
    assert list(found.excluded["flops"]) == [3e19, 1e20]
    assert found.excluded["reason"].iloc[0] == "concave: Bent."
    none = compare_optima([], good)
    assert math.isnan(none.pooled) and math.isnan(none.p_value) and none.frame.empty


def test_one_budget_keeps_its_own_error() -> None:
    found = compare_optima([optimum(1e19, 3e8, 0.03)], [optimum(1e19, 2e8, 0.04)])
    assert found.se == pytest.approx(0.05)
    assert found.pooled == pytest.approx(math.log(1.5))


def test_external_law_adds_its_own_error_once() -> None:
    rng = np.random.default_rng(0)
    exact = [optimum(c, 0.11 * c**0.5) for c in BUDGETS]
    law = fit_power_law(BUDGETS, 0.1 * BUDGETS**0.5 * np.exp(0.05 * rng.standard_normal(5)))
    found = compare_optima(exact, law)
    middle = math.exp(np.log(BUDGETS).mean())
    assert found.se >= float(law.log_se(middle))
    sharp = compare_optima(exact, replace(law, covariance=((0.0, 0.0), (0.0, 0.0))))
    assert sharp.se < found.se


def test_every_budget_counts_the_same() -> None:
    value = [0.1, 0.1, 0.1, 0.1, 0.5]
    errors = [0.01] * 4 + [0.5]
    skill = [
        optimum(c, math.exp(v) * 1e8, e) for c, v, e in zip(BUDGETS, value, errors, strict=True)
    ]
    base = [optimum(c, 1e8, 1e-9) for c in BUDGETS]
    assert compare_optima(skill, base).pooled == pytest.approx(0.18)
    assert "5 budgets" in str(compare_optima(skill, base))


def test_unknown_skill() -> None:
    with pytest.raises(TableError, match="nearest: facts"):
        compare_skills(table(0.1), "fact", "all")
    with pytest.raises(FittingError, match="its own aggregate"):
        compare_skills(table(0.1), "all", "all")


def test_one_budget_has_the_freedom_of_its_own_curves():
    """Six sizes know their noise by three degrees of freedom, not by infinitely many."""
    rng, sizes, inside = np.random.default_rng(0), np.exp(np.linspace(19, 21, 6)), []
    for _ in range(150):
        optima = [
            fit_isoflop(
                sizes,
                2 + 0.06 * (np.log(sizes) - 20) ** 2 + 0.01 * rng.standard_normal(6),
                flops=1e20,
            )
            for _ in range(2)
        ]
        found = compare_optima(optima[:1], optima[1:])
        if math.isfinite(found.pooled):
            assert found.dof <= 6
            low, high = found.interval()
            inside.append(low < 0 < high)
    assert np.mean(inside) > 0.85
