"""The three studies on runs whose answers are known, and on the paper's points."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fitting.errors import FittingError
from sweeper import SearchSettings, SpecError, Sweep
from sweeper.analysis.studies import datamix, skills, source, validation
from sweeper.analysis.studies.run import analyse, keep, to_json
from sweeper.cli import app
from sweeper.spec.presets import followed

# ln of the factor by which each skill's optimum lies off the aggregate's.
OFFSETS = {
    "knowledge": 0.4,
    "knowledge-qa": 0.3,
    "code-1": -0.3,
    "code-2": -0.2,
    "validation": 0.0,
}
BUDGETS = (1e18, 3e18, 1e19)


def loss(skill, params, flops, rng, *, shift=0.0, noise=0.002):
    u = math.log(params) - 0.5 * math.log(flops / 120) - OFFSETS[skill] - shift
    bowl = (math.exp(0.35 * u) + math.exp(-0.35 * u) - 2) / 0.35**2 / 2
    return 2.0 - 0.1 * math.log(flops / 1e18) + 0.1 * bowl + noise * rng.standard_normal()


@pytest.fixture(scope="module")
def runs():
    rng, rows = np.random.default_rng(0), []
    for flops in BUDGETS:
        for x in np.linspace(-1.4, 1.4, 8):
            params = math.sqrt(flops / 120) * math.exp(x)
            rows += [
                (flops, params, flops / 6 / params, f"{flops}{x}", s, loss(s, params, flops, rng))
                for s in OFFSETS
            ]
    names = ["flops", "params", "tokens", "trial_id", "skill", "loss"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture(scope="module")
def mixed():
    """A simulated sweep of mixes: each class's share moves its own skill's optimum."""
    slopes = {"knowledge": (0.8, -0.2), "code-1": (0.4, 0.2)}
    plan = Sweep(
        budgets=[4e11], allowance=2e13, study="datamix", skills=("knowledge", "code-1"),
        search=SearchSettings(tolerance=0.02),
    )  # fmt: skip
    shares = plan.mix_shares

    def losses(allocation, rng):
        found = {}
        for s, (slope, offset) in slopes.items():
            share = shares[allocation.mix][s.split("-")[0]]
            shift = offset + slope * (share - 0.5)
            found[s] = loss(s, allocation.params, allocation.flops, rng, shift=shift)
            found[s] -= 0.1 * math.log(share)
        return found

    return plan.simulate(losses)


def test_skills_follow_the_class_they_belong_to_or_are_called_after():
    names = ["knowledge-qa", "code-3", "validation/code", "validation", "mystery"]
    assert followed(names, ("knowledge", "code", "other")) == {
        "knowledge-qa": "knowledge", "code-3": "code", "validation/code": "code",
    }  # fmt: skip
    assert followed(["validation/python", "python/easy"], ("python", "prose")) == {
        "validation/python": "python", "python/easy": "python",
    }  # fmt: skip


def test_datamix_finds_slopes_alignment_and_costs(mixed):
    found = datamix.study(source.of_outcome(mixed))
    own = found.slopes[found.slopes["method"] == "joint"].set_index("skill")
    for skill, slope in (("knowledge", 0.8), ("code-1", 0.4)):
        assert own.loc[skill, "low"] < slope < own.loc[skill, "high"]
    # The optima: .2 + .8 (k - .5) against -.1 + .4 (c - .5), k + c = .783.
    code = (0.2 + 0.8 * 0.283 + 0.1 + 0.2) / 1.2
    meet = found.alignments[found.alignments["method"] == "joint"].iloc[0]
    assert meet["low"] < code / (0.783 - code) < meet["high"]
    cost = found.costs.set_index("skill")["cost"]
    assert cost["knowledge"] > 0 > cost["code-1"]  # knowledge pays for code
    assert any("clear" in said for said in found.sentences())


def test_datamix_says_what_it_needs(runs):
    with pytest.raises(FittingError, match="three mixes or more of known shares"):
        datamix.study(source.of_table(runs, {}))


def test_tables_say_their_shares_in_columns(mixed):
    table = mixed.table.copy()
    for c in ("knowledge", "code", "other"):
        table[f"share_{c}"] = [mixed.sweep.mix_shares[m][c] for m in table["mix"]]
    read = source.of_table(table, {})
    assert read.shares["base"]["code"] == pytest.approx(0.199)
    assert read.classes == {"knowledge": "knowledge", "code-1": "code"}


def test_validation_moves_the_optimum_between_its_parts(runs):
    found = validation.study(source.of_table(runs, {}))
    assert list(found.stand_ins["name"]) == ["validation"]
    for _, row in found.ranges.iterrows():
        assert (row["smallest"], row["largest"]) == ("code-1", "knowledge")
        assert row["low"] < 0.7 < row["high"]
    worst = found.misplacement.loc[found.misplacement["wasted"].idxmax()]
    assert worst["skill"] == "knowledge" and worst["log_ratio"] == pytest.approx(-0.4, abs=0.1)
    # Excess .1 (.4^2) / 2 nats where the least loss falls by .1 per ln C.
    assert worst["excess"] == pytest.approx(0.008, abs=0.003)
    assert worst["wasted"] == pytest.approx(1 - math.exp(-0.08), abs=0.03)
    guarded = found.sweep[found.sweep["method"] == "guarded"]
    for _, rows in guarded.groupby("flops"):
        assert rows.sort_values("share")["params"].is_monotonic_increasing


def test_validation_finds_the_stand_in(runs):
    """Optima lie at 0, +.4 and -.3 of the aggregate's."""
    found = validation.study(
        source.of_table(runs, {}), wanted=["validation"], candidates=["knowledge", "code-1"]
    )
    best = found.stand_ins.iloc[0]
    assert best["name"] == "code-1" and best["rms"] == pytest.approx(0.3, abs=0.15)
    with pytest.raises(SpecError, match="'cod-1' was not measured"):
        validation.study(source.of_table(runs, {}), wanted=["cod-1"])


