"""Why a row cannot be used, with the cell that says so."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.reading.numbers import numbers
from fitting.reading.words import parse

FINISHED = frozenset(
    "ok done finished finish complete completed success succeeded terminated passed true yes y "
    "good valid converged healthy".split()
)
"""First words of a status that let a row count; Ray calls its success TERMINATED."""

UNFINISHED = frozenset(
    "failed fail failure error errored crashed crash killed running diverged nan oom pending "
    "queued waiting timeout cancelled canceled aborted preempted scheduled stopped interrupted "
    "unfinished paused started submitted false incomplete no n bad invalid broken".split()
)

_BROKEN = frozenset("diverged crashed failed nan oom killed aborted exploded".split())
"""First words of a remark that leave a row out."""

_SIGNS = {**dict.fromkeys("✅✔✓☑", "ok"), **dict.fromkeys("❌✗✘✖💥☠", "failed")}
_ILL = frozenset("failed crashed diverged oom excluded exclude outlier".split())
"""Columns in which yes is bad news, and so is a text that does not say no."""

_NO_FAULT = frozenset("no n false none ok fine nothing clean success".split())
"""First words of their cells, and of those that name errors, in rows that count."""

_BEFORE = "(?:the|run|job|training|loss|cuda|is|was|has|got|went|ran)"
"""What may stand before the word that says how a run ended."""


_SUMMARIES = (
    r"(?:overall |grand |sub-?)?(?:mean|average|avg|total|sum|std|stdev)(?:[\s:(.].*)?"
    r"|[σ∑]|summary|min|max|median|count|(?:overall )?best(?: run| loss)?|(?:25|50|75)%"
    r"|predicted|predictions?|extrapolat(?:ed|ion)|forecast|projected|projection"
)
"""What a row under a table is called that holds figures of the others; also "mean of 1e18"."""


def left_out(rows: pd.DataFrame, reasons: Sequence[str]) -> pd.DataFrame:
    """Rows that do not count, as they are listed: row, trial_id, skill, reason."""
    known = {name: rows[name].to_numpy() if name in rows else "" for name in ("trial_id", "skill")}
    return pd.DataFrame({"row": rows.index, **known, "reason": list(reasons)})


def mark_summaries(bad: npt.NDArray[np.object_], frame: pd.DataFrame) -> None:
    """Rows that are named mean, total, 25%, predicted and the like, where most are not.

    A row "best" whose figures are not all those of others is a run of that name; a last row whose
    figures are all means or sums of those above needs no name.
    """
    figures = frame.select_dtypes("number")
    named = [c for c in frame if parse(c).role == "trial_id" or parse(c).key in ("type", "kind")]
    for column in dict.fromkeys([*frame.columns[:1], *named]):
        # Millions of log lines name few runs: each name is looked at once.
        codes, names = pd.factorize(frame[column], use_na_sentinel=False)
        words = pd.Series(names).astype("str").str.strip().str.lower()
        cells = words.take(codes).set_axis(frame.index)
        found = words.str.fullmatch(_SUMMARIES).take(codes).set_axis(frame.index)
        best = found & cells.str.contains("best")
        for _, values in figures.items() if best.any() else ():
            found &= ~best | values.isna() | values.isin(values[~best])
        for value in cells[found].unique() if found.mean() < 0.5 else ():
            mark(bad, (cells == value).to_numpy(), f"a summary or prediction, no run: {value!r}")
    last, above = figures.iloc[-1], figures.iloc[:-1]
    told = last.notna() & (above.max() > above.min())
    for how in ("mean", "sum") if told.sum() > 1 else ():
        if np.allclose(last[told].astype(float), above.agg(how)[told].astype(float), rtol=1e-3):
            bad[-1] = bad[-1] or f"a summary or prediction, no run: {how!r}"


def tells_endings(status: pd.Series) -> bool:
    """Whether a column's words say how runs ended; any other column refuses no row."""
    if parse(status.name).role in ("remark", "fault"):
        return bool(_unsound(status).any())
    return bool(_first_words(status)[~is_blank(status)].isin(FINISHED | UNFINISHED).any())


