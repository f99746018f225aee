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
    light_to_dark,
    new_figure,
    plain,
    plain_numbers,
)
from fitting.values import Z90
from sweeper.analysis.studies.datamix import JOINT, PARABOLA, DatamixStudy
from sweeper.analysis.studies.skills import SkillsStudy
from sweeper.analysis.studies.validation import ValidationStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """One figure.

    Attributes:
        name: for file names.
        figure: matplotlib's.
        caption: how to read it.
    """

    name: str
    figure: Figure
    caption: str


@singledispatch
def figures(study: Any) -> list[Drawn]:
    """The figures of a study."""
    raise TypeError(f"no figures of a {type(study).__name__}")


@figures.register
def _datamix(study: DatamixStudy) -> list[Drawn]:
    budgets = sorted(study.optima["flops"].unique())
    drawn = []
    for flops in budgets:
        own = study.optima[study.optima["flops"] == flops]
        tail = f"-{flops:.3g}" if len(budgets) > 1 else ""
        drawn += [
            Drawn(
                f"optima-by-share{tail}",
                _optima_by_share(study, own, flops),
                f"Optimal size against the share of the skill’s own class at {flops:.3g} FLOPs "
                "(the paper’s Figure 3). Filled: the vertex of each mix’s parabola with its 90 % "
                "interval; curve and band: the joint fit, 90 %.",
            ),
            Drawn(
                f"loss-by-share{tail}",
                _loss_by_share(study, own, flops),
                f"Least loss against the same share at {flops:.3g} FLOPs, by the joint fit: "
                "points are mixes that were trained, with 90 % intervals.",
            ),
            Drawn(
                f"alignment{tail}",
                _alignment(study, own, flops),
                f"The same optima against the ratio of two classes at {flops:.3g} FLOPs (Figure "
                "5a). Curves: the joint fit, other classes held as in the reference mix; grey: "
                "the 90 % interval of where they meet.",
            ),
        ]
    return drawn


def _optima_by_share(study: DatamixStudy, own: pd.DataFrame, flops: float) -> Figure:
    figure = new_figure(6.0, 4.4)
    axes = figure.add_subplot()
    for i, (skill, fit) in enumerate(study.fits.items()):
        colour = COLOURS[i % len(COLOURS)]
        rows = own[(own["skill"] == skill) & (own["method"] == PARABOLA)]
        rows = rows[np.isfinite(rows["params"])]
        _bars(axes, rows, colour, MARKERS[i % len(MARKERS)])
        grid = np.linspace(fit.grid.share.min(), fit.grid.share.max(), 60)
        mean, spread = fit.line(flops, grid)
        half = Z90 * np.sqrt(np.diag(spread))
        slope = fit.slope(flops)
        label = f"{skill}: slope {slope.value:+.2f} ± {slope.interval[1] - slope.value:.2f}"
        axes.plot(100 * grid, np.exp(mean), color=colour, label=label)
        axes.fill_between(
            100 * grid, np.exp(mean - half), np.exp(mean + half), color=colour, alpha=0.15, lw=0
        )
    axes.set_yscale("log")
    plain_numbers(axes.yaxis)
    axes.set_xlabel("share of the skill’s own class in training (%)")
    axes.set_ylabel("compute-optimal params")
    legend_above(axes, "change of ln params per unit of share", columns=1)
    plain(axes)
    return figure


