"""Real Python source as a second code skill, in fresh worlds: an addition to the confirming run.

    python examples/07_confirm_python.py FOLDER     # a quarter of an hour of one core; resumable

Trains what the last section of 07_confirm_protocol.md says. The class `other` of the built-in
corpora gives its share to the source of Python's own library; facts and programs are those of
the built-in corpora, token for token, written as text so that `prepare` can mix them with it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from sweeper import SearchSettings, Sizes, Sweep
from sweeper.commands.prepare import load_corpora
from trainables.corpora import code, knowledge
from trainables.corpora.documents import Documents, Family
from trainables.corpora.vocabulary import SPELLING
from trainables.data import PAPER_SHARES, Data
from trainables.families import Model
from trainables.manifest import read_manifest, summary
from trainables.prepare.run import prepare

library = importlib.import_module("05_python_source")
confirm = importlib.import_module("07_confirm")

WORLDS = (6433, 8327)
"""World seeds: the next fours of pi; none was used before."""

PYTHON = "python-source"
SHARES = {name: PAPER_SHARES[name] for name in ("knowledge", "code")} | {
    PYTHON: PAPER_SHARES["other"]
}
"""Shares of training tokens."""

VOCABULARY, CONTEXT = 512, 60
DOCUMENTS = {"knowledge": 75_000, "code": 27_000}
"""Enough for one epoch of the longest training, 9 M tokens."""

TEXT_BLOCK, HELD_OUT = 1000, 400
ANSWERS: dict[str, tuple[Family | int, ...]] = {
    "knowledge": (Family.STATEMENT,),
    "code": tuple(Family.PROGRAM + grade for grade in range(1, 7)),
}
"""What is asked for: what the skills of the built-in corpora are scored on."""

QUESTIONS = {"knowledge": 1000, "code": 1000, PYTHON: 400}
"""Held-out examples per skill; those of Python have some 20 target tokens each."""

LEAST, MOST = 10, 80
"""Characters of a line that is asked for; longer ones leave no room for what stands before."""

BEFORE = 300
"""Characters before it; what exceeds the context is cut at its beginning."""

DECISIVE = ("knowledge", "code", PYTHON, "validation")
SKILLS = (*DECISIVE, *(f"validation/{c}" for c in SHARES))
END = "<|endoftext|>"
Row = dict[str, str]


def main() -> None:
    folder = Path(sys.argv[1])
    for world in WORLDS:
        corpus = folder / f"corpus-{world}"
        if not (corpus / "manifest.json").exists():
            prepare_world(world, folder / f"text-{world}", corpus)
        confirm.run_here(sweep(world, corpus), folder / f"{world}-python", DECISIVE)


def sweep(world: int, corpus: Path) -> Sweep:
    """The budgets, sizes, allowance and training rule of the confirming run."""
    classes = summary(read_manifest(str(corpus))).classes
    shares = {name: share / classes[name].mean_tokens for name, share in SHARES.items()}
    return Sweep(
        name=f"{world}-python",
        budgets=(1e11, 4e11),
        allowance=3.1e12,
        skills=SKILLS,
        sizes=Sizes(low=8e3, high=2.5e5),
        model=Model(vocabulary=VOCABULARY, context=CONTEXT),
        data=Data(
            source="prepared",
            path=str(corpus),
            shares=shares,
            world_seed=world,
            evaluation_documents=256,
        ),
        search=SearchSettings(tolerance=0.05),
    )


def prepare_world(world: int, text: Path, corpus: Path) -> None:
    """Write one world's documents, examples and tokenizer, and prepare them."""
    text.mkdir(parents=True, exist_ok=True)
    data = Data(world_seed=world)
    facts = knowledge.World.build(data)
    rng = np.random.default_rng([world, 7])

    def draw(name: str, count: int) -> Documents:
        # One token short of the context: with the end mark a document is a sequence.
        if name == "knowledge":
            return knowledge.documents(facts, rng, count, context=CONTEXT - 1)
        return code.documents(data, rng, count, context=CONTEXT - 1)

    for name, count in DOCUMENTS.items():
        blocks = (draw(name, TEXT_BLOCK).tokens for _ in range(count // TEXT_BLOCK))
        write(text / f"{name}.jsonl", ({"text": spelled(row)} for rows in blocks for row in rows))
    for name, answers in ANSWERS.items():
        held_out = draw(name, HELD_OUT)
        write(text / f"{name}-asked.jsonl", asked(held_out, answers, QUESTIONS[name]))
    sources, lines = python_source()
    write(text / f"{PYTHON}.jsonl", ({"text": source} for source in sources))
    chosen = np.random.default_rng(7).permutation(len(lines))[: QUESTIONS[PYTHON]]
    write(text / f"{PYTHON}-asked.jsonl", (lines[i] for i in chosen))
    tokenizer(sources).save(str(text / "tokenizer.json"))
    spec = {
        "name": f"python-{world}",
        "tokenizer": {"source": str(text / "tokenizer.json"), "begin": END},
        "validation": 0.05,
        "classes": {
            name: {"share": share, "sources": [{"files": str(text / f"{name}.jsonl")}]}
            for name, share in SHARES.items()
        },
        "skills": [
            {"name": name, "path": str(text / f"{name}-asked.jsonl"), "class": name, "limit": None}
            for name in SHARES
        ],
    }
    (text / "corpora.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
    prepare(load_corpora(text / "corpora.json"), corpus, workers=0)


def write(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def spelled(tokens: np.ndarray) -> str:
    """Built-in tokens as text that no Python source holds."""
    return "".join(f"\u00ab{SPELLING[token]}\u00bb" for token in tokens)


def asked(documents: Documents, answers: Sequence[Family | int], count: int) -> Iterator[Row]:
    """Answers to complete, each after all that stands before it: a sample of the documents'."""
    row, at = np.nonzero(np.isin(documents.family, answers))
    for i in np.random.default_rng(7).permutation(len(row))[:count]:
        tokens = documents.tokens[row[i]]
        before, answer = tokens[: at[i]], tokens[at[i] : at[i] + 1]
        yield {"id": str(i), "context": spelled(before), "target": spelled(answer)}


def python_source() -> tuple[list[str], list[Row]]:
    """The library's modules in plain ASCII, and lines of those that are kept out of training."""
    sources, lines = [], []
    for name, source, tree in library.modules():
        plain = library.code_of(source, tree)
        if not plain.isascii():  # the tokenizer knows no other characters
            continue
        if library.held_out(name):
            lines += lines_asked(name, plain)
        else:
            sources.append(plain)
    return sources, lines


def lines_asked(name: str, source: str) -> Iterator[Row]:
    """Lines of code to predict from what stands before them."""
    at = 0
    for number, line in enumerate(source.splitlines(keepends=True)):
        bare = line.strip()
        if LEAST <= len(bare) and len(line) <= MOST and not bare.startswith("#"):
            before = source[max(0, at - BEFORE) : at]
            yield {"id": f"{name}:{number}", "context": before, "target": line}
        at += len(line)


def tokenizer(sources: list[str]) -> Tokenizer:
    """Byte pairs learned on Python's source, and one token for each of the built-in ones."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPELLING), special_tokens=[END], show_progress=False
    )
    made.train_from_iterator(sources, trainer)
    made.add_tokens([AddedToken(f"\u00ab{word}\u00bb", normalized=False) for word in SPELLING])
    return made


if __name__ == "__main__":
    main()
