"""Variants of a training from wherever their runs are: tables, and whether they compare fairly."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fitting import Answer, Multipliers, Runs, compare_runs, split_mixes
from sweeper.errors import SpecError
from sweeper.record.record import FITTED, Outcome


@dataclass(frozen=True)
class Variant:
    """One variant's runs.

    Attributes:
        name: as it is called.
        table: long, in the columns of `fitting.prepare`; with target_tokens, target_bytes and
            bits_per_byte where a sweep measured them.
        unit: of the losses, where a table says.
        tokenizer: that the losses are of, where a table says.
    """

    name: str
    table: pd.DataFrame
    unit: str = ""
    tokenizer: str = ""


def of_sweep(name: str, results: Outcome) -> list[Variant]:
    """The variants of a sweep, or one for each of its mixes; the spec's first comes first."""
    done = results.table[results.table["status"] == "finished"]
    order = list(results.sweep.spaces)
    done = done.sort_values("mix", key=lambda m: m.map(order.index), kind="stable")
    columns = [c for c in (*FITTED, *_MEASURED) if c in done and c != "status"]
    return _apart(name, done[columns], "")


def of_runs(name: str, runs: Runs) -> list[Variant]:
    """The variants of a table: one for each experiment it tells apart."""
    found = _apart(name, runs.table, str(runs.read.get("loss_unit", "")))
    known = runs.read.get("tokenizers", [])
    if len(known) == 1:
        return [replace(one, tokenizer=known[0]) for one in found]
    said = [_TOKENIZER.search(one.name) for one in found]
    return [
        replace(v, tokenizer=m.group(1) if m else "") for v, m in zip(found, said, strict=True)
    ]


_TOKENIZER = re.compile(r"\btokenizer=(\S+)", re.IGNORECASE)
"""How an experiment's name holds its tokenizer."""


_MEASURED = ("target_tokens", "target_bytes", "bits_per_byte")


def _apart(name: str, table: pd.DataFrame, unit: str) -> list[Variant]:
    parts = split_mixes(table)
    if len(parts) == 1:
        return [Variant(name, next(iter(parts.values())), unit)]
    return [Variant(f"{name} {mix}".strip(), rows, unit) for mix, rows in parts.items()]


def compare(variants: Sequence[Variant], **asked: Any) -> Multipliers:
    """Compare variants with the first; options are those of `fitting.compare_runs`.

    Raises:
        SpecError: fewer than two variants, or losses of different units.
        FittingError: see `fitting.compare_runs`.
    """
    if len(variants) < 2:
        raise SpecError(
            "compare: one variant only; give the runs of another, or a table or sweep that holds "
            "several (a column mix tells experiments apart)"
        )
    names = [one.name for one in variants]
    if len(set(names)) < len(names):
        raise SpecError(
            f"compare: two variants have one name ({', '.join(names)}); write NAME=RUNS"
        )
    units = {one.name: one.unit for one in variants if one.unit}
    if len(set(units.values())) > 1:
        said = ", ".join(f"{name} in {unit}" for name, unit in units.items())
        raise SpecError(f"compare: losses are of different units: {said}; give one, by --columns")
    tables, notes = _comparable({one.name: one.table for one in variants})
    found = compare_runs(tables, **asked)
    answers = [_on_tokens(answer, variants) for answer in found.answers]
    return replace(found, answers=tuple(answers), notes=(*notes, *found.notes))


def _on_tokens(answer: Answer, variants: Sequence[Variant]) -> Answer:
    """Without a verdict where the losses are of other tokens than the reference's."""
    first = variants[0]
    other = next(one for one in variants if one.name == answer.variant)
    alike = not (first.tokenizer and other.tokenizer) or first.tokenizer == other.tokenizer
    if alike or "byte" in other.unit or not answer.verdict:
        return answer
    why = (
        f"its tokenizer is {other.tokenizer}, the reference's {first.tokenizer}, and losses per "
        "token do not compare between two: give both a column of bits per byte"
    )
    return replace(answer, verdict="undecided", reason=why)


def _comparable(
    tables: Mapping[str, pd.DataFrame],
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Losses per byte where one text has other numbers of tokens; and what is said of it."""
    plain = {n: t.drop(columns=[c for c in _MEASURED if c in t]) for n, t in tables.items()}
    if not all("target_bytes" in table for table in tables.values()):
        return plain, []
    sizes = [
        t.groupby("skill")[["target_tokens", "target_bytes"]].first() for t in tables.values()
    ]
    first, notes = sizes[0], []
    common = [s for s in first.index if all(s in other.index for other in sizes)]
    texts = [s for s in common if _differs(sizes, s, "target_bytes")]
    tokens = [s for s in common if s not in texts and _differs(sizes, s, "target_tokens")]
    if texts:
        notes.append(f"measured on different texts, so not the same skill: {', '.join(texts)}")
    if tokens:
        notes.append(
            "tokenizers differ: losses are nats per byte, not per token, so that they compare"
        )
        nats = {n: t["bits_per_byte"] * math.log(2) for n, t in tables.items()}
        plain = {n: t.assign(loss=nats[n]) for n, t in plain.items()}
    return plain, notes


def _differs(sizes: Sequence[pd.DataFrame], skill: str, column: str) -> bool:
    values = np.array([float(each.loc[skill, column]) for each in sizes])
    return bool(np.ptp(values) > 0)
