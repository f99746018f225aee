"""A transformers model built from a shape, with a forward pass that does only what training needs.

Imports of torch and transformers take seconds, so this module is imported by the loop only.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from trainables.families import FAMILIES, Shape

INIT_SCALE = 0.6
"""Initial weights have standard deviation INIT_SCALE / sqrt(width). The usual 0.02 is meant for
widths near 1000, where this rule agrees with it; below 100 it delays learning so much that a
68 k model had a loss of 3.9 nats on facts where 3.1 was in reach (0.4, 0.6, 0.8 and 1.0 were tried
at widths 26 and 48; benchmarks/results/trainables.md)."""


GROUPED = "grouped_mm_autocast"
"""Name of `grouped_experts` among the library's ways to pass experts."""


def grouped_experts(experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """The library's grouped products, in the precision of autocast, which does not know them."""
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind):
        found: Tensor = grouped_mm_experts_forward(experts, hidden, chosen, weights)
        return found
    dtype = torch.get_autocast_dtype(kind)
    narrow = _Narrow(experts, dtype)
    return cast(Tensor, grouped_mm_experts_forward(narrow, hidden.to(dtype), chosen, weights))


class _Narrow:
    """A module of experts whose weights are read in another precision."""

    def __init__(self, experts: nn.Module, dtype: torch.dtype) -> None:
        self._experts, self._dtype = experts, dtype

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._experts, name)
        return found.to(self._dtype) if isinstance(found, nn.Parameter) else found


ALL_EXPERTS_FUNCTIONS.register(GROUPED, grouped_experts)


class Network(nn.Module):
    """A causal model of transformers over full sequences, from tokens to hidden states.

    The head is left to the loss, which applies it to slices so that full logits never exist.
    Weights are the library's, in its own model, ``causal``, which can be saved and loaded as such.

    Args:
        causal: the library's model with its head.

    Attributes:
        balance: what the last forward pass adds to the mean loss per token; None for dense models.
    """

    balance: Tensor | None = None

    def __init__(self, causal: nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states that the head reads: (sequences, context) -> (..., width)."""
        hidden: Tensor = self.causal.base_model(input_ids=tokens, use_cache=False)[0]
        return hidden

    @property
    def head(self) -> Tensor:
        """Weight of the head, (vocabulary, width); the input embedding's own where tied."""
        weight: Tensor = self.causal.get_output_embeddings().weight
        return weight

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks."""
        blocks: nn.ModuleList = self.causal.base_model.layers
        return blocks

    @property
    def separate_layers(self) -> list[nn.Module]:
        """The blocks that share no weight with another, which may be sharded one by one."""
        uses = Counter(id(weight) for layer in self.layers for weight in layer.parameters())
        return [
            layer for layer in self.layers if all(uses[id(w)] == 1 for w in layer.parameters())
        ]


class MixtureNetwork(Network):
    """A mixture of experts, whose router is paid to spread tokens evenly.

    The weight is the library's ``router_aux_loss_coef``, a further field of `Model.config`.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states that the head reads: (sequences, context) -> (..., width)."""
        config = self.causal.config
        output = self.causal.base_model(
            input_ids=tokens, use_cache=False, output_router_logits=self.training
        )
        if self.training:
            spread = load_balancing_loss_func(
                output.router_logits, self.causal.num_experts, config.num_experts_per_tok
            )
            self.balance = config.router_aux_loss_coef * spread
        hidden: Tensor = output.last_hidden_state
        return hidden


class LlamaNetwork(Network):
    """Llama, called layer by layer.

    Rotary tables and the mask are built once, since the library's own forward builds both again
    at every step: 1-11 % of a step up to 250 k parameters (measured by
    benchmarks/train_step.py).

    Args:
        shape: what to build.
        attention: "sdpa" or "eager".
    """

    def __init__(self, shape: Shape, *, attention: str) -> None:
        super().__init__(LlamaForCausalLM(library_config(shape, attention=attention)))
        place = torch.arange(shape.context)[None]
        rotary = self.causal.model.rotary_emb
        cos, sin = rotary(torch.zeros(1, shape.context, shape.width), place)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        future = torch.full((shape.context, shape.context), -torch.inf).triu(1)
        # Without a mask sdpa takes its causal path.
        mask = future[None, None] if attention == "eager" else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Hidden states that the head reads: (sequences, length) -> (..., width).

        Length may fall short of the context, as that of examples to be scored does.
        """
        body = self.causal.model
        hidden = body.embed_tokens(tokens)
        length = tokens.shape[1]
        table = self.cos[:, :length], self.sin[:, :length]
        mask = None if self.mask is None else self.mask[..., :length, :length]
        for layer in body.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=table)
        normed: Tensor = body.norm(hidden)
        return normed


def build(shape: Shape, *, seed: int, attention: str, meta: bool = False) -> Network:
    """The model a shape describes, with initial weights that depend on the seed alone.

    Args:
        attention: "sdpa" or "eager".
        meta: whether weights are to take no memory, for a worker that will hold a shard.

    Raises:
        ValueError: further fields change the size that was planned.
    """
    torch.manual_seed(seed)
    with _weights_on_meta() if meta else contextlib.nullcontext():
        if shape.family == "llama":
            network: Network = LlamaNetwork(shape, attention=attention)
        else:
            config = library_config(shape, attention=attention)
            causal = AutoModelForCausalLM.from_config(config)
            network = MixtureNetwork(causal) if shape.experts > 1 else Network(causal)
    built = sum(weight.numel() for weight in network.parameters())
    if built != shape.params_total:
        raise ValueError(
            f"model.config: with {', '.join(shape.extra) or 'its defaults'} the {shape.family} "
            f"has {built:,} parameters where {shape.params_total:,} were planned; leave out the "
            "fields that change its size"
        )
    return network


@contextlib.contextmanager
def _weights_on_meta() -> Iterator[None]:
    """Make modules whose weights have shapes and no values; their buffers stay as they are."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        # A weight that is shared has been put there before, and must stay the same object.
        if weight is not None and not weight.is_meta:
            weight = nn.Parameter(weight.to("meta"), requires_grad=weight.requires_grad)
        register(module, name, weight)

    nn.Module.register_parameter = on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register


def library_config(shape: Shape, *, attention: str) -> Any:
    """transformers' configuration of a shape."""
    family = FAMILIES[shape.family]
    fields = family.fields(shape) | {
        "initializer_range": INIT_SCALE / math.sqrt(shape.width),
        "use_cache": False,
    }
    if family.attends:
        fields["attn_implementation"] = attention
    if shape.experts > 1:
        # Grouped products want rows of whole 16 bytes; the other way loops over experts.
        aligned = shape.width % 8 == 0 and shape.ffn_width % 8 == 0
        fields["experts_implementation"] = GROUPED if aligned else "eager"
    return AutoConfig.for_model(shape.family, **{**fields, **shape.extra})
