"""Tables in JSON of any shape, and in cells that hold objects."""

from __future__ import annotations

import ast
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.numbers import number
from fitting.reading.parts import titled
from fitting.reading.words import parse


def parse_json(text: str, name: str) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """An array of objects, an object of arrays, nested or not, or one object a line.

    Returns:
        The table, and lines that are no records: their numbers and what is wrong.

    Raises:
        TableError: it is no JSON, or holds no table.
    """
    try:
        return _records(json.loads(text), name), []
    except json.JSONDecodeError as error:
        whole = f"{name} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    rows, rejected = _stream(text), []
    lines = [] if rows else [(i, x) for i, x in enumerate(text.splitlines(), 1) if x.strip()]
    for i, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if not rows:
                raise TableError(whole) from error
            said = f"line {i} is not JSON ({error.msg}; cut off?): {line[:60]!r}"
            rejected.append((i, said))
    return _records(rows, name), rejected


def _stream(text: str) -> list[Any]:
    """Objects one after another, each over several lines as jq writes them; none if broken."""
    values, at, end = [], len(text) - len(text.lstrip()), len(text.rstrip())
    while at < end:
        try:
            value, at = json.JSONDecoder().raw_decode(text, at)
        except json.JSONDecodeError:
            return []
        values.append(value)
        at = next((i for i in range(at, end) if not text[i].isspace()), end)
    return values if all(isinstance(value, dict) for value in values) else []


def parse_yaml(text: str, name: str) -> pd.DataFrame:
    """The table in YAML, in any shape that JSON may have.

    Raises:
        TableError: it is no YAML, or holds no table.
    """
    import yaml

    try:
        documents = list(yaml.safe_load_all(text))
        return _records(documents if len(documents) > 1 else documents[0], name)
    except yaml.YAMLError as error:
        raise TableError(f"{name} is not YAML: {' '.join(str(error).split())}") from error


def _records(values: Any, name: str) -> pd.DataFrame:
    """The table in parsed JSON."""
    if isinstance(values, dict):
        values = _unwrapped(values)
    if isinstance(values, list) and values and all(isinstance(v, dict) for v in values):
        if any(isinstance(v, dict) for row in values for v in row.values()):
            return pd.json_normalize(values)
        return pd.DataFrame(values)
    if isinstance(values, list) and values and all(isinstance(v, list) for v in values):
        head, *rows = values
        if all(isinstance(h, str) for h in head):
            return pd.DataFrame([r for r in rows if len(r) == len(head)], columns=head)
    if isinstance(values, pd.DataFrame):
        return values
    raise TableError(f"{name}: expected objects, an object of arrays, or one object a line")


def _unwrapped(values: dict[str, Any]) -> Any:
    """Records in an object: {"runs": [...]}, of arrays, by name, or as pandas writes them."""
    if {"columns", "data"} <= set(values):
        return pd.DataFrame(values["data"], columns=values["columns"])
    lists = {k: v for k, v in values.items() if isinstance(v, list)}
    records = {k: v for k, v in lists.items() if v and all(isinstance(row, dict) for row in v)}
    if records:
        return _gathered(records)
    if len(lists) == len(values) and len({len(v) for v in lists.values()}) == 1:
        return pd.DataFrame(lists)
    objects = {k: v for k, v in values.items() if isinstance(v, dict)}
    inner = next(iter(objects.values()), {})
    if len(objects) == 1 and any(isinstance(v, list | dict) for v in inner.values()):
        return _unwrapped(inner)
    if values and len(objects) == len(values):
        rows = {k for v in objects.values() for k in v}
        counts = all(math.isfinite(number(k)) for k in objects)
        if all(k.isdigit() for k in rows) and not counts:  # pandas' to_json(): by column, by row
            return pd.DataFrame({k: pd.Series(v) for k, v in values.items()})
        return [{"name": key, **row} for key, row in values.items()]
    return [values] if not lists else values


def _gathered(parts: dict[str, list[dict[str, Any]]]) -> Any:
    """The records of several lists, each with the name of its list; of an evaluation's alone."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    evaluated = [v for k, v in parts.items() if parse(k).evaluation]
    if evaluated and any(parse(k).training for k in parts):
        return evaluated[0]
    return titled([(key, pd.json_normalize(rows)) for key, rows in parts.items()])


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Without pandas' index column; cells that hold objects (W&B's config and summary) opened."""
    index = [c for c in frame.columns[:1] if str(c).startswith("Unnamed:") or str(c) == ""]
    if index and not pd.api.types.is_numeric_dtype(frame[index[0]]) and "name" not in frame:
        frame, index = frame.rename(columns={index[0]: "name"}), []
    frame = frame.drop(columns=index) if len(index) < len(frame.columns) else frame
    for column in list(frame.columns):
        cells = frame[column]
        if pd.api.types.is_numeric_dtype(cells) or not len(cells):
            continue
        first = cells.dropna().iloc[:1]
        if len(first) and _are_records(first.iloc[0]):
            return flat(_exploded(frame, column))
        if not len(first) or not str(first.iloc[0]).lstrip().startswith("{"):
            continue
        opened = [_object(cell) for cell in cells]
        if all(o is None for o in opened):
            continue
        inner = pd.json_normalize([o or {} for o in opened]).set_axis(frame.index)
        inner.columns = [f"{column}.{c}" for c in inner.columns]
        frame = pd.concat([frame.drop(columns=column), inner], axis=1)
    frame.columns = [str(c).strip().lstrip("\ufeff") for c in frame.columns]
    return frame


def _exploded(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row for each object in the lists of a column, named by its record."""
    if not any(parse(c).role == "trial_id" for c in frame):
        frame = frame.assign(run=range(len(frame)))
    rows = frame.explode(column, ignore_index=True)
    inner = pd.json_normalize([c if isinstance(c, dict) else {} for c in rows.pop(column)])
    if any(parse(c).role == "loss" for c in inner):
        inner = inner.rename(columns={"name": "skill"})  # of what was measured, not of the run
    return pd.concat([rows.drop(columns=inner.columns, errors="ignore"), inner], axis=1)


def _are_records(cell: Any) -> bool:
    """Whether a cell holds a list of objects, one for each skill, say."""
    return isinstance(cell, list | np.ndarray) and len(cell) > 0 and isinstance(cell[0], dict)


def _object(cell: Any) -> dict[str, Any] | None:
    """A cell that is an object, or its text in JSON or Python."""
    if isinstance(cell, dict):
        return cell
    for reader in (json.loads, ast.literal_eval):
        try:
            found = reader(str(cell))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None
