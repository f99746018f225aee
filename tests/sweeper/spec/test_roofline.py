"""What a step takes, against rooflines written by hand and figures others have published."""

from __future__ import annotations

import pytest

from sweeper.spec.devices import DEVICES
from sweeper.spec.placement import Resources, timing
from sweeper.spec.roofline import step
from trainables.families import Model, Shape
from trainables.shapes import solve
from trainables.training import Train

EAGER = Train(compile=False, graphs=False)


def _llama(layers: int, width: int, vocabulary: int, *, tied: bool = True) -> Shape:
    heads = max(1, width // 128)
    return Shape(layers, width, heads, heads, 128, 4 * width, vocabulary, 2048, tied)


# FLOPs a token, megabytes a token (counted on the CPU), launches of eager code.
@pytest.mark.parametrize(
    ("device", "params", "vocabulary", "batch", "by_hand_s"),
    [
        # .6 + .09 GFLOP of products at 692 TFLOP/s, 9.5 MB at 2.68 TB/s: 4.5 us a token.
        ("h100", 100e6, 32_000, 65_536, 65_536 * (0.69e9 / 692e12 + 9.5e6 / 2.68e12)),
        # .06 + .02 GFLOP, 1.98 MB.
        ("h100", 10e6, 4096, 65_536, 65_536 * (0.08e9 / 692e12 + 1.98e6 / 2.68e12)),
        # Three layers of 145 launches and 100 others, 10 us each.
        ("h100", 1e6, 256, 15_360, 535 * 10e-6),
        # The same traffic at 240 GB/s; weights and AdamW move 52 bytes a parameter.
        ("l4", 100e6, 32_000, 65_536, 65_536 * (0.69e9 / 85e12 + 9.5e6 / 0.24e12)),
        ("l4", 10e6, 4096, 1024, 1024 * 1.98e6 / 0.24e12 + 10e6 * 52 / 0.24e12),
    ],
)
def test_steps_are_those_of_a_roofline_by_hand(
    device: str, params: float, vocabulary: int, batch: int, by_hand_s: float
) -> None:
    shape = solve(params, Model(vocabulary=vocabulary, context=1024))
    found = step(shape, EAGER, DEVICES[device], batch_tokens=batch)
    assert max(found.work_s, found.launch_s) == pytest.approx(by_hand_s, rel=0.25)


@pytest.mark.parametrize(
    ("shape", "mfu"),
    [
        (_llama(8, 512, 8192, tied=False), 0.398),  # autoresearch on one H100
        (_llama(12, 768, 32_768, tied=False), 0.41),  # nanochat d12
        (_llama(24, 1536, 32_768, tied=False), 0.50),  # nanochat d24
    ],
)
def test_compiled_models_reach_the_utilisation_that_others_report(
    shape: Shape, mfu: float
) -> None:
    found = step(shape, Train(), DEVICES["h100"], batch_tokens=131_072)
    work = shape.flops_per_token("exact") * 131_072 / DEVICES["h100"].peak_flops
    assert work / max(found.work_s, found.launch_s) == pytest.approx(mfu, rel=0.15)


def test_small_models_wait_for_launches_unless_their_step_is_a_graph() -> None:
    shape = solve(1e6, Model(context=120))
    eager = step(shape, EAGER, DEVICES["h100"], batch_tokens=480)
    graphed = step(shape, Train(), DEVICES["h100"], batch_tokens=480)
    assert eager.launch_s > 10 * eager.work_s
    assert graphed.launch_s < eager.launch_s / 3


def test_trials_that_share_a_gpu_wait_for_each_other_where_they_fill_it() -> None:
    small, large = (solve(p, Model(vocabulary=32_000, context=1024)) for p in (3e6, 9e6))
    gpu, tokens = DEVICES["h100"], 20_000_000

    def wall_s(shape: Shape, share: float, batch: int) -> float:
        train = Train(batch_tokens=batch, compile=False, graphs=False)
        return timing(shape, train, gpu, Resources(gpus=share), tokens).wall_s

    assert wall_s(small, 0.25, 1024) == pytest.approx(wall_s(small, 1.0, 1024))
    assert wall_s(large, 0.25, 65_536) > 3 * wall_s(large, 1.0, 65_536)


def test_more_gpus_help_until_they_exchange_more_than_they_compute() -> None:
    shape, gpu = solve(1e9, Model(vocabulary=32_000, context=2048)), DEVICES["h100"]

    def wall_s(workers: int, batch: int) -> float:
        rule = Resources(workers=workers, gpus=1.0)
        return timing(shape, Train(batch_tokens=batch), gpu, rule, 10**9).wall_s

    assert wall_s(8, 2**20) < wall_s(1, 2**20) / 6
    assert wall_s(64, 2**17) > wall_s(8, 2**17) / 3
