"""The commands that prepare a corpus, and list what can be measured on one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeper.commands.console import AsJson, Set, app, opt, overrides, show
from sweeper.errors import SpecError
from sweeper.text import columns, grid, named, padded, percent, si
from trainables.data import Data, Prepared
from trainables.manifest import read_manifest, summary
from trainables.skills.catalog import catalog

if TYPE_CHECKING:
    from trainables.prepare import Corpora

Corpus = Annotated[
    Path | None, typer.Argument(help="A prepared corpus; default the built-in ones.")
]


@app.command()
def prepare(
    spec: Annotated[Path, typer.Argument(help="What to prepare: a YAML file.", metavar="CORPORA")],
    out: Annotated[Path, typer.Argument(help="The directory to make.", metavar="DIRECTORY")],
    set_: Set = None,
    workers: int | None = opt("--workers", "Processes; default one per core.", min=0),
) -> None:
    """Tokenise and pack documents for training, once."""
    corpora = load_corpora(spec, overrides(set_))
    from trainables.prepare import PrepareError
    from trainables.prepare.run import prepare

    try:
        manifest = prepare(corpora, out, workers=workers)
    except PrepareError as error:
        raise SpecError(str(error)) from error
    show(_lines(manifest, out))


def load_corpora(path: Path, pairs: dict[str, str] | None = None) -> Corpora:
    """Read what to prepare from YAML.

    Raises:
        SpecError: the file cannot be read, has an unknown key, or a bad value.
    """
    from sweeper.spec.reading import build, read_yaml
    from trainables.prepare.spec import Corpora, spelled_out

    return build(Corpora, spelled_out(read_yaml(path, pairs)), source=str(path))


def _lines(manifest: dict[str, Any], out: Path) -> list[str]:
    from sweeper.plan.warnings import shares

    corpus = summary(manifest)
    data = Prepared(path=str(out), corpus=corpus)
    head = ("class", "documents", "tokens", "held out", "bytes per token", "share of tokens",
            "of documents")  # fmt: skip
    rows = [
        (*_class(name, entry), percent(data.token_mix[name], 1), percent(data.mix[name], 1))
        for name, entry in manifest["classes"].items()
    ]
    lines = ["", *grid(head, rows, right="lrrrrrr")]
    lines += [f"  note: {note}" for note in shares(data)]
    lines += [
        f"  {name}: characters that whoever wrote the files could not decode: {entry['replaced']}"
        for name, entry in manifest["classes"].items()
        if entry["replaced"]
    ]
    lines += _lacking(manifest)
    lines += _skills(manifest["skills"])
    lines += ["", *_contamination(manifest["contamination"])]
    return [
        *lines,
        "",
        f"{out}: prepared in {manifest['seconds']:.0f} s, manifest {corpus.manifest}. In a sweep:",
        f"  data: {{source: prepared, path: {out}}}",
        "`isoskill plan SPEC --minutes 15` chooses budgets and allowance for it; vocabulary, "
        "context, batch and rate follow from it unless a spec states them.",
    ]


def _class(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    counts = si(entry["tokens"]), si(entry["validation"]["tokens"])
    return name, f"{entry['documents']:,}", *counts, f"{entry['bytes'] / entry['tokens']:.2f}"


def _lacking(manifest: dict[str, Any]) -> list[str]:
    """Say that a text was too short for the vocabulary that was asked for."""
    asked = manifest["spec"]["tokenizer"]
    found = manifest["tokenizer"]["vocabulary"]
    if asked["train"] is None or found >= asked["vocabulary"]:
        return []
    return [
        f"  note: the text gives {found:,} of the {asked['vocabulary']:,} tokens asked for by "
        "tokenizer.vocabulary; ask for fewer, or give it more text"
    ]


def _skills(entries: dict[str, Any]) -> list[str]:
    """What the benchmarks hold, and what is peculiar about them."""
    if not entries:
        return []
    head = ("skill", "class", "examples", "tokens", "of targets")
    rows = [
        (name, e["class"], str(e["examples"]), si(e["tokens"]), si(e["target_tokens"]))
        for name, e in entries.items()
    ]
    lines = ["", *grid(head, rows, right="llrrr")]
    left = {n: e["without_target"] for n, e in entries.items() if e["without_target"]}
    lines += [
        f"  {name}: rows left out because they have no target: {count}"
        for name, count in left.items()
    ]
    return lines + [f"  {name}: {e['note']}" for name, e in entries.items() if e["note"]]


def _contamination(found: dict[str, Any]) -> list[str]:
    lines = [f"in training too, by {found['ngram']} tokens in a row:"]
    width = max([22, *map(columns, found["sets"])])
    for name, counts in found["sets"].items():
        checked = counts["examples"] - counts["too_short"]
        short = f"; {counts['too_short']} too short to check" if counts["too_short"] else ""
        share = counts["matched"] / checked if checked else 0.0
        lines.append(
            f"  {padded(name, width)} {counts['matched']} of {checked} ({percent(share)}), "
            f"{counts['covered']} of them for the most part{short}"
        )
    return lines


@app.command()
def skills(directory: Corpus = None, as_json: AsJson = False) -> None:
    """List the skills a sweep can measure."""
    rows = _measurable(directory)
    benchmarks = _benchmarks() if directory is None else []
    if as_json:
        print(json.dumps([*rows, *benchmarks], indent=2))
        return
    width = max(len(row["name"]) for row in rows) + 2
    for row in rows:
        name = f"{'*' if row['default'] else ' '} {row['name']}"
        print(named(name, f"{row['class']}: {row['description']}", width=width))
    show(["* measured unless the spec names others", *(_shown(benchmarks) if benchmarks else [])])


def _measurable(directory: Path | None) -> list[dict[str, Any]]:
    """Skills that a sweep on some data can name now."""
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

    kept = ("paper_split", "part", "public", "dataset_path", "dataset_name", "test_split", "note")
    return [
        {"name": b.task, "class": b.skill_class, "default": False}
        | {"description": f"{b.paper_split}, {b.part}."}
        | {name: getattr(b, name) for name in kept}
        for b in NINETEEN.values()
    ]


def _shown(benchmarks: list[dict[str, Any]]) -> list[str]:
    """The paper's benchmarks as a terminal shows them."""
    rows = [
        (f"{'+' if row['public'] else ' '} {row['name']}", row["class"], row["part"],
         row["paper_split"])
        for row in benchmarks
    ]  # fmt: skip
    return [
        "",
        "By name in the skills of a corpus of your own (`isoskill prepare`), the benchmarks of "
        "Roberts et al. (2025), Table 1; + where the gold targets of just that set are public:",
        *grid(("  benchmark", "class", "part", "split in the paper"), rows),
        *(f"  {row['name']}: {row['note']}" for row in benchmarks if not row["public"]),
    ]
