"""Tables in text: delimited by anything, in boxes, Markdown, LaTeX or HTML."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from fitting.errors import TableError
from fitting.reading.numbers import number
from fitting.reading.parts import joined
from fitting.reading.words import AMOUNTS, parse, unit_of

TITLES, LEAST_LINES = 3, 3
"""Lines above a header that may be titles, and those that a table has below them at least."""

SAMPLE = 200
"""Lines by which the layout of a text is judged (assumption)."""

_SEPARATORS = (",", ";", "\t", "|", r"\s+", r"\s{2,}")
_RULE = re.compile(r"^[\s|:+=-]*[=-][\s|:+=-]*$")  # |---|:--:|, +====+====+
_BOXES = str.maketrans(
    dict.fromkeys("│┃┆┊║", "|")
    | dict.fromkeys("─━═╌┄╴╶", "-")
    | dict.fromkeys("┌┬┐├┼┤└┴┘╞╪╡┏┳┓┡╇┩┗┻┛┣╋┫╭╮╰╯╔╦╗╠╬╣╚╩╝╟╫╢╒╤╕╘╧╛", "+")
)
_DECIMAL = re.compile(r"[-+]?\d+([.,])\d+")
_GROUPED = re.compile(r"[-+]?\d{1,3}([.,]\d{3})+")
_LOSS, _PERPLEXITY = re.compile(r"\d([.,])\d+"), re.compile(r"\d{2,3}([.,])\d+")


@dataclass
class Raw:
    """A table as read.

    Attributes:
        frame: one row per record.
        decimal: the mark before decimals.
        rejected: lines that are no records: their numbers and what is wrong.
        notes: what a reader should know of the reading.
    """

    frame: pd.DataFrame
    decimal: str = "."
    rejected: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


Rows = Sequence[tuple[int, list[str]]]
"""Numbers of lines and their cells; the first is the header."""


def read_text(text: str, name: str) -> Raw:
    """The table of a text; of several those with the columns of the largest.

    Raises:
        TableError: it holds none.
    """
    lines = [line for line in text.splitlines() if not re.match(r"\s*```|sep=.$", line)]
    tables = _html(text) if "<t" in text.lower() else []
    if not tables and re.search("[|│┃┆┊║]", text):
        tables = _boxed(lines)
    if not tables and "tabular" in text:
        tables = _latex(lines)
    if not tables:
        return delimited(lines, name)
    raws = [(title, framed(list(enumerate(rows, 1)))) for title, rows in tables]
    return joined_raws(raws, "tables in the text")


def joined_raws(raws: Sequence[tuple[str, Raw]], what: str) -> Raw:
    """Several tables with their titles as one, see `fitting.reading.parts.joined`."""
    frame, notes = joined([(title, raw.frame) for title, raw in raws], what)
    rejected = [line for _, raw in raws for line in raw.rejected]
    decimal = max((raw for _, raw in raws), key=lambda raw: raw.frame.size).decimal
    return Raw(frame, decimal, rejected, notes)


def delimited(lines: list[str], name: str) -> Raw:
    """CSV and its relatives: any separator, titles and comments above the header."""
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    body = [(i, line) for i, line in numbered if not _is_comment(line)]
    if not body:
        raise TableError(f"cannot read {name}: it holds comments only")
    titles, separator = _layout([line for _, line in body[:SAMPLE]])
    body = body[titles:]
    rows = _cut(body, separator)
    above = [line.lstrip("# ") for i, line in numbered if i < body[0][0]]
    if above and not titles:  # a header in a comment, as gnuplot and numpy.savetxt write it
        head = _cells(above[-1], separator)
        if _names_a_table(head) and len(head) == len(rows[0][1]):
            rows = [(0, head), *rows]
    return framed(rows)


def framed(rows: Rows) -> Raw:
    """Cells as a frame: units below the header, an unnamed index, decimal commas, odd lines."""
    titles = range(max(min(TITLES, len(rows) - LEAST_LINES), 0) + 1)
    (_, head), *rest = rows[next((k for k in titles if _names_a_table(rows[k][1])), 0) :]
    if rest and len(rest[0][1]) == len(head) and _are_units(units := rest[0][1]):
        head = [f"{h} ({u.strip('()[]')})" if u else h for h, u in zip(head, units, strict=True)]
        rest = rest[1:]
    _refuse_twice(head)
    some = [cells for _, cells in rest[:SAMPLE]]
    longer = [len(cells) == len(head) + 1 and cells[-1] != "" for cells in some]
    if len(head) > 1 and sum(longer) * 2 > len(longer):  # as R and print(frame) write an index
        head = ["", *head]
    decimal, width = _decimal(head, some), len(head)
    rejected = [
        (i, f"{len(cells)} cells under {width} headers: {','.join(cells)[:60]!r}")
        for i, cells in rest if any(cells[width:])
    ]  # fmt: skip
    whole = [cells[:width] for _, cells in rest if not any(cells[width:])]
    if _is_cut(whole, width):
        rejected.append((rest[-1][0], f"the last line is cut off: {','.join(whole.pop())[:60]!r}"))
    text = io.StringIO()
    csv.writer(text).writerows([head, *(c + [""] * (width - len(c)) for c in whole)])
    text.seek(0)
    frame = pd.read_csv(text, decimal=decimal)
    return Raw(frame, decimal, rejected)


def sampled(lines: list[str]) -> tuple[str, str]:
    """Separator, and the mark before decimals, of a file without titles."""
    separator = _separator(lines)
    head, *rows = (_cells(line, separator) for line in lines)
    return separator, _decimal(head, rows)


def _layout(lines: list[str]) -> tuple[int, str]:
    """How many titles stand above the header, and what separates the cells below them."""
    starts = range(max(min(TITLES, len(lines) - LEAST_LINES), 0) + 1)
    separators = [_separator(lines[k:]) for k in starts]
    for k in starts:
        if _names_a_table(_cells(lines[k], separators[k])):
            return k, separators[k]
    regular = [_regularity(lines[k:], separators[k]) for k in starts]
    best = max(starts, key=lambda k: regular[k])
    single = all(len(_cells(line, separators[best])) == 1 for line in lines[:best])
    found = best if regular[best] > 2 * regular[0] and single else 0
    return found, separators[found]


def _separator(lines: list[str]) -> str:
    """What cuts most lines into as many cells as the first."""
    return max(_SEPARATORS, key=lambda s: _regularity(lines, s))


def _regularity(lines: list[str], separator: str) -> float:
    """Share of lines that a separator cuts into as many cells as the header, by how many."""
    counts = [len(_cells(line, separator)) for line in lines]
    if counts[0] < 2:
        return 0.0
    weight = 0.5 if len(separator) > 1 else 1.0
    alike = max(counts.count(counts[0]), counts[1:].count(counts[0] + 1))  # rows with an index
    return weight * alike / len(counts) * min(counts[0], 4)


def _cut(body: Sequence[tuple[int, str]], separator: str) -> Rows:
    """Lines cut into cells; quoted ones may go over several lines."""
    if len(separator) == 1:
        lines = (line + "\n" for _, line in body)
        reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
        try:
            return [(body[reader.line_num - 1][0], [c.strip() for c in cells]) for cells in reader]
        except csv.Error:  # a quote that nothing closes
            pass
    return [(i, _cells(line, separator)) for i, line in body]


def _cells(line: str, separator: str) -> list[str]:
    """The cells of one line, quotes respected."""
    if len(separator) > 1:
        return re.split(separator, line.strip())
    return [cell.strip() for cell in next(csv.reader([line.strip(" \r\n")], delimiter=separator))]


def _is_comment(line: str) -> bool:
    """A line after #, % or //, unless it begins with a run's number (#12,...); or a rule."""
    return bool(re.match(r"\s*(?:[#%](?!\d+\s*[,;\t|])|//|[\s=+-]*[=-]{3}[\s=+-]*$)", line))


