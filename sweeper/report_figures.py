"""Figures as SVG that belongs to the page: its colours, its fonts, no ids that clash."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fitting import Fits

_INK, _SOFT, _PAPER = "#010203", "#5a6371", "#fefdfc"
"""Stand-ins drawn by matplotlib and replaced by the page's variables: no series has them."""

_VARIABLES = {
    _INK: "var(--ink)",
    _SOFT: "var(--soft)",
    _PAPER: "var(--paper)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
}

_STYLE = {
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": _SOFT,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "patch.edgecolor": _SOFT,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "isoskill",  # the same fits give the same file
    "text.color": _INK,
    "xtick.color": _SOFT,
    "xtick.labelcolor": _INK,
    "ytick.color": _SOFT,
    "ytick.labelcolor": _INK,
}


@dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes:
        svg: the drawing, an ``<svg>`` element that may be put into a page as it is.
        title: what it shows.
        caption: how to read it.
    """

    svg: str
    title: str
    caption: str


def figures(fits: Fits, aggregate: str | None, skills: Sequence[str]) -> list[Figure]:
    """The paper's figure 1 for this sweep: isoFLOP curves, optima and laws, residuals."""
    return []


@contextmanager
def style() -> Iterator[None]:
    """Within, figures are drawn so that `svg` can fit them to the page."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def svg(figure: Any, name: str, label: str) -> str:
    """A matplotlib figure as an ``<svg>`` element; closes the figure.

    Args:
        figure: drawn within `style`.
        name: prefix of the ids inside, unique in the page.
        label: what the figure shows, for those who cannot see it.
    """
    from html import escape

    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1; font-family: inherit", text)
    text = re.sub(r"(<svg[^>]*?) width=\"[\d.]+pt\"", r"\1", text, count=1)
    text = re.sub(r"(<svg[^>]*?) height=\"[\d.]+pt\"", r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
