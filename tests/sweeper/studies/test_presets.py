"""What a study fills in, and the spec that waits for a GPU."""

from pathlib import Path

import pytest

from sweeper import SpecError, Sweep
from sweeper.spec.presets import SKILLS

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "08_gpu_studies.yaml"


@pytest.mark.parametrize("study", ["validation", "skills"])
def test_a_study_names_its_skills_unless_the_spec_does(study):
    plan = Sweep(budgets=[1e11, 2e11], allowance=3e12, study=study)
    assert set(SKILLS[study]) <= set(plan.measured)
    own = Sweep(budgets=[1e11, 2e11], allowance=3e12, study=study, skills=("code",))
    assert own.measured == ("code", "validation")
    assert "study" not in plan.identity


def test_an_unknown_study_is_refused():
    with pytest.raises(SpecError, match="study"):
        Sweep.from_dict({"budgets": [1e11], "allowance": 3e12, "study": "skill"})


@pytest.mark.parametrize("study", ["datamix", "validation", "skills"])
def test_the_gpu_spec_is_ready(study):
    plan = Sweep.load(EXAMPLE, {"study": study})
    assert plan.plan().trials[1] >= 25
    assert plan.placement.rule(2e5).gpus == 0.125
    assert (len(plan.mixes) == 13) == (study == "datamix")
    low, high = min(plan.space.params), max(plan.space.params)
    assert low < 4e5 and high > 1e7