def _bars(axes: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
    """Vertices with their intervals, where they have one."""
    bars = np.stack([rows["params"] - rows["low"], rows["high"] - rows["params"]])
    axes.errorbar(
        100 * rows["share"], rows["params"], yerr=np.nan_to_num(bars), fmt=marker, color=colour,
        markersize=4.5, elinewidth=0.8, capsize=2,
    )  # fmt: skip


def _loss_by_share(study: DatamixStudy, own: pd.DataFrame, flops: float) -> Figure:
    """One panel a skill: their losses have little to do with each other."""
    figure = new_figure(3.2 * len(study.fits), 3.4)
    for i, (skill, fit) in enumerate(study.fits.items()):
        axes = figure.add_subplot(1, len(study.fits), i + 1)
        colour = COLOURS[i % len(COLOURS)]
        rows = own[(own["skill"] == skill) & (own["method"] == JOINT) & (own["status"] == "ok")]
        axes.errorbar(
            100 * rows["share"], rows["loss"], yerr=Z90 * rows["loss_error"],
            fmt=MARKERS[i % len(MARKERS)], color=colour, markersize=4.5, capsize=2,
        )  # fmt: skip
        grid = np.linspace(max(fit.grid.share.min(), 0.01), fit.grid.share.max(), 60)
        mean, _ = fit.level(flops, grid)
        axes.plot(100 * grid, mean, color=colour)
        axes.set_title(skill)
        axes.set_xlabel("share of its class (%)")
        axes.set_ylabel("least loss (nats)")
        plain(axes)
    return figure


def _alignment(study: DatamixStudy, own: pd.DataFrame, flops: float) -> Figure:
    figure = new_figure(6.0, 4.4)
    axes = figure.add_subplot()
    meets = study.alignments[study.alignments["flops"] == flops]
    if meets.empty:
        return figure
    over, under = meets.iloc[0]["over"], meets.iloc[0]["under"]
    shares = study.source.shares
    ratios = {m: mix[over] / mix[under] for m, mix in shares.items() if mix[under] > 0}
    base = next(iter(shares.values()))
    rest = 1 - base[over] - base[under]
    grid = np.geomspace(min(ratios.values()), max(ratios.values()), 60)
    i = 0
    for skill, fit in study.fits.items():
        follows = study.source.classes[skill]
        if follows not in (over, under):
            continue
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        rows = own[(own["skill"] == skill) & (own["method"] == PARABOLA)]
        rows = rows[np.isfinite(rows["params"]) & rows["mix"].isin(list(ratios))]
        axes.plot([ratios[m] for m in rows["mix"]], rows["params"], marker, color=colour)
        part = grid if follows == over else 1.0
        mean, _ = fit.line(flops, (1 - rest) * part / (1 + grid))
        axes.plot(grid, np.exp(mean), color=colour, label=skill)
        i += 1
    joint = meets[meets["method"] == JOINT].iloc[0]
    if math.isfinite(joint["ratio"]):
        low, high = np.clip([joint["low"], joint["high"]], grid[0], grid[-1])
        axes.axvspan(low, high, color="grey", alpha=0.18, linewidth=0, label="90 % interval")
        axes.axvline(joint["ratio"], color="black", linestyle="--",
                     label=f"equal at {joint['ratio']:.2g}")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_numbers(axes.xaxis)
    plain_numbers(axes.yaxis)
    axes.set_xlabel(f"{over} / {under} documents")
    axes.set_ylabel("compute-optimal params")
    axes.legend(fontsize=8)
    plain(axes)
    return figure


@figures.register
def _validation(study: ValidationStudy) -> list[Drawn]:
    first, second = study.sweep.iloc[0][["first", "second"]]
    return [
        Drawn(
            "optimum-by-weight",
            _optimum_by_weight(study),
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


def _optimum_by_weight(study: ValidationStudy) -> Figure:
    figure = new_figure(6.0, 4.4)
    axes = figure.add_subplot()
    rows = study.sweep[study.sweep["method"] == "guarded"]
    budgets = sorted(rows["flops"].unique())
    for i, (colour, flops) in enumerate(zip(light_to_dark(len(budgets)), budgets, strict=True)):
        own = rows[rows["flops"] == flops].sort_values("share")
        ratio = np.exp(own["log_ratio"]).to_numpy()
        marker = MARKERS[i % len(MARKERS)]
        axes.plot(own["share"], ratio, color=colour, marker=marker, markersize=4,
                  label=f"{flops:.3g}")  # fmt: skip
        top = own.iloc[-1]
        bars = [[ratio[-1] * (1 - top["low"] / top["params"])],
                [ratio[-1] * (top["high"] / top["params"] - 1)]]  # fmt: skip
        axes.errorbar([1.03 + 0.015 * i], [ratio[-1]], yerr=np.nan_to_num(bars), fmt="none",
                      color=colour, elinewidth=0.9, capsize=2)  # fmt: skip
    axes.set_xlabel(f"weight of {rows.iloc[0]['first']} against {rows.iloc[0]['second']}")
    axes.set_ylabel("optimal params, relative to weight 0")
    axes.legend(title="training FLOPs", fontsize=8, title_fontsize=8, frameon=False,
                loc="upper left", bbox_to_anchor=(1.01, 1.0))  # fmt: skip
    plain(axes)
    return figure


def _range(study: ValidationStudy) -> Figure:
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    for i, (method, rows) in enumerate(study.ranges.groupby("method", sort=False)):
        ratio = np.exp(rows["log_ratio"].to_numpy(float))
        bars = np.stack([ratio - np.exp(rows["low"]), np.exp(rows["high"]) - ratio])
        at = rows["flops"] * (1 + 0.06 * i)  # beside each other
        axes.errorbar(at, ratio, yerr=np.nan_to_num(bars, posinf=0.0), fmt=MARKERS[i],
                      color=COLOURS[i], markersize=4.5, capsize=2, label=str(method))  # fmt: skip
    axes.axhline(1, color="black", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("largest over smallest optimum")
    axes.legend(fontsize=8)
    plain(axes)
    return figure


@figures.register
def _skills(study: SkillsStudy) -> list[Drawn]:
    return [
        Drawn(
            "ratios",
            _forest(study),
            "Optimal size over the reference’s, pooled over budgets, 90 % intervals: round marks "
            "the hypothesis half, squares the held-out half; colour: the method.",
        )
    ]


def _forest(study: SkillsStudy) -> Figure:
    rows = study.ratios[study.ratios["flops"].isna() & np.isfinite(study.ratios["log_ratio"])]
    labels = list(dict.fromkeys(zip(rows["name"], rows["reference"], strict=True)))
    figure = new_figure(6.4, 1.4 + 0.42 * len(labels))
    axes = figure.add_subplot()
    for i, method in enumerate(("guarded", "parabola")):
        for j, half in enumerate(("hypothesis", "held-out")):
            own = rows[(rows["method"] == method) & (rows["half"] == half)]
            if own.empty:
                continue
            at = [
                labels.index(pair) + 0.16 * (2 * i + j - 1.5)
                for pair in zip(own["name"], own["reference"], strict=True)
            ]
            ratio = np.exp(own["log_ratio"])
            bars = np.stack([ratio - np.exp(own["low"]), np.exp(own["high"]) - ratio])
            axes.errorbar(ratio, at, xerr=np.nan_to_num(bars, posinf=0.0), fmt="os"[j],
                          color=COLOURS[i], markersize=4.5, capsize=2,
                          label=f"{method}, {half}")  # fmt: skip
    axes.axvline(1, color="black", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(labels)), [f"{one} / {other}" for one, other in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("ratio of optimal sizes")
    legend_above(axes, "", columns=2)
    plain(axes)
    return figure