def _is_cut(rows: Sequence[list[str]], width: int) -> bool:
    """Whether the last row lacks cells that most others have."""
    if len(rows) < 2 or len(rows[-1]) == width:
        return False
    given = Counter(i for row in rows[:-1] for i, cell in enumerate(row) if cell)
    return any(given[i] * 2 > len(rows) - 1 for i in range(len(rows[-1]), width))


def _refuse_twice(head: list[str]) -> None:
    """Refuse two columns of one name, which one cannot choose between."""
    twice = {h for h in head if head.count(h) > 1 and parse(h).role in ("loss", *AMOUNTS)}
    if twice:
        shown = ", ".join(map(repr, sorted(twice)))
        raise TableError(f"columns {shown} occur twice: rename one of each")


def _decimal(head: list[str], rows: Sequence[list[str]]) -> str:
    """The mark before decimals: as losses have it, which are no thousands; else as most cells.

    A perplexity may be 4,021; at 40,210 it would be worse than guessing among 40,000 words.
    """
    losses = {i: _PERPLEXITY if h.kind.startswith("perplexity") else _LOSS
              for i, h in enumerate(map(parse, head)) if h.role == "loss"}  # fmt: skip
    own = [p.fullmatch(row[i]) for row in rows for i, p in losses.items() if i < len(row)]
    other = [_DECIMAL.fullmatch(c) for row in rows for c in row if not _GROUPED.fullmatch(c)]
    for found in (own, other):
        marks = Counter(mark[1] for mark in found if mark)
        if marks:
            return "," if marks[","] > marks["."] else "."
    return "."


