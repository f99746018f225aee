"""How far apart two skills' optima are when their errors come from the same trials."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import surface_world
from fitting import fit_skills
from fitting.compare.optima import compare_optima
from fitting.mixture.contrast import residual_correlation, skill_gap
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.mixture.kinds import SURFACE

BUDGETS = (1e19, 4e19, 1.6e20)
WORLD = surface_world(
    {"facts": (1.8, 480.0, 2100.0, 0.35, 0.37), "all": (1.5, 600.0, 1500.0, 0.36, 0.34)},
    noise=0.0,
)
TRUTH = np.array([WORLD.log_optimum("facts", c) - WORLD.log_optimum("all", c) for c in BUDGETS])


def table(shared: float, seed: int) -> pd.DataFrame:
    """Nine sizes on each budget; ``shared`` of the noise's variance is common to both skills."""
    rng = np.random.default_rng(seed)
    centre = np.array([WORLD.log_optimum("facts", c) for c in BUDGETS])
    sizes = np.exp((centre[:, None] + np.linspace(-1.5, 1.5, 9)).ravel())
    found = WORLD.table(np.repeat(BUDGETS, 9), sizes, rng)
    common = rng.standard_normal(len(sizes))[found["trial_id"].astype(int)]
    error = math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.standard_normal(len(found))
    return found.assign(loss=found["loss"] + 0.01 * error)


def plain(shared: float, seed: int) -> Guarded:
    return fit_guarded(table(shared, seed), ladder=BUDGETS, components=(SURFACE,))


def mean_gap(fit: Guarded) -> tuple[float, float]:
    found = skill_gap(fit, "facts", "all", BUDGETS)
    return float((found.value - TRUTH).mean()), math.sqrt(found.covariance.sum()) / len(TRUTH)


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_errors_are_as_large_as_said(shared: float) -> None:
    found = np.array([mean_gap(plain(shared, seed)) for seed in range(150)])
    z = found[:, 0] / found[:, 1]
    assert abs(z.mean()) < 0.35
    assert 0.75 < z.std() < 1.2


def test_what_is_common_narrows_the_difference_and_only_that() -> None:
    apart, together = ([plain(s, seed) for seed in range(20)] for s in (0.0, 0.8))
    errors = [np.mean([mean_gap(fit)[1] for fit in fits]) for fits in (apart, together)]
    assert errors[1] < 0.75 * errors[0]
    correlations = [
        np.mean([residual_correlation(fit, "facts", "all") for fit in fits])
        for fits in (apart, together)
    ]
    assert abs(correlations[0]) < 0.15 and 0.5 < correlations[1] < 0.85
    separate = [fit.log_optimum(BUDGETS)[1] for fit in (apart[0], together[0])]
    np.testing.assert_allclose(separate[0], separate[1], rtol=0.5)


def test_repeats_have_no_more_in_common_than_they_count_for() -> None:
    # Repeats of one allocation share what the surface lacks there: each counts for less.
    rng = np.random.default_rng(0)
    both = table(0.9, 0)
    bump = 0.03 * rng.standard_normal(27)[both["trial_id"].astype(int)]
    least = both[both["flops"] == BUDGETS[0]]
    copies = [least.assign(trial_id=[f"{t}-{k}" for t in least["trial_id"]]) for k in range(9)]
    both = pd.concat([both.assign(loss=both["loss"] + bump),
                      *(c.assign(loss=c["loss"] + bump[c.index]) for c in copies)])  # fmt: skip
    fit = fit_guarded(both, ladder=BUDGETS)
    assert fit.counts.min() < 0.5
    gap = skill_gap(fit, "facts", "all", BUDGETS).covariance
    assert np.linalg.eigvalsh(gap).min() > 0


def test_skills_of_different_trials_have_nothing_in_common() -> None:
    both = table(0.8, 0)
    trial = both["trial_id"].astype(int)
    apart = both[(trial % 2 == 0) == (both["skill"] == "facts")]
    assert residual_correlation(fit_guarded(apart, ladder=BUDGETS), "facts", "all") == 0.0


def test_the_order_of_the_skills_turns_the_sign() -> None:
    fit = plain(0.5, 3)
    one, other = skill_gap(fit, "facts", "all", BUDGETS), skill_gap(fit, "all", "facts", BUDGETS)
    np.testing.assert_allclose(one.value, -other.value)
    np.testing.assert_allclose(one.covariance, other.covariance)
    itself = skill_gap(fit, "all", "all", BUDGETS)
    assert (itself.value == 0).all() and (np.diag(itself.covariance) >= 0).all()


def test_fits_compare_the_optima_they_report() -> None:
    fits = fit_skills(table(0.8, 1))
    found = fits.compare("facts", "all")
    pairs = zip(fits["facts"].optima, fits["all"].optima, strict=True)
    np.testing.assert_allclose(
        found.frame["log_ratio"], [math.log(a.params / b.params) for a, b in pairs], atol=1e-9
    )
    assert found.pooled == pytest.approx(found.frame["log_ratio"].mean())
    assert found.dof == math.inf and 0 < found.p_value < 1 and found.scatter >= 0
    apart = compare_optima(fits["facts"].optima, fits["all"].optima)
    assert (found.frame["se"] < apart.frame["se"]).all()


def test_other_methods_are_pooled_by_their_laws() -> None:
    fits = fit_skills(table(0.5, 1), method="surface")
    found = fits.compare("facts", "all")
    middle = math.exp(np.log(BUDGETS).mean())
    laws = [fits[skill].law(middle) for skill in ("facts", "all")]
    assert found.pooled == pytest.approx(math.log(laws[0] / laws[1]))
    assert found.se > 0


def test_no_optimum_no_ratio() -> None:
    both = table(0.5, 2)
    flat = both["skill"] == "all"
    rng = np.random.default_rng(0)
    both.loc[flat, "loss"] = 2 + 0.01 * rng.standard_normal(flat.sum())
    found = fit_skills(both).compare("facts", "all")
    assert math.isnan(found.pooled) and found.frame.empty
    assert found.excluded["flops"].tolist() == pytest.approx(BUDGETS)
    assert found.excluded["reason"].str.startswith("not-distinguishable").all()
    with pytest.raises(KeyError, match="nothing"):
        fit_skills(both).compare("facts", "nothing")
