"""The figures of arXiv 2503.10061 from any fits or plain tables, as matplotlib Figures.

No figure touches pyplot's global state, so they can be drawn anywhere, in threads too:
``figure_isoflops(...).savefig("isoflops.png")``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fitting.compare.optima import Comparison, law_optimum
from fitting.laws.powerlaw import PowerLaw
from fitting.plots.drawing import (
    AGGREGATE_MARK,
    MARKERS,
    SHORT_NAME,
    SKILL_MARK,
    draw_curve,
    draw_mark,
    draw_path,
    few,
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
from fitting.plots.drawing import COLOURS as COLOURS
from fitting.values import Z90, FloatArray, Optimum, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_ROWS = 16
"""Budgets up to which each has a curve and a row of the legend; of more, points and paths only."""

_RATIOS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 2.0, 3.0, 5.0, 10.0)


def figure_isoflops(
    points: pd.DataFrame,
    optima: Sequence[Optimum],
    *,
    law: PowerLaw | None = None,
    aggregate: PowerLaw | Sequence[Optimum] | None = None,
    title: str = "",
    unit: str = "nats",
) -> Figure:
    """Figure 1a or 1b: losses of one skill over model size, one curve per budget.

    Args:
        points: columns params, loss and budget (or flops).
        optima: marked by red crosses with their 90 % intervals; those without a number are
            named in the legend's budget as "no optimum".
        law: its path over the losses, red.
        aggregate: optima or a law of params, black crosses on the same curves.
        unit: of the losses.
    """
    figure, axes = one_panel(6.4, 4.6)
    column = "budget" if "budget" in points else "flops"
    budgets = sorted(points[column].unique())
    known = {_key(o.flops): o for o in optima}
    every = math.ceil(len(budgets) / LEGEND_ROWS)
    off_isoflop = every > 1  # flops without a ladder: points and paths only
    paths: dict[str, list[tuple[float, float]]] = {"skill": [], "aggregate": []}
    for i, (budget, colour) in enumerate(zip(budgets, light_to_dark(len(budgets)), strict=True)):
        curve = points[points[column] == budget].sort_values("params")
        one = known.get(_key(float(budget)))
        label = number(budget) + ("" if one is None or one.ok else " (no optimum)")
        if i % every:
            label = "_"  # matplotlib leaves such labels out of the legend
        mark = MARKERS[i % len(MARKERS)]
        heights = draw_curve(axes, curve, colour, mark, label, guide=not off_isoflop)
        if one is not None and one.ok:
            height = one.loss if off_isoflop else draw_mark(axes, one, heights, SKILL_MARK)
            paths["skill"].append((_fitted(law, one), height))
        other = _aggregate_at(aggregate, float(budget))
        if other is not None and not off_isoflop:
            height = draw_mark(axes, other, heights, AGGREGATE_MARK)
            paths["aggregate"].append((other.params, height))
    draw_path(axes, paths["skill"], SKILL_MARK, "skill's optimum")
    draw_path(axes, paths["aggregate"], AGGREGATE_MARK, "aggregate's optimum")
    finish_params_axis(axes, title, unit)
    legend_beside(axes, "training FLOPs")
    return figure


def figure_ratios(comparisons: Mapping[str, Comparison]) -> Figure:
    """Each skill's optimum over the aggregate's, budget by budget, with 90 % intervals.

    Beside the last budget stands the mean over all.
    """
    figure, axes = one_panel(6.0, 4.2)
    shown = [name for name, one in comparisons.items() if len(one.frame)]
    flops = np.array([c for one in comparisons.values() for c in one.frame["flops"]], float)
    low, high = (flops.min(), flops.max()) if len(flops) else (1.0, 1.0)
    gap = max(math.log(high / low) / 40, 0.02)  # of ln C, between skills and before the mean
    for i, (name, one) in enumerate(comparisons.items()):
        if name not in shown:
            continue
        colour, mark = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        shift = gap * (shown.index(name) - (len(shown) - 1) / 2)
        x, value, se = (one.frame[k].to_numpy(float) for k in ("flops", "log_ratio", "se"))
        _ratio_bars(axes, x * math.exp(shift), value, Z90 * se, colour, mark)
        if math.isfinite(one.pooled):
            half = (one.interval()[1] - one.interval()[0]) / 2
            at = np.array([high * math.exp(8 * gap + shift)])
            label = f"{literal(name)}: mean {one.ratio:.2f}"
            _ratio_bars(axes, at, np.array([one.pooled]), half, colour, "D", label=label)
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, top = axes.get_ylim()
    ticks = [r for r in _RATIOS if low < r < top]
    axes.set_yticks(ticks, [f"{r:g}" for r in ticks])
    budgets = few(sorted(set(flops)))
    names = [number(b) for b in budgets]
    axes.set_xticks([*budgets, high * math.exp(8 * gap)], [*names, "mean"])
    axes.minorticks_off()
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("optimum over the aggregate's")
    longest = max((len(name) for name in comparisons), default=0)
    legend_above(axes, "", columns=min(len(comparisons), 3 if longest <= SHORT_NAME else 1))
    plain(axes)
    return figure


def _ratio_bars(
    axes: Axes, x: FloatArray, log_ratio: FloatArray, half: FloatArray | float, colour: str,
    mark: str, *, label: str = "",
) -> None:  # fmt: skip
    middle = np.exp(log_ratio)
    ends = np.array([middle - np.exp(log_ratio - half), np.exp(log_ratio + half) - middle])
    axes.errorbar(
        x, middle, yerr=np.nan_to_num(ends), fmt=mark, color=colour, capsize=2, markersize=5,
        linewidth=1.2, label=label or "_",
    )  # fmt: skip


def figure_laws(laws: Mapping[str, PowerLaw], optima: Mapping[str, Sequence[Optimum]]) -> Figure:
    """Optimum against budget for every skill, with 90 % intervals and the law's band."""
    figure, axes = one_panel(6.0, 4.6)
    for i, (name, law) in enumerate(laws.items()):
        colour = COLOURS[i % len(COLOURS)]
        usable = [o for o in optima[name] if o.ok]
        params = np.array([o.params for o in usable])
        bars = np.array([[o.params - o.interval[0], o.interval[1] - o.params] for o in usable]).T
        label = literal(name) + (f": b = {law.exponent:.3f}" if law.ok else ": no law")
        axes.errorbar(
            [o.flops for o in usable], params,
            yerr=np.nan_to_num(bars, posinf=0.0) if usable else None,
            fmt=MARKERS[i % len(MARKERS)], color=colour, capsize=2, label=label,
        )  # fmt: skip
        if law.ok:
            grid = np.geomspace(*law.flops_range, 60)
            low, high = law.interval(grid)
            axes.plot(grid, law(grid), color=colour)
            axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_numbers(axes.yaxis)
    finish_axes(axes, "training FLOPs", "compute-optimal params")
    return figure


def _key(flops: float) -> float:
    """A budget as dictionary key: three digits."""
    return float(f"{flops:.3g}")


def _fitted(law: PowerLaw | None, one: Optimum) -> float:
    """Where the path passes a budget: on the law if there is one, else at the optimum."""
    return float(law(one.flops)) if law is not None and law.ok else one.params


def _aggregate_at(aggregate: PowerLaw | Sequence[Optimum] | None, budget: float) -> Optimum | None:
    """The aggregate's optimum on a budget, if there is one."""
    if aggregate is None:
        return None
    if isinstance(aggregate, PowerLaw):
        one = law_optimum(aggregate, budget)
        return one if one.ok else None
    return next((o for o in aggregate if o.ok and _key(o.flops) == _key(budget)), None)
