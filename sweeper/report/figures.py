"""Which figures a report shows: the paper's figure 1, drawn by `fitting.plots`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fitting import Fits
from fitting.plots import COLOURS as OKABE_ITO
from fitting.plots import figure_isoflops, figure_laws, figure_ratios
from fitting.plots.figures import LEGEND_ROWS
from sweeper.report.svg import skill_colours, style, svg
from sweeper.text import number

COLOURS = 5
"""Skills in one drawing, each with a colour of `fitting.plots`; further skills begin again."""


class Figure(NamedTuple):
    """One figure of the page: ``<svg>`` elements as they are, a title, and how to read it."""

    drawings: tuple[str, ...]
    title: str
    caption: str


class Toggle(NamedTuple):
    """A box that shows or hides one series in all figures.

    Attributes:
        label: the skill, or the budget.
        colour: the page's variable for it.
        hides: CSS selector of what belongs to it.
    """

    label: str
    colour: str
    hides: str


def figures(fits: Fits, aggregate: str | None, skills: Sequence[str]) -> list[Figure]:
    """The paper's figure 1 for this sweep: isoFLOP curves, optima and laws, ratios.

    Args:
        aggregate: the skill others are compared to, if it was measured.
        skills: in the page's order, the aggregate last.
    """
    others = [name for name in skills if name != aggregate]
    groups = [others[i : i + COLOURS] for i in range(0, len(others), COLOURS)] or [[]]
    found = [_curves(fits, aggregate, skills), _laws(fits, aggregate, groups)]
    if aggregate is not None and others:
        found.append(_ratios(fits, aggregate, groups))
    return [figure for figure in found if figure.drawings]


def toggles(fits: Fits, aggregate: str | None, skills: Sequence[str]) -> list[list[Toggle]]:
    """The boxes of the figures: one per skill, and one per budget."""
    others = [name for name in skills if name != aggregate]
    by_skill = []
    for i, name in enumerate(skills):
        hides, colour = [f"[data-drawing=a{i}]"], "--aggregate"
        if name != aggregate:
            group, place = divmod(others.index(name), COLOURS)
            colour = f"--c{place}"
            hides += [f'[data-drawing={kind}{group}] [style*="({colour})"]' for kind in "bc"]
        by_skill.append(Toggle(name, colour, ", ".join(hides)))
    by_budget = [
        Toggle(number(flops), f"--b{i}", f'[data-drawing^=a] [style*="(--b{i})"]')
        for i, flops in enumerate(fits.observations.budgets)
    ]
    return [by_skill, by_budget]


def _curves(fits: Fits, aggregate: str | None, skills: Sequence[str]) -> Figure:
    black = fits[aggregate].law if aggregate is not None else None
    drawings, unit = [], str((fits.observations.read or {}).get("loss_unit", "nats"))
    for i, name in enumerate(skills):
        fit = fits[name]
        other = None if name == aggregate or black is None or not black.ok else black
        with style():
            drawing = figure_isoflops(
                fit.observations, fit.optima, law=fit.law, aggregate=other, title=name, unit=unit
            )
            drawings.append(svg(drawing, f"a{i}", f"Loss of {name} over model size", _scale(fits)))
    marked = black is not None and black.ok and len(skills) > 1
    others = f"; without colour: those of {aggregate} by its law" if marked else ""
    how = (
        f"dashed: a parabola through them. Crosses: the best sizes by the {fits.method} method "
        f"with 90 % intervals{others}, none beyond the sizes trained."
        if len(fits.observations.budgets) <= LEGEND_ROWS
        else f"the line passes through the best sizes by the {fits.method} method."
    )
    caption = f"Each point is one trial, each colour one budget; {how}"
    return Figure(tuple(drawings), "IsoFLOP curves.", caption)


def _laws(fits: Fits, aggregate: str | None, groups: Sequence[Sequence[str]]) -> Figure:
    drawings = []
    for i, group in enumerate(groups):
        names = [*group, aggregate] if aggregate is not None else list(group)
        if not any(optimum.ok for name in names for optimum in fits[name].optima):
            continue  # nothing to draw: the tables say why
        colours = skill_colours()
        if aggregate is not None:
            colours[OKABE_ITO[len(group)].lower()] = "var(--aggregate)"
        with style():
            drawing = figure_laws(
                {name: fits[name].law for name in names},
                {name: fits[name].optima for name in names},
            )
            drawings.append(svg(drawing, f"b{i}", f"Optima of {', '.join(names)}", colours))
    return Figure(
        tuple(drawings),
        "Optima and laws.",
        "Optimal size on each budget with 90 % intervals, and where there is a law p* = a·C^b, "
        "its line with its band.",
    )


def _ratios(fits: Fits, aggregate: str, groups: Sequence[Sequence[str]]) -> Figure:
    drawings = []
    for i, group in enumerate(groups):
        with style():
            drawing = figure_ratios({name: fits.compare(name, aggregate) for name in group})
            label = f"Ratio of optima to {aggregate}: {', '.join(group)}"
            drawings.append(svg(drawing, f"c{i}", label, skill_colours()))
    return Figure(
        tuple(drawings),
        f"Each skill against {aggregate}.",
        f"Best size of the skill over {aggregate}’s on each budget, and the mean over all, with "
        "90 % intervals; above 1 the skill asks for a larger model.",
    )


def ramp(count: int) -> list[tuple[str, str]]:
    """Colours of budgets on light paper and on dark, cheapest first; the last stands out."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    viridis = colormaps["viridis"]
    steps = [float(s) for s in np.linspace(0, 1, count)[::-1]]
    return [(to_hex(viridis(0.85 * s)), to_hex(viridis(0.95 - 0.5 * s))) for s in steps]


def _scale(fits: Fits) -> dict[str, str]:
    """The page's variables for the budgets' colours in `fitting.plots`."""
    shades = ramp(len(fits.observations.budgets))
    return {light: f"var(--b{i})" for i, (light, _) in enumerate(shades)}
