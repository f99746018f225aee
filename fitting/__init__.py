"""Optima and laws per skill from a table of losses; needs neither Ray nor torch.

Start with `fit_skills` for a table, `fit_isoflop` for one curve, `fit_surface` for a cloud of
(params, tokens, loss). Every fit returns a frozen value that carries its status.
"""

from __future__ import annotations

from fitting.compare.answers import Answer, Multipliers
from fitting.compare.multipliers import compare_runs, split_mixes
from fitting.compare.optima import Comparison, compare_optima, compare_skills
from fitting.datamix.composition import (
    CompositionRange,
    compose,
    composition_range,
    share_sweep,
)
from fitting.decisions.nll_law import NllLaw, fit_nll_law
from fitting.decisions.pass_law import PassLaw, fit_pass_law
from fitting.decisions.passk import PassCurves, pass_at_k, pass_at_k_from_counts, pass_curves
from fitting.decisions.regret import cost_of_choice, cost_of_overtraining
from fitting.decisions.serving import (
    Demand,
    Machine,
    Prices,
    ServingOptimum,
    quality_of,
    serving_optimum,
)
from fitting.decisions.testtime import SamplingOptimum, sampling_frontier
from fitting.errors import FitError, FittingError, Status, TableError
from fitting.fits import Fits, SkillFit, fit_skills
from fitting.isoflop import fit_isoflop
from fitting.laws.bootstrap import bootstrap_surface
from fitting.laws.powerlaw import PowerLaw, fit_power_law
from fitting.laws.surface import Surface, fit_surface
from fitting.mixture.fit import Guarded, fit_guarded
from fitting.reading.observations import Observations, prepare, read_table
from fitting.reading.runs import Runs, read_runs
from fitting.tuning.optima import fit_points, flat_factor, tuned_points
from fitting.tuning.published import HyperparameterLaw
from fitting.values import Optimum, Prediction

__all__ = [
    "Answer",
    "Comparison",
    "CompositionRange",
    "Demand",
    "FitError",
    "Fits",
    "FittingError",
    "Guarded",
    "HyperparameterLaw",
    "Machine",
    "Multipliers",
    "NllLaw",
    "Observations",
    "Optimum",
    "PassCurves",
    "PassLaw",
    "PowerLaw",
    "Prediction",
    "Prices",
    "Runs",
    "SamplingOptimum",
    "ServingOptimum",
    "SkillFit",
    "Status",
    "Surface",
    "TableError",
    "bootstrap_surface",
    "compare_optima",
    "compare_runs",
    "compare_skills",
    "compose",
    "composition_range",
    "cost_of_choice",
    "cost_of_overtraining",
    "fit_guarded",
    "fit_isoflop",
    "fit_nll_law",
    "fit_pass_law",
    "fit_points",
    "fit_power_law",
    "fit_skills",
    "fit_surface",
    "flat_factor",
    "pass_at_k",
    "pass_at_k_from_counts",
    "pass_curves",
    "prepare",
    "quality_of",
    "read_runs",
    "read_table",
    "sampling_frontier",
    "serving_optimum",
    "share_sweep",
    "split_mixes",
    "tuned_points",
]
