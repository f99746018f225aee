"""Figures of the studies in the paper's form, with the intervals it leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fitting.plots.drawing import (
    COLOURS,
    MARKERS,
    legend_above,
    legend_beside,
    light_to_dark,
    new_figure,
    one_panel,
    plain,
    plain_numbers,
)
from fitting.values import Z90
from sweeper.analysis.studies.datamix import JOINT, PARABOLA, DatamixStudy
from sweeper.analysis.studies.skills import SkillsStudy
from sweeper.analysis.studies.validation import ValidationStudy
from sweeper.text import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """One figure: matplotlib's, its name for files, and how to read it."""

    name: str
    figure: Figure
    caption: str


@singledispatch
def figures(study: Any) -> list[Drawn]:
    """The figures of a study."""
    raise TypeError(f"no figures of a {type(study).__name__}")


def _labelled(axes: Axes, x: str, y: str, *logarithmic: Any) -> None:
    """Names, grid, and plain numbers on logarithmic axes, which must have been drawn on."""
    for axis in logarithmic:
        getattr(axes, f"set_{axis.axis_name}scale")("log")
    for axis in logarithmic:
        plain_numbers(axis)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    plain(axes)


def _bars(axes: Axes, x: Any, y: Any, ends: tuple[Any, Any], i: int, **how: Any) -> None:
    """Marks with the intervals they have (along ``y``), like all of series ``i``."""
    along = how.pop("along", "y")
    value = y if along == "y" else x
    bars = np.nan_to_num(np.stack([value - ends[0], ends[1] - value]), posinf=0.0)
    style = {"fmt": MARKERS[i % len(MARKERS)], "color": COLOURS[i % len(COLOURS)]}
    axes.errorbar(x, y, **{f"{along}err": bars}, markersize=4.5, capsize=2, **(style | how))


@figures.register
def _datamix(study: DatamixStudy) -> list[Drawn]:
    budgets = sorted(study.optima["flops"].unique())
    captions = {
        _optima_by_share: "Optimal size against the share of the skill’s own class at {} FLOPs "
        "(the paper’s Figure 3). Filled: the vertex of each mix’s parabola with its 90 % "
        "interval; curve and band: the joint fit, 90 %.",
        _loss_by_share: "Least loss against the same share at {} FLOPs, by the joint fit: "
        "points are mixes that were trained, with 90 % intervals.",
        _alignment: "The same optima against the ratio of two classes at {} FLOPs (Figure "
        "5a). Curves: the joint fit, other classes held as in the reference mix; grey: "
        "the 90 % interval of where they meet.",
    }
    drawn = []
    for flops in budgets:
        own = study.optima[study.optima["flops"] == flops]
        tail = f"-{number(flops)}" if len(budgets) > 1 else ""
        for draw, caption in captions.items():
            name = draw.__name__.strip("_").replace("_", "-") + tail
            drawn.append(Drawn(name, draw(study, own, flops), caption.format(f"{number(flops)}")))
    return drawn


def _vertices(own: pd.DataFrame, skill: str) -> pd.DataFrame:
    return own[(own["skill"] == skill) & (own["method"] == PARABOLA) & own["params"].notna()]


def _optima_by_share(study: DatamixStudy, own: pd.DataFrame, flops: float) -> Figure:
    figure, axes = one_panel(6.0, 4.4)
    for i, (skill, fit) in enumerate(study.fits.items()):
        rows = _vertices(own, skill)
        ends = rows["low"], rows["high"]
        _bars(axes, 100 * rows["share"], rows["params"], ends, i, elinewidth=0.8)
        grid = np.linspace(fit.grid.share.min(), fit.grid.share.max(), 60)
        mean, spread = fit.line(flops, grid)
        half, slope = Z90 * np.sqrt(np.diag(spread)), fit.slope(flops)
        label = f"{skill}: slope {slope.value:+.2f} ± {slope.interval[1] - slope.value:.2f}"
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(100 * grid, np.exp(mean), color=colour, label=label)
        band = np.exp(mean - half), np.exp(mean + half)
        axes.fill_between(100 * grid, *band, color=colour, alpha=0.15, lw=0)
    legend_above(axes, "change of ln params per unit of share", columns=1)
    share = "share of the skill’s own class in training (%)"
    _labelled(axes, share, "compute-optimal params", axes.yaxis)
    return figure


def _loss_by_share(study: DatamixStudy, own: pd.DataFrame, flops: float) -> Figure:
    """One panel a skill: their losses have little to do with each other."""
    figure = new_figure(3.2 * len(study.fits), 3.4)
    for i, (skill, fit) in enumerate(study.fits.items()):
        axes = figure.add_subplot(1, len(study.fits), i + 1)
        rows = own[(own["skill"] == skill) & (own["method"] == JOINT) & (own["status"] == "ok")]
        half, loss = Z90 * rows["loss_error"], rows["loss"]
        _bars(axes, 100 * rows["share"], loss, (loss - half, loss + half), i)
        grid = np.linspace(max(fit.grid.share.min(), 0.01), fit.grid.share.max(), 60)
        axes.plot(100 * grid, fit.level(flops, grid)[0], color=COLOURS[i % len(COLOURS)])
        axes.set_title(skill)
        _labelled(axes, "share of its class (%)", "least loss (nats)")
    return figure


