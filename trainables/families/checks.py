"""How values complain: the cause first, then the remedy, naming the field."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class Strict:
    """Base of a dataclass that is read from YAML or JSON: an unknown key is an error."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


def fill(frozen: object, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is being made."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def require(condition: bool, message: str) -> None:
    """Raise a ValueError that names the field and the remedy unless the condition holds."""
    if not condition:
        raise ValueError(message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
