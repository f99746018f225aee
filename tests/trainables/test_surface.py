"""The package's public names."""

from __future__ import annotations

import trainables


def test_public_names_are_pinned() -> None:
    assert set(trainables.__all__) == {
        "Data",
        "Model",
        "Shape",
        "Skill",
        "Train",
        "TrialConfig",
        "catalog",
        "sizes",
        "solve",
    }
    assert all(hasattr(trainables, name) for name in trainables.__all__)
