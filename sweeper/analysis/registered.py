"""Predictions kept with their date, and what became of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


def register(path: Path, said: Mapping[str, Any], runs: pd.DataFrame) -> None:
    """Keep a prediction, once: what was said, when, and a hash of the runs behind it.

    Args:
        said: as `Forecast.to_dict`.

    Raises:
        SpecError: the file is there already.
    """
    if path.exists():  # a prediction is kept as it was
        raise SpecError(f"{path}: there already; name another file")
    content = {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": fingerprint(runs),
        "said": said,
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def fingerprint(runs: pd.DataFrame) -> str:
    """Hash of a table's losses, whatever the order of its rows."""
    columns = sorted(str(c) for c in runs.columns if c != "budget")
    rows = zip(*(runs[column] for column in columns), strict=True)
    lines = sorted("\t".join(map(str, row)) for row in rows)
    return hashlib.sha256("\n".join([*columns, *lines]).encode()).hexdigest()[:16]


def check(path: Path, losses: Mapping[str, float]) -> list[dict[str, Any]]:
    """How far off a kept prediction was, per skill.

    Returns:
        Rows of skill, predicted, low, high, measured, error (relative, positive: predicted too
        high) and held: whether the 90 % interval held, None where none was given.

    Raises:
        SpecError: no kept prediction, a skill it does not have, or no loss.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SpecError(f"{path}: no kept prediction; write one with `predict ... --register`")
    skills, rows = content["said"]["skills"], []
    for skill, measured in losses.items():
        if not measured > 0:
            raise SpecError(f"{skill}={measured:g}: give the loss that was measured, above 0")
        if skill not in skills:
            raise SpecError(f"{skill!r} was not predicted; {path} has {', '.join(skills)}")
        answer = skills[skill]
        at = answer.get("allocation") or answer.get("loss_at_optimum") or {}
        value, low, high = (at.get(name) for name in ("loss", "low", "high"))
        # What guarded withholds has a reason, and a loss in files of before; another method's has
        # but no interval.
        withheld = content["said"].get("method") == "guarded" and at.get("reason")
        value = answer.get("loss") if value is None and not withheld else value
        if value is None:
            why = withheld or answer.get("status", "no answer")
            raise SpecError(f"{skill}: no loss was predicted ({why})")
        held = None if low is None or high is None else bool(low <= measured <= high)
        rows.append(
            {
                "skill": skill,
                "predicted": value,
                "low": low,
                "high": high,
                "measured": measured,
                "error": value / measured - 1,
                "held": held,
            }
        )
    return rows
