"""Transformers of the usual kind: attention and a feed-forward block in every layer."""

from __future__ import annotations

from trainables.families import tally
from trainables.families.dimensions import Dimensions
from trainables.families.family import Family, Fields, common
from trainables.families.tally import Tally


def attention(shape: Dimensions, *, qkv_bias: bool = False, qk_norm: int = 0) -> Tally:
    """Attention over the whole context; ``attention_bias`` is read from the extra fields."""
    bias = bool(shape.extra.get("attention_bias", False))
    return tally.attention(
        shape.width, shape.heads, shape.kv_heads, shape.head_dim, shape.context,
        qkv_bias=qkv_bias or bias, out_bias=bias, qk_norm=qk_norm,
    )  # fmt: skip


def fields(shape: Dimensions) -> Fields:
    """Llama's names, which most families took over."""
    return common(shape) | {
        "intermediate_size": shape.ffn_width,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
    }


def without_head_dim(shape: Dimensions) -> Fields:
    """The same for configuration classes that divide width by heads themselves."""
    values = fields(shape)
    del values["head_dim"]
    return values


def stack(shape: Dimensions, mixer: Tally, feed_forward: Tally) -> Tally:
    """Layers of mixer, feed-forward block and a norm for each, and the last norm."""
    layer = mixer + feed_forward + tally.norm(shape.width) * 2
    return layer * shape.layers + tally.norm(shape.width)


def _gated(shape: Dimensions) -> Tally:
    bias = bool(shape.extra.get("mlp_bias", False))
    return tally.gated(shape.width, shape.ffn_width, bias=bias)


def _llama(shape: Dimensions) -> Tally:
    return stack(shape, attention(shape), _gated(shape))


def _qwen2(shape: Dimensions) -> Tally:
    return stack(shape, attention(shape, qkv_bias=True), _gated(shape))


def _qwen3(shape: Dimensions) -> Tally:
    return stack(shape, attention(shape, qk_norm=2 * shape.head_dim), _gated(shape))


def _olmo2(shape: Dimensions) -> Tally:
    whole = (shape.heads + shape.kv_heads) * shape.head_dim
    return stack(shape, attention(shape, qk_norm=whole), _gated(shape))


def _gpt_neox(shape: Dimensions) -> Tally:
    bias = bool(shape.extra.get("attention_bias", True))
    mixer = tally.attention(
        shape.width, shape.heads, shape.heads, shape.head_dim, shape.context,
        qkv_bias=bias, out_bias=bias,
    )  # fmt: skip
    norm = tally.norm(shape.width, bias=True)
    layer = mixer + tally.plain(shape.width, shape.ffn_width) + norm * 2
    return layer * shape.layers + norm


def _gpt_neox_fields(shape: Dimensions) -> Fields:
    values = without_head_dim(shape)
    del values["num_key_value_heads"]
    return values


def _mixtral(shape: Dimensions) -> Tally:
    return stack(shape, attention(shape), experts(shape))


def _qwen3_moe(shape: Dimensions) -> Tally:
    return stack(shape, attention(shape, qk_norm=2 * shape.head_dim), experts(shape))


def experts(shape: Dimensions) -> Tally:
    """The router and the experts of one layer."""
    return tally.experts(shape.width, shape.ffn_width, shape.experts, shape.active_experts)


def _mixtral_fields(shape: Dimensions) -> Fields:
    return fields(shape) | {
        "num_local_experts": shape.experts,
        "num_experts_per_tok": shape.active_experts,
    }


def _qwen3_moe_fields(shape: Dimensions) -> Fields:
    return fields(shape) | {
        "moe_intermediate_size": shape.ffn_width,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.active_experts,
        # Of the library's two conventions the one of the published models.
        "norm_topk_prob": True,
    }


DENSE = {
    "llama": Family(_llama, fields, free_heads=True),
    "mistral": Family(_llama, fields, free_heads=True),
    "qwen2": Family(_qwen2, without_head_dim),
    "qwen3": Family(_qwen3, fields, free_heads=True),
    "olmo2": Family(_olmo2, without_head_dim),
    # A quarter of each head turns, in pairs: heads are multiples of eight.
    "gpt_neox": Family(_gpt_neox, _gpt_neox_fields, ffn_ratio=4.0, head_multiple=8),
}

MIXTURES = {
    # Numbers of experts and expert widths of Mixtral 8x7B and of Qwen3-30B-A3B.
    "mixtral": Family(_mixtral, _mixtral_fields, ffn_ratio=3.5, experts=(8, 2), free_heads=True),
    "qwen3_moe": Family(
        _qwen3_moe, _qwen3_moe_fields, ffn_ratio=0.375, experts=(128, 8), free_heads=True
    ),
}
