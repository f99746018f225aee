"""State-space models, and hybrids that mix their layers (or convolutions) with attention."""

from __future__ import annotations

from trainables.families import dense, tally
from trainables.families.dimensions import Dimensions
from trainables.families.family import Family, Fields, attending, common
from trainables.families.tally import Tally

CHUNK = 256
"""Longest chunk of a Mamba-2 scan: transformers' default."""

ADAPTER_RANK = 128
"""Rank of the adapters of Zamba2's shared blocks at full size: transformers' default."""

LFM2_KERNEL = 3
"""Tokens that LFM2's convolutions see: transformers' default."""


def state_head_dim(width: int) -> int:
    """Width of a Mamba-2 head in a mixer of twice the width: 64 (Dao & Gu 2024), or less."""
    fitting = (d for d in (64, 32, 16, 8, 4) if 2 * width % d == 0 and width >= 4 * d)
    return next(fitting, 2)


def chunk(shape: Dimensions) -> int:
    """Tokens per chunk of a Mamba-2 scan; longer than the context would only be padding."""
    return min(CHUNK, shape.context)


def _mamba2_mixer(shape: Dimensions) -> Tally:
    head_dim = state_head_dim(shape.width)
    return tally.mamba2(
        shape.width, 2 * shape.width // head_dim, head_dim, shape.state, shape.context,
        chunk=chunk(shape),
    )  # fmt: skip


def _mamba2(shape: Dimensions) -> Tally:
    norm = tally.norm(shape.width)
    return (_mamba2_mixer(shape) + norm) * shape.layers + norm


def _mamba2_fields(shape: Dimensions) -> Fields:
    head_dim = state_head_dim(shape.width)
    return common(shape) | {
        "num_heads": 2 * shape.width // head_dim,
        "head_dim": head_dim,
        "state_size": shape.state,
        "n_groups": 1,
        "chunk_size": chunk(shape),
    }


def _jamba(shape: Dimensions) -> Tally:
    attends = len(attending(shape))
    mixed = dense.attention(shape) * attends
    scanned = tally.mamba(shape.width, shape.state) * (shape.layers - attends)
    # Every second layer has experts, from the second on (transformers' defaults).
    sparse = shape.layers // 2 if shape.experts > 1 else 0
    feed_forward = tally.gated(shape.width, shape.ffn_width) * (shape.layers - sparse)
    if sparse:
        feed_forward += dense.experts(shape) * sparse
    return mixed + scanned + feed_forward + tally.norm(shape.width) * (2 * shape.layers + 1)


def _jamba_fields(shape: Dimensions) -> Fields:
    period = min(shape.every, shape.layers)
    values = dense.without_head_dim(shape)
    return values | {
        "attn_layer_period": period,
        "attn_layer_offset": period // 2,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.active_experts,
        "mamba_d_state": shape.state,
    }


def adapter_rank(shape: Dimensions) -> int:
    """Rank of Zamba2's adapters: 1/16 of the width, as about in the published models, or less."""
    return max(1, min(ADAPTER_RANK, shape.width // 16))


def _zamba2(shape: Dimensions) -> Tally:
    width, uses = shape.width, len(attending(shape))
    # One block is shared by all hybrid layers; it reads the embedding beside the residual stream.
    shared = (
        tally.norm(2 * width)
        + tally.attention(
            2 * width, shape.heads, shape.kv_heads, shape.head_dim, shape.context, out=width
        )
        + tally.norm(width)
        + tally.gated(width, shape.ffn_width)
    )
    rank = adapter_rank(shape)
    own = Tally(matrices=width * width + rank * (width + 2 * shape.ffn_width), kept=2 * width)
    layers = (_mamba2_mixer(shape) + tally.norm(width)) * shape.layers
    return layers + shared + shared.again(uses - 1) + own * uses + tally.norm(width)


def _zamba2_fields(shape: Dimensions) -> Fields:
    attends = attending(shape)
    values = dense.without_head_dim(shape)
    return values | {
        "layers_block_type": [
            "hybrid" if i in attends else "linear_attention" for i in range(shape.layers)
        ],
        "n_mamba_heads": 2 * shape.width // state_head_dim(shape.width),
        "mamba_d_state": shape.state,
        "chunk_size": chunk(shape),
        "adapter_rank": adapter_rank(shape),
        "num_mem_blocks": 1,
    }


def _lfm2(shape: Dimensions) -> Tally:
    width, attends = shape.width, len(attending(shape))
    filtered = Tally(matrices=4 * width * width, kept=5 * width)
    filtered += tally.convolution(width, LFM2_KERNEL, bias=False)
    mixers = dense.attention(shape, qk_norm=2 * shape.head_dim) * attends
    mixers += filtered * (shape.layers - attends)
    feed_forward = tally.gated(width, shape.ffn_width) * shape.layers
    return mixers + feed_forward + tally.norm(width) * (2 * shape.layers + 1)


def _lfm2_fields(shape: Dimensions) -> Fields:
    attends = attending(shape)
    return dense.without_head_dim(shape) | {
        "block_auto_adjust_ff_dim": False,
        "conv_L_cache": LFM2_KERNEL,
        "layer_types": ["full_attention" if i in attends else "conv" for i in range(shape.layers)],
    }


RECURRENT = {
    "mamba2": Family(
        _mamba2, _mamba2_fields, ffn_ratio=None, state=128, depth_slack=1.5, attends=False
    ),
    # Periods and states: the published models' (LFM2's attention comes at every second or third).
    "jamba": Family(_jamba, _jamba_fields, ffn_ratio=3.5, state=16, every=8, experts=(16, 2)),
    "zamba2": Family(
        _zamba2,
        _zamba2_fields,
        ffn_ratio=4.0,
        state=64,
        every=6,
        head_share=2,
        depth_slack=1.25,
        always_tied=True,  # else transformers does not share the blocks either
    ),
    "lfm2": Family(_lfm2, _lfm2_fields, ffn_ratio=8 / 3, every=3),
}
