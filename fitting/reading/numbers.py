"""Numbers as people write them: 1.3B, 9,128,709, 2.00×10¹⁹, ~8 T, **2.79**, 1e21 FLOPs, 2^-8."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from fitting.values import FloatArray

BoolArray = npt.NDArray[np.bool_]

PF_DAY = 1e15 * 86400.0
"""FLOPs of one petaFLOP/s for a day."""

SCALES = {
    word: scale
    for scale, words in {
        1e3: "k thousand thousands",
        1e6: "m mm mt mil mio mln million millions millionen mega",
        1e9: "b bn bln g bt gt billion billions giga mrd milliarden milliards",
        1e12: "t tn trillion trillions tera",
        1e15: "p quadrillion peta",
        1e18: "e exa",
        1e21: "z zetta",
        1e24: "y yotta",
    }.items()
    for word in words.split()
}
"""What a suffix or a word multiplies by."""

_SCALE = "|".join(sorted(SCALES, key=len, reverse=True))
_UNIT = (
    r"(?:flops?|tokens?|toks?|params?|parameters?|nats?|bits?|bpb)(?:\s*/\s*(?:token|byte|tok))?"
)
PF_DAYS = r"(?:pf(?:lop)?s?(?:/s)?[-\s]?days?)"
_NUMBER = re.compile(
    r"(?P<sign>[-+])?(?P<mantissa>\d[\d,._']*(?:[ ]\d{3})*(?:\.\d+)?|\.\d+)"
    r"(?:e(?P<e>[-+]?\d+)|\s*[×x*·]\s*10\s*(?:\^|\*\*)\s*(?P<ten>[-+]?\d+))?"
    rf"\s*(?:(?P<days>{PF_DAYS})|(?P<scale>{_SCALE})?[\s-]*(?:{_UNIT})?"
    r"|(?P<percent>%))"
)
_POWER = re.compile(
    r"(?P<base>\d+(?:\.\d+)?)\s*(?:\^|\*\*)\s*(?P<exponent>[-+]?\d+(?:\.\d+)?)\s*(?:flops?)?"
)
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_GROUPS = {
    ",": re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}"),
    ".": re.compile(r"\d{1,3}(?:\.\d{3})+"),
}
"""Separated thousands; Indian tables write 1,23,456."""


def number(text: str) -> float:
    """The number a person wrote in a header or an option; NaN where it is none."""
    return _scaled(text, ".")[0]


def _scaled(text: str, decimal: str) -> tuple[float, bool]:
    """A number, and whether it names its own scale (1.3B, 2×10¹⁹): no header's unit applies."""
    plain = _plain(text)
    power = _POWER.fullmatch(plain)
    if power:
        return _power(float(power["base"]), float(power["exponent"])), False
    found = _NUMBER.fullmatch(plain)
    if not found:
        return math.inf if plain in ("inf", "infinity", "+inf", "∞") else math.nan, False
    try:
        value = float(_ungrouped(found["mantissa"], decimal))
    except ValueError:
        return math.nan, False
    value *= -1 if found["sign"] == "-" else 1
    value *= _power(10.0, int(found["e"] or found["ten"] or 0))
    scale = PF_DAY if found["days"] else SCALES.get(found["scale"] or "", 1.0)
    own = bool(found["scale"] or found["ten"] or found["days"])
    return value / 100 if found["percent"] else value * scale, own


def _power(base: float, exponent: float) -> float:
    """Infinite where a float ends."""
    try:
        return float(base**exponent)
    except (OverflowError, ZeroDivisionError):
        return math.inf


def numbers(column: pd.Series, *, decimal: str = ".", unit: float = 1.0) -> FloatArray:
    """A column as floats, NaN where a cell is no number.

    Args:
        decimal: what the source writes before decimals; decides what 1,234 and 1.234 are.
        unit: multiplies cells that do not name a scale of their own.
    """
    if pd.api.types.is_bool_dtype(column):
        return np.full(len(column), np.nan)
    if pd.api.types.is_numeric_dtype(column):
        return np.asarray(column.to_numpy(dtype=float, na_value=np.nan) * unit)
    text = column.astype("str").str.strip()
    found = pd.to_numeric(text, errors="coerce").to_numpy(dtype=float, na_value=np.nan).copy()
    odd = text.notna().to_numpy() & (np.isnan(found) | (decimal != "."))
    odd &= text.str.contains(r"\d", na=False).to_numpy()
    scaled = np.zeros(len(text), dtype=bool)
    codes, distinct = pd.factorize(text[odd])
    if len(distinct):
        values, own = zip(*(_scaled(cell, decimal) for cell in distinct), strict=True)
        found[odd], scaled[odd] = np.array(values)[codes], np.array(own)[codes]
    found = np.where(scaled, found, found * unit)
    return _scale_forgotten(found, scaled, text)


def _scale_forgotten(found: FloatArray, scaled: BoolArray, text: pd.Series) -> FloatArray:
    """With the others' scale where most cells name one (126M) and a few do not (127)."""
    bare = ~scaled & np.isfinite(found) & (found > 0)
    if not bare.any() or scaled.sum() < 4 * bare.sum():
        return np.asarray(found)
    last = text[scaled].str.strip().str[-1].str.lower()
    if last.nunique() > 1 or not (scale := SCALES.get(str(last.iloc[0]))):
        return np.asarray(found)
    low, high = found[scaled].min(), found[scaled].max()
    meant = bare & (found * scale >= low / 3) & (found * scale <= 3 * high) & (found < low / 10)
    return np.where(meant, found * scale, found)


def _plain(text: str) -> str:
    """Without emphasis, approximations, uncertainties, footnote marks and typographic signs."""
    text = str(text).strip().replace("\\times", "×").replace("−", "-").replace("\\", "")
    text = re.sub(r"[\u00a0\u202f\u2009]", " ", re.sub(r"(?<=\S)<.*", "", text).strip("'"))
    text = re.sub(r"[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: "^" + m[0].translate(_SUPERSCRIPT), text)
    if text.startswith("~~"):  # struck out in Markdown
        return ""
    text = re.sub(
        r"(?:textbf|mathbf|mathrm|text)(?=\{)|[`{}$\"’]|\*\*(?!\s*[-+]?\d+\s*$)", "", text
    )
    text = re.sub(r"\s*(?:±|\+/-|\+-)\s*\S+|\s*\([-+]?[\d.]+\)$|[*†‡§]+$", "", text.strip(" *_"))
    return text.strip().lstrip("~≈≃=<>≤≥ ").strip().lower()


def _ungrouped(mantissa: str, decimal: str) -> str:
    """Digits with a point: separators of thousands dropped, a decimal comma turned."""
    text = re.sub(r"[ _']", "", mantissa)
    if "," in text and "." in text:
        last = "," if text.rfind(",") > text.rfind(".") else "."
        return text.replace("," if last == "." else ".", "").replace(last, ".")
    mark = "," if "," in text else "."
    if _GROUPS[mark].fullmatch(text) and (mark != decimal or text.count(mark) > 1):
        return text.replace(mark, "")
    return text.replace(",", ".")
