"""The joint fit over data mixes, on curves whose lines are known."""

import math

import numpy as np
import pandas as pd
import pytest

from fitting.datamix.contrast import align, correlation, gap, slope_gap
from fitting.datamix.curves import DesignPoints, evaluate
from fitting.datamix.design import Candidates, choose_mixes, targets, widths
from fitting.datamix.joint import fit_mixes, satterthwaite
from fitting.datamix.shares import paper_mixes
from fitting.errors import FittingError, Status

FLOPS = 6e18
MIXES = paper_mixes()
CLASSES = {"knowledge": "knowledge", "code": "code"}
TRUTH = {"knowledge": (2.7e8, 0.35, 0.139, 0.012), "code": (2.65e8, 0.19, 0.075, 0.006)}
DRIFT = {"knowledge": 0.04, "code": 0.015}


def table(
    seed, *, sizes=5, half=1.3, budgets=(FLOPS,), mixes=MIXES, drift=True, noise=1.0, bend=0.0,
    common=0.0,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    own = {
        s: dict(zip(MIXES, DRIFT[s] * drift * rng.standard_normal(13), strict=True)) for s in TRUTH
    }
    rows = []
    for flops in budgets:
        c = math.log(flops / FLOPS)
        for mix in mixes:
            for x in np.linspace(-half, half, sizes):
                params = 3.1e8 * math.exp(0.5 * c + x)
                both = math.sqrt(common) * rng.standard_normal()
                for skill, (zero, slope, curvature, sd) in TRUTH.items():
                    share = MIXES[mix][skill]
                    u = math.log(params / zero) - 0.5 * c - slope * share - own[skill][mix]
                    u -= bend * (share - 0.4) ** 2
                    bowl = (math.exp(0.3 * u) + math.exp(-0.3 * u) - 2) / 0.3**2 / 2
                    loss = 1.1 - 0.05 * math.log(share) + curvature * math.exp(-0.15 * c) * bowl
                    own_error = math.sqrt(1 - common) * rng.standard_normal()
                    loss += sd * noise * (both + own_error)
                    rows.append(
                        (flops, params, flops / 6 / params, skill, mix, f"{mix}{flops}{x}", loss)
                    )
    names = ["flops", "params", "tokens", "skill", "mix", "trial_id", "loss"]
    return pd.DataFrame(rows, columns=names)


def test_lines_levels_and_optima_are_found_without_noise():
    fits = fit_mixes(table(0, drift=False, noise=0.01, sizes=4), MIXES, CLASSES)
    for skill, (zero, slope, _, _) in TRUTH.items():
        fit = fits[skill]
        assert fit.slope(FLOPS)[0] == pytest.approx(slope, abs=0.01)
        line, _ = fit.line(FLOPS, [0.0, 0.5])
        assert np.exp(line[0]) == pytest.approx(zero, rel=0.01)
        share = np.array([mix[skill] for mix in MIXES.values()])
        np.testing.assert_allclose(
            fit.log_optimum(FLOPS)[0], np.log(zero) + slope * share, atol=0.02
        )
        np.testing.assert_allclose(fit.least(FLOPS)[0], 1.1 - 0.05 * np.log(share), atol=2e-3)


def test_ninety_per_cent_intervals_hold():
    hits, tries = 0, 0
    for seed in range(12):
        fits = fit_mixes(table(seed, sizes=4), MIXES, CLASSES)
        for skill, (_, slope, _, _) in TRUTH.items():
            low, high = fits[skill].slope(FLOPS).interval
            hits += low < slope < high
            tries += 1
    assert hits / tries > 0.75


def test_several_budgets_each_have_a_slope():
    fits = fit_mixes(table(3, budgets=(FLOPS, 3e19, 1e20), sizes=4), MIXES, CLASSES)
    near, far = fits["knowledge"].slope(FLOPS), fits["knowledge"].slope(1e20)
    assert near[0] == pytest.approx(0.35, abs=0.2) and far[0] == pytest.approx(0.35, abs=0.2)
    line, _ = fits["code"].line(1e20, 0.5)
    wanted = math.log(2.65e8) + 0.19 * 0.5 + 0.5 * math.log(1e20 / FLOPS)
    assert line[0] == pytest.approx(wanted, abs=0.05)


def test_the_optima_meet_where_the_lines_say():
    fits = fit_mixes(table(0, drift=False, noise=0.01), MIXES, CLASSES)
    found = align(fits["code"], fits["knowledge"], FLOPS, rest=0.2)
    # ln 2.65 + .19 x = ln 2.7 + .35 (.8 - x) for code's share x.
    share = (math.log(2.7 / 2.65) + 0.35 * 0.8) / (0.19 + 0.35)
    assert found.status is Status.OK and found.within
    assert found.ratio == pytest.approx(share / (0.8 - share), rel=0.05)
    assert found.interval[0] < found.ratio < found.interval[1]
    assert found.params == pytest.approx(2.65e8 * math.exp(0.19 * share), rel=0.02)


def test_optima_that_bend_meet_where_their_curves_do():
    rows = table(0, drift=False, noise=0.01, bend=-0.3)
    fits = fit_mixes(rows, MIXES, CLASSES)
    found = align(fits["code"], fits["knowledge"], FLOPS, rest=0.2)
    share = np.linspace(0, 0.8, 10001)
    own = np.log(2.65) + 0.19 * share - 0.3 * (share - 0.4) ** 2
    other = np.log(2.7) + 0.35 * (0.8 - share) - 0.3 * (0.4 - share) ** 2
    meet = share[np.argmin(np.abs(own - other))]
    assert found.ratio == pytest.approx(meet / (0.8 - meet), rel=0.06)
    shares = np.array([mix["code"] for mix in MIXES.values()])
    through_all = np.polyfit(shares, 0.19 * shares - 0.3 * (shares - 0.4) ** 2, 1)[0]
    assert fits["code"].slope(FLOPS).value == pytest.approx(through_all, abs=0.02)


def test_errors_in_common_drop_out_of_differences():
    apart, together = (fit_mixes(table(6, common=c), MIXES, CLASSES) for c in (0.0, 0.9))
    assert abs(correlation(apart["code"], apart["knowledge"])) < 0.35
    assert correlation(together["code"], together["knowledge"]) > 0.6
    code, knowledge = together["code"], together["knowledge"]
    rows, others = code.line_rows(FLOPS, [0.4]), knowledge.line_rows(FLOPS, [0.4])
    found = gap(code, knowledge, rows, others)
    alone = math.hypot(
        *(math.sqrt(f.functional(r)[1][0, 0]) for f, r in ((code, rows), (knowledge, others)))
    )
    assert found.error[0] < 0.95 * alone
    slopes = slope_gap(code, knowledge, FLOPS)
    wanted = code.slope(FLOPS).value - knowledge.slope(FLOPS).value
    assert slopes.value == pytest.approx(wanted)
    assert slopes.interval[0] < -0.16 < slopes.interval[1]


def test_degrees_of_freedom_of_a_sum():
    assert satterthwaite([(1.0, 8.0)]) == pytest.approx(8.0)
    assert satterthwaite([(1.0, 8.0), (1.0, 8.0)]) == pytest.approx(16.0)
    assert satterthwaite([(1.0, 8.0), (-0.1, 1.0)]) == pytest.approx(8.0)  # rounding below none


def test_no_alignment_without_slopes():
    rows = table(1, sizes=4)
    base = rows[rows["mix"] == "base"]
    same = pd.concat([base.assign(mix=m, trial_id=base["trial_id"] + m) for m in list(MIXES)[:6]])
    same["loss"] += 0.01 * np.random.default_rng(0).standard_normal(len(same))
    fits = fit_mixes(same, MIXES, CLASSES)
    found = align(fits["code"], fits["knowledge"], FLOPS, rest=0.2)
    assert found.status is Status.NOT_IDENTIFIED and math.isnan(found.ratio)


def test_a_skill_without_a_class_has_optima_and_no_slope():
    rows = table(2, sizes=5)
    fit = fit_mixes(rows, MIXES, {"code": "code"})["knowledge"]
    assert abs(fit.slope(FLOPS)[0]) < 1e-3
    assert np.isfinite(fit.log_optimum(FLOPS)[0]).all()


def test_mistakes_are_named():
    with pytest.raises(FittingError, match="no shares given for mix"):
        fit_mixes(table(0), {"base": MIXES["base"]}, CLASSES)
    with pytest.raises(FittingError, match="which a mix does not name"):
        fit_mixes(table(0), MIXES, {"code": "prose"})


def test_derivatives():
    fit = fit_mixes(table(5, budgets=(FLOPS, 1e20), sizes=3), MIXES, CLASSES)["code"]
    spots = DesignPoints(np.log([2e8, 9e8]), np.array([FLOPS, 1e20]), np.array([2, 9]))
    theta = fit.members[1].theta
    step = 1e-5 * np.eye(fit.grid.width)
    numeric = [
        (evaluate(theta + e, fit.grid, spots)[0] - evaluate(theta - e, fit.grid, spots)[0]) / 2e-5
        for e in step
    ]
    np.testing.assert_allclose(
        np.stack(numeric, 1), evaluate(theta, fit.grid, spots)[1], atol=1e-6
    )


def test_the_next_trial_lowers_the_variance_it_was_chosen_for():
    few = table(4, sizes=4, mixes=("base", "knowledge×0.2", "code×4"))
    fits = fit_mixes(few, MIXES, CLASSES)
    sizes = np.log(np.geomspace(7e7, 1.3e9, 7))
    spots = DesignPoints(np.tile(sizes, 13), np.full(91, FLOPS), np.repeat(np.arange(13), 7))
    none = DesignPoints(np.empty(0), np.empty(0), np.empty(0, dtype=int))
    picks = choose_mixes(
        fits,
        Candidates(spots, spots.flops),
        pending=none,
        tolerance=0.05,
        remaining=3.5 * FLOPS,
        n=9,
        known=few["flops"],
    )
    assert len(picks) == 3  # what remains pays for three
    names = list(MIXES)
    assert any(names[spots.mix[i]] == "code×20" for i in picks)  # furthest from what is known
    pending = DesignPoints(spots.log_params[picks], spots.flops[picks], spots.mix[picks])
    later = choose_mixes(
        fits,
        Candidates(spots, spots.flops),
        pending=pending,
        tolerance=0.05,
        remaining=FLOPS,
        n=1,
        known=few["flops"],
    )
    assert later and later[0] not in picks
    rows, weights = targets(fits["code"])
    assert rows.shape == (len(weights), fits["code"].grid.width)
    assert all(width > 0 for width in widths(fits).values())
