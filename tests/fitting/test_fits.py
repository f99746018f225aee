"""fit_skills: statuses, side-by-side methods, and values that survive JSON."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.worlds import LADDER, world
from fitting import FitError, Fits, Status, TableError, fit_skills
from fitting.mixture.fit import Guarded

OFFSETS = np.linspace(-1.5, 1.5, 8)


def base_table(seed: int = 0, world_name: str = "fail") -> pd.DataFrame:
    place = world(world_name)
    centre = np.array([place.log_optimum("aggregate", c) for c in LADDER])
    flops = np.repeat(LADDER, len(OFFSETS))
    sizes = np.exp((centre[:, None] + OFFSETS).ravel())
    return place.table(flops, sizes, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return base_table()


@pytest.fixture(scope="module")
def fits(table) -> Fits:
    return fit_skills(table)


def like(table: pd.DataFrame, name: str, loss) -> pd.DataFrame:
    """One more skill on the same trials."""
    rows = table[table["skill"] == "code-1"].copy()
    return rows.assign(skill=name, loss=loss(rows))


def test_a_skill_whose_fit_did_not_end_is_named_and_one_without_optima_is_not(table, monkeypatch):
    """Valleys of skills near chance may never settle: that is no news of the others."""

    def converged(fit: Guarded) -> np.ndarray:
        return np.array([s not in ("code-1", "falling") for s in fit.skills])

    monkeypatch.setattr(Guarded, "converged", property(converged))
    falling = like(table, "falling", lambda rows: 9 - 0.3 * np.log(rows["params"]))
    found = fit_skills(pd.concat([table, falling]))
    assert not found["falling"].ok
    said = [line for line in found.warnings if "ran out of steps" in line]
    assert said == ["code-1: the fit ran out of steps: intervals may be wrong."]


def test_every_skill_has_optima_a_law_and_losses(table, fits):
    place = world("fail")
    assert list(fits) == list(place.skills)
    for skill, fit in fits.items():
        assert fit.ok
        assert [o.flops for o in fit.optima] == pytest.approx(list(LADDER))
        assert fit.law.exponent == pytest.approx(0.5, abs=0.15)
        best = fit.at(1e20)
        assert best.interval[0] < best.params < best.interval[1]
        assert best.tokens == pytest.approx(1e20 / (6 * best.params))
        assert math.log(best.params) == pytest.approx(place.log_optimum(skill, 1e20), abs=0.3)
        assert best.method == "guarded"
        truth = place.truths[place.skills.index(skill)]
        expected = float(truth.expected(np.array(best.params), np.array(best.tokens)))
        assert fit.loss(best.params, best.tokens).value == pytest.approx(expected, abs=0.03)


def test_extrapolation_is_named_and_wider(fits):
    fit = fits["aggregate"]
    near, far = fit.at(1e21), fit.at(1e22)
    assert near.extrapolates == 1
    assert far.extrapolates == pytest.approx(10)
    assert far.log_params_se > 1.5 * near.log_params_se
    remote = fit.loss(1e12, 1e13)
    assert remote.extrapolates > 1e4
    assert remote.interval[0] < remote.value < remote.interval[1]
    hopeless = fit.at(1e35)
    assert math.isnan(hopeless.params)
    assert hopeless.status is Status.NOT_IDENTIFIED


def test_excluded_rows_are_listed(table, fits):
    assert len(fits.excluded) == int(table["loss"].isna().sum())
    assert fits.excluded["reason"].str.len().min() > 0


def test_sizes_that_just_reach_one_budgets_optimum_have_edges_and_a_law(table):
    """Real ladders begin above the optima of the cheapest budgets: refusing them helped nobody."""
    place = world("fail")
    code = table[table["skill"] == "code-2"]
    near = {c: math.exp(place.log_optimum("code-2", c)) for c in LADDER}
    dearest = code[code["flops"] == LADDER[2]]["params"]
    least = dearest[dearest < near[LADDER[2]]].max()
    three = code[(code["flops"] <= LADDER[2]) & (code["params"] >= least)]
    assert (three["params"] > three["flops"].map(near)).sum() == len(three) - 1
    fit = fit_skills(three)["code-2"]
    assert fit.ok and math.isfinite(fit.at(1e21).params)
    *cheaper, top = (o.status for o in fit.optima)
    assert len(cheaper) == 2 and set(cheaper) <= {Status.EDGE, Status.GAP}
    assert top is Status.OK


@pytest.mark.parametrize("method", ["guarded", "parabola", "surface"])
def test_unusable_skills_have_a_status_and_the_others_their_numbers(table, method):
    rng = np.random.default_rng(1)
    code = table[table["skill"] == "code-1"]
    falling = like(table, "falling", lambda rows: rows["loss"])
    above = {c: math.exp(world("fail").log_optimum("code-1", c)) for c in LADDER}
    falling = falling[falling["params"] < 0.8 * falling["flops"].map(above)]
    bad = {
        "flat": like(table, "flat", lambda rows: 2 + 0.01 * rng.standard_normal(len(rows))),
        "constant": like(table, "constant", lambda rows: 2.0),
        "concave": like(table, "concave", lambda rows: 5 - rows["loss"]),
        "falling": falling,
        "few": code.groupby("flops").head(2).assign(skill="few"),
    }
    found = fit_skills(pd.concat([table, *bad.values()]), method=method)
    for name in bad:
        fit = found[name]
        assert not fit.ok or name in ("flat", "falling")
        assert fit.reason
        for optimum in (*fit.optima, fit.at(1e22)):
            assert math.isnan(optimum.params) or optimum.status in (Status.OK, Status.EDGE)
    assert found["concave"].status is Status.CONCAVE
    assert found["constant"].status is Status.FLAT
    assert all(found[name].ok for name in ("aggregate", "knowledge-1", "code-2"))
    assert any(w.startswith("concave:") for w in found.warnings)
    if method == "guarded":
        assert found["flat"].status is Status.FLAT
        assert found["falling"].status is Status.NO_INTERIOR_MINIMUM
        with pytest.raises(FitError, match="negative"):
            found["concave"].loss(1e9, 1e10)


def test_one_budget_has_an_optimum_but_no_law(table):
    one = table[(table["flops"] == LADDER[2]) & (table["skill"] == "aggregate")]
    fit = fit_skills(one)["aggregate"]
    assert fit.at(LADDER[2]).ok
    assert fit.at(1e22).status is Status.NOT_IDENTIFIED
    assert fit.law.status is Status.NOT_IDENTIFIED


def test_a_bend_is_said_and_withholds_nothing():
    found = fit_skills(base_table(world_name="lrbump"))
    assert found.alarm and any("bends" in line for line in found.warnings)
    fit = found["aggregate"]
    assert "bends" in fit.grade and fit.law.ok and fit.at(1e22).ok
    assert fit.at(1e22).log_params_se > 2 * fit.at(1e21).log_params_se
    assert fit.score is not None and fit.score.held and fit.score.beyond > 2
    assert json.loads(found.to_json())["skills"]["aggregate"]["grade"] == fit.grade


def test_where_its_own_check_fails_nothing_beyond_is_predicted(table):
    """The top budget's optimum lies a factor 8 from where all the others point."""
    one = table[table["skill"] == "aggregate"].dropna(subset=["loss"])
    top = one["flops"] == 1e21
    params = one["params"].where(~top, one["params"] / 8)
    moved = one.assign(params=params, tokens=one["flops"] / 6 / params)
    fit = fit_skills(moved)["aggregate"]
    assert fit.score is not None and not fit.score.held and "check fails" in fit.grade
    assert fit.at(1e21).ok and fit.law.status is Status.NO_COMMON_LAW
    far = fit.at(1e22)
    assert far.status is Status.NO_COMMON_LAW and math.isnan(far.params)
    with pytest.raises(FitError, match="check fails"):
        fit.loss(1e10, 1e12)


