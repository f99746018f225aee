"""Any parameter count becomes a shape; counts and FLOPs are those of the real model."""

from __future__ import annotations

import math
import random
import subprocess
import sys
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


def test_the_ladder_is_dense_ascending_and_keeps_the_usual_proportions() -> None:
    ladder = sizes(7e3, 3e8, Model())
    params = [shape.params_with_head for shape in ladder]
    assert params == sorted(set(params))
    assert max(after / before for before, after in pairwise(params)) < 1.06
    assert params[0] == pytest.approx(7e3, rel=0.01)
    assert params[-1] == pytest.approx(3e8, rel=0.01)
    assert all(4 / 3 < shape.ffn_width / shape.width < 16 / 3 for shape in ladder)
    assert all(shape.width % (2 * shape.heads) == 0 for shape in ladder)


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


def test_planning_loads_neither_torch_nor_transformers() -> None:
    check = (
        "import sys, trainables.config, trainables.families.memory, trainables.simulated; "
        "from trainables.skills.catalog import catalog; catalog(); "
        "sys.exit(bool({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
