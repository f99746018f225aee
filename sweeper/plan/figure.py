"""A plan as a picture: what is trained, where a search would go, and how sure it would be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from fitting.plots.drawing import (
    COLOURS,
    few,
    finish_params_axis,
    legend_beside,
    light_to_dark,
    literal,
    new_figure,
    plain,
    plain_numbers,
)
from sweeper.errors import SpecError
from sweeper.text import number

ENDINGS = (".svg", ".png", ".pdf")


def draw(
    table: pd.DataFrame, simulated: pd.DataFrame | None, expected: pd.DataFrame | None, path: Path
) -> Path:
    """Draw a plan with a simulated sweep: its three tables; see `Plan.figure`."""
    if path.suffix not in ENDINGS:
        raise SpecError(f"{path}: a figure is written as {', '.join(ENDINGS)}: choose one")
    if simulated is None or expected is None:
        raise SpecError("figure: plan with simulate=True (--simulate) for the trials to draw")
    figure = new_figure(10.0, 4.0)
    left, right = figure.subplots(1, 2)
    _trials(left, table, simulated)
    _intervals(right, expected)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _trials(axes: Any, rows: pd.DataFrame, simulated: pd.DataFrame) -> None:
    """Tokens against params: a line and its sizes per budget, a simulated sweep's trials on it."""
    colours = light_to_dark(len(rows))
    for colour, row in zip(colours, rows.itertuples(), strict=True):
        ends = [row.params_low, row.params_high]
        per_size = row.params * row.tokens
        axes.plot(ends, [per_size / p for p in ends], color=colour, linewidth=0.8)
        own = simulated[simulated["flops"] == row.flops]
        counts = own.groupby(["params", "tokens"]).size().reset_index(name="n")
        axes.scatter(
            counts["params"], counts["tokens"], s=22 * counts["n"] ** 0.5, color=colour, alpha=0.8,
            edgecolor="white", linewidth=0.4, label=f"{number(row.flops)}: {len(own)}",
        )  # fmt: skip
    axes.plot(rows["params"], rows["tokens"], "k+", markersize=8, label="guessed optimum")
    axes.set_yscale("log")
    finish_params_axis(axes, f"{len(simulated)} trials of a simulated sweep")
    axes.set_ylabel("tokens")
    plain_numbers(axes.yaxis)
    legend_beside(axes, "FLOPs: trials")


def _intervals(axes: Any, expected: pd.DataFrame) -> None:
    """Half-width of each skill's 90 % interval of p*, in per cent, by budget."""
    for i, skill in enumerate(expected["by_skill"].iloc[0]):
        widths = [100 * (math.exp(by[skill]) - 1) for by in expected["by_skill"]]
        axes.plot(
            expected["flops"], widths, "o-", color=COLOURS[i % len(COLOURS)], markersize=4,
            linewidth=1, label=literal(skill),
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = few(list(expected["flops"]))
    axes.set_xticks(ticks, [number(c) for c in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("budget, FLOPs")
    axes.set_ylabel("best size known to within ± %")
    axes.set_title("Expected 90 % intervals")
    plain(axes)
    axes.legend(fontsize=7)
