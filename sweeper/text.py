"""Numbers for people, and files written whole or not at all. Floor 1 of sweeper."""

from __future__ import annotations

import math
import re
from pathlib import Path

from trainables.progress import duration as duration


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
    """Both ends of an interval, sizes unless a pattern is given; a dash if it is not known."""
    if not all(map(math.isfinite, interval)):
        return "–"
    low, high = (pattern.format(v) if pattern else si(v) for v in interval)
    return f"{low} {word} {high}"


def gigabytes(value: float) -> str:
    """Bytes with a decimal suffix: 1.3 GB, 124 MB."""
    return re.sub(r"(?<=\d)(?=\D?$)", " ", si(value).replace("B", "G")) + "B"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, whoever reads it meanwhile."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
