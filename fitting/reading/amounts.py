"""FLOPs, params and tokens: where several columns may be one, what they multiply to decides."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.terms import Asked, Choice, Sheet, Term, quoted
from fitting.reading.words import AMOUNTS, Header
from fitting.values import FLOPS_PER_PARAM_TOKEN, FloatArray

SAME = 0.02
"""Two columns that differ by no more are one amount, written twice (assumption: three digits)."""

FEW_PERCENT, FOLD = 0.05, 4.0
"""Columns that differ by more, and not by this factor, count one amount in other ways (with or
without embeddings, planned or seen, a nominal size): which was taken is said (assumption)."""

CLEAR = 0.05
"""By so much in ln flops / (6 p t) one column must fit better than another (assumption)."""


def find_amounts(sheet: Sheet, choice: Choice, asked: Asked) -> None:
    """Choose the columns of FLOPs, tokens and params.

    Raises:
        TableError: a column could be two things.
    """
    found = {role: _candidates(sheet, choice, role) for role in AMOUNTS}
    for role in ("flops", "tokens", "params"):
        if role in choice.amounts or str(asked.get(role)) == "none":
            continue
        header = _settle(sheet, choice, role, found)
        if header is not None:
            choice.amounts[role] = Term(header.column, "times", sheet.unit(header))
            found[role] = [header]
            _say_others(sheet, choice, role, header)
        elif powers := [h for h in sheet.headers if _is_power_of(h, role)]:
            choice.amounts[role] = sheet.power(role, powers[0])


def _is_power_of(header: Header, role: str) -> bool:
    """Whether a column holds logarithms of an amount."""
    words = tuple(w for w in header.words if w != header.logarithm)
    return bool(header.logarithm) and Header(" ".join(words), words).role == role


def agree(one: FloatArray, other: FloatArray) -> bool:
    """Whether two columns hold one amount."""
    away = _apart(one, other)
    return len(away) > 0 and bool(np.max(away) < SAME)


def _apart(one: FloatArray, other: FloatArray) -> FloatArray:
    """How far apart two columns are, in logarithms, in the rows where both hold amounts."""
    both = np.isfinite(one) & np.isfinite(other) & (one > 0) & (other > 0)
    return np.asarray(np.abs(np.log(one[both] / other[both])))


def _near(sheet: Sheet, one: Header, other: Header) -> bool:
    """Whether two columns may count one amount, if in other ways."""
    away = _apart(sheet.numbers(one), sheet.numbers(other))
    return len(away) > 0 and bool(np.median(away) < math.log(FOLD))


def _candidates(sheet: Sheet, choice: Choice, role: str) -> list[Header]:
    """Columns that may be this amount; short names only where no long one is there."""
    used = choice.used() - {choice.labels.get("trial_id")}  # a size may name its one training
    found = [h for h in sheet.of(role, used) if sheet.numeric(h)]
    found = [h for h in found if not _is_numbering(sheet.numbers(h))]
    found = [h for h in found if h.key != "model" or _is_text(sheet.frame[h.column])]
    counts = [h for h in found if not is_label(sheet.frame[h.column]) or h.kind == "active"]
    found = [h for h in found if h in counts or not any(_near(sheet, h, c) for c in counts)]
    exact = [h for h in found if h.column == role]
    if exact and not any(h.kind == "active" for h in found):
        return exact
    long = [h for h in found if not _is_short(h)]
    if role == "tokens" and not long:
        found = [h for h in found if not _is_width(sheet, choice, h)]
    return _distinct(sheet, long or found)


def is_label(cells: pd.Series) -> bool:
    """Whether sizes are written as names of models have them (125M, 7B), in few digits."""
    return _is_text(cells) and bool(cells.astype("str").str.contains("[kmbtKMBT]").mean() > 0.5)


def _say_others(sheet: Sheet, choice: Choice, role: str, taken: Header) -> None:
    """Name columns that count the amount otherwise, if neither a note nor their header says so."""
    said = " ".join(choice.notes)
    for header in sheet.of(role, choice.used()):
        if not sheet.numeric(header) or not _near(sheet, header, taken):
            continue
        away = _apart(sheet.numbers(header), sheet.numbers(taken)) > FEW_PERCENT
        if away.any() and not header.kind and repr(header.column) not in said:
            choice.notes.append(
                f"{role} = {taken.column} and not {header.column!r}, which differs by more than "
                f"{FEW_PERCENT:.0%} in {away.sum()} of {len(away)} rows; --columns "
                f"'{role}={header.column}' takes it"
            )


def _is_text(cells: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(cells)


def _is_numbering(values: FloatArray) -> bool:
    """Whether values count 1, 2, 3, ...: numbers of budgets or sizes, not amounts."""
    distinct = np.unique(values[np.isfinite(values)])
    least = distinct[0] if len(distinct) else math.nan
    return least in (0, 1) and bool((distinct == np.arange(len(distinct)) + least).all())


def _is_short(header: Header) -> bool:
    """A letter or a bare size."""
    return len(header.key) == 1 or header.key in ("size", "budget", "model")


def _is_width(sheet: Sheet, choice: Choice, header: Header) -> bool:
    """Whether D beside L means width beside layers."""
    letters = {h.column for h in sheet.headers if h.words == ("l",)}
    losses = {t.column for t in choice.losses.values()}
    small = bool(np.nanmax(sheet.numbers(header)) < 1e5)
    return _is_short(header) and small and bool(letters - losses)


def _distinct(sheet: Sheet, found: list[Header]) -> list[Header]:
    """Without columns that say the same more coarsely (a label 60M beside the count)."""

    def coarseness(header: Header) -> tuple[bool, int]:
        return _is_text(sheet.frame[header.column]), -len(np.unique(sheet.numbers(header)))

    kept: list[Header] = []
    for header in sorted(found, key=coarseness):
        if not any(agree(sheet.numbers(header), sheet.numbers(k)) for k in kept):
            kept.append(header)
    return kept


def _settle(
    sheet: Sheet, choice: Choice, role: str, found: Mapping[str, list[Header]]
) -> Header | None:
    """One column of several."""
    several = [h for h in found[role] if h.kind != "forward"] or found[role]
    if len(several) < 2:
        return several[0] if several else None
    active = [h for h in several if h.kind == "active"]
    if role == "params" and active:
        others = [h.column for h in several if h is not active[0]]
        choice.notes.append(
            f"a mixture of experts: sizes are {active[0].column}, which the FLOPs go with, not "
            f"{quoted(others)}; every size below is of active params (in the other count: "
            f"--columns 'params={others[0]}')"
        )
        return active[0]
    misfit = np.array([_misfit(sheet, choice, role, h, found) for h in several])
    best, second = (int(i) for i in np.argsort(misfit)[:2])
    names = [h.column for h in several]
    if not np.isfinite(misfit).all() or misfit[second] - misfit[best] <= CLEAR:
        raise TableError(
            f"{quoted(names)} could each be {role}: say which by --columns '{role}={names[0]}'"
        )
    others = [n for n in names if n != names[best]]
    choice.notes.append(
        f"{role} = {names[best]} and not {quoted(others)}, because flops = 6 params tokens holds "
        f"better with it (within a factor {math.exp(misfit[best]):.2f}); --columns "
        f"'{role}={others[0]}' takes the other"
    )
    return several[best]


def _misfit(
    sheet: Sheet, choice: Choice, role: str, header: Header, found: Mapping[str, list[Header]]
) -> float:
    """Median |ln flops / (6 params tokens)| with this column, inf where one is missing."""
    values: dict[str, FloatArray] = {role: sheet.numbers(header)}
    for other in AMOUNTS:
        if other in choice.amounts:
            values[other] = choice.amounts[other].values(sheet.frame, sheet.decimal)
        elif len(found[other]) == 1:
            values[other] = sheet.numbers(found[other][0])
    if set(values) != set(AMOUNTS):
        return math.inf
    with np.errstate(all="ignore"):
        work = FLOPS_PER_PARAM_TOKEN * values["params"] * values["tokens"]
        return float(np.nanmedian(np.abs(np.log(values["flops"] / work))))