def test_claims_are_confirmed_on_the_other_half(runs):
    found = skills.study(source.of_table(runs, {}))
    assert found.halves == {
        "knowledge": "hypothesis", "knowledge-qa": "held-out",
        "code-1": "hypothesis", "code-2": "held-out",
    }  # fmt: skip
    claims = found.claims.set_index(["name", "reference", "method"])
    for method in ("guarded", "parabola"):
        row = claims.loc[("knowledge", "code", method)]
        assert row["verdict"] == "confirmed"
        assert row["log_ratio"] == pytest.approx(0.7, abs=0.1)
        assert row["held_out_log_ratio"] == pytest.approx(0.5, abs=0.1)
        assert claims.loc[("code", "validation", method), "verdict"] == "confirmed"


def test_nothing_is_claimed_of_equal_skills():
    rng, rows = np.random.default_rng(4), []
    for flops in BUDGETS:
        for x in np.linspace(-1.4, 1.4, 6):
            params = math.sqrt(flops / 120) * math.exp(x)
            for s in ("a-1", "a-2", "b-1", "b-2"):
                value = loss("validation", params, flops, rng, noise=0.01)
                rows.append((flops, params, flops / 6 / params, f"{flops}{x}", s, value))
    names = ["flops", "params", "tokens", "trial_id", "skill", "loss"]
    found = skills.study(source.of_table(pd.DataFrame(rows, columns=names), {}))
    assert not (found.claims["verdict"] == "confirmed").any()


def test_halves_can_be_named_and_must_not_overlap(runs):
    read = source.of_table(runs, {})
    found = skills.study(read, hypothesis=["knowledge", "code-1"], held_out=["code-2"])
    assert "no held-out skill" in set(found.claims["verdict"])
    with pytest.raises(SpecError, match="'knowledge' is in both halves"):
        skills.study(read, hypothesis=["knowledge"], held_out=["knowledge"])


def test_the_papers_benchmarks_keep_the_papers_halves(runs):
    names = {
        "knowledge": "triviaqa-test", "knowledge-qa": "nq-dev",
        "code-1": "mbpp", "code-2": "mbxp", "validation": "validation",
    }  # fmt: skip
    own = runs["skill"].str.split("-").str[0].replace("validation", "aggregate")
    table = runs.assign(skill=runs["skill"].map(names), **{"class": own})
    assert skills.study(source.of_table(table, {})).halves == {
        "triviaqa-test": "held-out", "nq-dev": "hypothesis",
        "mbpp": "held-out", "mbxp": "hypothesis",
    }  # fmt: skip


def test_everything_can_be_kept(runs, mixed, tmp_path):
    for name, read in (
        ("datamix", source.of_outcome(mixed)),
        ("validation", source.of_table(runs, {})),
        ("skills", source.of_table(runs, {})),
    ):
        found = analyse(name, read)
        written = keep(found, tmp_path / name)
        assert {path.suffix for path in written} == {".json", ".csv", ".png"}
        assert json.loads(to_json(found))["sentences"]
    with pytest.raises(SpecError, match=r"did you mean 'datamix'.*validation, skills, rates"):
        analyse("datamx", source.of_table(runs, {}))


def test_the_command_and_the_report(runs, mixed, tmp_path):
    path = tmp_path / "runs.csv"
    runs.to_csv(path, index=False)
    said = CliRunner().invoke(app, ["study", "skills", str(path)])
    assert said.exit_code == 0, said.output
    assert "confirmed" in said.output
    asked = CliRunner().invoke(app, ["study", "validation", str(path), "--json"])
    assert json.loads(asked.output)["ranges"]
    from sweeper.report.report import write

    page = write(mixed, tmp_path / "report.html", mixed.fit()).read_text()
    assert 'id="studies"' in page and "optima meet at" in page and "study-datamix-0" in page


def test_the_papers_points_through_the_same_door():
    found = analyse("datamix", source.read("paper", "datamix"))
    own = found.slopes[found.slopes["method"] == "parabola"].set_index("skill")
    # Figure 2's six code curves give less than the .19 of Figure 3, which averages optima.
    assert own.loc["code", "slope"] == pytest.approx(0.094, abs=0.005)
    joint = found.slopes[found.slopes["method"] == "joint"].set_index("skill")
    assert joint.loc["code", "low"] < 0.19 < joint.loc["code", "high"]
