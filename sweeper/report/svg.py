"""Matplotlib's drawings as SVG that belongs to a page: its colours, its font, few bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

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

_LONG = 40
"""Points beyond which every other one of a line is left out: matplotlib curves of `fitting.plots`
have 80 on 300 points of width, and half of them look the same."""


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
    drawing.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = _own_ids(_small(buffer.getvalue()), name)
    for colour, variable in {**_PAGE, **colours}.items():
        text = re.sub(colour, variable, text, flags=re.IGNORECASE)
    own = f'<svg role="img" data-drawing="{name}" aria-label="{escape(label)}"'
    return text.replace("<svg", own, 1)


def _own_ids(text: str, name: str) -> str:
    """Ids that no other drawing has; those nobody refers to are dropped."""
    used = dict.fromkeys(re.findall(r"(?:url\(|href=\")#([\w-]+)", text))
    short = {old: f"{name}-{i}" for i, old in enumerate(used)}
    text = re.sub(
        r' id="([^"]*)"', lambda m: f' id="{short[m[1]]}"' if m[1] in short else "", text
    )
    text = re.sub(r"(url\(|href=\")#([\w-]+)", lambda m: f"{m[1]}#{short[m[2]]}", text)
    return _without_bare_groups(text)


def _without_bare_groups(text: str) -> str:
    """Groups that say nothing, taken away round what they hold."""
    kept: list[bool] = []

    def keep(tag: re.Match[str]) -> str:
        if tag[0] == "</g>":
            return tag[0] if kept.pop() else ""
        kept.append(tag[0] != "<g>")
        return tag[0] if kept[-1] else ""

    return re.sub(r"\n+", "\n", re.sub(r"</?g( [^>]*)?>", keep, text))


def _small(text: str) -> str:
    """The drawing without what the page does not need: a quarter of the bytes."""
    text = text[text.index("<svg") :]
    for waste in (r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<style.*?</style>"):
        text = re.sub(waste, "", text, flags=re.DOTALL)
    text = _unhatched(text)
    text = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = text.replace("font-size: 8px", "font-size: 8.6px")  # legends, on a screen
    text = re.sub(r"(<svg[^>]*?) height=\"[\d.]+pt\"", r"\1", text, count=1)
    text = re.sub(r"<(path|use|text|rect|svg)[^>]*>", lambda tag: _rounded(tag[0]), text)
    text = re.sub(r' d="([^"]*)"', lambda d: f' d="{_line(d[1])}"', text)
    text = re.sub(r'(style="[^"]*")', lambda style: _terse(style[0]), text)
    text = re.sub(r">\s+<", ">\n<", text)
    return re.sub(r"<g([^>]*)>\n((?:<use [^>]*>\n)+)</g>", _hoisted, text)


def _rounded(tag: str) -> str:
    """Coordinates to a tenth of a point."""
    return re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", tag)


def _line(path: str) -> str:
    """An open line of many points with half of them, and no more letters than it needs."""
    points = " ".join(path.split()).split(" L ")
    if len(points) > _LONG and "z" not in path and "C" not in path:
        points = [*points[:-1:2], points[-1]]
    return "L".join(points).replace("M ", "M")


def _terse(style: str) -> str:
    """A style without spaces and without what is the default."""
    tight = re.sub(r"([:;]) +", r"\1", style)
    return re.sub(r"stroke-(dashoffset:0|linecap:(square|butt)|linejoin:miter);?", "", tight)


def _unhatched(text: str) -> str:
    """Fills with their colour alone: hatches take more bytes than the rest of a drawing."""
    pattern = r'<pattern id="([^"]*)".*?fill="([^"]*)".*?</pattern>'
    for name, fill in re.findall(pattern, text, flags=re.DOTALL):
        text = text.replace(f"url(#{name})", fill)
    return re.sub(pattern, "", text, flags=re.DOTALL)


def _hoisted(group: re.Match[str]) -> str:
    """Marks that share a style have it once, on their group."""
    styles = set(re.findall(r'style="[^"]*"', group[2]))
    if len(styles) != 1 or "style" in group[1]:
        return group[0]
    (shared,) = styles
    marks = group[2].replace(f" {shared}", "")
    return f"<g{group[1]} {shared}>\n{marks}</g>"