def _are_units(cells: list[str]) -> bool:
    """Whether the line below a header holds units (M, [billions], nats) and nothing else."""
    units = [None if math.isfinite(number(c)) else unit_of(c.strip("()[]")) for c in cells]
    return all(units) and any(unit != 1 for unit in units if unit)


def _names_a_table(cells: Iterable[str]) -> bool:
    """Whether cells name a loss and an amount."""
    roles = {parse(cell).role for cell in cells}
    return "loss" in roles and bool(roles & set(AMOUNTS))


def _boxed(lines: list[str]) -> list[tuple[str, list[list[str]]]]:
    """Tables with a rule under their header (Markdown, boxes of databases) and their titles."""
    lines = [line.translate(_BOXES) for line in lines]
    lines = [line.replace("+", "|") if _RULE.match(line) else line for line in lines]
    tables = []
    title, i = "", 0
    while i < len(lines) - 1:
        above, below = lines[i], lines[i + 1]
        if "|" in above and "|" in below and _RULE.match(below) and not _RULE.match(above):
            end = next((j for j in range(i + 2, len(lines)) if "|" not in lines[j]), len(lines))
            rows = [_row(line) for line in lines[i + 1 : end] if not _RULE.match(line)]
            typed = i > 0 and _names_a_table(_row(lines[i - 1]))  # types of columns below names
            head = [re.sub(r"[*`]", "", cell).strip() for cell in _row(lines[i - typed])]
            tables.append((title, [head, *rows]))
            title, i = "", end
        else:
            title, i = above.strip("#*: ") or title, i + 1
    return tables


def _row(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _html(text: str) -> list[tuple[str, list[list[str]]]]:
    """A page's longest table."""
    tables = re.findall(r"(?is)<table.*?</table>", text)
    rows = re.findall(r"(?is)<tr.*?</tr>", max(tables, key=len)) if tables else []
    cells = [re.findall(r"(?is)<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    plain = [[html.unescape(re.sub(r"<.*?>", "", c)).strip() for c in row] for row in cells]
    return [("", [row for row in plain if row])] if any(plain) else []


def _latex(lines: list[str]) -> list[tuple[str, list[list[str]]]]:
    """The rows of a LaTeX tabular."""
    lines = [re.sub(r"\\multi(?:row|column)\{.*?\}\{.*?\}\{(.*?)\}", r"\1", x) for x in lines]
    rows = [re.split(r"(?<!\\)&", re.sub(r"\\\\(\[.*?\])?|\\(?:hline|\w*rule)", "", line))
            for line in lines if re.search(r"(?<!\\)&.*\\\\", line)]  # fmt: skip
    return [("", [[cell.strip() for cell in row] for row in rows])] if len(rows) >= 3 else []
