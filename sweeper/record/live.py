"""What is in training right now: a small file beside the ledger, rewritten as trials report.

Disposable: no sweep reads it back. Without it (a copied directory, a dead driver) only the
progress of running trials is unknown; all else is in the ledger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """What a running trial last said of itself."""

    tokens: float
    tokens_per_s: float


@dataclass(frozen=True)
class Live:
    """A driver's Ray and the trials it has in training.

    Attributes:
        dashboard: URL of Ray's dashboard, or "".
        ray_files: directory of this run's Ray, on its head node.
        trials: progress by trial id.
    """

    dashboard: str = ""
    ray_files: str = ""
    trials: dict[str, Progress] = field(default_factory=dict)


def read(path: Path) -> Live:
    """Read the file; an empty `Live` where there is none or it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        trials = {key: Progress(**value) for key, value in values["trials"].items()}
        return Live(values["dashboard"], values["ray_files"], trials)
    except (OSError, ValueError, TypeError, KeyError):
        return Live()
