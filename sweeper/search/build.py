"""The search policy that a spec asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeper.budget import Space
from sweeper.errors import SpecError
from sweeper.search.protocol import Search
from sweeper.spec.search import SearchSettings

if TYPE_CHECKING:
    from sweeper.spec.spec import Spec


def compares(spec: Spec) -> bool:
    """Whether the search compares variants or mixes, rather than finding optima."""
    return bool(spec.variants) or (spec.search.goal == "compare" and len(spec.mixes) > 1)


def policy(spec: Spec, skills: Sequence[str]) -> Search:
    """The search a spec asks for, over sizes and budgets, and mixes where it has several.

    Raises:
        SpecError: there are mixes, and none of the skills follows a class.
    """
    from sweeper.search.grid import GridOfEach

    if compares(spec):
        from sweeper.search.compare import CompareSearch

        each = GridOfEach if spec.search.policy == "grid" else CompareSearch
        return each(spec.search, spec.spaces)
    if len(spec.mixes) < 2:
        return build(spec.search, spec.space, skills)
    classes = spec.followed(skills)
    if not classes:
        raise SpecError(
            f"mixes: none of the skills ({', '.join(skills)}) follows one of the classes "
            f"{', '.join(spec.data.classes)}; measure one that does"
        )
    if spec.search.policy == "grid":
        return GridOfEach(spec.search, spec.spaces)
    from sweeper.search.mixes import MixSearch

    return MixSearch(spec.search, spec.space, spec.mix_shares, classes)


def build(settings: SearchSettings, space: Space, skills: Sequence[str]) -> Search:
    """The policy that ``settings`` names, over a space of allocations."""
    if settings.policy == "grid":
        from sweeper.search.grid import GridSearch

        return GridSearch(settings, space)
    if settings.policy == "optuna":
        from sweeper.search.optuna import OptunaSearch

        return OptunaSearch(settings, space, tuple(skills))
    from sweeper.search.adaptive import AdaptiveSearch

    return AdaptiveSearch(settings, space)
