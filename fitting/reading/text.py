"""Tables in text: delimited by anything, in boxes, Markdown, LaTeX or HTML."""

from __future__ import annotations

import csv
import html
import io
import math
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fitting.errors import TableError
from fitting.reading.numbers import number
from fitting.reading.objects import flat
from fitting.reading.parts import AMOUNTS, Part, joined
from fitting.reading.words import parse, unit_of

TITLES, LEAST_LINES = 3, 3
"""Lines above a header that may be titles, and those that a table has below them at least."""

_SEPARATORS = (",", ";", "\t", "|", r"\s+", r"\s{2,}")
_RULE = re.compile(r"^[\s|:+=-]*[=-][\s|:+=-]*$")  # |---|:--:|, +====+====+
_BOXES = str.maketrans(
    dict.fromkeys("│┃┆┊║", "|")
    | dict.fromkeys("─━═╌┄╴╶", "-")
    | dict.fromkeys("┌┬┐├┼┤└┴┘╞╪╡┏┳┓┡╇┩┗┻┛┣╋┫╭╮╰╯╔╦╗╠╬╣╚╩╝╟╫╢╒╤╕╘╧╛", "+")
)


@dataclass
class Raw:
    """A table as read.

    Attributes:
        frame: one row per record.
        decimal: the mark before decimals.
        rejected: lines that are no records: line number to reason.
        notes: what a reader should know of the reading.
    """

    frame: pd.DataFrame
    decimal: str = "."
    rejected: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_text(text: str, name: str) -> Raw:
    """The table of a text; of several those with the columns of the largest.

    Raises:
        TableError: it holds none.
    """
    lines = [line for line in text.splitlines() if not re.match(r"\s*```|sep=.$", line)]
    if "<t" in text.lower() and (rows := _html(text)):
        return delimited(rows, name)
    boxed = _boxed(lines) if re.search("[|│┃┆┊║]", text) else None
    return boxed or _latex(lines) or delimited(lines, name)


def delimited(lines: list[str], name: str) -> Raw:
    """CSV and its relatives: any separator, comments, decimal commas, cut lines."""
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    body = [(i, line) for i, line in numbered if not _is_comment(line)]
    if not body:
        raise TableError(f"cannot read {name}: it holds comments only")
    titles = _titles([line for _, line in body[:200]])
    body = body[titles:]
    separator, decimal = layout([line for _, line in body[:200]])
    comments = [line for i, line in numbered if i < body[0][0]] if not titles else []
    if comments and _is_header(
        _cells(comments[-1].lstrip("# "), separator), body[0][1], separator
    ):
        body = [(0, comments[-1].lstrip("# ")), *body]  # as gnuplot and numpy.savetxt write it
    head = _cells(body[0][1], separator)
    units = _cells(body[1][1], separator) if len(body) > 1 else []
    if len(units) == len(head) and _are_units(units):
        head = [f"{h} ({u.strip('()[]')})" if u else h for h, u in zip(head, units, strict=True)]
        body = [(body[0][0], _line(head, separator)), *body[2:]]
    _refuse_twice(head)
    if _index_unnamed([line for _, line in body[:200]], separator):
        head = ["", *head]
        body = [
            (body[0][0], (separator if len(separator) == 1 else "row  ") + body[0][1]),
            *body[1:],
        ]
    text = "\n".join(line.strip() if len(separator) > 1 else line for _, line in body)
    rejected: dict[int, str] = {}
    width = len(head)

    def reject(cells: list[str]) -> list[str] | None:
        if not any(cell.strip() for cell in cells[width:]):
            return cells[:width]
        shown = separator.join(cells)[:60] if len(separator) == 1 else " ".join(cells)[:60]
        rejected[len(rejected)] = f"{len(cells)} cells under {width} headers: {shown!r}"
        return None

    options: dict[str, Any] = {"sep": separator, "decimal": decimal, "skipinitialspace": True}
    if decimal == ",":
        options["thousands"] = "."
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(io.StringIO(text), **options, index_col=False)
        except (pd.errors.ParserError, pd.errors.ParserWarning, UserWarning):
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # longer rows are listed
            options |= {"engine": "python", "on_bad_lines": reject}
            frame = pd.read_csv(io.StringIO(text), **options, index_col=False)
    last = len(_cells(body[-1][1], separator)) if len(separator) == 1 else width
    if last < width and len(frame) > 1 and _is_cut(body[-1][1], frame.iloc[:-1, last:]):
        rejected[body[-1][0]] = f"the last line is cut off: {body[-1][1][:60]!r}"
        frame = frame.iloc[:-1]
    return Raw(flat(frame), decimal, rejected)


