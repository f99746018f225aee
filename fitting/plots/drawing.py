"""Strokes shared by the figures: colours, marks, axes and legends.

Skills wear the colours of Okabe and Ito (2008), which colour-blind readers can tell apart; budgets
and shares run along a light-to-dark scale with a marker each, so that grey print stays legible.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fitting.regression import fit_parabola
from fitting.values import Optimum, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito 2008, "Color Universal Design"; without black, which marks the aggregate."""

MARKERS = "osD^vP<>Xhp*d"
SHORT_NAME = 14  # letters of a name with which three fit side by side above a figure
SKILL_MARK, AGGREGATE_MARK = "#C1121F", "black"
_DPI = 200

Heights = Callable[[float], float]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure with one panel."""
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def save(figure: Figure, path: Path) -> str:
    """Write a figure; returns a note where letters of its names are in no font found here.

    SVG keeps names as text, which the reader's fonts show.
    """
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(path)
    if path.suffix == ".svg" or not any("missing from" in str(one.message) for one in caught):
        return ""
    return f"{path}: some letters are in no font found here and drawn as boxes; .svg keeps them"


def finish_axes(axes: Axes, x: str, y: str, *, legend: str = "") -> None:
    """Names of the axes, legend and grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(title=legend or None, fontsize=8, title_fontsize=8)
    plain(axes)


def light_to_dark(count: int) -> list[tuple[float, float, float, float]]:
    """Colours from light to dark that survive grey print (viridis without its palest part)."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.85 * s) for s in np.linspace(0, 1, count)[::-1]]


LINE = 32
"""Characters of a name that a figure shows."""


def literal(text: str) -> str:
    """A name on one line, both its ends kept as either may tell it from others.

    Dollar signs would set it as a formula.
    """
    head = LINE // 2
    short = text if len(text) <= LINE else f"{text[:head]}…{text[head + 1 - LINE :]}"
    return short.replace("$", r"\$")


def draw_curve(
    axes: Axes, curve: pd.DataFrame, colour: Any, marker: str, label: str, *, guide: bool = True
) -> Heights:
    """Points of one curve and a dashed parabola through them; returns where it runs.

    Returns:
        Height of the parabola at ln params; NaN outside the sizes, or without a parabola.
    """
    params, loss = curve["params"].to_numpy(dtype=float), curve["loss"].to_numpy(dtype=float)
    axes.plot(
        params, loss, marker, color=colour, markersize=4.5, markeredgecolor="white",
        markeredgewidth=0.4, label=label,
    )  # fmt: skip
    if not guide or len(np.unique(params)) < 3:
        return lambda _: math.nan
    fit = fit_parabola(np.log(params), loss)
    low, high = math.log(params.min()), math.log(params.max())
    grid = np.linspace(low, high, 80)
    axes.plot(np.exp(grid), fit.loss(grid), "--", color=colour, linewidth=0.9)
    return lambda at: float(fit.loss(at)) if low <= at <= high else math.nan


def draw_mark(
    axes: Axes, one: Optimum, heights: Heights, colour: str, *, bars: bool = True
) -> float:
    """A cross at an optimum on its curve, with its interval; returns its height, NaN if none.

    Beyond the sizes trained, and where they are too few for a curve, there is nothing to mark.
    """
    height = heights(math.log(one.params))
    if math.isnan(height):
        return height
    low, high = one.interval
    if bars and math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [height, height], color=colour, linewidth=1.2, zorder=4)
    axes.plot(one.params, height, "x", color=colour, markersize=7, markeredgewidth=1.8, zorder=5)
    return height


def draw_path(axes: Axes, path: list[tuple[float, float]], colour: str, label: str) -> None:
    """The line through the optima."""
    seen = [(x, y) for x, y in path if math.isfinite(y)]
    if len(seen) > 1:
        x, y = zip(*seen, strict=True)
        axes.plot(x, y, color=colour, linewidth=1.1, alpha=0.8, label=literal(label))


def finish_params_axis(axes: Axes, title: str, unit: str = "nats") -> None:
    """Logarithmic sizes with plain names, title and grid."""
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.set_xlabel("params")
    axes.set_ylabel(f"loss ({unit})")
    axes.set_title(literal(title))
    plain(axes)


def legend_beside(axes: Axes, title: str) -> None:
    """A legend right of the axes, where it hides nothing."""
    axes.legend(
        title=title, fontsize=8, title_fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0),
        frameon=False,
    )  # fmt: skip


def legend_above(axes: Axes, title: str, *, columns: int) -> None:
    """A legend above the axes, where anything has a label."""
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(
        title=title, fontsize=8, title_fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0),
        frameon=False, ncols=columns,
    )  # fmt: skip


def few(values: Sequence[float], most: int = 6) -> Sequence[float]:
    """Some of an axis' budgets, evenly, so that their labels do not run into each other."""
    return values[:: math.ceil(len(values) / most) or 1]


_STEPS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (1e4, (1.0,)), (100.0, (1.0, 3.0)), (6.0, (1.0, 2.0, 5.0)),
    (0.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)),
)  # fmt: skip
"""Numbers of a decade that a logarithmic axis names, by the ratio of its ends: as many as have
room beside each other."""


def plain_numbers(axis: Any) -> None:
    """Numbers like 200M or 0.5 on a logarithmic axis; more of them where it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = next(steps for span, steps in _STEPS if high / low > span)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    axis.set_minor_formatter(NullFormatter())


def plain(axes: Axes) -> None:
    """Light grid, no box."""
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
