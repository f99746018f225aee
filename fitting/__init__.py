"""Optima and laws per skill from a table of losses; needs neither Ray nor torch.

Start with `fit_skills` for a table, `fit_isoflop` for one curve, `fit_surface` for a cloud of
(params, tokens, loss). Every fit returns a frozen value that carries its status.
"""

from __future__ import annotations

from fitting.compare import (
    Comparison,
    compare_optima,
    compare_skills,
    mean_of_optima,
    optimum_of_mean_loss,
)
from fitting.composition import CompositionRange, composition_range, optimum_under, share_sweep
from fitting.errors import FitError, FittingError, Status, TableError
from fitting.fits import Fits, SkillFit, fit_skills
from fitting.isoflop import fit_isoflop
from fitting.observations import Observations, prepare, read_table
from fitting.optima import Guarded, fit_guarded
from fitting.powerlaw import PowerLaw, fit_power_law
from fitting.surface import Surface, fit_surface
from fitting.uncertainty import bootstrap_surface
from fitting.values import Optimum, Prediction

__all__ = [
    "Comparison",
    "CompositionRange",
    "FitError",
    "Fits",
    "FittingError",
    "Guarded",
    "Observations",
    "Optimum",
    "PowerLaw",
    "Prediction",
    "SkillFit",
    "Status",
    "Surface",
    "TableError",
    "bootstrap_surface",
    "compare_optima",
    "compare_skills",
    "composition_range",
    "fit_guarded",
    "fit_isoflop",
    "fit_power_law",
    "fit_skills",
    "fit_surface",
    "mean_of_optima",
    "optimum_of_mean_loss",
    "optimum_under",
    "prepare",
    "read_table",
    "share_sweep",
]
