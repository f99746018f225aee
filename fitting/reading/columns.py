"""Which column is the loss, the sizes, the tokens, the FLOPs, the skill; asks where it must."""

from __future__ import annotations

import difflib
import re

import numpy as np
import pandas as pd

from fitting.errors import TableError
from fitting.reading.amounts import agree, find_amounts
from fitting.reading.numbers import number, numbers
from fitting.reading.products import find_products
from fitting.reading.reasons import tells_endings
from fitting.reading.terms import (
    HELPERS,
    LABELS,
    Asked,
    Choice,
    Sheet,
    Term,
    known_roles,
    listed,
    quoted,
)
from fitting.reading.words import AMOUNTS, Header
from fitting.values import FloatArray


def choose(frame: pd.DataFrame, asked: Asked | None = None, *, decimal: str = ".") -> Choice:
    """Decide which column is what.

    Args:
        asked: what the caller says; wins over every rule.
        decimal: see `fitting.reading.numbers.numbers`.

    Raises:
        TableError: something is missing, or could be two things; the message says what to type.
    """
    asked = dict(asked or {})
    known_roles(asked)
    if frame.columns.has_duplicates:
        twice = list(frame.columns[frame.columns.duplicated()])
        raise TableError(f"columns {quoted(twice)} occur twice: rename one of each")
    sheet, choice = Sheet(frame, decimal), Choice()
    _take_asked(sheet, choice, asked)
    _find_labels(sheet, choice, asked)
    find_losses(sheet, choice, asked)
    find_amounts(sheet, choice, asked)
    find_products(sheet, choice, asked)
    _require(sheet, choice)
    return choice


def _take_asked(sheet: Sheet, choice: Choice, asked: Asked) -> None:
    """Take what the caller names."""
    for role in (*AMOUNTS, *LABELS, *HELPERS):
        if role not in asked or str(asked[role]) == "none":
            continue
        term = sheet.term(role, asked[role])
        if role in AMOUNTS:
            choice.amounts[role] = term
        elif role == "status":
            choice.endings = [term.column]
        else:
            choice.labels[role] = term.column


def _find_labels(sheet: Sheet, choice: Choice, asked: Asked) -> None:
    """Skill, seed, mix, helpers; identities and endings are listed, of which several count."""
    for role in (*LABELS, *HELPERS):
        if role in asked:
            continue
        found = sheet.of(role, choice.used())
        found = [h for h in found if h.column == role] + [h for h in found if h.column != role]
        if role in HELPERS:
            found = [h for h in found if sheet.numeric(h)]
        if role == "skill":
            found = [h for h in found if h.column == role or not _is_measure(sheet, h)]
        if role == "trial_id":
            choice.identities = [h.column for h in found]
        elif role == "status":
            choice.endings = [h.column for h in found if not _holds_parts(sheet.frame[h.column])]
            choice.endings += [h.column for kind in ("remark", "fault")
                               for h in sheet.of(kind, choice.used())
                               if tells_endings(sheet.frame[h.column])]  # fmt: skip
        elif found:
            choice.labels[role] = found[0].column


def _holds_parts(cells: pd.Series) -> bool:
    """Whether figures are no codes and no shares of the way: a final loss."""
    parts = pd.api.types.is_float_dtype(cells) and bool((cells.dropna() % 1 != 0).any())
    return parts and cells.max() not in (1, 100)


def _is_measure(sheet: Sheet, header: Header) -> bool:
    """Whether a column holds measurements rather than names."""
    return sheet.numeric(header) and sheet.frame[header.column].nunique() > 8


