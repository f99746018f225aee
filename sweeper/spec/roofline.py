"""How long a training step takes, from what it computes, moves and launches. Closed form.

A step on a GPU lasts as long as its products and its memory traffic, which follow one another, or
as long as Python takes to launch them, whichever is more: a small model's kernels end before the
next is on its way. On a CPU core the launching and the work add up. Every number here is to be
replaced by what `benchmarks/gpu.py` measures on the GPU at hand; a pilot's trials correct the sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweeper.spec.devices import Device
from trainables.families import Shape
from trainables.training import Train

LAYER_OPS = 145
"""Operations of a Llama block, forward and backward, views left out (counted: 141 to 147)."""

COMPILED_OPS = 40
"""The same of a compiled block (assumption)."""

OTHER_OPS = 100
"""Operations of a step outside the blocks: embedding, head, loss, clipping, AdamW (counted on the
CPU to be 90 to 120)."""

OP_S = 10e-6
"""Seconds in which Python launches an operation of a GPU (assumption: 5 to 15 us is usual)."""

GRAPH_OP_S = 2.5e-6
"""Seconds from one kernel of a CUDA graph to the next (assumption: 1.5 to 3 us)."""

CPU_OP_S = 7e-6
"""Seconds that an operation on a CPU core takes beside its products and memory traffic (so that
the README's session comes out, see `sweeper.spec.devices`)."""

BANDWIDTH = 0.8
"""Share of its bandwidth that a GPU reaches (assumption)."""

WEIGHT_TRAFFIC = 52
"""Bytes moved per parameter and step: AdamW 28 (four values read, three written), clipping 12,
gradients and bfloat16 copies 12."""

EAGER_PASSES, COMPILED_PASSES = 13.0, 3.0
"""Bytes moved per token over bytes kept for the backward pass. Counted at 1, 10 and 100 M params
are .50, 1.98 and 9.5 MB a token of eager code; compiled so that nanochat's d12 and d24 come out at
the 41 and 50 % MFU that it reports."""

LOGIT_PASSES = 6
"""Passes over the float32 logits of a token (assumption: three written, three read)."""

KEPT_BYTES = {True: 3.0, False: 4.0}
"""Bytes of a kept value, with bfloat16 products or without."""

NODE_GPUS, NODE_LINK, NETWORK = 8, 300e9, 40e9
"""GPUs of a node, and bytes/s at which each exchanges gradients inside one and beyond (assumption:
NVLink of the fourth generation, 400 Gbit/s a GPU)."""

TRIAL_S = {"cpu": 0.3, "gpu": 3.0, "compile": 25.0, "group": 25.0}
"""Seconds of a trial beside its steps: a reused process on a CPU (measured) and on a GPU, what
compiling its blocks adds, a worker group's start (assumptions but the first)."""


@dataclass(frozen=True)
class Step:
    """Seconds of one optimiser step on each device of a trial that has it alone.

    Attributes:
        work_s: products, memory traffic and exchange.
        launch_s: what Python takes to launch them.
        together: whether one is done while the other goes on.
    """

    work_s: float
    launch_s: float
    together: bool


@dataclass(frozen=True)
class Timing:
    """What makes up the time of a trial.

    Attributes:
        steps: of the optimiser.
        step: one of them.
        share: of each device that the trial holds; others work in the rest.
        start_s: seconds beside the steps.
    """

    steps: int
    step: Step
    share: float
    start_s: float

    @property
    def wall_s(self) -> float:
        """Seconds of the trial."""
        work_s, launch_s = self.step.work_s / self.share, self.step.launch_s
        each = max(work_s, launch_s) if self.step.together else work_s + launch_s
        return self.steps * each + self.start_s

    def at(self, work_s: float) -> float:
        """Seconds of the trial if its work takes this many in all, launching no fewer."""
        return max(work_s, self.steps * self.step.launch_s) + self.start_s


def step(
    shape: Shape,
    train: Train,
    device: Device,
    *,
    batch_tokens: int,
    workers: int = 1,
    micro_tokens: int = 0,
    cores: float = 1.0,
) -> Step:
    """What one optimiser step takes.

    Args:
        batch_tokens: of the step, on all workers.
        micro_tokens: of one forward pass on a worker; 0 for all of them at once.
        cores: of a worker, where it has no GPU.
    """
    tokens = max(shape.context, batch_tokens / workers)
    compiled = train.compiles(shape.params_total, gpu=device.is_gpu)
    products = tokens * shape.flops_per_token("exact") * (4 / 3 if train.recompute else 1)
    work_s = products / (device.peak_flops * device.products)
    if not device.is_gpu:
        work_s /= max(1.0, cores)
    shards = workers if train.parallel == "fsdp" else 1
    work_s += _traffic(shape, tokens, device, compiled, shards)
    if workers > 1:
        work_s = max(work_s, _exchange_s(shape, train, workers))
    turns = math.ceil(tokens / micro_tokens) if micro_tokens else 1
    ops = turns * (COMPILED_OPS if compiled else LAYER_OPS) * shape.layers + OTHER_OPS
    graphed = train.graphs_step(shape.params_total, gpu=device.is_gpu) and workers == 1
    each = CPU_OP_S if not device.is_gpu else GRAPH_OP_S if graphed else OP_S
    return Step(work_s, ops * each, together=device.is_gpu)


def trial_s(train: Train, device: Device, shape: Shape, *, workers: int) -> float:
    """Seconds of a trial beside its steps."""
    if not device.is_gpu:
        return TRIAL_S["cpu"] if workers == 0 else TRIAL_S["group"]
    compiling = train.compiles(shape.params_total, gpu=True) * TRIAL_S["compile"]
    return TRIAL_S["group" if workers else "gpu"] + compiling


def _traffic(shape: Shape, tokens: float, device: Device, compiled: bool, shards: int) -> float:
    """Seconds of memory traffic."""
    passes = COMPILED_PASSES if compiled else EAGER_PASSES
    kept = KEPT_BYTES[device.bf16] * (shape.body.kept + 4 * shape.width)
    per_token = passes * kept + LOGIT_PASSES * 4 * shape.vocabulary
    moved = WEIGHT_TRAFFIC * shape.params_total / shards + per_token * tokens
    return moved / (device.bandwidth * BANDWIDTH)


def _exchange_s(shape: Shape, train: Train, workers: int) -> float:
    """Seconds of exchanging gradients (and under FSDP weights), which overlap with the work."""
    moved = (2 * 4 + (2 * 2 if train.parallel == "fsdp" else 0)) * shape.params_total
    return moved * (workers - 1) / workers / (NODE_LINK if workers <= NODE_GPUS else NETWORK)
