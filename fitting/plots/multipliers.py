"""Compute multipliers of variants against compute, as a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fitting.compare.answers import Answer, Multipliers
from fitting.plots.drawing import (
    COLOURS,
    MARKERS,
    legend_above,
    literal,
    new_figure,
    plain,
    plain_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SKILLS = 8
"""Skills drawn: more cannot be told apart."""

_MOST_DRAWN = 30.0
"""Ends of intervals beyond this factor, either way, are cut off."""


def figure_multipliers(found: Multipliers) -> Figure:
    """Multiplier over training FLOPs with its 90 % band, per skill; one panel per variant.

    The first `MOST_SKILLS` skills are drawn. Dotted: budgets beyond those that were trained.
    """
    count = max(len(found.variants), 1)
    figure = new_figure(1.6 + 4.0 * count, 4.6)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axes, variant in zip(panels, found.variants, strict=False):
        judged = [one for one in found.verdicts if one.variant == variant]
        for i, one in enumerate(judged[:MOST_SKILLS]):
            _draw(axes, found, one, i)
        _mark_beyond(axes, [a for a in found.answers if a.variant == variant])
        axes.axhline(1.0, color="black", linewidth=1, linestyle=":")
        axes.axhspan(1 / found.margin, found.margin, color="grey", alpha=0.12, linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("training FLOPs")
        plain(axes)
        longest = max((len(one.skill) + len(one.verdict) for one in judged), default=0)
        title = f"{literal(variant)} against {literal(found.reference)}"
        if len(judged) > MOST_SKILLS:
            title += f", {MOST_SKILLS} of {len(judged)} skills"
        legend_above(axes, title, columns=1 if longest > 20 or count > 1 else 2)
    panels[0].set_ylabel("compute multiplier")
    plain_numbers(panels[0].yaxis)
    return figure


def _draw(axes: Axes, found: Multipliers, judged: Answer, place: int) -> None:
    """One skill of one variant: line, band, and a larger mark where it is judged."""
    colour, mark = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    own = [a for a in found.answers if (a.variant, a.skill) == (judged.variant, judged.skill)]
    own = sorted(own, key=lambda a: a.flops)
    flops = [a.flops for a in own]
    rows = np.array([(a.multiplier, a.low, a.high) for a in own])
    value, low, high = np.clip(rows, 1 / _MOST_DRAWN, _MOST_DRAWN).T
    label = literal(judged.skill) + f": {judged.verdict}"
    axes.plot(flops, value, marker=mark, color=colour, markersize=4, label=label)
    axes.fill_between(flops, low, high, color=colour, alpha=0.14, linewidth=0)
    at = flops.index(judged.flops)
    axes.plot(flops[at], value[at], marker=mark, color=colour, markersize=8)


def _mark_beyond(axes: Axes, answers: Sequence[Answer]) -> None:
    """Dots over budgets that were not trained."""
    beyond = [a.flops for a in answers if a.beyond > 1]
    if beyond:
        trained = max((a.flops for a in answers if a.beyond <= 1), default=min(beyond))
        axes.axvspan(trained, max(beyond), facecolor="none", edgecolor="#cccccc", hatch=".", lw=0)