def find_losses(sheet: Sheet, choice: Choice, asked: Asked) -> None:
    """One column, or one per skill where they say what they are measured on."""
    if "loss" in asked:
        terms = [sheet.term("loss", one) for one in listed(asked["loss"])]
        choice.losses = {"": terms[0]} if len(terms) == 1 else {t.column: t for t in terms}
        head = sheet.column(terms[0].column) if terms[0].how == "times" else None
        choice.kind = head.kind if head and head.role == "loss" else "nats"
        return
    found = [h for h in sheet.of("loss", choice.used()) if sheet.numeric(h)]
    found = [h for h in found if h.words != ("l",)] or found
    _refuse_twins(sheet, found)
    if any(h.names_loss and not h.training for h in found):
        found = [h for h in found if h.names_loss]  # the others may be shares of texts
    if "skill" in choice.labels and any(h.column == "loss" for h in found):
        found = [h for h in found if h.column == "loss"]
    found = _best(sheet, found)
    if not found:
        _no_loss(sheet, choice)
    choice.kind = found[0].kind
    many = len(found) > 1
    choice.losses = {h.column if many else "": _loss_term(h) for h in found}


def _refuse_twins(sheet: Sheet, found: list[Header]) -> None:
    """Refuse to choose between one name written twice: Loss, or loss.1 as pandas writes it."""
    same: dict[str, list[Header]] = {}
    for header in found:
        same.setdefault(re.sub(r"\.\d+$", "", header.column).lower(), []).append(header)
    for first, *others in same.values():
        if not all(agree(sheet.numbers(first), sheet.numbers(h)) for h in others):
            raise _which([first, *others])


def _loss_term(header: Header) -> Term:
    """A loss in nats: perplexities are turned."""
    return Term(header.column, "log" if header.kind.startswith("perplexity") else "times")


def _best(sheet: Sheet, found: list[Header]) -> list[Header]:
    """Evaluation before training, losses in nats before others; asks between equals."""
    if any(h.evaluation for h in found):
        found = [h for h in found if h.evaluation or (h.subject and not h.training)]
    elif any(not h.training for h in found):
        found = [h for h in found if not h.training]
        on_texts = [h for h in found if h.subject]
        if 0 < len(on_texts) < len(found):
            _ask_if_one(on_texts, next(h for h in found if not h.subject))
            found = on_texts
    exact = [h for h in found if h.column == "loss"]
    if exact and not any(h.evaluation or h.subject for h in found):
        found = exact
    subjects = {h.subject: [o for o in found if o.subject == h.subject] for h in found}
    return [_one_of(sheet, same) for same in subjects.values()]


def _ask_if_one(on_texts: list[Header], plain: Header) -> None:
    """Refuse to choose between a plain loss and one that may be another figure of the same."""
    if len({h.subject for h in on_texts}) == 1 and not on_texts[0].names_text:
        raise _which([plain, on_texts[0]])


def _which(found: list[Header]) -> TableError:
    names = [h.column for h in found]
    return TableError(
        f"{quoted(names)} could each be the loss: say which by --columns 'loss={names[0]}' (or "
        f"--columns '{','.join(f'loss={n}' for n in names)}' for each as a skill)"
    )


_KINDS = ("nats", "bits", "perplexity", "")


def _order(header: Header) -> tuple[int, int]:
    return _KINDS.index(header.kind.split(" ")[0]), header.rank


def _one_of(sheet: Sheet, same: list[Header]) -> Header:
    """The column to take of those that say the same."""
    least = min(map(_order, same))
    same = [h for h in same if _order(h) == least]
    first, *others = same
    if all(agree(sheet.numbers(first), sheet.numbers(h)) for h in others):
        return first
    raise _which(same)