def test_a_loss_of_which_too_little_is_known_is_not_predicted(table):
    """A skill near chance that falls ever faster may end anywhere."""
    levels = dict(zip(LADDER, [3.3, 3.3, 3.2, 3.0, 2.7, 2.3, 1.7], strict=True))
    u = np.log(table["params"]) - 0.5 * np.log(table["flops"] / 120)
    noise = 0.2 * np.random.default_rng(0).standard_normal(len(table))
    loss = table["flops"].map(levels) + 0.15 * u**2 + noise
    late = table.assign(loss=loss, skill="late")[table["skill"] == "code-1"]
    both = fit_skills(pd.concat([table[table["skill"] == "code-1"], late]))
    size = math.sqrt(LADDER[-1] / 120)
    assert math.isfinite(both["late"].loss(size, 20 * size).value)  # on the ladder all is told
    assert both["code-1"].loss(5 * size, 100 * size).value > 0
    low, high = both["late"].loss(1.7 * size, 34 * size).interval  # near, a wide interval is shown
    assert high > 1.7 * low
    with pytest.raises(FitError, match="spans more than a factor"):
        both["late"].loss(5 * size, 100 * size)


def test_an_optimum_between_far_sizes_is_not_ok(table):
    """Sizes far below and far above the optimum: a lead, and no plan."""
    one = table[table["skill"] == "aggregate"].dropna(subset=["loss"])
    centre = one["flops"].map({c: world("fail").log_optimum("aggregate", c) for c in LADDER})
    near = np.abs(np.log(one["params"]) - centre) < 0.9
    fit = fit_skills(one[~(near & (one["flops"] == 1e21))])["aggregate"]
    assert fit.at(1e21).status is Status.GAP and "factor 1.5" in fit.at(1e21).reason
    assert fit.at(3e20).ok and math.isfinite(fit.at(1e21).params)


