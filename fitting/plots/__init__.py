"""The paper's figures of any fits or tables, as matplotlib Figures. Floor 8 of fitting."""

from fitting.plots.figures import (
    COLOURS,
    figure_isoflops,
    figure_laws,
    figure_ratios,
)
from fitting.plots.multipliers import figure_multipliers

__all__ = [
    "COLOURS", "figure_isoflops", "figure_laws", "figure_multipliers", "figure_ratios",
]  # fmt: skip
