"""Whether flops, params and tokens are counts and go together: C = 6 p t, in which unit, of what.

Legend: p = params, t = tokens, C = flops.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.errors import TableError
from fitting.reading.numbers import PF_DAY
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray, number

_LEAST = {"params": 500.0, "tokens": 1e4, "flops": 1e7}
"""Smaller medians are no counts (assumption; the smallest sweep we know trains 3,000 params on
20,000 tokens)."""

FLOPS_ARE_COUNTS = 1e12
"""A table's FLOPs from here up need no unit (assumption: it takes a core seconds)."""

USUAL = 20.0
"""Tokens per parameter that a table most likely lies around (Hoffmann et al. 2022)."""

_MOST = {"params": 1e14, "tokens": 1e15, "flops": 1e28}
_RATIO = (0.05, 1e5)
"""Tokens per parameter of any sensible table, in the middle (assumption)."""

_LOG_SPAN = 2.0
"""Logarithms of a table's amount, all below `_LOG_MOST`, differ by no more than this factor, as
amounts themselves do (assumption: log10 of 1e5 to 1e10 params are 5 to 10)."""
_LOG_MOST = 70.0

_UNITS = {
    "params": (1.0, 1e9, 1e6, 1e3),
    "tokens": (1.0, 1e9, 1e6, 1e3, 1e12),
    "flops": (1.0, 1e18, 1e9, 1e12, 1e15, 1e21, PF_DAY),
}
"""The most likely first: what is offered where several would do."""

CONVENTION = 1.6
"""flops / (6 p t) up to this factor from 1 is a matter of convention: attention FLOPs and the
vocabulary head make at most about +54 % at the smallest sizes met in practice (measured)."""

_FORWARD = (1 / 3, 1.15)
"""2 p t instead of 6 p t, and the factor within which it is recognised."""


def repaired(
    amounts: Mapping[str, FloatArray], columns: Mapping[str, str]
) -> tuple[dict[str, float], list[str]]:
    """Units of columns that are no counts as they stand.

    Args:
        amounts: two or three of flops, params, tokens, as read.

    Returns:
        Factor per column, 1 where it is a count, and what to tell the reader.

    Raises:
        TableError: the numbers are no counts, and nothing says in which unit they are.
    """
    middle = {name: _middle(values) for name, values in amounts.items()}
    given = [name for name, value in middle.items() if math.isfinite(value)]
    middle = {name: middle[name] for name in given}
    whole = dict.fromkeys(given, 1.0)
    fits = len(given) < 2 or _sensible(middle, whole)
    fitting = [] if fits else _candidates(middle, given)
    logs, oddity = ("", math.inf) if fits else _logarithms(amounts, middle, columns)
    if not fitting and not logs:
        return whole, []
    if not fitting:
        raise TableError(f"amounts too small to be counts: if logarithms, --columns '{logs}'")
    least = min(_changed(units) for units in fitting)
    simplest = [units for units in fitting if _changed(units) == least]
    if len(given) == 3 and len(simplest) == 1:
        said = ", ".join(f"{n} × {number(v)}" for n, v in simplest[0].items() if v != 1)
        note = f"{said}: no counts as they stand, and flops = 6 params tokens holds then"
        return simplest[0], [note]
    first = min(simplest, key=lambda units: _oddity(middle, units))
    shown = ", ".join(
        f"{name} {number(np.nanmin(amounts[name]))} to {number(np.nanmax(amounts[name]))}"
        for name in given if first[name] != 1
    )  # fmt: skip
    option = ",".join(f"{name}={columns.get(name, name)}*{number(first[name])}"
                      for name in given if first[name] != 1)  # fmt: skip
    offers = [f"{_spoken(first)}: --columns '{option}'"]
    if logs:
        offers.insert(int(_oddity(middle, first) < oddity), f"logarithms: --columns '{logs}'")
    raise TableError(
        f"{shown}: too small to be counts. In which unit are they? If, as is most likely, "
        f"{'; if '.join(offers)}"
    )


def _logarithms(
    amounts: Mapping[str, FloatArray], middle: Mapping[str, float], columns: Mapping[str, str]
) -> tuple[str, float]:
    """The option by which small numbers are logarithms of counts, "" if they are none, and how odd
    the counts are."""
    small = [n for n, v in middle.items() if v < min(_LEAST[n], _LOG_MOST)
             and np.nanmax(amounts[n]) <= _LOG_SPAN * np.nanmin(amounts[n])]  # fmt: skip
    for base, written in ((10.0, "{}=10^{}"), (math.e, "{}=exp({})")):
        own = {n: base**v if n in small else v for n, v in middle.items()}
        whole = dict.fromkeys(own, 1.0)
        work = FLOPS_PER_PARAM_TOKEN * own.get("params", 1.0) * own.get("tokens", 1.0)
        if small and _sensible(own, whole) and (len(own) < 3 or 0.5 < own["flops"] / work < 2):
            option = ",".join(written.format(n, columns.get(n, n)) for n in small)
            return option, _oddity(own, whole)
    return "", math.inf


def _candidates(middle: Mapping[str, float], given: list[str]) -> list[dict[str, float]]:
    """Units in which the numbers are counts of one table; FLOPs that are counts stay so."""
    units = dict(_UNITS)
    if middle.get("flops", 0.0) >= FLOPS_ARE_COUNTS:
        units["flops"] = (1.0,)
    choices = itertools.product(*(units[name] for name in given))
    named = (dict(zip(given, choice, strict=True)) for choice in choices)
    return [choice for choice in named if _sensible(middle, choice)]


