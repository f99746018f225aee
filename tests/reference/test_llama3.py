"""Llama 3's 133 points: parabolas give its printed law and its 16 T tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fitting import Optimum, Status, fit_isoflop, fit_power_law, fit_surface, prepare
from fitting.reference import LLAMA3_PARAMS, LLAMA3_TOKENS

FILE = Path(__file__).parents[2].parent / "shared/data/llama3-isoflop/isoflops_points.csv"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="measured data not at hand")
FLAGSHIP = 3.8e25  # FLOPs of the 405B model


@pytest.fixture(scope="module")
def optima() -> list[Optimum]:
    frame = prepare(FILE).frame
    return [
        fit_isoflop(rows["params"], rows["loss"], flops=float(budget))
        for budget, rows in frame.groupby("budget")
    ]


def test_tokens_law_by_parabolas(optima: list[Optimum]) -> None:
    law = fit_power_law([o.flops for o in optima], [o.tokens for o in optima])
    assert law.exponent == pytest.approx(0.537, abs=0.001)
    assert law.coefficient == pytest.approx(0.299, abs=0.001)
    assert float(law(FLAGSHIP)) == pytest.approx(16.1e12, rel=0.005)
    assert law.exponent == pytest.approx(LLAMA3_TOKENS.exponent, abs=1e-9)
    assert law.coefficient == pytest.approx(LLAMA3_TOKENS.coefficient, rel=1e-7)
    np.testing.assert_allclose(law.covariance, LLAMA3_TOKENS.covariance, rtol=1e-6)


def test_the_one_vertex_in_an_outermost_interval_is_flagged(optima: list[Optimum]) -> None:
    assert [o.flops for o in optima if o.status is Status.EDGE] == [3e21]
    assert sum(o.ok for o in optima) == 9


def test_params_law_is_the_aggregate() -> None:
    assert float(LLAMA3_PARAMS(FLAGSHIP)) == pytest.approx(393e9, rel=0.005)
    assert 402e9 * 0.95 < float(LLAMA3_PARAMS(4.0e25)) < 402e9 * 1.05


def test_methods_disagree_at_the_flagship() -> None:
    frame = prepare(FILE).frame
    least, huber = (
        fit_surface(frame["params"], frame["tokens"], frame["loss"], loss_function=kind)
        for kind in ("least-squares", "log-huber")
    )
    # Published variable projection on these points: E .6047, A 59.1, B 155.1, .3100, .3136.
    assert (least.E, least.A, least.B) == pytest.approx((0.6047, 59.1, 155.1), rel=1e-3)
    assert (least.alpha, least.beta) == pytest.approx((0.3100, 0.3136), rel=1e-3)
    for surface in (least, huber):
        assert 550e9 < surface.optimum(FLAGSHIP).params < 900e9
