"""Write docs/api.md from the docstrings of everything the packages export."""

from __future__ import annotations

import importlib
import inspect
import re
from enum import Enum
from pathlib import Path

PACKAGES = ("sweeper", "fitting", "trainables")
LONG = 60  # characters of a default value, from which its name says more
HEAD = """# Public names

Made by `python docs/build_api.py` from the docstrings; change them, not this file.
"""


def entry(package: str, name: str) -> str:
    """One name: how it is called, and what its docstring says."""
    thing = getattr(importlib.import_module(package), name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return f"### {package}.{name}\n\n```text\n{type(thing).__name__} {thing!r}\n```\n"
    text = inspect.getdoc(thing) or ""
    lines = [f"### {package}.{name}", "", "```text", _called(thing, name), "```", "", "```text"]
    lines += [text, "```"]
    if inspect.isclass(thing):
        lines += _methods(thing)
    return "\n".join(lines) + "\n"


def _called(thing: object, name: str) -> str:
    # How an enumeration is called differs between versions of Python.
    if inspect.isclass(thing) and issubclass(thing, Exception | Enum):
        return name
    try:
        signature = inspect.signature(thing)  # type: ignore[arg-type]
    except ValueError:
        return name
    constants = vars(importlib.import_module(thing.__module__))
    text = str(signature)
    for default in (p.default for p in signature.parameters.values()):
        named = [n for n, value in constants.items() if n.isupper() and value is default]
        if named and len(repr(default)) > LONG:
            text = text.replace(repr(default), named[0])
    return name + re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are strings


def _methods(thing: type) -> list[str]:
    """Public methods and properties with their first line, those of our base classes first."""
    found = []
    bases = [base for base in reversed(thing.__mro__) if base.__module__.startswith(PACKAGES)]
    members = {name: member for base in bases for name, member in vars(base).items()}
    for name, member in members.items():
        text = inspect.getdoc(member)
        if name.startswith("_") or not text or not (callable(member) or _computed(member)):
            continue
        found.append(f"* `{name}`: {text.splitlines()[0]}")
    return ["", *found] if found else []


def _computed(member: object) -> bool:
    return isinstance(member, property | classmethod) or hasattr(member, "attrname")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for package in PACKAGES:
        module = importlib.import_module(package)
        parts.append(f"\n## {package}\n\n{inspect.getdoc(module)}\n")
        parts += [entry(package, name) for name in module.__all__]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("api.md").write_text(page(), encoding="utf-8")
