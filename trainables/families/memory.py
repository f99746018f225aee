"""How much memory a training step needs on each device, estimated in closed form. Pure Python.

Weights and optimiser are exact; activations are the tally of the family, which
tests/trainables/test_memory.py holds against what autograd keeps on the CPU; what a GPU adds is
an assumption until it has been measured there.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import TypedDict, Unpack

from trainables.families.shape import Shape

WEIGHT_BYTES = 4
"""Master weights and gradients are float32."""

MOMENT_BYTES = 8
"""AdamW's two moments, float32."""

LOGIT_COPIES = 3
"""Logits, their softmax or gradient, and the copy in the head's precision, of one slice."""

SLICE_LOGITS = {"cpu": 2**24, "cuda": 2**27}
"""Logits in memory at a time: `trainables.engine.loss` makes them in slices of this many. On a GPU
half a gigabyte: a thousand tokens of a vocabulary of 128 k, where slices of a hundred would leave
its matrix products an eighth of their speed (worked out; to be measured there)."""

SLICE_UNIT = 128
"""Slices on a GPU are multiples of this many tokens, the side of a tile of its products."""

WIDE_SHARE = 0.5
"""Of the values kept under bfloat16 autocast, those that stay in float32: the residual stream and
the norms (6 to 9 widths of the 22 of a Llama block) and scans (assumption)."""

CPU_MICRO_TOKENS = 8192
"""Tokens of a micro-batch on a CPU (assumption: fills a core, and needs little memory)."""

GPU_MICRO_TOKENS = 2**16
"""Most tokens of a micro-batch on a GPU (assumption: more is no faster and starves neighbours)."""

CONTEXT_BYTES = 0.6e9
"""CUDA context and library workspaces of one process (assumption; to be measured on a GPU)."""

FRAGMENTS = 0.1
"""What the caching allocator holds beyond the tensors, over their sum (assumption)."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the peak of a training step.

    Attributes:
        weights: parameters, and the lower-precision copies products are made with.
        gradients: one value per parameter, and the buffers they are averaged in.
        optimizer: AdamW's moments.
        activations: what the backward pass needs of the tokens held at once.
        logits: of one slice.
        overhead: what the device's own software takes.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    overhead: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(astuple(self)))


class Settings(TypedDict, total=False):
    """Keywords of `estimate`."""

    workers: int
    sharded: bool
    bf16: bool
    recompute: bool
    eager: bool
    gpu: bool


def estimate(
    shape: Shape,
    tokens: int,
    *,
    workers: int = 1,
    sharded: bool = False,
    bf16: bool = False,
    recompute: bool = False,
    eager: bool = False,
    gpu: bool = False,
) -> Memory:
    """Memory of one training step on one device.

    Args:
        tokens: tokens held at once on the device: its micro-batch.
        sharded: whether weights, gradients and moments are divided among them (FSDP), or
            repeated on each (data parallelism).
        bf16: whether products are made in bfloat16.
        recompute: whether a block's activations are computed again in the backward pass.
        eager: whether attention keeps its scores.
        gpu: whether to count what a GPU's software takes.
    """
    params, share = shape.params_total, workers if sharded else 1
    # A sharded block is gathered while it computes, the next one already on its way.
    gathered = 2 * WEIGHT_BYTES * params / (shape.layers + 1) if sharded and workers > 1 else 0.0
    copies = 2 * params / share if bf16 else 0.0
    buckets = WEIGHT_BYTES * params if workers > 1 and not sharded else 0.0
    tensors = Memory(
        weights=WEIGHT_BYTES * params / share + copies + gathered,
        gradients=WEIGHT_BYTES * params / share + buckets + gathered,
        optimizer=MOMENT_BYTES * params / share,
        activations=tokens * _kept_bytes(shape, bf16=bf16, recompute=recompute, eager=eager),
        logits=LOGIT_COPIES
        * 4
        * min(slice_tokens(shape.vocabulary, gpu=gpu), tokens)
        * shape.vocabulary,
    )
    return replace(tensors, overhead=CONTEXT_BYTES + FRAGMENTS * tensors.total) if gpu else tensors


def slice_tokens(vocabulary: int, *, gpu: bool) -> int:
    """Tokens whose logits may lie in memory together."""
    most = max(1, SLICE_LOGITS["cuda" if gpu else "cpu"] // vocabulary)
    return max(SLICE_UNIT, most // SLICE_UNIT * SLICE_UNIT) if gpu else most


def _kept_bytes(shape: Shape, *, bf16: bool, recompute: bool, eager: bool) -> float:
    """Bytes of activations per token."""
    value = 4 * WIDE_SHARE + 2 * (1 - WIDE_SHARE) if bf16 else 4
    blocks = value * shape.body.kept + (value * shape.body.scores if eager else 0)
    if recompute:  # the input of every block, and all of one
        return 4 * shape.width * shape.layers + blocks / shape.layers
    return blocks


def most_tokens(shape: Shape, free_bytes: float, **settings: Unpack[Settings]) -> int:
    """Most tokens, in whole sequences, whose step fits one device: the largest micro-batch.

    Args:
        settings: as in `estimate`.

    Returns:
        0 if not even one sequence fits.
    """
    none, one = (estimate(shape, n * shape.context, **settings).total for n in (0, 1))
    if one > free_bytes:
        return 0
    # The slice of logits stops growing, so the estimate is concave: this errs to the small side.
    return int((free_bytes - none) / (one - none)) * shape.context
