"""Variants of a training in a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeper import Sweep
from sweeper.errors import SpecError
from sweeper.plan.warnings import cautions

BUDGETS = [1e12, 3e12, 1e13]


def sweep(variants: dict[str, Any], **more: Any) -> Sweep:
    return Sweep(budgets=BUDGETS, allowance=1e15, variants=variants, **more)


def test_each_variant_trains_its_own_model_and_data() -> None:
    spec = sweep(
        {"base": {}, "hybrid": {"model": {"family": "zamba2"}},
         "code": {"data": {"multipliers": {"code": 4}}}, "again": {}}
    )  # fmt: skip
    assert list(spec.spaces) == ["base", "hybrid", "code", "again"]
    trials = {n: spec.trial(s.allocation(1e12, 2e4)) for n, s in spec.spaces.items()}
    assert trials["hybrid"].shape.family == "zamba2"
    assert trials["code"].data.mix["code"] > trials["base"].data.mix["code"]
    assert {t.data.evaluation_documents for t in trials.values()} == {spec.documents}
    ids = {spec.trial_id(s.allocation(1e12, 2e4)) for s in spec.spaces.values()}
    assert len(ids) == 4  # also of a variant that changes nothing
    own = spec.spaces["hybrid"].allocation(1e12, 2e4)
    assert spec.of(own).placement.rule(own.params).cpus > 0
    assert set(spec.mix_shares) == set(spec.spaces)


def test_a_spec_with_variants_is_kept_and_read(tmp_path: Path) -> None:
    spec = sweep({"base": {}, "warm": {"train": {"learning_rate": 0.01}}})
    spec.save(tmp_path / "sweep.yaml")
    again = Sweep.load(tmp_path / "sweep.yaml")
    allocation = spec.spaces["warm"].allocation(1e12, 2e4)
    assert again.trial_id(allocation) == spec.trial_id(allocation)
    assert again.trial(allocation).train.learning_rate == 0.01


@pytest.mark.parametrize(
    ("variants", "more", "message"),
    [
        ({"base": {}}, {}, "name the reference first"),
        ({"a": {}, "b": {"modle": {}}}, {}, "variants.b.modle: unknown key .did you mean 'model'"),
        ({"a": {}, "b": {"model": {"family": "zamb"}}}, {}, "variants.b: model.family: 'zamb'"),
        ({"a": {}, "b": {"train": {"rat": 1}}}, {}, "variants.b: train.rat: unknown key"),
        ({"a": {}, "b": {}}, {"mixes": {"base": {}, "c": {"code": 2}}}, "mixes or variants"),
        ({"a": {}, "b": {}}, {"search": {"policy": "optuna"}}, "optuna knows no variants"),
        ({"a": {}, "b": {}}, {"search": {"goal": "optima"}}, "search.goal: optima"),
        ({"a": {}, "b": {}}, {"search": {"margin": 0.9}}, "search.margin=0.9"),
    ],
)
def test_mistakes_are_named(variants: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        sweep(variants, **more)


def test_a_rate_measured_on_the_reference_is_warned_of() -> None:
    ranges = {"params_range": [1e4, 1e5], "tokens_range": [1e6, 1e8]}
    law = {"learning_rate": {"coefficient": 0.1, "params_exponent": -0.2, **ranges}}
    shared = {"base": {}, "hybrid": {"model": {"family": "zamba2"}}}
    said = " ".join(cautions(sweep(shared, train={"law": law})))
    assert "hybrid train at the rate measured for the reference" in said
    assert "flops: exact counts them" in said
    faster = {"learning_rate": {**law["learning_rate"], "coefficient": 0.2}}
    own = {"base": {}, "hybrid": {**shared["hybrid"], "train": {"law": faster}}}
    assert "measured for the reference" not in " ".join(cautions(sweep(own, train={"law": law})))
    assert "measured for the reference" not in " ".join(cautions(sweep(shared)))


def test_a_plan_counts_the_grids_of_all_variants() -> None:
    one = Sweep(budgets=BUDGETS, allowance=1e15).plan().policies
    two = sweep({"a": {}, "b": {}}).plan().policies
    trials = [int(p.set_index("policy").loc["grid", "trials"]) for p in (one, two)]
    assert trials[1] == 2 * trials[0]