def _no_loss(sheet: Sheet, choice: Choice) -> None:
    """Refuse, with what might be meant."""
    measures = [h for h in sheet.headers if h.role == "metric" and sheet.numeric(h)]
    if measures:
        name = measures[0].column
        top = 100 if np.nanmax(sheet.numbers(measures[0])) > 1.5 else 1
        raise TableError(
            f"there is no loss, only {quoted(h.column for h in measures)}, which rises as models "
            f"get better: to fit the error instead, --columns 'loss={top}-{name}'"
        )
    unread = [
        h.column for h in sheet.headers if h.role == "loss" and h.column not in choice.used()
    ]
    if unread:
        raise _not_numbers(sheet, unread[0])
    if np.isfinite([number(name) for name in sheet.names]).all():
        raise TableError("the first line holds numbers and no names: write what each column is")
    used = choice.used()
    free = [h.column for h in sheet.headers
            if (h.role == "" or h.key == "final") and h.column not in used
            and sheet.numeric(h)]  # fmt: skip
    values = {c: numbers(sheet.frame[c], decimal=sheet.decimal) for c in free}
    likely = [c for c in free if _may_be_losses(values[c])]
    below = [c for c in free if _may_be_losses(-values[c])]  # log likelihoods
    minus, likely = ("0-", below) if below and not likely else ("", likely)
    free = [minus + c for c in likely or free]
    one = free[0] if len(free) == 1 or likely else "COLUMN"
    each = ",".join(f"loss={c}" for c in likely) if likely else "loss=COLUMN,loss=COLUMN"
    raise TableError(
        f"missing columns 'loss': no column is named as a loss; the table has "
        f"{quoted(sheet.names[:30])}. If one of them is, say which: --columns 'loss={one}'"
        + (f"; if several are skills, --columns '{each}'" if len(free) > 1 else "")
    )


def _may_be_losses(values: FloatArray) -> bool:
    """Whether most values differ and are of the size of nats or bits."""
    some = values[np.isfinite(values)]
    return bool(len(np.unique(some)) * 2 > len(some) and some.min() > 0 and some.max() < 15)


def _not_numbers(sheet: Sheet, column: str) -> TableError:
    cells = sheet.frame[column].dropna()
    held = f"no numbers but cells such as {str(cells.iloc[0])!r}" if len(cells) else "nothing"
    return TableError(f"column {column!r} holds {held}: write plain numbers there")


def _require(sheet: Sheet, choice: Choice) -> None:
    """Refuse unless two of flops, params, tokens can be had."""
    have = set(choice.amounts)
    if len(have) >= 2:
        return
    missing = [n for n in AMOUNTS if n not in have]
    for header in sheet.headers:
        if header.role in missing and header.key != "model" and not sheet.numeric(header):
            raise _not_numbers(sheet, header.column)
    near = {n: difflib.get_close_matches(n, sheet.names, n=2, cutoff=0.5) for n in missing}
    said = [f"{n!r}" + (f" (nearest: {', '.join(near[n])})" if near[n] else "") for n in missing]
    letters = {h.column for h in sheet.headers if h.key in ("l", "d")}
    width = " ('D' beside 'L' was taken for width and layers)" if {"L", "D"} <= letters else ""
    raise TableError(
        f"missing columns {', '.join(said)}: two of flops, params, tokens are needed besides the "
        f"loss; the table has {quoted(sheet.names[:30])}{width}. {_remedy(choice, missing)}"
    )


def _remedy(choice: Choice, missing: list[str]) -> str:
    """How to name what is missing: two amounts, a product of columns, or a number."""
    if len(missing) == len(AMOUNTS):
        return "Name two of them by --columns params=COLUMN,tokens=COLUMN"
    if "step" in choice.labels and "tokens" in missing:
        step = [choice.labels[r] for r in ("step", "batch_size") if r in choice.labels]
        least = ("sequence", "2048") if len(step) > 1 else ("step", "524288")
        return (
            f"Tokens are steps times the tokens of one: if those of a {least[0]} were "
            f"{least[1]}, --columns 'tokens={'*'.join(step)}*{least[1]}'"
        )
    role = next(r for r in ("tokens", "params", "flops") if r in missing)
    return (
        f"Name them by --columns {role}=COLUMN, by columns and numbers multiplied or divided "
        f"('{role}=COLUMN*2048'), or by a number that holds for every row ({role}=2e9)"
    )
