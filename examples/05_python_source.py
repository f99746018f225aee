"""A sweep on real text that every machine with Python has: its own library.

Two document classes, made from the standard library's source files without importing them: *code*
is the source without its documentation strings, *docs* is those strings as pages, with the
language's reference that `help()` shows. Some modules are kept out of both; their function bodies
and first sentences are the skills. No network, no download. Run again after an interruption, it
goes on where it was.
"""

import ast
import hashlib
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from sweeper import Sweep
from sweeper.analysis.conclusions import conclusions
from sweeper.commands.prepare import load_corpora
from trainables.prepare.run import prepare

HERE = Path(__file__).parent
TEXT = Path("corpora/python-text")
PREPARED = Path("corpora/python")
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "pydoc_data"}
SKIPPED |= {"encodings"}  # tables, not programs
HELD_OUT_ONE_IN = 16
LONGEST_TARGET = 200  # characters; more would not fit the context of 128 tokens

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef | ast.Module


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Name, source and syntax tree of the library's modules."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).with_suffix("")
        if not SKIPPED.intersection(name.parts):
            try:
                source = path.read_text(encoding="utf-8")
                yield ".".join(name.parts), source, ast.parse(source)
            except (UnicodeDecodeError, SyntaxError):  # a few files test just that
                continue


def held_out(name: str) -> bool:
    """Whether a module is kept for the skills; decided by its name alone."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT_ONE_IN == 0


def docstrings(tree: ast.Module) -> Iterator[tuple[Documented, ast.Expr]]:
    """Everything that has a documentation string, and the statement that is it."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node) is not None:
            yield node, node.body[0]


def code_of(source: str, tree: ast.Module) -> str:
    """A source without documentation strings."""
    lines = source.splitlines(keepends=True)
    for _, statement in docstrings(tree):
        for number in range(statement.lineno - 1, statement.end_lineno or 0):
            lines[number] = ""
    return "".join(lines)


def heading(node: Documented, name: str) -> str:
    """What a page calls a module, a class or a function."""
    if isinstance(node, ast.Module):
        return f"module {name}"
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})"
    return f"{node.name}({ast.unparse(node.args)})"


def page_of(name: str, tree: ast.Module) -> str:
    """A module's documentation strings under their headings."""
    parts = [
        f"{heading(node, name)}\n\n{ast.get_docstring(node)}\n" for node, _ in docstrings(tree)
    ]
    return "\n\n".join(parts)


def bodies(name: str, source: str, tree: ast.Module) -> Iterator[dict[str, str]]:
    """Functions to complete: the code up to the body, and the body."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(tree):
        if not isinstance(node, Function) or ast.get_docstring(node) is not None:
            continue
        first = node.body[0].lineno - 1
        target = "".join(lines[first : node.end_lineno])
        if first > node.lineno - 1 and len(target) <= LONGEST_TARGET:
            yield {
                "id": f"{name}:{node.lineno}",
                "context": "".join(lines[max(0, first - 12) : first]),
                "target": target,
            }


def sentences(name: str, tree: ast.Module) -> Iterator[dict[str, str]]:
    """First sentences to complete: a heading, and what is said of it."""
    for node, statement in docstrings(tree):
        said = (ast.get_docstring(node) or "").split("\n\n")[0].split(". ")[0]
        if 10 <= len(said) <= LONGEST_TARGET:
            context = f"{heading(node, name)}\n\n"
            yield {"id": f"{name}:{statement.lineno}", "context": context, "target": said}


def write_text() -> None:
    """Write documents and skills as JSON lines."""
    files: dict[str, list[dict[str, str]]] = {
        "docs": [{"text": text} for text in topics.values()],
        "code": [],
        "function-bodies": [],
        "first-sentences": [],
    }
    for name, source, tree in modules():
        if held_out(name):
            files["function-bodies"] += bodies(name, source, tree)
            files["first-sentences"] += sentences(name, tree)
        else:
            files["code"].append({"text": code_of(source, tree)})
            files["docs"].append({"text": page_of(name, tree)})
    TEXT.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        lines = [json.dumps(row) for row in rows if row.get("text", " ").strip() or "id" in row]
        (TEXT / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    if not (PREPARED / "manifest.json").exists():
        write_text()
        manifest = prepare(load_corpora(HERE / "05_corpora.yaml"), PREPARED)
        print(json.dumps(manifest["contamination"], indent=1))
    sweep = Sweep.load(HERE / "05_python_source.yaml")
    print(sweep.plan(), "\n")
    results = sweep.run("sweeps/python")
    fits = results.fit()
    print(f"\nThe search stopped ({results.finished.reason}). {results.finished.detail}\n")
    print(fits, "\n")
    for sentence in conclusions(fits, results.aggregate):
        print(f"* {sentence}")


if __name__ == "__main__":
    main()