def mark_status(bad: npt.NDArray[np.object_], status: pd.Series) -> None:
    """Rows that did not finish, with what the cell says."""
    left = _unsound(status)
    state = status.astype("str").str.strip().str.lower()
    for value in state[left].unique():
        name = "status" if "stat" in str(status.name).lower() else status.name
        mark(bad, ((state == value) & left).to_numpy(), f"{name} is {value!r}")


def _unsound(status: pd.Series) -> pd.Series:
    """Rows that did not finish; words nobody knows are no end where most others are known.

    In a column of errors (text or flags, not figures as of a spread) they are one in some rows.
    """
    first, given = _first_words(status), ~is_blank(status)
    role = parse(status.name).role
    if role == "remark":
        return first.isin(_BROKEN) & given
    if role == "fault":
        left, figures = (first == "failed") & given, numbers(status)
        flags = np.isin(figures[np.isfinite(figures)], (0, 1)).all()
        return left & bool(flags and not left.all())
    known = first.isin(FINISHED | UNFINISHED)[given]
    return (~first.isin(FINISHED) if known.mean() > 0.5 else first.isin(UNFINISHED)) & given


def _first_words(status: pd.Series) -> pd.Series:
    """The word that each cell begins with; signs, yes, no and exit codes as words."""
    state = status.astype("str").str.strip().str.lower().str.replace("out of memory", "oom")
    name = re.sub(r"[^a-z0-9]+", "_", str(status.name).lower()).strip("_")
    name = re.sub(r"^(?:is|has|was)_", "", name)
    signs = state.str[:1].map(_SIGNS)
    word = state.str.extract(rf"^(?:{_BEFORE}\s+)*([a-z]+)", expand=False).fillna("")
    ill = name in _ILL
    if ill or parse(status.name).role == "fault":
        none = pd.to_numeric(state, errors="coerce") == 0
        none |= word.isin(_NO_FAULT) | (signs == ("failed" if ill else "ok"))
        return none.map({True: "ok", False: "failed"})
    return _coded(signs.fillna(word), state, name)


def _coded(word: pd.Series, state: pd.Series, name: str) -> pd.Series:
    """Words, and what 0, 1, shares in per cent and exit codes come to."""
    figure = pd.to_numeric(state.str.rstrip("%"), errors="coerce")
    shares = state.str.endswith("%").any() or figure.max() in (1, 100)
    code = name.startswith("exit_")
    if not (shares or code or not figure.any()):
        return word
    usual = figure.mode().iloc[:1].tolist()  # status 0 may be a zero exit, or one that is not done
    good = figure.isin([0] if code else usual if name in ("status", "state") else [1, 100])
    return word.mask(figure.notna(), good.map({True: "ok", False: "failed"}))


def mark_numbers(
    bad: npt.NDArray[np.object_],
    role: str,
    values: npt.NDArray[np.float64],
    cells: pd.Series | None,
    *,
    positive: bool = True,
) -> None:
    """Reasons why numbers cannot be used, with the cell."""
    none = np.isnan(values)
    if none.any():
        blank = np.ones(len(values), dtype=bool) if cells is None else is_blank(cells)
        mark(bad, none & blank, f"{role} is missing")
        for i in np.flatnonzero(none & ~blank):
            if bad[i] == "":
                bad[i] = f"{role} is not a number: {str(cells.iloc[i])[:40]!r}"  # type: ignore[union-attr]
    mark(bad, np.isinf(values), f"{role} is infinite")
    if positive:
        for i in np.flatnonzero(values <= 0):
            if bad[i] == "":
                bad[i] = f"{role} is not positive: {values[i]:g}"


def is_blank(cells: pd.Series) -> npt.NDArray[np.bool_]:
    """Cells that hold nothing, or a sign for nothing."""
    if pd.api.types.is_numeric_dtype(cells):
        return np.asarray(cells.isna())
    text = cells.astype("str").str.strip().str.lower()
    dashes = text.isin(["", "-", "–", "—", "nan", "none", "null", "n/a", "na", "<na>", "tbd", "?"])
    return np.asarray(cells.isna() | dashes)


def mark(bad: npt.NDArray[np.object_], where: npt.NDArray[np.bool_], reason: str) -> None:
    """Add a reason to rows that have none yet."""
    bad[where & (bad == "")] = reason
