"""What transformers' configurations say of a family: its fields, or a config.json to follow.

transformers' configuration classes are read as source text, since importing them takes five
seconds and torch.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainables.families.checks import did_you_mean
from trainables.families.known import FAMILIES

OLD_NAMES = ("rope_theta", "rope_scaling")
"""Fields of transformers 4 that its successors still read."""

OWN = (
    "vocab_size", "hidden_size", "num_hidden_layers", "tie_word_embeddings", "intermediate_size",
    "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
    "moe_intermediate_size", "num_experts", "num_local_experts", "num_experts_per_tok",
    "state_size", "mamba_d_state", "num_heads", "n_mamba_heads", "n_groups", "mamba_ngroups",
    "attn_layer_period", "attn_layer_offset", "layers_block_type", "layer_types",
    "full_attn_idxs", "block_auto_adjust_ff_dim", "num_mem_blocks", "adapter_rank",
    "use_shared_attention_adapter", "chunk_size", "pad_token_id", "bos_token_id", "eos_token_id",
    "use_cache", "initializer_range", "expand", "mamba_expand", "conv_kernel", "mamba_d_conv",
    "conv_L_cache", "mamba_dt_rank", "expert_layer_period", "expert_layer_offset",
    "decoder_sparse_step", "mlp_only_layers", "use_bias", "add_bias_linear", "mamba_proj_bias",
    "use_conv_bias", "mamba_conv_bias", "conv_bias",
)  # fmt: skip
"""Fields that follow from the size and the spec's own names, or that the counts assume."""


def check_fields(family: str, fields: dict[str, Any]) -> None:
    """Refuse further fields that the library does not know, or that are not further.

    Raises:
        ValueError: names the field.
    """
    known = [*known_fields(family), *OLD_NAMES]
    for name in fields:
        if name in OWN:
            raise ValueError(
                f"model.config.{name}: follows from the size and from model's own fields "
                "(layers, head_dim, kv_groups, ffn_ratio, state, experts ...); set those"
            )
        if name not in known:
            raise ValueError(
                f"model.config.{name}: no field of transformers' {family} configuration"
                f"{did_you_mean(name, [k for k in known if k not in OWN])}"
            )


@lru_cache
def known_fields(family: str) -> tuple[str, ...]:
    """Names that the installed transformers' configuration class of a family declares."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ValueError("transformers is not installed, so model.config cannot be checked")
    path = Path(spec.origin).parent / "models" / family / f"configuration_{family}.py"
    classes = [n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.ClassDef)]
    return tuple(
        node.target.id
        for node in classes[0].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )


def template(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Family, proportions and further fields that a config.json gives a model.

    The size comes from the sweep, vocabulary and context from its data.

    Args:
        given: the model's own fields; those that are not at their defaults stay.

    Raises:
        ValueError: the file cannot be read, or its family is unknown or another than the spec's.
    """
    try:
        values = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"model.config: {path!r} cannot be read as JSON ({error})") from error
    family = values.get("model_type") if isinstance(values, dict) else None
    if family not in FAMILIES:
        raise ValueError(
            f"model.config: {path!r} is of model_type {family!r}; known are {', '.join(FAMILIES)}"
        )
    if given["family"] not in ("llama", family):
        raise ValueError(f"model.family: {given['family']!r}, but {path!r} is of a {family}")
    found = _proportions(family, values)
    defaults = {"aspect": 64.0, "kv_groups": 1}
    kept = {name: value for name, value in found.items() if given[name] == defaults.get(name)}
    known = [*known_fields(family), *OLD_NAMES]
    extra = {k: v for k, v in values.items() if k in known and k not in OWN}
    return {"family": family, **kept, "config": extra}


def _proportions(family: str, values: dict[str, Any]) -> dict[str, Any]:
    """Ratios between the sizes of a configuration."""

    def value(*names: str) -> Any:
        return next((values[n] for n in names if values.get(n) is not None), None)

    width, heads = value("hidden_size"), value("num_attention_heads")
    hidden = value("moe_intermediate_size", "intermediate_size")
    if family == "lfm2" and values.get("block_auto_adjust_ff_dim", True):
        hidden *= 2 / 3  # the library does this when it builds the block
    kind = FAMILIES[family]
    found = {
        "tied": value("tie_word_embeddings"),
        "aspect": width / values["num_hidden_layers"] if width else None,
        "head_dim": value("head_dim") if kind.attends else None,
        "kv_groups": heads // (value("num_key_value_heads") or heads) if heads else None,
        "ffn_ratio": hidden / width if hidden and width and kind.ffn_ratio else None,
        "state": value("state_size", "mamba_d_state") if kind.state else None,
        "attention_every": _period(values) if kind.every else None,
        "experts": value("num_local_experts", "num_experts") if kind.experts else None,
        "active_experts": value("num_experts_per_tok") if kind.experts else None,
    }
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def _period(values: dict[str, Any]) -> int | None:
    """Layers per layer with attention, from any of the ways in which configurations say it."""
    types = values.get("layer_types") or values.get("layers_block_type") or []
    attend = [t for t in types if t in ("full_attention", "attention", "hybrid")]
    attend = attend or values.get("full_attn_idxs") or []
    if attend:
        return max(1, round(int(values["num_hidden_layers"]) / len(attend)))
    period = values.get("attn_layer_period")
    return None if period is None else int(period)
