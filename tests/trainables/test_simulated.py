"""The simulated training has the shape of the real one, and the losses it was told."""

from __future__ import annotations

import pytest

from trainables.config import TrialConfig
from trainables.context import LocalContext
from trainables.data import Data
from trainables.families import Model
from trainables.shapes import solve
from trainables.simulated import train
from trainables.skills import catalog

SURFACE = {"code": {"E": 1.0, "A": 50.0, "B": 300.0, "alpha": 0.5, "beta": 0.4}}


def _config(data: Data, seed: int = 0, skills: tuple[str, ...] = ()) -> TrialConfig:
    return TrialConfig(solve(2e4, Model()), tokens=600_000, seed=seed, data=data, skills=skills)


def test_without_noise_the_surface_is_returned() -> None:
    config = _config(Data(source="simulated", surface=SURFACE, noise=0.0))
    entry = train(config, LocalContext())["losses"]["code"]
    expected = 1 + 50 * config.shape.params_with_head**-0.5 + 300 * 600_000**-0.4
    assert entry["nll"] / entry["tokens"] == pytest.approx(expected)


def test_noise_depends_on_the_seed_alone() -> None:
    losses = [
        train(_config(Data(source="simulated"), seed), LocalContext())["losses"]
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_default_skills_have_surfaces() -> None:
    names = tuple(skill.name for skill in catalog() if skill.default)
    record = train(_config(Data(source="simulated"), skills=names), LocalContext())
    assert set(record["losses"]) == set(names)
    assert record["losses"]["validation"]["class"] == "aggregate"


def test_a_missing_surface_or_parameter_is_named() -> None:
    with pytest.raises(ValueError, match="skill 'poetry'"):
        train(_config(Data(source="simulated"), skills=("poetry",)), LocalContext())
    broken = {"code": {"E": 1.0}}
    with pytest.raises(ValueError, match="'A' is missing for skill 'code'"):
        train(_config(Data(source="simulated", surface=broken)), LocalContext())
