"""The command that prepares a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.commands.console import (
    Set,
    app,
    opt,
    overrides,
)

if TYPE_CHECKING:
    from trainables.prepare import Corpora


@app.command()
def prepare(
    spec: Annotated[Path, typer.Argument(help="What to prepare: a YAML file.", metavar="CORPORA")],
    out: Annotated[Path, typer.Argument(help="The directory to make.", metavar="DIRECTORY")],
    set_: Set = None,
    workers: int | None = opt("--workers", "Processes; default one per core.", min=0),
) -> None:
    """Tokenise and pack documents for training, once; goes on where it was interrupted."""
    corpora = load_corpora(spec, overrides(set_))
    from sweeper.errors import SpecError
    from trainables.prepare import PrepareError
    from trainables.prepare.run import prepare

    try:
        manifest = prepare(corpora, out, workers=workers)
    except PrepareError as error:
        raise SpecError(str(error)) from error
    print("\n".join(_lines(manifest, out)))


def load_corpora(path: Path, pairs: dict[str, str] | None = None) -> Corpora:
    """Read what to prepare from YAML.

    Raises:
        SpecError: the file cannot be read, has an unknown key, or a bad value.
    """
    from sweeper.spec.reading import build, read_yaml
    from trainables.prepare.spec import Corpora, spelled_out

    return build(Corpora, spelled_out(read_yaml(path, pairs)), source=str(path))


def _lines(manifest: dict[str, Any], out: Path) -> list[str]:
    from trainables.manifest import summary

    corpus = summary(manifest)
    lines = [f"\n{'class':<16}{'documents':>12}{'tokens':>10}{'held out':>10}{'bytes/token':>13}"]
    lines += [_class(name, entry) for name, entry in manifest["classes"].items()]
    lines += _replaced(manifest["classes"])
    lines += _skills(manifest["skills"])
    lines += ["", *_contamination(manifest["contamination"])]
    return [
        *lines,
        "",
        f"{out}: prepared in {manifest['seconds']:.0f} s, manifest {corpus.manifest}. In a sweep:",
        f"  data: {{source: prepared, path: {out}}}",
        f"  model: {{vocabulary: {corpus.vocabulary}}}",
    ]


def _class(name: str, entry: dict[str, Any]) -> str:
    from sweeper.text import si

    return (
        f"{name:<16}{entry['documents']:>12,}{si(entry['tokens']):>10}"
        f"{si(entry['validation']['tokens']):>10}{entry['bytes'] / entry['tokens']:>13.2f}"
    )


def _replaced(entries: dict[str, Any]) -> list[str]:
    return [
        f"  {name}: characters that could not be decoded, here or before: {entry['replaced']}"
        for name, entry in entries.items()
        if entry["replaced"]
    ]


def _skills(entries: dict[str, Any]) -> list[str]:
    """What the benchmarks hold, and what is peculiar about them."""
    from sweeper.text import si

    if not entries:
        return []
    lines = ["", f"{'skill':<24}{'class':<12}{'examples':>9}{'tokens':>10}{'of targets':>11}"]
    for name, entry in entries.items():
        lines.append(
            f"{name:<24}{entry['class']:<12}{entry['examples']:>9}{si(entry['tokens']):>10}"
            f"{si(entry['target_tokens']):>11}"
        )
    left = {n: e["without_target"] for n, e in entries.items() if e["without_target"]}
    lines += [
        f"  {name}: rows left out because they have no target: {count}"
        for name, count in left.items()
    ]
    return lines + [f"  {name}: {e['note']}" for name, e in entries.items() if e["note"]]


def _contamination(found: dict[str, Any]) -> list[str]:
    lines = [f"in training too, by {found['ngram']} tokens in a row:"]
    for name, counts in found["sets"].items():
        checked = counts["examples"] - counts["too_short"]
        short = f"; {counts['too_short']} too short to check" if counts["too_short"] else ""
        share = counts["matched"] / checked if checked else 0.0
        lines.append(
            f"  {name:<22} {counts['matched']} of {checked} ({share:.0%}), "
            f"{counts['covered']} of them for the most part{short}"
        )
    return lines
