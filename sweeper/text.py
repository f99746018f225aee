"""Numbers and lines for people, and files written whole or not at all. Floor 1 of sweeper."""

from __future__ import annotations

import math
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from trainables.progress import duration as duration

SENSELESS = 1e6
"""Ratio of an interval's ends from which it is shown as not known (assumption: no size, loss or
ratio is uncertain by so much and still of use)."""


def si(value: float) -> str:
    """Three significant figures with an SI suffix: 1.3B, 124M, 68.2k."""
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * scale:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Params or tokens with a suffix; a dash for NaN."""
    return si(value) if math.isfinite(value) else "–"


def number(value: float, digits: int = 3) -> str:
    """A number such as 4e11; a dash for NaN."""
    return re.sub(r"e\+0?", "e", f"{value:.{digits}g}") if math.isfinite(value) else "–"


def between(interval: tuple[float, float], pattern: str = "", *, word: str = "–") -> str:
    """Both ends of an interval, sizes unless a pattern is given; a dash if it says nothing."""
    low, high = interval
    if not (math.isfinite(low) and math.isfinite(high)) or (low > 0 and high / low > SENSELESS):
        return "–"
    ends = [pattern.format(v) if pattern else si(v) for v in interval]
    return f" {word} ".join(ends)


def gigabytes(value: float) -> str:
    """Bytes with a decimal suffix: 1.3 GB, 124 MB."""
    return re.sub(r"(?<=\d)(?=\D?$)", " ", si(value).replace("B", "G")) + "B"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, whoever reads it meanwhile."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def within(width: float) -> str:
    """Half-width of an interval of a logarithm in words: ±15 %, or a factor where it is wide."""
    if not width < math.log(SENSELESS):
        return "a factor of a million or more" if width > 0 else "unknown"
    if width < math.log(2):
        return f"±{100 * math.expm1(width):.2g} %"
    return f"a factor of {math.exp(width):.2g}"


def money(value: float) -> str:
    """An amount of the user's money, or of hours: 52,663 or 3.72."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plural(count: float, noun: str) -> str:
    """How many there are of what: 1 trial, 2 trials."""
    return f"{count:g} {noun}{'' if count == 1 else 's'}"


def screen_width() -> int:
    """Columns of the terminal; as many as one likes where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000


def columns(text: str) -> int:
    """Columns of a terminal that a text takes: East Asian letters and emoji take two."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.category(x) in ("Mn", "Me", "Cf") for x in text)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A text filled with spaces to so many columns."""
    space = " " * (width - columns(text))
    return space + text if right else text + space


def grid(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> list[str]:
    """Aligned columns; blocks of lines, one per row, where the screen is too narrow for them.

    Args:
        head: titles; the first column's may be empty.
        right: a letter per column, "r" for those that stand to the right; none by default.
    """
    cells = [head, *rows]
    widths = [max(columns(row[i]) for row in cells) for i in range(len(head))]
    wide = [gap for gap in (2, 1) if sum(widths) + gap * len(widths) - gap <= screen_width()]
    if not wide:
        return [line for row in rows for line in (row[0], *_block(head[1:], row[1:]))]
    sides = right.ljust(len(head), "l")
    return [
        (" " * wide[0])
        .join(
            padded(cell, width, right=side == "r")
            for cell, width, side in zip(row, widths, sides, strict=True)
        )
        .rstrip()
        for row in cells
    ]


def _block(titles: Sequence[str], row: Sequence[str]) -> list[str]:
    return [f"  {title}: {cell}" for title, cell in zip(titles, row, strict=True) if cell]


def ratio(value: float) -> str:
    """Tokens per param: 0.095, 7.7, 3,200; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def percent(share: float, digits: int = 0) -> str:
    """A share in hundredths: 28 %."""
    return f"{100 * share:.{digits}f} %"


def fitted(text: str, *, indent: int | None = None, most: int = 10_000) -> str:
    """Words, broken at spaces where a line is longer than the screen is wide.

    Args:
        text: one line or several; a number and its % stay together.
        indent: of what is broken off; by default two columns more than its line's.
        most: columns, where the screen is no narrower.
    """
    width = min(screen_width(), most)
    return "\n".join(_broken(line, width, indent) for line in text.split("\n"))


def bound(text: str) -> str:
    """Words whose numbers no line break parts from their %."""
    return re.sub(r"(?<=\d) (?=%)", "\xa0", text)


def _broken(line: str, width: int, indent: int | None) -> str:
    if len(line) <= width:
        return line
    indent = len(line) - len(line.lstrip()) + 2 if indent is None else indent
    return textwrap.fill(
        bound(line), width, subsequent_indent=" " * indent, break_long_words=False,
        break_on_hyphens=False,
    ).replace("\xa0", " ")  # fmt: skip


def named(name: str, value: str, *, width: int = 9) -> str:
    """What something is beside its name, further lines below the value."""
    return fitted(f"{name:<{width}} {value}", indent=width + 1, most=100)
