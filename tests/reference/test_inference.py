"""Sardana and Frankle (arXiv 2401.00448): the two examples they print."""

from __future__ import annotations

import pytest

from fitting.decisions.serving import quality_of, serving_optimum
from fitting.laws.surface import Surface

# The constants they use: those of Hoffmann et al. 2022 with alpha .336 and beta .283.
CHINCHILLA = Surface(E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)


def test_quality_of_30b_for_ten_trillion_tokens() -> None:
    plan = serving_optimum(CHINCHILLA, 1e13, loss=quality_of(CHINCHILLA, 30e9))
    assert plan.compute_optimal_params == pytest.approx(30e9)
    assert plan.params == pytest.approx(13.6e9, rel=0.03)
    assert plan.tokens / plan.compute_optimal_tokens == pytest.approx(2.84, rel=0.03)
    assert plan.saving == pytest.approx(0.28, rel=0.03)


def test_quality_of_7b_for_a_hundred_billion_tokens() -> None:
    plan = serving_optimum(CHINCHILLA, 1e11, loss=quality_of(CHINCHILLA, 7e9))
    assert plan.params == pytest.approx(6e9, rel=0.03)
    assert plan.tokens / plan.compute_optimal_tokens == pytest.approx(1.18, rel=0.03)


def test_quality_of_13b_for_two_trillion_tokens() -> None:
    plan = serving_optimum(CHINCHILLA, 2e12, loss=quality_of(CHINCHILLA, 13e9))
    assert plan.params == pytest.approx(7e9, rel=0.03)
    assert plan.compute_optimal_cost - plan.cost == pytest.approx(1.7e22, rel=0.03)
    assert plan.saving == pytest.approx(0.17, rel=0.03)
