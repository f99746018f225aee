"""The sentences follow from the intervals, and from nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fitting import Comparison, Optimum, PowerLaw, Status, compare_optima, fit_power_law
from fitting.compare.optima import pool_laws
from fitting.laws.powerlaw import no_law
from sweeper.analysis.conclusions import Contrast, conclusions, contrasts
from sweeper.analysis.studies.validation import _range
from sweeper.text import between, number

BUDGETS = (1e11, 2e11, 4e11)


@dataclass
class SkillStub:
    """As much of a skill's fit as sentences need."""

    optima: list[Optimum]
    law: PowerLaw = field(init=False)

    def __post_init__(self) -> None:
        sound = [o for o in self.optima if o.ok]
        law = fit_power_law(
            [o.flops for o in sound],
            [o.params for o in sound],
            se=[o.log_params_se for o in sound],
        )
        self.law = replace(law, dof=math.inf)  # errors are known here

    def at(self, flops: float) -> Optimum:
        return next(o for o in self.optima if math.isclose(o.flops, flops))


class FitsStub(dict[str, SkillStub]):
    frame = pd.DataFrame({"trial_id": ["a", "a", "b"], "flops": [4e11, 4e11, 6e11]})
    observations = SimpleNamespace(budgets=list(BUDGETS), frame=frame)

    def compare(self, skill: str, aggregate: str) -> Comparison:
        one, other = self[skill], self[aggregate]
        return pool_laws(compare_optima(one.optima, other.optima), one.law, other.law)


def optimum(flops: float, params: float, se: float = 0.05, status: Status = Status.OK) -> Optimum:
    bounds = (params * math.exp(-1.64 * se), params * math.exp(1.64 * se))
    return Optimum(params, se, status, 0.1, flops, flops / 6 / params, bounds, reason="at the end")


def stub(factor: float, se: float = 0.05, status: Status = Status.OK) -> SkillStub:
    return SkillStub([optimum(c, factor * 0.06 * math.sqrt(c), se, status) for c in BUDGETS])


def fits(knowledge: SkillStub, code: SkillStub) -> FitsStub:
    return FitsStub(knowledge=knowledge, code=code, validation=stub(1.0))


@pytest.mark.parametrize(
    ("ratio", "interval", "verdict"),
    [
        (1.8, (1.1, 3.0), "clear"),
        (0.6, (0.4, 0.9), "clear"),
        (1.8, (0.9, 3.6), "suggestive"),
        (1.05, (0.7, 1.6), "undecided"),
        (1.8, (math.nan, math.nan), "undecided"),
    ],
)
def test_certainty_follows_the_interval(
    ratio: float, interval: tuple[float, float], verdict: str
) -> None:
    assert Contrast("a", "b", ratio, interval).certainty == verdict


def test_narrow_intervals_let_the_headline_be_clear() -> None:
    said = conclusions(fits(stub(1.6), stub(0.8)), "validation")

    assert "knowledge asks for a larger model than code" in said[0]
    assert "2.00 times" in said[0]
    assert said[0].endswith("clear.")


def test_wide_intervals_make_the_same_ratio_suggestive_only() -> None:
    said = conclusions(fits(stub(1.5, se=0.5), stub(0.8, se=0.5)), "validation")

    assert "suggestive" in said[0]
    # ln 1.875 = .629; the interval's half is 1.645 x .5 x sqrt(2 / 3) = .672, so 1.14 times.
    deciding = (
        "1.4e11 FLOPs more, 1.1 times the 1e12 spent in all, would decide it, if the ratio stays."
    )
    assert said[0].endswith(deciding)
    assert not any("clear" in sentence for sentence in said)


def test_equal_optima_are_not_told_apart() -> None:
    said = conclusions(fits(stub(1.01), stub(1.0)), "validation")

    assert said[0].startswith("The best sizes of knowledge and code cannot be told apart")
    assert "More than 10 times the FLOPs would be needed; they differ by no more than" in said[0]


def test_every_skill_is_set_against_the_aggregate_and_the_law_is_named() -> None:
    said = conclusions(fits(stub(1.5), stub(0.7)), "validation")

    assert any(
        s.startswith("knowledge’s optimum is clearly larger than validation’s") for s in said
    )
    assert any(s.startswith("code’s optimum is clearly smaller than validation’s") for s in said)
    assert any("37.9k params on 1.76M tokens at 4e11 FLOPs" in s and "C^0.50" in s for s in said)