def test_sizes_that_end_below_the_optimum_are_an_edge_of_their_budget(table):
    one = table[table["skill"] == "aggregate"].dropna(subset=["loss"])
    fit = fit_skills(one[~((one["flops"] >= 3e20) & (one["params"] > 1e9))])["aggregate"]
    assert [o.status for o in fit.optima][-2:] == [Status.EDGE, Status.EDGE]
    assert fit.at(1e19).ok


def test_one_diverged_trial_ends_no_skill(table):
    one = table[table["skill"] == "aggregate"].dropna(subset=["loss"]).reset_index(drop=True)
    for row in (3, 20, len(one) - 2):
        loss = one["loss"].copy()
        loss[row] = 9.0
        fit = fit_skills(one.assign(loss=loss))["aggregate"]
        clean = fit_skills(one)["aggregate"]
        assert fit.ok
        away = math.log(fit.at(1e20).params / clean.at(1e20).params)
        assert abs(away) < 2 * clean.at(1e20).log_params_se + 0.02


def test_tokens_are_counted_as_the_table_counts_flops(table):
    """FLOPs with attention: 7.5 per parameter and token."""
    one = table[table["skill"] == "aggregate"].dropna(subset=["loss"])
    dearer = one.assign(flops=one["flops"] * 1.25)
    for method in ("guarded", "surface", "parabola"):
        fit, plain = (fit_skills(t, method=method)["aggregate"] for t in (dearer, one))
        best = fit.at(1.25e20)
        assert best.tokens * best.params * 7.5 == pytest.approx(1.25e20, rel=1e-3)
        assert best.params == pytest.approx(plain.at(1e20).params, rel=0.01)
    assert str(fit_skills(dearer)["aggregate"].convention) == "flops = 7.5 params tokens"


def test_a_law_that_holds_raises_no_alarm(fits):
    assert not fits.alarm
    assert fits["aggregate"].at(1e22).ok and fits["aggregate"].law.ok


def test_all_methods_side_by_side(fits):
    table = fits.table()
    assert set(table["method"]) == {"guarded", "parabola", "surface"}
    assert len(table) == 3 * len(LADDER) * len(fits)
    good = table[table["status"] == "ok"]
    assert (good["low"] < good["params"]).all()
    assert (good["params"] < good["high"]).all()


@pytest.mark.parametrize("method", ["guarded", "parabola", "surface"])
def test_json_holds_every_optimum_and_law(table, tmp_path, method):
    fits = fit_skills(pd.concat([table, like(table, "concave", lambda r: 5 - r["loss"])]), method)
    path = tmp_path / "fits.json"
    text = fits.to_json(path)
    assert path.read_text(encoding="utf-8") == text
    skills = json.loads(text)["skills"]
    assert list(skills) == list(fits)
    for skill, fit in fits.items():
        kept = [
            o["params"] if o["params"] is not None else np.nan for o in skills[skill]["optima"]
        ]
        assert kept == pytest.approx([o.params for o in fit.optima], nan_ok=True)
        assert skills[skill]["law"]["status"] == str(fit.law.status)
    assert skills["code-1"]["law"]["exponent"] == fits["code-1"].law.exponent


def test_the_view_fits_a_terminal(fits):
    lines = repr(fits).splitlines()
    assert len(lines) == len(fits) + 1
    assert max(map(len, lines)) <= 100


def test_where_three_sizes_fix_a_curve_no_interval_is_shown():
    rows = [
        {"flops": c, "params": p, "loss": 3 - 0.02 * np.log(c) + 0.1 * np.log(p / c**0.5) ** 2}
        for c in (1e18, 4e18)
        for p in c**0.5 * np.array([0.4, 1.0, 2.5])
    ]
    assert "p*(4e18) = 2B (interval unknown)" in repr(fit_skills(pd.DataFrame(rows), "parabola"))


