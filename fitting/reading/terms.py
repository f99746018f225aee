"""Quantities as terms of columns, and the table in hand while its columns are chosen."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fitting.errors import TableError, did_you_mean
from fitting.reading.numbers import number, numbers
from fitting.reading.reasons import is_blank
from fitting.reading.words import AMOUNTS, Header, parse_all
from fitting.values import FloatArray

LABELS = ("skill", "trial_id", "seed", "mix", "status")
HELPERS = (
    "step", "epochs", "unique_tokens", "tokens_per_param", "batch_tokens",
    "batch_size", "sequence",
)  # fmt: skip
COLUMNS = (*AMOUNTS, "skill", "loss", "trial_id", "seed", "mix", "status")

Asked = Mapping[str, str | float | Sequence[str]]
"""Role to column, expression, number, or several columns (loss)."""

_EXPRESSIONS = (
    ("log", re.compile(r"log\((?P<column>.+)\)")),
    ("power", re.compile(r"(?P<number>10)\s*(?:\^|\*\*)\s*(?P<column>.+)")),
    ("power", re.compile(r"(?P<number>)exp\((?P<column>.+)\)")),
    ("minus", re.compile(r"(?P<number>[\d.eE+]+)\s*-\s*(?P<column>.+)")),
)


@dataclass(frozen=True)
class Term:
    """A quantity taken from a column.

    Attributes:
        column: its header, "" for a constant.
        how: "times" (value * number), "over" (number / value), "log", "power" (number^value),
            "minus" (number - value), "constant" or "product" (of ``factors``).
        number: of ``how``.
        factors: of a product; ``column`` is that of the first.
    """

    column: str
    how: str = "times"
    number: float = 1.0
    factors: tuple[Term, ...] = ()

    @property
    def columns(self) -> set[str]:
        """All columns that it is taken from."""
        return {self.column}.union(*(factor.columns for factor in self.factors))

    def values(self, frame: pd.DataFrame, decimal: str) -> FloatArray:
        """The quantity of every row, NaN where the cell is no number."""
        if self.how == "constant":
            return np.full(len(frame), self.number)
        if self.how == "product":
            return np.asarray(np.prod([f.values(frame, decimal) for f in self.factors], axis=0))
        if self.how == "times":
            return numbers(frame[self.column], decimal=decimal, unit=self.number)
        found = numbers(frame[self.column], decimal=decimal)
        if self.how == "minus":
            return self.number - found
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.how == "over":
                return np.asarray(self.number / found)
            return np.asarray(self.number**found if self.how == "power" else np.log(found))

    def __str__(self) -> str:
        shown = {
            "constant": f"{self.number:g}",
            "log": f"ln({self.column})",
            "power": f"{self.number:.3g}^{self.column}".replace("2.72^", "e^"),
            "minus": f"{self.number:g} - {self.column}",
            "over": f"1/{self.column}",
            "product": " × ".join(map(str, self.factors)).replace(" × 1/", " / "),
        }
        return shown.get(self.how, self.column)


@dataclass
class Choice:
    """What is taken from where.

    Attributes:
        amounts: flops, params, tokens as far as the table has them.
        losses: by skill; one without a name where there is one column.
        labels: role to column.
        identities: columns that may name a run, the most likely first.
        endings: columns that say how runs ended.
        kind: "nats", "bits", "perplexity" or "", of the losses.
        notes: what a reader should know of the choice.
    """

    amounts: dict[str, Term] = field(default_factory=dict)
    losses: dict[str, Term] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    kind: str = "nats"
    notes: list[str] = field(default_factory=list)

    def used(self) -> set[str]:
        """Columns that are taken for something."""
        terms = [*self.amounts.values(), *self.losses.values()]
        return {*self.labels.values(), *self.endings}.union(*(t.columns for t in terms))


def parse_columns(text: str) -> dict[str, str | list[str]]:
    """Read ``loss=eval/loss,skill=task``; a role given twice takes several columns.

    Raises:
        TableError: not of this form, or no such role.
    """
    asked: dict[str, str | list[str]] = {}
    for item in re.split(r",(?=\s*\w+\s*=)", text):
        role, separator, column = (part.strip() for part in item.partition("="))
        if not separator or not column:
            raise TableError(f"--columns {text!r}: write ROLE=COLUMN,..., e.g. loss=eval/loss")
        asked[role] = [*listed(asked[role]), column] if role in asked else column
    known_roles(asked)
    return asked


def known_roles(asked: Iterable[str]) -> None:
    """Refuse roles nobody knows."""
    known = (*COLUMNS, *HELPERS)
    for role in asked:
        if role not in known:
            near = did_you_mean(role, known)
            raise TableError(f"columns: {role!r} is no role{near}; roles: {', '.join(known)}")


def listed(asked: Any) -> list[str]:
    """One or several columns as a list."""
    return [str(asked)] if isinstance(asked, str | int | float) else list(asked)


def quoted(names: Iterable[object]) -> str:
    """Names as a message shows them."""
    return ", ".join(f"{str(n)!r}" for n in names)


class Sheet:
    """A raw table with its headers taken apart and its columns parsed when first asked for."""

    def __init__(self, frame: pd.DataFrame, decimal: str) -> None:
        self.frame, self.decimal = frame, decimal
        self.headers = parse_all(frame.columns)
        self.names = [h.column for h in self.headers]
        self._parsed: dict[str, FloatArray] = {}

    def of(self, role: str, used: Collection[str | None]) -> list[Header]:
        """Headers of one role that nothing has been taken from."""
        return [h for h in self.headers if h.role == role and h.column not in used]

    def numbers(self, header: Header) -> FloatArray:
        """A column's values in its header's unit."""
        if header.column not in self._parsed:
            values = numbers(self.frame[header.column], decimal=self.decimal, unit=header.unit)
            if header.unit > 1 and _already_counts(values, header):
                values = values / header.unit  # "(B)" over counts: a label, not a unit
            self._parsed[header.column] = values
        return self._parsed[header.column]

    def unit(self, header: Header) -> float:
        """The header's unit, 1 where it stands over counts."""
        plain = numbers(self.frame[header.column], decimal=self.decimal)
        return 1.0 if np.array_equal(self.numbers(header), plain, equal_nan=True) else header.unit

    def numeric(self, header: Header) -> bool:
        """Whether half of the cells that are there hold numbers."""
        cells = self.frame[header.column]
        if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells):
            return bool(cells.notna().any())
        given = int((~is_blank(cells)).sum())
        return given > 0 and int(np.isfinite(self.numbers(header)).sum()) * 2 >= given

    def power(self, role: str, header: Header) -> Term:
        """An amount whose logarithms are held, natural where it says ln or none are so large."""
        large = bool(np.nanmedian(self.numbers(header)) > _DECADES[role])
        natural = header.logarithm == "ln" or (header.logarithm == "log" and large)
        return Term(header.column, "power", math.e if natural else 10.0)

    def column(self, text: str) -> Header | None:
        """A column by name, else without case and spaces."""
        near = [h for h in self.headers if _squeezed(h.column) == _squeezed(text)]
        exact = next((h for h in near if h.column == text), None)
        return exact or (near[0] if len(near) == 1 else None)

    def term(self, role: str, asked: object) -> Term:
        """The term that an asked column, expression or number stands for.

        Raises:
            TableError: there is no such column; the message has the nearest.
        """
        text = str(asked).strip()
        if (header := self.column(text)) is not None:
            if role in AMOUNTS and header.logarithm:
                return self.power(role, header)
            return Term(header.column, "times", header.unit if role in AMOUNTS else 1.0)
        found = self._expression(text)
        if found is not None:
            return found
        if role in AMOUNTS and math.isfinite(number(text)):
            return Term("", "constant", number(text))
        near = difflib.get_close_matches(text, self.names, n=3, cutoff=0.4)
        hint = f"nearest: {quoted(near)}" if near else f"the table has {quoted(self.names[:30])}"
        raise TableError(f"columns: {role}={text}: there is no such column; {hint}")

    def _expression(self, text: str) -> Term | None:
        """log(X), 10^X, 1-X of a column; or columns and numbers, multiplied or divided."""
        for how, pattern in _EXPRESSIONS:
            found = pattern.fullmatch(text)
            column = self.column(found["column"].strip()) if found else None
            if found is None or column is None:
                continue
            size = number(found["number"] or "") if how != "log" else 1.0
            if math.isfinite(size) or how == "power":
                return Term(column.column, how, size if math.isfinite(size) else math.e)
        factors = self._factors(text)
        own = [f for f in factors if f.how != "constant"]
        if not own:
            return None
        size = math.prod(f.number for f in factors if f.how == "constant")
        if len(own) == 1 and own[0].how == "times":
            return Term(own[0].column, "times", size)  # in place of its header's unit
        numbers_too = (Term("", "constant", size),) if size != 1 else ()
        return Term(own[0].column, "product", factors=(*own, *numbers_too))

    def _factors(self, text: str) -> tuple[Term, ...]:
        """X*Y/Z as factors, none where a part is neither a column nor a number."""
        if one := self._factor(text.strip(), "*"):
            return (one,)
        for mark in reversed(list(re.finditer(r"[*/×]", text))):  # names may hold marks too
            last = self._factor(text[mark.end() :].strip(), mark[0])
            if last and (rest := self._factors(text[: mark.start()])):
                return (*rest, last)
        return ()

    def _factor(self, text: str, mark: str) -> Term | None:
        """A column or a number, or what is divided by it."""
        column, size = self.column(text), number(text)
        if column is not None:
            over = mark == "/"
            how, unit = ("over", 1 / column.unit) if over else ("times", column.unit)
            return Term(column.column, how, unit)
        if not math.isfinite(size) or not size:
            return None
        return Term("", "constant", 1 / size if mark == "/" else size)


def _squeezed(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).lower()


_DECADES = {"params": 13.0, "tokens": 15.0, "flops": 29.0}
"""Larger logarithms of an amount are natural (assumption: nobody trains so much, and below them
natural ones would be of a million params, 3 million tokens, 4 TFLOPs)."""

_ABSURD = {"params": 2e13, "tokens": 3e14, "flops": 1e29}
"""No table has so many in the middle."""


def _already_counts(values: FloatArray, header: Header) -> bool:
    """Whether counts stand under a header that says billions."""
    finite = values[np.isfinite(values)]
    middle = float(np.median(finite)) if len(finite) else 0.0
    return middle / header.unit > 1e6 and middle > _ABSURD.get(header.role, math.inf)
