"""Small trials share a GPU, large ones take several, and what cannot fit is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper import Cluster, Resources, SpecError, Sweep
from sweeper.spec.devices import DEVICES, local
from sweeper.spec.placement import fitted, need, place
from trainables.families import Model, Shape
from trainables.shapes import solve
from trainables.training import Train

MODEL = Model(vocabulary=32_000, context=2048, kv_groups=4)
TRAIN = Train(batch_tokens=2**18)
SIZES = (3e6, 2e7, 8e7, 4e8, 1e9, 3e9, 7e9, 3e10)


def large(**changes: Any) -> Sweep:
    """A sweep whose sizes go from megabytes to terabytes of state."""
    settings: dict[str, Any] = {
        "budgets": [1e18, 1e20, 1e22], "allowance": 1e24, "model": MODEL,
        "train": Train(batch_tokens=2**18, learning_rate=3e-4),
        "sizes": {"low": 3e6, "high": 7.1e10}, "cluster": {"device": "h100"},
    }  # fmt: skip
    return Sweep.from_dict(settings | changes)


@pytest.fixture(scope="module")
def shapes() -> dict[int, Shape]:
    built = [solve(size, MODEL) for size in SIZES]
    return {shape.params_with_head: shape for shape in built}


@pytest.mark.parametrize("device", [name for name in DEVICES if DEVICES[name].is_gpu])
def test_larger_models_hold_more_and_every_model_fits(
    device: str, shapes: dict[int, Shape]
) -> None:
    gpu = DEVICES[device]
    rules = place(shapes, TRAIN, gpu).rules
    held = [rule.devices for rule in rules]
    assert held == sorted(set(held))
    assert held[0] < 1 < held[-1]
    for params, shape in shapes.items():
        rule = [r for r in rules if r.from_params <= params][-1]
        assert need(shape, TRAIN, gpu, rule).total <= gpu.memory_bytes * min(1, rule.gpus)


def test_a_larger_device_needs_no_more_of_them(shapes: dict[int, Shape]) -> None:
    rules = [place(shapes, TRAIN, DEVICES[name]).rules for name in ("l4", "a100", "b200")]
    most = [found[-1].devices for found in rules]
    assert most == sorted(most, reverse=True)


def test_without_a_gpu_a_trial_holds_a_core(shapes: dict[int, Shape]) -> None:
    assert place(shapes, TRAIN, DEVICES["cpu-core"]).rules == (Resources(),)


def test_training_is_made_leaner_only_where_it_must(shapes: dict[int, Shape]) -> None:
    gpu, (small, *_, large) = DEVICES["h100"], shapes.values()
    one, many = Resources(gpus=1.0), Resources(workers=64, gpus=1.0)
    assert fitted(TRAIN, small, gpu, one) == TRAIN
    assert fitted(TRAIN, small, gpu, many) == TRAIN
    lean = fitted(TRAIN, large, gpu, many)
    assert (lean.parallel, lean.recompute) == ("fsdp", True)
    shared = fitted(TRAIN, small, gpu, Resources(gpus=0.125))
    assert 0 < shared.micro_batch * MODEL.context <= 2**16
    assert fitted(TRAIN, large, DEVICES["cpu-core"], Resources()) == TRAIN


def test_a_spec_without_rules_makes_its_own_and_a_trial_follows_them() -> None:
    sweep = large()
    rules = sweep.placement.rules
    assert rules[0].gpus < 1
    assert rules[-1].workers > 8
    assert Sweep.from_dict(sweep.to_dict()) == sweep
    trial = sweep.trial(sweep.space.allocation(1e22, 7e10))
    assert trial.train.parallel == "fsdp"
    small = sweep.trial(sweep.space.allocation(1e18, 3e6))
    assert small.train.micro_batch > 0


def test_what_trials_hold_does_not_change_what_they_are() -> None:
    one, other = large(), large(cluster={"device": "b200"})
    assert one.placement.rules != other.placement.rules
    assert one.identity == other.identity
    allocation = one.space.allocation(1e22, 7e10)
    assert one.trial(allocation).identity() == other.trial(allocation).identity()


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"device": "h10"}, "did you mean 'h100'"),
        (
            {"device": "h100", "gpus": 8},
            r"about [\d.]+ GB on each of 8 GPU.*lower sizes.high",
        ),
        ({"device": "h100", "resources": [{"gpus": 1}]}, r"from_params=0 .* more gpus or workers"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_remedy(cluster: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        large(cluster=cluster)


def test_rules_of_the_spec_win() -> None:
    rules = (Resources(gpus=1.0), Resources(from_params=1e9, workers=64, gpus=1.0))
    cluster = Cluster(device="h200", resources=rules)
    assert replace(large(), cluster=cluster).placement.rules == rules


def test_a_plan_says_what_trials_hold() -> None:
    plan = large().plan()
    shown = str(plan)
    assert "8 share a GPU" in shown
    assert "GPUs each, sharded" in shown
    assert "GPUs " in shown
    assert '"placement"' in plan.to_json()
    assert (plan.table["memory_bytes"] <= DEVICES["h100"].memory_bytes).all()


def test_a_plan_warns_where_a_budget_would_count_half_of_the_work() -> None:
    zamba = {"family": "zamba2", "vocabulary": 32_000, "context": 4096}
    sizes = {"low": 1e9, "high": 7e9}
    plain, exact = (
        large(model=zamba, sizes=sizes, flops=flops).plan() for flops in ("6p", "exact")
    )
    assert any("flops: exact makes" in warning for warning in plain.warnings)
    assert not any("flops: exact makes" in warning for warning in exact.warnings)


def test_planning_tens_of_billions_builds_no_model() -> None:
    code = (
        "import sys\nfrom sweeper import Sweep\n"
        "spec = dict(budgets=[1e20, 1e22, 1e24], allowance=1e26, "
        "sizes=dict(low=1e8, high=8.3e10), cluster=dict(device='h100'), "
        "model=dict(vocabulary=128256, context=8192, tied=False, kv_groups=8), "
        "train=dict(batch_tokens=4194304, learning_rate=3e-4))\n"
        "plan = Sweep.from_dict(spec).plan()\n"
        "assert plan.table['params_high'].max() > 7e10\n"
        "sys.exit(bool({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_this_machines_gpu_is_read_from_its_driver(tmp_path: Path) -> None:
    assert local(tmp_path) == "cpu-core"
    for model, name in (
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA L4", "l4"),
    ):
        card = tmp_path / "0000:00:00.0"
        card.mkdir(exist_ok=True)
        (card / "information").write_text(f"Model: \t\t {model}\nIRQ: 12\n")
        assert local(tmp_path) == name


def test_what_trials_hold_is_made_for_the_device_and_not_kept(tmp_path: Path) -> None:
    """A spec resolved on a CPU takes GPUs when it is given some."""
    Sweep.from_dict(
        {"budgets": [1e18], "allowance": 1e20, "cluster": {"device": "cpu-core"}}
    ).save(tmp_path / "sweep.yaml")
    moved = Sweep.load(tmp_path / "sweep.yaml", {"cluster.device": "h100"})
    assert moved.placement.rules[0].gpus > 0
    assert moved.cluster.resources == () == large().cluster.resources
    back = replace(moved, cluster=replace(moved.cluster, device="cpu-core"))
    assert back.placement.rules == (Resources(),)


def test_the_rules_of_a_cpu_in_an_old_spec_do_not_hold_on_gpus() -> None:
    old = {"device": "h100", "resources": [{"from_params": 0, "workers": 0, "cpus": 1, "gpus": 0}]}
    assert large(cluster=old).placement.rules == large().placement.rules


def test_a_run_of_another_size_holds_what_it_needs() -> None:
    """A recommended run is placed by its own memory, not by the rules of the sweep's sizes."""
    from sweeper.analysis.big_run import _placement

    small = large(sizes={"low": 3e6, "high": 1e8}, budgets=[1e18])
    big = large().trial(large().space.allocation(1e22, 7e10))
    assert small.placement.rule(big.params).devices <= 1
    assert _placement(small, big).rule(big.params).devices > 8
