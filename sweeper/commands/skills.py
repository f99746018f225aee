"""The command that lists skills: of the built-in corpora, of the paper, of a prepared corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sweeper.commands.console import AsJson, app

Corpus = Annotated[
    Path | None, typer.Argument(help="A prepared corpus; default the built-in ones.")
]


@app.command()
def skills(directory: Corpus = None, as_json: AsJson = False) -> None:
    """List the skills a sweep can measure."""
    rows = _measurable(directory)
    benchmarks = _benchmarks() if directory is None else []
    if as_json:
        print(json.dumps([*rows, *benchmarks], indent=2))
        return
    for row in rows:
        mark = "*" if row["default"] else " "
        print(f"{mark} {row['name']:<24} {row['class']:<12} {row['description']}")
    print("* measured unless the spec names others")
    if benchmarks:
        print("\n".join(_shown(benchmarks)))


def _measurable(directory: Path | None) -> list[dict[str, Any]]:
    """Skills that a sweep on some data can name now."""
    from sweeper.errors import SpecError
    from trainables.data import Data
    from trainables.manifest import read_manifest
    from trainables.skills.catalog import catalog

    try:
        data = Data() if directory is None else Data(source="prepared", path=str(directory))
        entries = {} if directory is None else read_manifest(directory)["skills"]
    except ValueError as error:
        raise SpecError(str(error)) from error
    return [
        {
            "name": s.name,
            "class": s.skill_class,
            "default": s.default,
            "description": " ".join(
                filter(None, (s.description, entries.get(s.name, {}).get("note", "")))
            ),
        }
        for s in catalog(data)
    ]


def _benchmarks() -> list[dict[str, Any]]:
    """The paper's benchmarks, which a corpus can be prepared with."""
    from trainables.skills.paper import NINETEEN

    return [
        {
            "name": b.task,
            "class": b.skill_class,
            "default": False,
            "description": f"{b.paper_split}, {b.part}.",
            "paper_split": b.paper_split,
            "part": b.part,
            "public": b.public,
            "dataset_path": b.dataset_path,
            "dataset_name": b.dataset_name,
            "test_split": b.test_split,
            "note": b.note,
        }
        for b in NINETEEN.values()
    ]


def _shown(benchmarks: list[dict[str, Any]]) -> list[str]:
    """The paper's benchmarks as a terminal shows them."""
    lines = [
        "",
        "By name in the skills of a corpus of your own (`isoskill prepare`), the benchmarks of",
        "Roberts et al. (2025), Table 1; + where the gold targets of just that set are public:",
    ]
    for row in benchmarks:
        mark = "+" if row["public"] else " "
        lines.append(
            f"{mark} {row['name']:<24} {row['class']:<12} {row['part']:<12} {row['paper_split']}"
        )
    hidden = [row for row in benchmarks if not row["public"]]
    return [*lines, *(f"  {row['name']}: {row['note']}" for row in hidden)]
