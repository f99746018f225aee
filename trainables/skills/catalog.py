"""Which skills there are, by name. Pure Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.corpora.documents import Family
from trainables.data import Data
from trainables.families.checks import did_you_mean
from trainables.manifest import Corpus

EXAMPLES = "skills"
"""Folder of encoded examples in a prepared corpus."""

GRADES = range(1, 7)
"""Functions a line of the code ladder's programs."""


@dataclass(frozen=True)
class Skill:
    """A family of held-out examples whose target loss is measured.

    Attributes:
        skill_class: "knowledge", "code", "validation", or "aggregate" for the whole validation
            set.
        documents: held-out set it is scored on: a class's documents, or ``skills/<name>`` for
            encoded examples; "" for the weighted sum of all classes.
        families: families of target tokens; empty for every token.
    """

    name: str
    skill_class: str
    description: str
    default: bool
    documents: str
    families: tuple[int, ...] = ()


def catalog(data: Data | None = None) -> list[Skill]:
    """Every skill there is on some data: the prepared corpus's, else the built-in corpora's."""
    data = data or Data()
    own = _generated() if data.corpus is None else _encoded(data.corpus)
    return [*own, *_validation(data.classes)]


def _encoded(corpus: Corpus) -> list[Skill]:
    """The benchmarks encoded with a prepared corpus."""
    said = "Targets of {} encoded examples."
    return [
        Skill(name, has.skill_class, said.format(has.examples), True, f"{EXAMPLES}/{name}")
        for name, has in corpus.skills.items()
    ]


def _generated() -> list[Skill]:
    """Skills of the built-in corpora, beside their validation sets."""
    facts = "Facts completed in the phrasings of training, by frequency."
    asked = "The same facts asked for, about entities never asked about in training."
    unasked = (Family.HELD_OUT_QUESTION,)
    kinds = tuple(Family.PROGRAM + grade for grade in GRADES)
    grades = [
        Skill(
            f"code-{grade}", "code",
            f"Results of programs with {grade} function{'s' if grade > 1 else ''} a line.",
            False, "code", (Family.PROGRAM + grade,),
        )
        for grade in GRADES
    ]  # fmt: skip
    return [
        Skill("knowledge", "knowledge", facts, True, "knowledge", (Family.STATEMENT,)),
        Skill("knowledge-qa", "knowledge", asked, True, "knowledge-qa", unasked),
        Skill("code", "code", "Results of unseen programs of all grades.", True, "code", kinds),
        *grades,
    ]


def _validation(classes: Sequence[str]) -> list[Skill]:
    """Every token of held-out documents, by class and in all."""
    by_class = [
        Skill(
            f"validation/{name}", "validation", f"Every token of held-out {name} documents.",
            False, name,
        )
        for name in classes
    ]  # fmt: skip
    said = "Every token of held-out documents, classes weighted by data.shares."
    return [*by_class, Skill("validation", "aggregate", said, True, "")]


def resolve(names: Sequence[str], data: Data | None = None) -> list[Skill]:
    """The skills of given names on some data, the defaults for none.

    Raises:
        ValueError: a name is unknown; the message has the nearest known one.
    """
    known = {skill.name: skill for skill in catalog(data)}
    for name in names:
        if name not in known:
            meant = did_you_mean(name, known)
            raise ValueError(f"skills: {name!r} is unknown{meant}; known: {', '.join(known)}")
    return [known[name] for name in names] or [s for s in known.values() if s.default]