def _titles(lines: list[str]) -> int:
    """Lines above the header: titles, names of groups of columns."""
    starts = range(min(TITLES, len(lines) - LEAST_LINES) + 1)
    for k in starts:
        if _names_a_table(_cells(lines[k], layout(lines[k:])[0])):
            return k
    regular = [max(_regularity(lines[k:], s) for s in _SEPARATORS) for k in starts]
    if not regular:
        return 0
    best = max(starts, key=lambda k: regular[k])
    separator = layout(lines[best:])[0]
    single = all(len(_cells(line, separator)) == 1 for line in lines[:best])
    return best if regular[best] > 2 * regular[0] and single else 0


def _is_comment(line: str) -> bool:
    """A line after #, % or //, unless it begins with a run's number (#12,...); or a rule."""
    return bool(re.match(r"\s*(?:[#%](?!\d+\s*[,;\t|])|//|[\s=+-]*[=-]{3}[\s=+-]*$)", line))


def _is_cut(line: str, missing: pd.DataFrame) -> bool:
    """Whether a last line lacks cells that other rows have, and is not the end of a quoted one."""
    return line.count('"') % 2 == 0 and bool(missing.notna().mean().max() > 0.5)


def _index_unnamed(lines: list[str], separator: str) -> bool:
    """Whether rows have one cell more than the header: an index, as R and print(frame) write."""
    head, *rows = (_cells(line, separator) for line in lines)
    longer = [len(row) == len(head) + 1 and row[-1] != "" for row in rows]
    return len(head) > 1 and sum(longer) * 2 > len(longer)


def _refuse_twice(head: list[str]) -> None:
    """Refuse two columns of one name, which one cannot choose between."""
    twice = {h for h in head if head.count(h) > 1 and parse(h).role in ("loss", *AMOUNTS)}
    if twice:
        shown = ", ".join(map(repr, sorted(twice)))
        raise TableError(f"columns {shown} occur twice: rename one of each")


def layout(lines: list[str]) -> tuple[str, str]:
    """Separator, and the mark before decimals."""
    separator = max(_SEPARATORS, key=lambda s: (_regularity(lines, s), -_SEPARATORS.index(s)))
    inside = [cell for line in lines[1:] for cell in _cells(line, separator)]
    grouped = r"-?\d{1,3}(,\d{3})+"
    comma = separator != "," and any(
        re.fullmatch(r"-?\d+,\d+", c) and not re.fullmatch(grouped, c) for c in inside
    )
    return separator, "," if comma or _losses_in_thousands(lines, separator) else "."


def _losses_in_thousands(lines: list[str], separator: str) -> bool:
    """Whether losses are written 2,788: no thousands, as no loss is so large."""
    rows = [_cells(line, separator) for line in lines]
    heads = [parse(h) for h in rows[0]]
    at = [i for i, h in enumerate(heads) if h.role == "loss" and h.kind != "perplexity"]
    cells = [row[i] for row in rows[1:] for i in at if i < len(row) and row[i]]
    return bool(cells) and all(re.fullmatch(r"\d,\d{3}", c) for c in cells)


def _is_header(cells: list[str], first: str, separator: str) -> bool:
    """Whether a comment above the data is its header: as many cells, and names we know."""
    known = [c for c in cells if parse(c).role in ("params", "tokens", "flops", "loss")]
    return len(cells) == len(_cells(first, separator)) and len(known) >= 2


def _cells(line: str, separator: str) -> list[str]:
    """The cells of one line, quotes respected."""
    if len(separator) > 1:
        return re.split(separator, line.strip())
    return [cell.strip() for cell in next(csv.reader([line.strip(" \r\n")], delimiter=separator))]


