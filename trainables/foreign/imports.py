"""A user's function, named ``package.module:function``."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainables.families.checks import did_you_mean


def load(name: str, workdir: str, *, field: str) -> Callable[..., Any]:
    """Import a function.

    Raises:
        ValueError: there is no such module, it cannot be imported, or it lacks the function.
    """
    module, _, function = name.partition(":")
    _add_path(workdir)
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"{field}: {module} cannot be imported from {workdir} "
            f"({type(error).__name__}: {error})"
        ) from error
    if not callable(found):
        raise ValueError(f"{field}: {module} has no function {function!r}")
    return found  # type: ignore[no-any-return] # checked to be callable


def require(name: str, workdir: str, *, field: str) -> None:
    """Check that a function is there, without running its module.

    Raises:
        ValueError: there is no such module, or its text has no such name.
    """
    module, _, function = name.partition(":")
    _add_path(workdir)
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None:
        raise ValueError(
            f"{field}: there is no module {module!r} in {workdir} or among Python's packages; "
            "set trainer.workdir to the folder it is in"
        )
    if spec.origin and spec.origin.endswith(".py"):
        names = _names(Path(spec.origin))
        if function not in names and "*" not in names:
            meant = did_you_mean(function, names)
            raise ValueError(f"{field}: {spec.origin} has no function {function!r}{meant}")


def _add_path(workdir: str) -> None:
    if workdir not in sys.path:
        sys.path.insert(0, workdir)


def _names(path: Path) -> list[str]:
    """Names that a module's text defines or imports at its top."""
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{path}: line {error.lineno} is no Python ({error.msg})") from None
    names: list[str] = []
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names
