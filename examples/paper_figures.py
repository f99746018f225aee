"""Figures 1c, 2, 3 and 5a of arXiv 2503.10061, as examples 03 and 06 draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fitting.compare.optima import Comparison
from fitting.datamix.alignment import Alignment
from fitting.datamix.shares import ShareResponse
from fitting.isoflop import fit_isoflop
from fitting.plots.drawing import (
    COLOURS,
    MARKERS,
    SHORT_NAME,
    SKILL_MARK,
    draw_curve,
    draw_mark,
    finish_axes,
    finish_params_axis,
    legend_above,
    legend_beside,
    light_to_dark,
    literal,
    one_panel,
    plain,
    plain_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_residuals(comparisons: Mapping[str, Comparison], *, width: float = 0.05) -> Figure:
    """Figure 1c: histogram of ln(p*_skill / p*_aggregate), one value per budget."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = one_panel(6.0, 4.2)
    values = {name: c.frame["log_ratio"].to_numpy(dtype=float) for name, c in comparisons.items()}
    every = np.concatenate([*values.values(), [0.0]])
    first, last = math.floor(every.min() / width), math.ceil(every.max() / width) + 1
    edges = width * np.arange(first, last + 1)
    hatches = ("", "//", "..", "xx", "\\\\", "++")
    for i, (name, one) in enumerate(comparisons.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.hist(
            values[name], bins=edges.tolist(), color=colour, alpha=0.45,
            hatch=hatches[i % len(hatches)], edgecolor=colour,
            label=f"{literal(name)}: mean {one.pooled:+.3f}",
        )  # fmt: skip
        low, high = one.interval()
        axes.axvline(one.pooled, color=colour, linewidth=1.8)
        axes.axvspan(low, high, color=colour, alpha=0.13, linewidth=0)
    axes.axvline(0, color="black", linewidth=1, linestyle=":")
    axes.set_xlabel("ln(optimum of the skill / optimum of the aggregate)")
    axes.set_ylabel("budgets")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    longest = max(len(name) for name in comparisons)
    columns = min(len(comparisons), 3 if longest <= SHORT_NAME else 1)
    legend_above(axes, "line: mean, band: 90 % interval", columns=columns)
    plain(axes)
    return figure


def figure_mix_curves(points: pd.DataFrame, *, title: str = "") -> Figure:
    """Figure 2: losses over model size on one budget, one curve per share of a class.

    Args:
        points: columns share_percent, params, loss.
    """
    figure, axes = one_panel(6.4, 4.6)
    shares = sorted(points["share_percent"].unique())
    for i, (share, colour) in enumerate(zip(shares, light_to_dark(len(shares)), strict=True)):
        curve = points[points["share_percent"] == share].sort_values("params")
        one = fit_isoflop(curve["params"], curve["loss"])
        note = f"{share:g} %: " + (f"{one.params / 1e6:.0f} M" if one.ok else "no optimum")
        heights = draw_curve(axes, curve, colour, MARKERS[i % len(MARKERS)], note)
        if one.ok:
            draw_mark(axes, one, heights, SKILL_MARK, bars=False)
    finish_params_axis(axes, title)
    legend_beside(axes, "share: optimum")
    return figure


def figure_shares(
    responses: Mapping[str, ShareResponse],
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> Figure:
    """Figure 3: each skill's optimum against the share of its class.

    Args:
        responses: skill to its fitted line, drawn with a 90 % band.
        points: skill to shares and optima (params) of the mixes.
    """
    figure, axes = one_panel(6.0, 4.4)
    for i, (name, response) in enumerate(responses.items()):
        colour, (share, params) = COLOURS[i % len(COLOURS)], points[name]
        slope = f"slope {response.slope:+.2f}" if response.ok else "no slope"
        axes.plot(
            100 * np.asarray(share),
            np.asarray(params) / 1e6,
            MARKERS[i],
            color=colour,
            label=f"{literal(name)}: {slope}",
        )
        if response.ok:
            grid = np.linspace(*response.share_range, 100)
            low, high = response.interval(grid)
            axes.plot(100 * grid, response(grid) / 1e6, color=colour)
            axes.fill_between(100 * grid, low / 1e6, high / 1e6, color=colour, alpha=0.15, lw=0)
    finish_axes(
        axes,
        "share of the skill's documents in training (%)",
        "compute-optimal params (M)",
        legend="ln params per unit of share",
    )
    return figure


def figure_alignment(
    ratio: Sequence[float],
    optima: Mapping[str, Sequence[float]],
    alignment: Alignment,
    *,
    label: str = "code / knowledge documents",
) -> Figure:
    """Figure 5a: two skills' optima against the ratio of their classes, and where they meet.

    Args:
        optima: skill to its optimum (params) per mix.
        alignment: of `aligning_ratio` on the same numbers.
    """
    figure, axes = one_panel(6.0, 4.4)
    x = np.asarray(ratio, dtype=float)
    grid = np.geomspace(x.min(), x.max(), 50)
    for i, (name, params) in enumerate(optima.items()):
        y = np.asarray(params, dtype=float)
        good = np.isfinite(y)
        line = np.polynomial.Polynomial.fit(np.log(x[good]), np.log(y[good]), 1)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(x, y / 1e6, MARKERS[i], color=colour, label=literal(name))
        axes.plot(grid, np.exp(line(np.log(grid))) / 1e6, color=colour)
    if math.isfinite(alignment.ratio):
        low, high = np.clip(alignment.interval, x.min(), x.max())
        axes.axvspan(low, high, color="grey", alpha=0.18, linewidth=0, label="90 % interval")
        axes.axvline(
            alignment.ratio, color="black", linestyle="--", label=f"equal at {alignment.ratio:.2g}"
        )
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    finish_axes(axes, label, "compute-optimal params (M)")
    return figure
