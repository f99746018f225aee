"""The loss of skills' target tokens, summed, so that any normalisation can be had later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.config import CLASSES, Data
from trainables.corpora import Documents
from trainables.corpora.vocabulary import TOKEN_BYTES
from trainables.skills.catalog import Skill

Score = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]
"""From documents (documents, context) to the NLL of each token in nats, same shape."""


def score_skills(
    score: Score, skills: Sequence[Skill], sets: dict[str, Documents], data: Data
) -> dict[str, dict[str, Any]]:
    """Measure skills on held-out documents.

    Args:
        score: the model.
        skills: what to measure.
        sets: held-out documents by name, see `trainables.corpora.evaluation_sets`.
        data: says the reference mix of the aggregate.

    Returns:
        For each skill: ``nll`` (summed, nats), ``tokens``, ``bytes``, ``examples`` (documents
        with a target) and ``class``.
    """
    needed = {name for skill in skills for name in _sets(skill)}
    nll = {name: score(sets[name].tokens) for name in sorted(needed)}
    return {skill.name: _measure(skill, nll, sets, data) for skill in skills}


def _sets(skill: Skill) -> tuple[str, ...]:
    """Names of the sets a skill is scored on."""
    return (skill.documents,) if skill.documents else CLASSES


def _measure(
    skill: Skill,
    nll: dict[str, npt.NDArray[np.float64]],
    sets: dict[str, Documents],
    data: Data,
) -> dict[str, Any]:
    """One skill's sums; the aggregate's NLL is the classes' means weighted by share."""
    if skill.documents:
        return _sums(skill, nll[skill.documents], sets[skill.documents])
    parts = [_sums(skill, nll[name], sets[name]) for name in CLASSES]
    total = {key: sum(part[key] for part in parts) for key in ("tokens", "bytes", "examples")}
    mean = sum(
        data.reference_mix[name] * part["nll"] / part["tokens"]
        for name, part in zip(CLASSES, parts, strict=True)
    )
    return {"nll": mean * total["tokens"], **total, "class": skill.skill_class}


def _sums(skill: Skill, nll: npt.NDArray[np.float64], documents: Documents) -> dict[str, Any]:
    """Sums over one set's target tokens."""
    target = np.ones_like(documents.tokens, dtype=bool)
    if skill.families:
        target = np.isin(documents.family, skill.families)
    return {
        "nll": float(nll[target].sum()),
        "tokens": int(target.sum()),
        "bytes": int(TOKEN_BYTES[documents.tokens[target]].sum()),
        "examples": int(target.any(axis=1).sum()),
        "class": skill.skill_class,
    }
