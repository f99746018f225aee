"""The paper's figures of any fits or tables, as matplotlib Figures. Floor 8 of fitting."""

from fitting.plots.figures import (
    COLOURS,
    figure_alignment,
    figure_isoflops,
    figure_laws,
    figure_mix_curves,
    figure_ratios,
    figure_residuals,
    figure_shares,
)
from fitting.plots.multipliers import figure_multipliers

__all__ = [
    "COLOURS", "figure_alignment", "figure_isoflops", "figure_laws", "figure_mix_curves",
    "figure_multipliers", "figure_ratios", "figure_residuals", "figure_shares",
]  # fmt: skip
