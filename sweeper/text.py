"""Numbers for people: sizes, bytes, durations, intervals. Floor 1 of sweeper."""

from __future__ import annotations

import math


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
    return f"{value:.{digits}g}".replace("e+", "e") if math.isfinite(value) else "–"


def between(interval: tuple[float, float], pattern: str = "", *, word: str = "–") -> str:
    """Both ends of an interval, sizes unless a pattern is given; a dash if it is not known."""
    if not all(map(math.isfinite, interval)):
        return "–"
    low, high = (pattern.format(v) if pattern else si(v) for v in interval)
    return f"{low} {word} {high}"


def gigabytes(value: float) -> str:
    """Bytes with a decimal suffix: 1.3 GB, 124 MB."""
    return si(value).replace("B", " G") + "B"


def duration(seconds: float, *, digits: int = 3) -> str:
    """Seconds in the largest unit that they are 1.5 of: 40 s, 12.5 min, 3.5 h, 2.1 d."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{digits}g} {unit}"
    return f"{seconds:.{digits}g} s"
