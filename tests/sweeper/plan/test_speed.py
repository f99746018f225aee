"""Hours of plans: worked out, stated, or measured by a pilot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sweeper import Cluster, Resources, Sizes, Sweep
from sweeper.errors import SpecError
from sweeper.plan.estimate import side_by_side
from sweeper.plan.speed import held, speed_of
from trainables.families import Model
from trainables.training import Train

LARGE = Sweep(
    budgets=[1e19, 1e20, 1e21],
    allowance=2e22,
    model=Model(vocabulary=50_304, context=2048, kv_groups=4),
    train=Train(rule="steplaw"),
    cluster=Cluster(device="h100", gpus=256, price_per_hour=2.0),
)


def _wall_s(spec: Sweep, speed, flops: float, params: int) -> float:
    shape = spec.shapes[params]
    return speed.wall_s(flops, params, spec.placement, (shape, int(flops / 6 / params)))


def test_a_stated_utilisation_is_kept_to_but_launches_take_their_time():
    stated = replace(LARGE.cluster, mfu=0.2)
    params = LARGE.space.params[15]
    whole = _wall_s(LARGE, speed_of(stated), 1e20, params)
    assert whole == pytest.approx(1e20 / 989e12 / 0.2, rel=0.01)
    toy = Sweep(budgets=[1e11, 2e11, 4e11], allowance=6e12, cluster=Cluster(device="h100"))
    small = _wall_s(toy, speed_of(replace(toy.cluster, mfu=0.4)), 1e11, toy.space.params[3])
    assert small > 1000 * 1e11 / 989e12 / 0.4


def test_a_pilot_corrects_what_was_worked_out_by_size():
    params = np.array([1e8, 2e8, 4e8, 8e8])
    trials = pd.DataFrame({"state": "finished", "params": params, "worked_out_s": 100.0})
    trials["wall_s"] = 200.0 * (params / 1e8) ** -0.5
    speed, plain = speed_of(LARGE.cluster, trials), speed_of(LARGE.cluster)
    sizes = [next(p for p in LARGE.space.params if p >= 1e8), LARGE.space.params[-1]]
    ratios = [_wall_s(LARGE, speed, 1e20, p) / _wall_s(LARGE, plain, 1e20, p) for p in sizes]
    assert ratios[0] == pytest.approx(2.0, rel=0.15)
    assert ratios[1] == pytest.approx(2.0 / 8**0.5)  # beyond the largest measured, as there
    assert "measured on 4 trials" in speed.source
    assert "data sheets" in speed_of(LARGE.cluster, trials.head(2)).source


def test_trials_that_share_a_gpu_are_charged_their_share():
    assert held(Resources(gpus=0.125)) == 0.125
    assert held(Resources(workers=4, gpus=1)) == 4
    assert held(Resources(cpus=2)) == 2


def test_the_longest_trial_is_said_with_the_limit_that_helps():
    plan = LARGE.plan()
    (said,) = [w for w in plan.warnings if "max_trial_hours" in w]
    assert plan.wall_hours > 10 * plan.device_hours / 256
    limit = float(said.partition("max_trial_hours: ")[2].partition("}")[0])
    helped = replace(LARGE, cluster=replace(LARGE.cluster, max_trial_hours=limit)).plan()
    assert helped.wall_hours < plan.wall_hours / 5
    assert helped.table["gpus"].max() > plan.table["gpus"].max()


def test_devices_stand_side_by_side_and_say_what_does_not_fit():
    one = replace(LARGE, sizes=Sizes(high=2.2e9), cluster=replace(LARGE.cluster, gpus=1))
    found = side_by_side(one, ["h200", "l4"]).set_index("device")
    assert found.loc["h200", "hours"] < one.plan().device_hours
    assert "needs about" in found.loc["l4", "reason"]
    with pytest.raises(SpecError, match=r"--devices='hal' is unknown"):
        side_by_side(one, ["hal"])


def test_gpus_are_warned_of_small_batches_toy_vocabularies_and_slow_scans():
    toy = Sweep(
        budgets=[1e13, 2e13, 4e13], allowance=6e14, model=Model("zamba2"),
        cluster=Cluster(device="h100"),
    )  # fmt: skip
    said = " ".join(toy.plan().warnings)
    for words in ("batches of 480 tokens", "a vocabulary of 256", "plain torch scans"):
        assert words in said
    assert "vocabulary of" not in " ".join(LARGE.plan().warnings)
