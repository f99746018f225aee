"""Matplotlib's drawings as SVG that belongs to a page: its colours, its font, ids of its own."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from fitting.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_INK, _SOFT, _PAPER = "#010203", "#5a6371", "#fefdfc"
"""Stand-ins drawn by matplotlib and replaced by the page's variables: no series has them."""

_PAGE = {
    _INK: "var(--ink)",
    _SOFT: "var(--soft)",
    _PAPER: "var(--paper)",
    "#000000": "var(--aggregate)",
    "#ffffff": "var(--paper)",
    "#dddddd": "var(--rule)",
    "#c1121f": "var(--mark)",
}
"""Also the colours of `fitting.plots` other than those of skills and budgets."""

_STYLE = {
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "legend.labelcolor": _INK,
    "legend.frameon": False,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "isoskill",  # the same fits give the same file
    "text.color": _INK,
    "xtick.color": _SOFT,
    "xtick.labelcolor": _INK,
    "ytick.color": _SOFT,
    "ytick.labelcolor": _INK,
}


def skill_colours() -> dict[str, str]:
    """What `fitting.plots` draws skills with, and the page's variable for it."""
    return {colour.lower(): f"var(--c{i})" for i, colour in enumerate(COLOURS)}


@contextmanager
def style() -> Iterator[None]:
    """Within, figures are drawn so that `svg` can fit them to the page."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def svg(drawing: Drawing, name: str, label: str, colours: Mapping[str, str]) -> str:
    """A matplotlib figure as an ``<svg>`` element.

    Args:
        drawing: made within `style`, as must this be.
        name: prefix of the ids inside, unique in the page.
        label: what the figure shows, for those who cannot see it.
        colours: hexadecimal colour to what the page has in its place.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text: what matplotlib's font lacks, the page's has.
        warnings.filterwarnings("ignore", r"Glyph .* missing")
        drawing.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = _own_ids(_unhatched(_bare(buffer.getvalue())), name)
    for colour, variable in {**_PAGE, **colours}.items():
        text = re.sub(colour, variable, text, flags=re.IGNORECASE)
    own = f'<svg role="img" data-drawing="{name}" aria-label="{escape(label)}"'
    return text.replace("<svg", own, 1)


def _own_ids(text: str, name: str) -> str:
    """Ids that no other drawing of the page has; those that nothing refers to are dropped."""
    used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)


def _bare(text: str) -> str:
    """The drawing without its prologue, page-wide style, font and height; tenths of points."""
    text = text[text.index("<svg") :]
    for waste in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>"):
        text = re.sub(waste, "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"(<svg[^>]*?) height=\"[\d.]+pt\"", r"\1", text, count=1)
    # Within tags alone: what stands between them is a number that somebody reads.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"\d+\.\d{2,}", _tenths, tag[0]), text)
    return re.sub(r"\s*\n\s*", "\n", text)


def _tenths(found: re.Match[str]) -> str:
    return f"{float(found[0]):.1f}"


def _unhatched(text: str) -> str:
    """Fills with their colour alone: by its colour the page finds what to hide."""
    pattern = r'<pattern id="([^"]*)".*?fill="([^"]*)".*?</pattern>'
    for name, fill in re.findall(pattern, text, flags=re.DOTALL):
        text = text.replace(f"url(#{name})", fill)
    return re.sub(pattern, "", text, flags=re.DOTALL)
