"""Gadre et al.'s form (arXiv 2403.08540) on Llama 3's and Chinchilla's points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fitting import fit_surface
from fitting.laws.overtraining import fit_overtraining


def test_llama3_exponents_are_alike(shared_data: Path) -> None:
    """Its free surface has alpha .310 and beta .314: one exponent must do as well."""
    points = pd.read_csv(shared_data / "llama3-isoflop/isoflops_points.csv")
    tokens = points["training_tokens"]
    params = points["compute_budget"] / (6 * tokens)
    law = fit_overtraining(params, tokens, points["validation_loss"])
    assert law.E == pytest.approx(0.6047, rel=0.01)
    assert 2 * law.eta == pytest.approx(0.312, abs=0.004)
    free = fit_surface(params, tokens, points["validation_loss"], loss_function="least-squares")
    residual = free.loss(params, tokens) - points["validation_loss"]
    assert law.rmse < 1.02 * np.sqrt((residual**2).mean())


def test_llama3_overtrained_points_are_forecast(shared_data: Path) -> None:
    """From runs of at most 60 tokens per parameter to 17 of up to 640; a little optimistic."""
    points = pd.read_csv(shared_data / "llama3-isoflop/isoflops_points.csv")
    tokens, loss = points["training_tokens"], points["validation_loss"]
    params = points["compute_budget"] / (6 * tokens)
    usual = tokens / params <= 60
    law = fit_overtraining(params[usual], tokens[usual], loss[usual])
    off = law.loss(params[~usual], tokens[~usual]) / loss[~usual] - 1
    assert len(off) == 17 and (tokens / params).max() > 600
    assert np.abs(off).max() < 0.03 and np.abs(off).mean() < 0.012


def test_chinchilla_points(shared_data: Path) -> None:
    """Besiroglu et al. find .348 and .366 for the two exponents: one of .36 lies between."""
    points = pd.read_csv(shared_data / "chinchilla-epoch/svg_extracted_data.csv")
    points = points.nsmallest(240, "loss")
    params = points["Model Size"]
    law = fit_overtraining(params, points["Training FLOP"] / (6 * params), points["loss"])
    assert law.E == pytest.approx(1.82, abs=0.1)
    assert 2 * law.eta == pytest.approx(0.357, abs=0.045)
    assert 15 < law.best_ratio < 35
