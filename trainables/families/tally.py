"""What the parts of a model hold and compute, counted in closed form. Pure Python.

Every count is checked against the built model (`numel` on the meta device) and against torch's
FLOP counter in tests/trainables/test_families.py.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

SCAN_FLOPS = 7
"""Forward operations per channel and state of a Mamba-1 scan, for h = exp(dt A) h + dt B x and
y = C h: dt A, dt B, times x, decay times h, the sum, and the two of the output (Gu & Dao 2023,
equation 2; exponentials not counted, as those of a softmax are not). torch's counter sees only
the last two; kernels that fuse the scan hide all of it."""


MAMBA_KERNEL = 4
"""Tokens that the convolutions of Mamba mixers see: transformers' default."""


@dataclass(frozen=True)
class Tally:
    """One part of a model, per token of a sequence; parts add up, and repeat by multiplication.

    Attributes:
        matrices: weights of matrix products that a token passes.
        vectors: weights outside matrix products: norms, biases, filters, decay rates.
        idle: weights of experts that a token does not pass.
        forward: FLOPs of a forward pass beyond 2 per weight in ``matrices``: attention scores,
            scans, convolutions, blocks used a second time.
        kept: values that a backward pass needs, with fused attention and nothing recomputed.
        scores: values of attention's score matrices, which only unfused attention keeps.
    """

    matrices: float = 0
    vectors: float = 0
    idle: float = 0
    forward: float = 0
    kept: float = 0
    scores: float = 0

    def __add__(self, other: Tally) -> Tally:
        # Not by astuple, which copies deeply: ladders add tallies by the hundred thousand.
        return Tally(*map(operator.add, vars(self).values(), vars(other).values()))

    def __mul__(self, times: int) -> Tally:
        return Tally(*(times * value for value in vars(self).values()))

    def again(self, times: int) -> Tally:
        """The same weights used ``times`` more: FLOPs and activations, but no parameters."""
        return Tally(
            forward=times * (self.forward + 2 * self.matrices),
            kept=times * self.kept,
            scores=times * self.scores,
        )


def norm(width: int, *, bias: bool = False) -> Tally:
    """A normalisation: its input, its normalised input and its output are kept."""
    return Tally(vectors=width * (2 if bias else 1), kept=(2 if bias else 3) * width)


def attention(
    width: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    context: int,
    *,
    out: int | None = None,
    qkv_bias: bool = False,
    out_bias: bool = False,
    qk_norm: int = 0,
) -> Tally:
    """Causal attention with all scores computed: masked ones cost as much in plain code.

    Args:
        width: of the input.
        heads: query heads.
        kv_heads: key-value heads.
        head_dim: width of a head.
        context: keys per query.
        out: width of the output, where it is not the input's.
        qkv_bias: whether queries, keys and values have a bias.
        out_bias: whether the output has one.
        qk_norm: weights of the norms of queries and keys together.
    """
    out = width if out is None else out
    inner, kv_inner = heads * head_dim, kv_heads * head_dim
    biases = qkv_bias * (inner + 2 * kv_inner) + out_bias * out
    return Tally(
        matrices=width * (inner + 2 * kv_inner) + inner * out,
        vectors=biases + qk_norm,
        forward=4 * inner * context,
        kept=3 * inner + 2 * kv_inner + (2 * (inner + kv_inner) if qk_norm else 0),
        scores=heads * context,
    )


def gated(width: int, hidden: int, *, bias: bool = False) -> Tally:
    """A feed-forward block of three matrices: down(act(gate x) * up x)."""
    return Tally(matrices=3 * width * hidden, vectors=bias * (2 * hidden + width), kept=4 * hidden)


def plain(width: int, hidden: int) -> Tally:
    """A feed-forward block of two matrices with biases: down(act(up x))."""
    return Tally(matrices=2 * width * hidden, vectors=hidden + width, kept=2 * hidden)


def experts(width: int, hidden: int, number: int, active: int) -> Tally:
    """A router over gated blocks, of which a token passes ``active``."""
    one = gated(width, hidden)
    return Tally(
        matrices=active * one.matrices + number * width,
        idle=(number - active) * one.matrices,
        # Each expert keeps a copy of its tokens and its weighted output.
        kept=active * (one.kept + 3 * width) + 2 * number,
    )


def convolution(channels: int, kernel: int, *, bias: bool = True) -> Tally:
    """A causal filter on every channel. torch's fallback also filters the padding it cuts off."""
    return Tally(
        vectors=channels * (kernel + bias), forward=2 * kernel * channels, kept=2 * channels
    )


def mamba(width: int, state: int) -> Tally:
    """Jamba's Mamba-1 mixer: twice as wide inside, a scan per channel, norms on dt, B and C."""
    inner, rank = 2 * width, math.ceil(width / 16)
    projections = width * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * width
    scan = Tally(
        vectors=inner * (state + 2),  # A, D and the bias of dt
        forward=SCAN_FLOPS * inner * state,
        kept=3 * inner * state + 6 * inner,
    )
    norms = norm(rank + 2 * state)
    return Tally(matrices=projections) + convolution(inner, MAMBA_KERNEL) + scan + norms


def mamba2(
    width: int, heads: int, head_dim: int, state: int, context: int, *, chunk: int
) -> Tally:
    """A Mamba-2 mixer with one group: scan in chunks, each by matrix products (Dao & Gu 2024)."""
    inner = heads * head_dim
    channels = inner + 2 * state
    return (
        Tally(matrices=width * (inner + channels + heads) + inner * width)
        + Tally(vectors=3 * heads, kept=2 * channels)  # A, D and the bias of dt
        + convolution(channels, MAMBA_KERNEL)
        + _chunked_scan(heads, head_dim, state, context, chunk)
        + norm(inner)
    )


def _chunked_scan(heads: int, head_dim: int, state: int, context: int, chunk: int) -> Tally:
    """The five matrix products of the chunked scan; contexts are padded to whole chunks."""
    chunks = math.ceil(context / chunk)
    padded = chunks * chunk / context
    inside = 2 * chunk * heads * (state + head_dim)
    states = 2 * 2 * heads * head_dim * state
    between = 2 * (chunks + 1) ** 2 * heads * head_dim * state / context
    values = heads * (4 * chunk + 4 * head_dim + 5 * state) + heads * head_dim * state / chunk * 4
    return Tally(forward=padded * (inside + states) + between, kept=padded * values)
