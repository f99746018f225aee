"""The three studies by name: analyse, print, save."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fitting.values import plain
from sweeper.analysis.studies import datamix, skills, validation
from sweeper.analysis.studies.source import Source, Study, records
from sweeper.errors import SpecError, did_you_mean

STUDIES = ("datamix", "validation", "skills")


def analyse(
    name: str, source: Source, *, first: Sequence[str] = (), second: Sequence[str] = ()
) -> Study:
    """Do a study.

    Args:
        name: "datamix", "validation" or "skills".
        first: validation: the wanted skills; skills: the hypothesis half.
        second: validation: what may stand in for them; skills: the held-out half.

    Raises:
        SpecError: no such study, or a skill that was not measured.
        FittingError: the runs do not have what the study needs.
    """
    if name == "datamix":
        return datamix.study(source)
    if name == "validation":
        return validation.study(source, wanted=first, candidates=second)
    if name == "skills":
        return skills.study(source, hypothesis=first, held_out=second)
    known = (*STUDIES, "rates")  # a command of the same name: see `sweeper.analysis.rates`
    near = did_you_mean(name, known)
    raise SpecError(f"study: {name!r} is unknown{near}; known: {', '.join(known)}")


def to_json(study: Study) -> str:
    """Sentences and tables as JSON; NaN becomes null."""
    content: dict[str, Any] = {
        "title": study.source.title,
        "note": study.source.note,
        "sentences": study.sentences(),
    }
    for name, table in study.tables.items():
        content[name] = [{k: _value(v) for k, v in row.items()} for row in records(table)]
    return json.dumps(plain(content), allow_nan=False, indent=1)


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def keep(study: Study, folder: Path) -> list[Path]:
    """Write tables as CSV, everything as JSON, and the figures as PNG."""
    from sweeper.analysis.studies.figures import figures

    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "study.json"]
    written[0].write_text(to_json(study), encoding="utf-8")
    for name, table in study.tables.items():
        written.append(folder / f"{name}.csv")
        table.to_csv(written[-1], index=False, float_format="%.6g")
    for drawn in figures(study):
        written.append(folder / f"{drawn.name}.png")
        drawn.figure.savefig(written[-1])
    return written
