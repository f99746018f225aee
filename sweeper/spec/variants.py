"""Variants of a training: named overrides of a spec's model, data, train or trainer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sweeper.errors import SpecError, did_you_mean
from sweeper.spec.search import SearchSettings
from trainables.config import TrialConfig
from trainables.foreign.trial import ForeignTrial

OVERRIDDEN = ("model", "data", "train", "trainer")
"""Sections that a variant may override."""

_OWN = ("variants", "mixes", "study", "name")
"""Keys that belong to the sweep and not to one of its variants."""

SpecT = TypeVar("SpecT")

Variants = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Name -> section -> field -> value."""


def check(variants: Variants, mixes: object, search: SearchSettings) -> None:
    """Refuse variants with mixes, of unknown sections, or that the search does not know."""
    if variants and mixes:
        raise SpecError(
            "variants: a sweep has mixes or variants, not both; write each mix as a variant, "
            "{more-code: {data: {multipliers: {code: 4}}}}"
        )
    if len(variants) == 1:
        raise SpecError("variants: one alone has nothing to be compared with; name the reference "
                        "first, {base: {}, other: {...}}")  # fmt: skip
    if variants and search.policy not in ("adaptive", "grid"):
        raise SpecError(f"search.policy: {search.policy} knows no variants; use adaptive or grid")
    if variants and search.goal == "optima" and search.policy == "adaptive":
        raise SpecError(
            "search.goal: optima are found under one variant; leave variants out, compare, or use "
            "search.policy: grid"
        )
    for name, own in variants.items():
        for section in own:
            if section not in OVERRIDDEN:
                raise SpecError(
                    f"variants.{name}.{section}: unknown key{did_you_mean(section, OVERRIDDEN)}; "
                    f"a variant overrides {', '.join(OVERRIDDEN)}"
                )


def specs(
    values: Mapping[str, Any], variants: Variants, build: Callable[[Mapping[str, Any], str], SpecT]
) -> dict[str, SpecT]:
    """The spec of each variant alone, by name.

    Args:
        build: makes a spec of plain values, given where they stand.

    Raises:
        SpecError: one cannot be trained; names it.
    """
    rest = {key: value for key, value in values.items() if key not in _OWN}
    found = {}
    for name, own in variants.items():
        moved = {
            section: _merged(rest.get(section) or {}, given) for section, given in own.items()
        }
        found[name] = build({**rest, **moved}, f"variants.{name}")
    return found


def trial_id(config: TrialConfig | ForeignTrial, variant: str = "") -> str:
    """Identity of a training: a hash of everything that decides its outcome."""
    text = json.dumps(config.identity(), sort_keys=True) + variant
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """A section with a variant's fields; of another source, family or corpus, the variant's alone.

    What the reference filled in for its own corpus or family need not fit another.
    """
    keys = ("source", "path", "family", "command", "call")
    if any(key in theirs and theirs[key] != ours.get(key) for key in keys):
        kept = ("vocabulary", "context", "source") if "family" in theirs else ("source",)
        return {k: ours[k] for k in kept if k in ours} | dict(theirs)
    return {**ours, **theirs}
