"""What it costs to measure the skills, beside training. Loads neither torch nor ray.

A trial is scored by forward passes, 2 p FLOPs a token, and trained at 6 p a token: scoring n
tokens adds n / 3t to a trial of t tokens. Unless the spec says how many documents to score, as
many are taken as keep that share low in the costliest case, the largest size on the smallest
budget. All trials of a sweep are scored on the same documents and examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.budget import Space
from trainables.data import DOCUMENTS, Data
from trainables.skills.catalog import EXAMPLES, resolve

SHARE = 0.03
"""Largest share of a trial's FLOPs that scoring adds by default."""

FEWEST = 16
"""Fewest held-out documents per class by default: their draw adds 41 % to the variance between
seeds of the quietest skill, 3 to 20 % to that of the others (measured,
benchmarks/results/scoring_noise.md)."""

FEW_TARGETS = 500
"""Target tokens below which a skill says little (as many as the code skill has in the 16 documents
that add 41 % to the variance between its seeds: benchmarks/results/scoring_noise.md)."""

FORWARD = 1 / 3
"""FLOPs of scoring a token over those of training on it: 2 p over 6 p."""


@dataclass(frozen=True)
class Scoring:
    """What scoring adds to training.

    Attributes:
        documents: held-out documents scored per class.
        tokens: tokens scored after every trial, at most.
        most: share of its FLOPs that they add to the trial of fewest tokens.
        least: the same for the trial of most tokens.
    """

    documents: int
    tokens: int
    most: float
    least: float


def scoring(data: Data, skills: Sequence[str], space: Space) -> Scoring:
    """What measuring skills costs the trials of a sweep.

    Args:
        data: what is trained on; ``evaluation_documents`` None takes as many as are affordable.
        space: the trials; its granule is the tokens of a held-out document.
    """
    names = _sets(data, skills)
    fewest, most = _trial_tokens(space)
    documents = data.evaluation_documents or _affordable(data, names, space.granule, fewest)
    tokens = _tokens(data, names, space.granule, documents)
    return Scoring(documents, tokens, FORWARD * tokens / fewest, FORWARD * tokens / most)


def few_targets(tokens: int) -> str:
    """Why this many target tokens are too few to measure a skill on; "" where they are enough."""
    if tokens >= FEW_TARGETS:
        return ""
    return (
        f"it is measured on {tokens} target tokens, so that which they are decides its curve; "
        f"give it examples with {FEW_TARGETS} or more"
    )


def _affordable(data: Data, names: set[str], context: int, trial_tokens: int) -> int:
    """Most documents per class whose scoring adds no more than `SHARE` to a trial."""
    allowed = SHARE * trial_tokens / FORWARD
    fits = (n for n in range(DOCUMENTS, FEWEST, -1) if _tokens(data, names, context, n) <= allowed)
    return next(fits, FEWEST)


def _sets(data: Data, skills: Sequence[str]) -> set[str]:
    """Names of the documents and examples that skills are scored on."""
    chosen = resolve(skills, data)
    return {
        s for skill in chosen for s in ((skill.documents,) if skill.documents else data.classes)
    }


def _tokens(data: Data, names: set[str], context: int, documents: int) -> int:
    """Tokens of some sets; of examples at most, as long ones are cut to the context."""
    return sum(_set_tokens(data, name, context, documents) for name in names)


def _set_tokens(data: Data, name: str, context: int, documents: int) -> int:
    if data.corpus is None:
        return documents * context
    if name.startswith(f"{EXAMPLES}/"):
        counts = data.corpus.skills[name.removeprefix(f"{EXAMPLES}/")]
        return min(counts.tokens, counts.examples * context)
    return min(documents, data.corpus.classes[name].validation_tokens // context) * context


def _trial_tokens(space: Space) -> tuple[int, int]:
    """Tokens of the shortest and of the longest trial."""
    allowed = [(flops, i) for flops in space.budgets for i in space.allowed(flops)]
    tokens = [space.tokens(flops, i) for flops, i in allowed]
    return min(tokens), max(tokens)
