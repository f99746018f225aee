"""What is in training right now: a small file beside the ledger, rewritten as trials report.

Disposable: no sweep reads it back. Without it (a copied directory, a dead driver) only the
progress of running trials is unknown; all else is in the ledger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AHEAD = 24
"""Trials that the search is asked for, to tell how long the rest will take (assumption)."""


@dataclass(frozen=True)
class Progress:
    """What a running trial last said of itself."""

    tokens: float
    tokens_per_s: float


@dataclass(frozen=True)
class Live:
    """A driver and the trials it has in training.

    Attributes:
        at: when this was written, seconds since the epoch.
        host, pid: the driver's.
        dashboard: URL of Ray's dashboard, or "".
        trials: progress by trial id.
        ahead: (FLOPs, params) of the trials that the search would start next as things stand,
            `AHEAD` at most; None where that is not known.
    """

    at: float = 0.0
    host: str = ""
    pid: int = 0
    dashboard: str = ""
    trials: dict[str, Progress] = field(default_factory=dict)
    ahead: tuple[tuple[float, float], ...] | None = None


def replace(path: Path, values: Any) -> None:
    """Write a file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values), encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> Live:
    """Read the file; an empty `Live` where there is none or it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        trials = {key: Progress(**value) for key, value in values.pop("trials").items()}
        ahead = values.pop("ahead", None)
        return Live(**values, trials=trials, ahead=ahead and tuple((c, p) for c, p in ahead))
    except (OSError, ValueError, TypeError, KeyError):
        return Live()