def _oddity(middle: Mapping[str, float], units: Mapping[str, float]) -> float:
    """How far tokens per parameter are from the usual, units from billions, and work from none."""
    params, tokens = _sizes({name: middle[name] * units[name] for name in middle})
    odd = sum(abs(math.log(v / 1e9)) for n, v in units.items() if v != 1 and n != "flops")
    return abs(math.log(tokens / params / USUAL)) + 0.1 * odd + 0.01 * math.log(tokens * params)


def _changed(units: Mapping[str, float]) -> int:
    return sum(value != 1 for value in units.values())


def _spoken(units: Mapping[str, float]) -> str:
    words = {1e3: "thousands", 1e6: "millions", 1e9: "billions", 1e12: "trillions"}
    return ", ".join(
        f"{n} in {number(v) if n == 'flops' else words.get(v, number(v))}"
        for n, v in units.items() if v != 1
    )  # fmt: skip


def _sensible(middle: Mapping[str, float], units: Mapping[str, float]) -> bool:
    """Whether these are counts of one table, in these units."""
    own = {name: middle[name] * units[name] for name in middle}
    if any(not _LEAST[n] <= v <= _MOST[n] for n, v in own.items()):
        return False
    if len(own) == 3:
        ratio = own["flops"] / (FLOPS_PER_PARAM_TOKEN * own["params"] * own["tokens"])
        # Far off, but counts as they stand: a mixture of experts, not a unit.
        if not (1e-2 < ratio < 1e2 if _changed(units) == 0 else 1 / 2 < ratio < 2):
            return False
    params, tokens = _sizes(own)
    return _RATIO[0] <= tokens / params <= _RATIO[1] or len(own) == 3


def _sizes(own: Mapping[str, float]) -> tuple[float, float]:
    """Params and tokens from two or three amounts."""
    work = own.get("flops", 0.0) / FLOPS_PER_PARAM_TOKEN
    params = own.get("params") or work / own["tokens"]
    return params, own.get("tokens") or work / params


def _middle(values: FloatArray) -> float:
    usable = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.median(np.log(usable)))) if len(usable) else math.nan


def conventions(frame: pd.DataFrame, read: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What flops / (6 params tokens) says of the columns.

    Args:
        read: what was taken from where, as `fitting.read_runs` has it: remedies name its columns.

    Returns:
        Contradictions that make every answer wrong, and differences of convention, which are
        kept: all that is derived from the table uses its own flops / (params tokens).
    """
    work = FLOPS_PER_PARAM_TOKEN * frame["params"] * frame["tokens"]
    ratio = (frame["flops"] / work).to_numpy(float)
    size = np.abs(np.log(ratio))
    flops, params = (_times(read, role) for role in ("flops", "params"))
    forward = np.abs(np.log(ratio / _FORWARD[0])) < math.log(_FORWARD[1])
    wrong = _in_rows(
        "flops = 2 params tokens: these are FLOPs of the forward pass only, training takes three "
        f"times as many: multiply them by 3 (--columns {flops(3)})", frame, forward,
    )  # fmt: skip
    absurd = size > math.log(300)
    for factor, unit in {1e3: "thousands", 1e6: "millions", 1e9: "billions"}.items():
        hit = absurd & (np.abs(np.log(ratio / factor)) < math.log(3))
        absurd &= ~hit
        said = f"flops / (6 params tokens) is about {factor:.0e}, are params or tokens in {unit}?"
        wrong += _in_rows(f"{said} Multiply them (--columns {params(factor)})", frame, hit)
    wrong += _in_rows(
        "flops / (6 params tokens) is not within a factor 300 of 1, so the three columns "
        "contradict each other: check what each of them counts", frame, absurd,
    )  # fmt: skip
    left = (size > math.log(CONVENTION) + 1e-6) & ~forward & (size <= math.log(300))
    return wrong, _doubts(frame, ratio, left)


def _times(read: Mapping[str, Any], role: str) -> Callable[[float], str]:
    """The option that multiplies an amount's column, its unit kept."""
    column, unit = read.get(role) or role, read.get("units", {}).get(role, 1.0)
    mark = "" if str(column).isidentifier() else "'"
    return lambda factor: f"{mark}{role}={column}*{number(factor * unit)}{mark}"


def _doubts(frame: pd.DataFrame, ratio: FloatArray, left: npt.NDArray[np.bool_]) -> list[str]:
    """Ratios that a convention explains."""
    if not left.any():
        return []
    middle = float(np.median(ratio[left]))
    if middle < 1:
        said = (
            f"flops are {middle:.2g} times 6 params tokens: do params count all experts of a "
            "mixture and FLOPs only the active ones? Then sizes below are total params; a column "
            "of active ones is taken by --columns params=COLUMN. Keep the flops: they are right"
        )
    elif middle < 4:
        said = (
            f"flops are {middle:.2g} times 6 params tokens (embeddings left out of params, or "
            "attention counted?): sizes and tokens below are as the table counts them"
        )
    else:
        said = (
            f"flops are {middle:.2g} times 6 params tokens, more than embeddings or attention "
            "explain: do params, tokens and flops belong to one training?"
        )
    return _in_rows(said, frame, left)


def _in_rows(what: str, frame: pd.DataFrame, where: npt.NDArray[np.bool_]) -> list[str]:
    """A finding with the rows it concerns, or nothing."""
    count = int(where.sum())
    if not count:
        return []
    if count == len(frame):
        return [f"{what} (all {count} rows)."]
    labels = ", ".join(str(i) for i in frame.index[where][:3]) + (" ..." if count > 3 else "")
    return [f"{what} ({count} of {len(frame)} rows: {labels})."]