def test_optima_that_forbid_a_number_are_named_and_not_compared() -> None:
    said = conclusions(fits(stub(1.5), stub(0.7, status=Status.EDGE)), "validation")

    words = "knowledge and code cannot be compared yet: code has no optimum (at the edge)."
    assert said[0] == words
    assert not any("code’s optimum" in sentence for sentence in said)
    assert said[-1].startswith("code has no optimum to plan with at 1e11, 2e11, 4e11 FLOPs: ")
    assert said[-1].endswith("train sizes there.")


def test_skills_and_classes_are_compared_with_their_like() -> None:
    classes = {"validation/docs": stub(1.0), "validation/code": stub(0.7)}
    found = contrasts(FitsStub(recall=stub(1.5), proofs=stub(0.6), **classes), None)
    pairs = [(c.skill, c.reference) for c in found]
    assert pairs == [("recall", "proofs"), ("validation/docs", "validation/code")]


def test_skills_that_say_nothing_are_named_and_not_compared() -> None:
    weak = {"code": "code says nothing yet: it is measured on 40 target tokens."}
    said = conclusions(fits(stub(1.6), stub(0.8, status=Status.FLAT)), "validation", weak)
    assert said[0] == weak["code"]
    assert sum("code" in sentence for sentence in said) == 1


def test_without_that_pair_the_skills_farthest_apart_come_first() -> None:
    rest = {"prose": stub(1.01), "sums": stub(1.02)}
    several = FitsStub(validation=stub(1.0), recall=stub(1.5), proofs=stub(0.6), **rest)

    first = conclusions(several, "validation")[0]
    assert first.startswith("On the same budget recall asks for a larger model than proofs: 2.50")
    assert first.endswith("They are the farthest apart of 4 skills, which overstates it.")
    two = FitsStub(recall=stub(1.5), proofs=stub(0.6))
    assert "overstates" not in conclusions(two, None)[0]


def test_a_skill_without_an_optimum_is_no_headline() -> None:
    flat = FitsStub(validation=stub(1.0), recall=stub(1.5, status=Status.FLAT), prose=stub(1.2))
    assert conclusions(flat, "validation")[0].startswith("prose’s optimum is clearly larger than")


def test_without_an_aggregate_only_the_pair_is_compared() -> None:
    pair = FitsStub(knowledge=stub(1.5), code=stub(0.8))

    assert [(c.skill, c.reference) for c in contrasts(pair, None)] == [("knowledge", "code")]
    assert len(conclusions(pair, None)) == 1


def test_one_budget_is_compared_by_its_optima() -> None:
    one = FitsStub(knowledge=SkillStub([optimum(1e11, 3e4)]), code=SkillStub([optimum(1e11, 2e4)]))
    one.observations = SimpleNamespace(budgets=[1e11], frame=FitsStub.frame)
    (found,) = contrasts(one, None)

    assert found.ratio == pytest.approx(1.5)
    assert math.log(found.interval[1] / 1.5) == pytest.approx(
        1.645 * 0.05 * math.sqrt(2), rel=1e-3
    )


def test_numbers_for_people() -> None:
    assert number(4e11) == "4e11"
    assert number(math.nan) == "–"
    assert between((36_000, 45_300)) == "36k – 45.3k"
    assert between((0.4, math.nan)) == "–"


def test_an_alarm_is_said_with_what_to_do() -> None:
    found = fits(stub(1.5), stub(0.7))
    for one in found.values():
        one.law = no_law(Status.NO_COMMON_LAW, "The cheaper budgets do not predict it.", "guarded")
    said = conclusions(found, "validation")  # type: ignore[arg-type]
    alarm = "the cheaper budgets do not predict it."
    assert said[-3:-1] == [f"knowledge: {alarm}", f"code: {alarm}"]
    assert said[-1].startswith(f"validation: {alarm} The fit without")
    assert "train on larger budgets" in said[-1]


def test_a_skill_alone_is_answered_by_its_best_size() -> None:
    alone = FitsStub(code=stub(1.0))
    (said,) = conclusions(alone, None)
    assert said.startswith("code: 37.9k params on 1.76M tokens at 4e11 FLOPs (90 % 35k to 41.2k")


def test_a_study_without_optima_by_two_losses_says_so() -> None:
    rows = pd.DataFrame({"log_ratio": [np.nan, np.nan], "flops": [1e10, 2e10]})
    assert "No budget has optima by two choices of loss" in _range(rows)