def test_an_unknown_skill_names_the_nearest_and_all(fits):
    with pytest.raises(KeyError, match=r"did you mean 'code-1'\?\); measured: .*code-2"):
        fits["cod-1"]
    assert fits.get("cod-1") is None


def test_misuse_names_the_remedy(table, fits):
    with pytest.raises(ValueError, match="guarded"):
        fit_skills(table, method="magic")
    with pytest.raises(ValueError, match="flops"):
        fits["aggregate"].at(-1.0)
    with pytest.raises(ValueError, match="flops"):
        fits["aggregate"].at("1e20")  # type: ignore[arg-type]
    with pytest.raises(FitError, match="More than 1e5 times"):
        fits["aggregate"].loss(1e9, 1e40)
    with pytest.raises(TableError, match="loss"):
        fit_skills(table.drop(columns="loss"))
    with pytest.raises(FitError, match="guarded"):
        fit_skills(table, method="parabola")["aggregate"].loss(1e9, 1e10)


def test_strewn_budgets_need_no_isoflop_curves():
    place, rng = world("fail"), np.random.default_rng(2)
    flops = np.exp(rng.uniform(np.log(6e18), np.log(1e21), 80))
    sizes = np.exp([place.log_optimum("aggregate", c) for c in flops] + rng.uniform(-1.5, 1.5, 80))
    found = fit_skills(place.table(flops, sizes, rng))["aggregate"]
    assert found.ok
    assert math.log(found.at(1e20).params) == pytest.approx(
        place.log_optimum("aggregate", 1e20), abs=0.15
    )


def test_twenty_skills_on_nine_budgets_are_all_fitted():
    base, rng = world("fail"), np.random.default_rng(3)
    budgets = np.geomspace(6e18, 3e21, 9)
    centre = np.array([base.log_optimum("aggregate", c) for c in budgets])
    sizes = np.exp((centre[:, None] + np.linspace(-1.5, 1.5, 12)).ravel())
    tables = [base.table(np.repeat(budgets, 12), sizes, rng) for _ in range(4)]
    parts = [t.assign(skill=t["skill"] + f"-{i}") for i, t in enumerate(tables)]
    table = pd.concat(parts)
    table = table[table["skill"].isin(table["skill"].unique()[:20])]
    fits = fit_skills(table)
    assert sum(fit.ok for fit in fits.values()) == 20


def test_parabolas_alone_cost_no_mixture(table, monkeypatch):
    def dear(seen):
        raise AssertionError("the mixture was fitted")

    monkeypatch.setattr("fitting.fits.guarded_models", dear)
    fits = fit_skills(table, method="parabola")
    assert repr(fits) and fits["aggregate"].at(1e22).ok and not fits["aggregate"].grade
    assert isinstance(fits.warnings, tuple)


def test_many_losses_at_once_are_those_one_by_one(fits):
    params, tokens = np.array([3e8, 2e9]), np.array([1e10, 3e10])
    one_by_one = [fits["code-1"].loss(p, t).value for p, t in zip(params, tokens, strict=True)]
    np.testing.assert_allclose(fits["code-1"].losses(params, tokens), one_by_one)


def test_losses_in_other_units_are_said():
    rng = np.random.default_rng(0)
    rows = [
        (c, p, "code", 1.7 + 400 / p**0.34 + 410 / (c / 6 / p) ** 0.28 + 0.002 * rng.normal())
        for c in (1e18, 3e18)
        for p in np.geomspace(3e7, 3e9, 7)
    ]
    table = pd.DataFrame(rows, columns=["flops", "params", "skill", "loss"])
    assert not any("other units" in line for line in fit_skills(table).warnings)
    table.loc[3, "loss"] /= np.log(2)
    said = [line for line in fit_skills(table).warnings if "other units" in line]
    assert len(said) == 1
    assert said[0].startswith("code: losses far from others of their budget: 1 (")
    assert f"{table.loc[3, 'loss']:.3g}, where" in said[0]


@pytest.mark.parametrize("method", ["guarded", "surface"])
@pytest.mark.parametrize("ratio", [2, 20])
def test_tokens_in_step_with_params_put_the_optimum_on_no_side(ratio, method):
    params = np.geomspace(3e7, 1e9, 9)
    tokens = ratio * params
    noise = 0.004 * np.random.default_rng(0).standard_normal(9)
    loss = 1.8 + 480 * params**-0.35 + 2080 * tokens**-0.37 + noise
    found = fit_skills({"params": params, "tokens": tokens, "loss": loss}, method)["loss"]
    assert found.status is Status.NOT_IDENTIFIED
    assert found.reason.startswith("Tokens grow in step with params")
