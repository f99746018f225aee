"""Nested mappings into dataclasses: overrides, and complaints a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from sweeper.errors import SpecError, did_you_mean

T = TypeVar("T")


class _OnceEach(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, where YAML's loaders keep the last in silence;
    text that begins with ``~/`` is of the home directory, as no shell has read it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        places: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            here = key.start_mark
            if not isinstance(key, yaml.ScalarNode):
                continue
            first = places.setdefault(key.value, here)
            if first is not here:
                raise SpecError(
                    f"{key.value}: given twice, in lines {first.line + 1} and {here.line + 1}; "
                    "keep one"
                )
        return super().construct_mapping(node, deep)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        text = super().construct_yaml_str(node)
        return str(Path(text).expanduser()) if text.startswith("~/") else text


_OnceEach.add_constructor("tag:yaml.org,2002:str", _OnceEach.construct_yaml_str)


RETIRED: dict[tuple[str, str], object] = {
    ("search", "cooldown"): None,
    ("tuning", "asha"): False,
}
"""Section and key of settings that are no more, and their default: specs which older versions
resolved hold it, and are read as if they did not."""

RENAMED = {("tuning", "knobs"): "hyperparameters"}
"""Section and key of settings that have another name now: the old one is read as the new."""


def read_yaml(path: str | Path, overrides: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read a YAML mapping.

    Args:
        path: the file, or a sweep's directory.
        overrides: dotted keys to YAML values, such as ``{"data.shares.code": "0.3"}``.

    Raises:
        SpecError: it cannot be read, or is no mapping.
    """
    path = Path(path)
    path = path / "sweep.yaml" if path.is_dir() else path
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _OnceEach)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; give a YAML file") from None
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from error
    except (OSError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise SpecError(f"{path}: a spec is a mapping with keys such as budgets, allowance")
    for (section, key), usual in RETIRED.items():
        part = values.get(section)
        if isinstance(part, dict) and part.get(key, "") is usual:
            del part[key]
    for (section, key), name in RENAMED.items():
        part = values.get(section)
        if isinstance(part, dict) and key in part:
            part[name] = part.pop(key)
    for key, text in (overrides or {}).items():
        _override(values, key, text)
    return values


def build(cls: type[T], values: Mapping[str, Any], *, source: str) -> T:
    """Build a dataclass from nested mappings, checking every key and type.

    Raises:
        SpecError: names the source, the key's path, the value and the remedy.
    """
    from pydantic import ValidationError

    try:
        found: T = _adapter(cls).validate_python(dict(values))  # type: ignore[arg-type]
        return found
    except ValidationError as error:
        told = error.errors()
        told = [e for e in told if not _of_other_type(e["loc"])] or told[:1]
        # The first complaint of a field: further ones are about its other forms.
        first = {_place(e["loc"]): e for e in reversed(told)}
        lines = [_explain(cls, dict(e)) for e in reversed(first.values())]
        raise SpecError("\n".join(_of(source, line) for line in lines)) from None
    except SpecError as error:
        raise SpecError(_of(source, str(error))) from None


def _of(source: str, line: str) -> str:
    """A complaint with its source, which a section's own may begin with already."""
    return line if line.startswith((f"{source}.", f"{source}:")) else f"{source}: {line}"


@lru_cache
def _adapter(cls: type) -> Any:
    """What reads a class; building it takes longer than reading."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _of_other_type(path: tuple[int | str, ...]) -> bool:
    """Whether a complaint is about the plain form of a field that has another, such as mixes."""
    return bool(path) and path[-1] in ("str", "int", "float")


def _place(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Keys to a field, without pydantic's own steps between them, such as dict[str,float]."""
    return tuple(part for part in path if "[" not in str(part))


def _override(values: dict[str, Any], key: str, text: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise SpecError(f"{key}: {parent} is a value, not a section: it has no fields to set")
    try:
        values[last] = yaml.load(text, _OnceEach)
    except yaml.YAMLError as error:
        raise SpecError(
            f"{key}: {text!r} is not a YAML value; quote what YAML reads otherwise"
        ) from error


def _explain(cls: type, error: dict[str, Any]) -> str:
    """One line for one of pydantic's complaints: path, what is wrong, nearest known name."""
    path = _place(error["loc"])
    where = ".".join(str(part) for part in path)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _known_keys(cls, path[:-1])
        return (
            f"{where}: unknown key{did_you_mean(str(path[-1]), known)}; known: {', '.join(known)}"
        )
    if error["type"] in ("missing", "missing_argument"):
        return f"{where}: is required"
    if error["type"] in _FORMS:
        return f"{where}: {_FORMS[error['type']]}, got {error['input']!r}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{where}: {error['msg']}, got {error['input']!r}"


_FORMS = {
    **dict.fromkeys(("tuple_type", "list_type"), "write a list, such as [a, b]"),
    **dict.fromkeys(
        ("dict_type", "dataclass_type", "mapping_type"), "write a section, such as {key: value}"
    ),
    **dict.fromkeys(("float_parsing", "float_type"), "write a number, such as 1e18"),
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float"), "write a whole number, such as 4096"
    ),
    **dict.fromkeys(("bool_parsing", "bool_type"), "write true or false"),
    "string_type": "write text",
}
"""What pydantic's types of complaints ask for, in YAML's words."""


def _known_keys(cls: Any, path: Sequence[Any]) -> list[str]:
    """Keys of the section at a path, following the types of the dataclasses' fields."""
    in_mapping = False
    for part in path:
        # An entry of a list or a mapping, whose type was followed already.
        if isinstance(part, int) or in_mapping:
            in_mapping = False
            continue
        inner = get_type_hints(cls).get(part)
        in_mapping = get_origin(inner) is dict
        inner = next((a for a in get_args(inner) if is_dataclass(a)), inner)
        if not is_dataclass(inner):
            return []
        cls = inner
    return [f.name for f in fields(cls)]
