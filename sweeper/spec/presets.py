"""What a study adds to a spec that does not say it itself. Loads nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from trainables.data import Data
from trainables.skills.catalog import catalog

Study = Literal["", "datamix", "validation", "skills"]

SKILLS: Mapping[str, tuple[str, ...]] = {
    "validation": (
        "knowledge", "knowledge-qa", "code",
        "validation/knowledge", "validation/code", "validation/other",
    ),
    "skills": (
        "knowledge", "knowledge-qa", "code",
        "code-1", "code-2", "code-3", "code-4", "code-5", "code-6",
    ),
}  # fmt: skip
"""Skills of the built-in corpora that each study measures unless the spec names others."""

PAPER = "paper"
"""Name of the preset with the thirteen mixes of arXiv 2503.10061."""


def paper_multipliers() -> dict[str, dict[str, float]]:
    """The paper's thirteen mixes as class multipliers on its base mix."""
    from fitting.datamix.shares import PAPER_BASELINE, paper_mixes

    return {
        name: {c: share / PAPER_BASELINE[c] for c, share in mix.items()}
        for name, mix in paper_mixes().items()
    }


def followed(
    skills: Iterable[str],
    classes: Iterable[str],
    *,
    data: Data | None = None,
    stated: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The document class whose share each skill follows, for the skills that follow one.

    A skill follows the class that is stated for it; one of the catalog the class it belongs to, or
    that of the documents it is scored on; any other the class it is called after (``code``,
    ``code-3``, ``code/mbpp``), or the one it validates (``validation/python``).
    """
    names = set(classes)
    known = {s.name: (s.skill_class, s.documents) for s in catalog(data)} if not stated else {}
    known |= {name: (kind, kind) for name, kind in (stated or {}).items()}
    found = {}
    for skill in skills:
        called = skill.replace("/", "-").split("-")[0]
        for candidate in known.get(skill, (skill, called, skill.split("/")[-1])):
            if candidate in names:
                found[skill] = candidate
                break
    return found