def _alignment(study: DatamixStudy, own: pd.DataFrame, flops: float) -> Figure:
    figure, axes = one_panel(6.0, 4.4)
    meets = study.alignments[study.alignments["flops"] == flops]
    if meets.empty:
        return figure
    over, under = meets.iloc[0]["over"], meets.iloc[0]["under"]
    shares, classes = study.source.shares, study.source.classes
    ratios = {m: mix[over] / mix[under] for m, mix in shares.items() if mix[under] > 0}
    base = next(iter(shares.values()))
    grid = np.geomspace(min(ratios.values()), max(ratios.values()), 60)
    for i, skill in enumerate(s for s in study.fits if classes[s] in (over, under)):
        rows, colour = _vertices(own, skill), COLOURS[i % len(COLOURS)]
        rows = rows[rows["mix"].isin(list(ratios))]
        marker = MARKERS[i % len(MARKERS)]
        axes.plot([ratios[m] for m in rows["mix"]], rows["params"], marker, color=colour)
        part = grid if classes[skill] == over else 1.0
        mean, _ = study.fits[skill].line(flops, (base[over] + base[under]) * part / (1 + grid))
        axes.plot(grid, np.exp(mean), color=colour, label=skill)
    joint = meets[meets["method"] == JOINT].iloc[0]
    if math.isfinite(joint["ratio"]):
        low, high = np.clip([joint["low"], joint["high"]], grid[0], grid[-1])
        axes.axvspan(low, high, color="grey", alpha=0.18, linewidth=0, label="90 % interval")
        equal = f"equal at {joint['ratio']:.2g}"
        axes.axvline(joint["ratio"], color="black", linestyle="--", label=equal)
    axes.legend(fontsize=8)
    ratio = f"{over} / {under} documents"
    _labelled(axes, ratio, "compute-optimal params", axes.xaxis, axes.yaxis)
    return figure


@figures.register
def _validation(study: ValidationStudy) -> list[Drawn]:
    first, second = study.sweep.iloc[0][["first", "second"]]
    return [
        Drawn(
            "optimum-by-weight",
            _optimum_by_weight(study, f"weight of {first} against {second}"),
            f"Optimal size for the loss w·{first} + (1 − w)·{second}, relative to w = 0, on every "
            "budget by the guarded mixture. Bars: 90 % of the optimum at w = 1, drawn beside it.",
        ),
        Drawn(
            "composition-range",
            _range(study),
            "How far the choice of the validation loss can move the optimum on each budget, 90 % "
            "intervals; the parabolas’ hold for all pairs of losses at once.",
        ),
    ]


def _optimum_by_weight(study: ValidationStudy, weight: str) -> Figure:
    figure, axes = one_panel(6.0, 4.4)
    budgets = study.sweep[study.sweep["method"] == "guarded"].groupby("flops")
    for i, (colour, (flops, rows)) in enumerate(
        zip(light_to_dark(len(budgets)), budgets, strict=True)
    ):
        own = rows.sort_values("share")
        ratio, top = np.exp(own["log_ratio"]).to_numpy(), own.iloc[-1]
        axes.plot(own["share"], ratio, color=colour, marker=MARKERS[i % len(MARKERS)],
                  markersize=4, label=f"{number(flops)}")  # fmt: skip
        ends = ratio[-1:] * top["low"] / top["params"], ratio[-1:] * top["high"] / top["params"]
        at = [1.03 + 0.015 * i]
        _bars(axes, at, ratio[-1:], ends, i, fmt="none", color=colour, elinewidth=0.9)
    legend_beside(axes, "training FLOPs")
    _labelled(axes, weight, "optimal params, relative to weight 0")
    return figure


def _range(study: ValidationStudy) -> Figure:
    figure, axes = one_panel(6.0, 4.0)
    for i, (method, rows) in enumerate(study.ranges.groupby("method", sort=False)):
        ratio, *ends = (np.exp(rows[c].to_numpy(float)) for c in ("log_ratio", "low", "high"))
        at = rows["flops"] * (1 + 0.06 * i)  # beside each other
        _bars(axes, at, ratio, (ends[0], ends[1]), i, label=str(method))
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.legend(fontsize=8)
    _labelled(axes, "training FLOPs", "largest over smallest optimum")
    return figure


@figures.register
def _skills(study: SkillsStudy) -> list[Drawn]:
    caption = (
        "Optimal size over the reference’s, pooled over budgets, 90 % intervals: round marks "
        "the first half of the skills, squares the half kept back; colour: the method."
    )
    return [Drawn("ratios", _forest(study), caption)]


def _forest(study: SkillsStudy) -> Figure:
    rows = study.ratios[study.ratios["flops"].isna() & np.isfinite(study.ratios["log_ratio"])]
    labels = list(dict.fromkeys(zip(rows["name"], rows["reference"], strict=True)))
    figure, axes = one_panel(6.4, 1.4 + 0.42 * len(labels))
    for i, method in enumerate(("guarded", "parabola")):
        for j, half in enumerate(("hypothesis", "held-out")):
            own = rows[(rows["method"] == method) & (rows["half"] == half)]
            pairs = zip(own["name"], own["reference"], strict=True)
            at = [labels.index(pair) + 0.16 * (2 * i + j - 1.5) for pair in pairs]
            ratio, *ends = (np.exp(own[c]) for c in ("log_ratio", "low", "high"))
            if at:
                _bars(
                    axes,
                    ratio,
                    at,
                    (ends[0], ends[1]),
                    i,
                    fmt="os"[j],
                    label=f"{method}, {half}",
                    along="x",
                )
    axes.axvline(1, color="black", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(labels)), [f"{one} / {other}" for one, other in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    legend_above(axes, "", columns=2)
    _labelled(axes, "ratio of optimal sizes", "")
    return figure