def _regularity(lines: list[str], separator: str) -> float:
    """Share of lines that a separator cuts into as many cells as the header, by how many."""
    counts = [len(_cells(line, separator)) for line in lines]
    if counts[0] < 2:
        return 0.0
    weight = 0.5 if len(separator) > 1 else 1.0
    alike = max(counts.count(counts[0]), counts[1:].count(counts[0] + 1))  # rows with an index
    return weight * alike / len(counts) * min(counts[0], 4)


def _boxed(lines: list[str]) -> Raw | None:
    """Tables with a rule under their header (Markdown, boxes of databases); None without one."""
    lines = [line.translate(_BOXES) for line in lines]
    lines = [line.replace("+", "|") if _RULE.match(line) else line for line in lines]
    parts: list[Part] = []
    title, i = "", 0
    while i < len(lines) - 1:
        above, below = lines[i], lines[i + 1]
        if "|" in above and "|" in below and _RULE.match(below) and not _RULE.match(above):
            end = next((j for j in range(i + 2, len(lines)) if "|" not in lines[j]), len(lines))
            rows = [_row(line) for line in lines[i + 1 : end] if not _RULE.match(line)]
            typed = i > 0 and _names_a_table(_row(lines[i - 1]))  # types of columns below names
            parts.append((title, _table(_row(lines[i - typed]), rows)))
            title, i = "", end
        else:
            title, i = above.strip("#*: ") or title, i + 1
    if not parts:
        return None
    frame, notes = joined(parts, "tables in the text")
    return Raw(frame, notes=notes)


def _table(head: list[str], rows: list[list[str]]) -> pd.DataFrame:
    """Cells as a frame, rows cut or filled to the header's width."""
    width = len(head)
    rows = [(row + [""] * width)[:width] for row in rows]
    names = _unique([re.sub(r"[*`]", "", h).strip() for h in head])
    return pd.DataFrame(rows, columns=names).replace("", pd.NA)


def _html(text: str) -> list[str]:
    """The rows of a page's longest table as CSV; none where there is none."""
    tables = re.findall(r"(?is)<table.*?</table>", text)
    rows = re.findall(r"(?is)<tr.*?</tr>", max(tables, key=len)) if tables else []
    cells = [re.findall(r"(?is)<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    plain = [[html.unescape(re.sub(r"<.*?>", "", c)).strip() for c in row] for row in cells]
    return [_line(row, ",") for row in plain if row]


def _line(cells: list[str], separator: str) -> str:
    """Cells as one line."""
    if len(separator) > 1:
        return "  ".join(cells)
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="").writerow(cells)
    return text.getvalue()


def _are_units(cells: list[str]) -> bool:
    """Whether the line below a header holds units (M, [billions], nats) and nothing else."""
    units = [None if math.isfinite(number(c)) else unit_of(c.strip("()[]")) for c in cells]
    return all(units) and any(unit != 1 for unit in units if unit)


def _names_a_table(cells: list[str]) -> bool:
    """Whether cells name a loss and an amount."""
    roles = {parse(cell).role for cell in cells}
    return "loss" in roles and bool(roles & set(AMOUNTS))


def _latex(lines: list[str]) -> Raw | None:
    """The rows of a LaTeX tabular; None where there is none."""
    if not any("tabular" in line for line in lines):
        return None
    lines = [re.sub(r"\\multi(?:row|column)\{.*?\}\{.*?\}\{(.*?)\}", r"\1", x) for x in lines]
    rows = [re.split(r"(?<!\\)&", re.sub(r"\\\\(\[.*?\])?|\\(?:hline|\w*rule)", "", line))
            for line in lines if re.search(r"(?<!\\)&.*\\\\", line)]  # fmt: skip
    if len(rows) < 3:
        return None
    head, *body = ([cell.strip() for cell in row] for row in rows)
    whole = [row for row in body if len(row) == len(head)]
    return Raw(pd.DataFrame(whole, columns=_unique(head)).replace("", pd.NA))


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _unique(names: list[str]) -> list[str]:
    return [n or f"column {i}" for i, n in enumerate(names, 1)]
