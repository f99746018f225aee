"""Any parameter count becomes a shape; counts and FLOPs are those of the real model."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Literal, get_args

import pytest

from trainables.families import FAMILIES, Count, Model, Shape
from trainables.shapes import sizes, solve

LARGE = Model(vocabulary=32_000, context=2048, tied=False, kv_groups=4)


def test_sizes_are_realised_within_one_per_cent() -> None:
    generator = random.Random(0)
    for _ in range(500):
        count = generator.choice(get_args(Count))
        params = math.exp(generator.uniform(math.log(1e6), math.log(1e11)))
        assert getattr(solve(params, Model(), count=count), count) == pytest.approx(
            params, rel=0.01
        )
        # Below this a vocabulary of 32 000 is most of the model, and width moves in steps.
        params = math.exp(generator.uniform(math.log(1e7), math.log(1e11)))
        assert getattr(solve(params, LARGE, count=count), count) == pytest.approx(params, rel=0.01)


def test_the_flops_of_any_family_and_budget_are_realised_within_one_per_cent() -> None:
    generator = random.Random(1)
    for _ in range(500):
        family = generator.choice(list(FAMILIES))
        large = generator.random() < 0.5
        lowest = (1e7 if large else 1e5) if FAMILIES[family].experts else (1e7 if large else 1e4)
        params = math.exp(generator.uniform(math.log(lowest), math.log(1e11)))
        model = replace(LARGE, family=family, tied=None) if large else Model(family=family)
        shape = solve(params, model)
        assert shape.params_with_head == pytest.approx(params, rel=0.01)
        convention: Literal["6p", "exact"] = "exact" if generator.random() < 0.5 else "6p"
        budget = params**2 * generator.uniform(20, 500)
        cost = shape.flops_per_token(convention)
        tokens = int(budget / cost / shape.context) * shape.context
        assert tokens * cost == pytest.approx(budget, rel=0.01)


def test_tiny_sizes_are_realised_within_one_per_cent() -> None:
    for params in range(6_000, 300_000, 1_777):
        assert solve(params, Model()).params_total == pytest.approx(params, rel=0.01)


VOCABULARIES = (256, 32_000, 50_304, 128_256)

EMBEDDING = 0.75
"""Share of a model from which its embedding leaves gaps between regular widths."""


def _neighbours(ladder: list[Shape], of: Callable[[Shape], float]) -> float:
    """Greatest ratio of a property between neighbours."""
    return max(max(of(a) / of(b), of(b) / of(a)) for a, b in pairwise(ladder))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_ladder_is_regular(family: str, vocabulary: int) -> None:
    """From 20 M to 70 B: sizes met, widths and heads of tensor cores, no jumps in proportions."""
    ladder = sizes(2e7, 7e10, Model(family, vocabulary, context=2048, kv_groups=4))
    rungs = [10 ** (k / 12) for k in range(88, 131)]  # 21.5 M to 68 B
    dense = FAMILIES[family].depth_slack == 1
    free = [s for s in ladder if s.vocabulary * s.width < EMBEDDING * s.params_with_head]
    assert len(ladder) == len(rungs)
    for shape, rung in zip(ladder, rungs, strict=True):
        near = 0.005 if shape in free else 0.02
        assert abs(math.log(shape.params_with_head / rung)) < near
    for shape in free:
        assert shape.width % (128 if shape.params_with_head > 1.01e9 else 64) == 0
        assert shape.heads * shape.head_dim == FAMILIES[family].head_share * shape.width
        assert shape.head_dim == min(64, shape.width // 2) or not FAMILIES[family].attends
        if dense:
            assert shape.layers == round(shape.width / 64)
        if shape.params_with_head > 1.3e8 and not shape.experts:
            assert shape.ffn_width % 32 == 0 or not FAMILIES[family].ffn_ratio
    usual = FAMILIES[family].ffn_ratio
    assert all(1 / 2.4 < s.ffn_width / s.width / usual < 2.4 for s in free if usual)
    # Heads of the smallest sizes of the largest vocabulary grow with the width.
    assert _neighbours(free, lambda s: s.head_dim) < 1.15 or not FAMILIES[family].attends
    assert not dense or _neighbours(free, lambda s: s.width / s.layers) < 1.15


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox"])
def test_small_ladders_are_smooth(family: str) -> None:
    """Below 5 M: two heads, whose width and the depth grow with the model."""
    ladder = sizes(1e5 if family == "gpt_neox" else 2e4, 5e6, Model(family))
    assert _neighbours(ladder, lambda s: s.params_with_head) < 1.24
    assert all(s.heads == 2 for s in ladder if s.width < 128)
    assert all(0.8 <= s.heads * s.head_dim / s.width <= 1.21 for s in ladder)
    for before, after in pairwise(ladder):
        assert before.width <= after.width
        assert before.head_dim <= 1.15 * after.head_dim
        assert after.layers - before.layers in (0, 1)


def test_rungs_are_the_same_whatever_the_bounds() -> None:
    wide, narrow = sizes(1e4, 1e7, Model()), sizes(5e4, 2e5, Model())
    assert set(narrow) < set(wide)
    assert len(sizes(1e4, 1e6, Model(), per_decade=30)) == 61
    assert len(sizes(2.2e4, 2.3e4, Model())) == 1


def test_groups_of_query_heads_are_kept() -> None:
    """Heads that the groups do not divide take the nearest number that does."""
    for shape in sizes(2e7, 7e10, LARGE):
        assert shape.kv_heads < shape.heads
        assert shape.heads % shape.kv_heads == 0
        assert 0.3 < 4 * shape.kv_heads / shape.heads <= 2


def test_ladders_of_large_models_have_wide_heads() -> None:
    assert {shape.head_dim for shape in sizes(2e9, 7e10, LARGE)} == {128}
    assert solve(7e9, LARGE).head_dim == 128
    assert {s.head_dim for s in sizes(1e6, 1e7, replace(LARGE, vocabulary=256, head_dim=32))} == {
        32
    }


def test_depth_follows_the_aspect_unless_it_is_fixed() -> None:
    assert abs(solve(1e9, LARGE).width / solve(1e9, LARGE).layers - 64) < 6
    assert solve(1e9, Model(layers=12)).layers == 12


def test_a_size_that_cannot_be_built_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"lower model.vocabulary"):
        solve(10_000, LARGE)
    with pytest.raises(ValueError, match="no range"):
        sizes(2e4, 1e4, Model())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"heads": 3}, "multiple"), ({"head_dim": 7}, "even"), ({"layers": 0}, "shape.layers")],
)
def test_impossible_shapes_are_refused(change: dict[str, int], message: str) -> None:
    fields = {**asdict(solve(1e5, Model())), "kv_heads": 2, **change}
    with pytest.raises(ValueError, match=message):
        Shape(**fields)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: solve(-5, m), "params=-5: give a positive finite number"),
        (lambda m: solve(math.nan, m), "params=nan: give a positive"),
        (lambda m: solve(1e6, m, head_dim=-3), "head_dim=-3: give 2 or more"),
        (lambda m: solve(1e6, m, count="params"), "count='params': choose one of params_with_h"),
        (lambda m: sizes(1e5, 1e6, m, per_decade=0), "per_decade=0: give 1 or more"),
    ],
)
def test_what_is_no_size_is_refused_by_name(ask: Callable[[Model], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(Model(vocabulary=256, context=64))


def test_planning_loads_neither_torch_nor_transformers() -> None:
    check = (
        "import sys, trainables.config, trainables.families.memory, trainables.simulated; "
        "from trainables.skills.catalog import catalog; catalog(); "
        "sys.exit(bool({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
