"""Sizes that a user states: a table of models with their params and FLOPs. Pure Python."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainables.foreign.imports import load
from trainables.foreign.placeholders import ALWAYS, Value, require_known

FLOPS_PER_PARAM = 6
"""Training FLOPs per token and parameter, where the ladder does not say (Kaplan et al. 2020)."""

_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}

_RESERVED = set(ALWAYS) - {"params"}


@dataclass(frozen=True)
class Rung:
    """One size of a ladder, as far as a recipe has to know it."""

    params: int
    granule: int = 1
    columns: Mapping[str, Value] = field(default_factory=dict)

    @property
    def context(self) -> int:
        """Tokens of a sequence."""
        return self.granule

    @property
    def params_with_head(self) -> int:
        """The ladder's own count stands for all three."""
        return self.params

    @property
    def params_without_embeddings(self) -> int:
        """As the ladder says, or its own count."""
        return int(self.columns.get("params_without_embeddings", self.params))

    @property
    def width(self) -> int:
        """Of the residual stream.

        Raises:
            ValueError: the ladder does not say.
        """
        return int(self._needed("width"))

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding.

        Raises:
            ValueError: the ladder does not say.
        """
        return int(self._needed("vocabulary"))

    def flops_per_token(self, convention: Literal["6p", "exact"] = "6p") -> float:
        """Training FLOPs per token: 6 p, or what the ladder says."""
        usual = float(FLOPS_PER_PARAM * self.params)
        return float(self.columns.get("flops_per_token", usual)) if convention != "6p" else usual

    def _needed(self, name: str) -> Value:
        if name not in self.columns:
            raise ValueError(
                f"sizes.ladder: train.rule needs a column {name!r}; add it, choose another "
                "train.rule (steplaw needs params only), or add a column learning_rate"
            )
        return self.columns[name]


def read(source: str | Iterable[Mapping[str, Any]], workdir: str) -> list[dict[str, Value]]:
    """The rows of a ladder, ascending in params.

    Args:
        source: a CSV file, ``package.module:function`` that returns rows, or the rows.

    Raises:
        ValueError: it cannot be read, or a row has no params; the message names it.
    """
    if isinstance(source, str):
        where = f"sizes.ladder: {source}"
        rows = _from(source, workdir)
    else:
        where, rows = "sizes.ladder", list(source)
    if not rows:
        raise ValueError(f"{where}: holds no size")
    found = [_row(row, f"{where}: row {number}") for number, row in enumerate(rows, 1)]
    found.sort(key=lambda row: row["params"])
    sizes = [row["params"] for row in found]
    twice = [size for size, following in itertools.pairwise(sizes) if size == following]
    if twice:
        raise ValueError(f"{where}: {twice[0]:,} params are there twice; a size is known by them")
    known = sum("flops_per_token" in row for row in found)
    if known not in (0, len(found)):
        raise ValueError(f"{where}: flops_per_token is missing in {len(found) - known} rows")
    return found


def _from(source: str, workdir: str) -> list[Mapping[str, Any]]:
    path = Path(workdir) / source
    if ":" in source and not path.exists():
        return list(load(source, workdir, field="sizes.ladder")())
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"sizes.ladder: {path}: {error.strerror}; give a CSV file with a column params, or "
            "a function such as mylab.sizes:ladder, from trainer.workdir, which is the current "
            "directory unless the spec says another"
        ) from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return list(csv.DictReader(lines, skipinitialspace=True))


def _row(row: Mapping[str, Any], where: str) -> dict[str, Value]:
    names = [str(name).strip() for name in row]
    require_known("params", names, f"{where}: column 'params', which every size needs,")
    values = {name: _value(value) for name, value in zip(names, row.values(), strict=True)}
    taken = sorted(_RESERVED & values.keys())
    if taken:
        raise ValueError(f"{where}: {taken[0]} is the trial's own; give the column another name")
    for name in ("params", "flops_per_token"):
        number = values.get(name, 1)
        if not isinstance(number, int | float) or not 0 < number < math.inf:
            raise ValueError(f"{where}: {name}={number!r} is no number above 0, such as 124M")
    for name, cell in row.items():
        if not isinstance(name, str):
            raise ValueError(f"{where}: more cells than columns: {cell}")
        if name.strip() and cell in (None, ""):
            raise ValueError(f"{where}: nothing in {name.strip()!r}; a command is given it")
    return values | {"params": round(float(values["params"]))}


def _value(cell: Any) -> Value:
    """A cell's number, 1.3B and 124M among them, or its text."""
    if not isinstance(cell, str):
        number = cell.item() if getattr(cell, "ndim", None) == 0 else cell  # numpy's
        return number if isinstance(number, int | float) else str(number)
    text = cell.strip()
    for kind in (int, float):
        try:
            return kind(text.replace(",", "").replace("_", ""))
        except ValueError:
            continue
    head, scale = text[:-1], _SUFFIXES.get(text[-1:].lower())
    try:
        return float(head) * scale if scale else text
    except ValueError:
        return text
