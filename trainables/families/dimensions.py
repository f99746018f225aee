"""The plain numbers of a model: the lowest floor of the families."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainables.families.checks import Strict


@dataclass(frozen=True)
class Dimensions(Strict):
    """A causal model ready to be built.

    Attributes:
        layers: blocks.
        width: residual stream.
        heads: query heads.
        kv_heads: key-value heads.
        head_dim: width of one head; even.
        ffn_width: hidden units of the feed-forward block, or of one expert.
        vocabulary: rows of the embedding.
        context: tokens per sequence.
        tied: whether the head is the transposed input embedding.
        family: architecture, a key of `trainables.families.FAMILIES`.
        state: state per channel of recurrent mixers; 0 without them.
        every: in hybrids, layers per layer with attention; 0 in others.
        experts: feed-forward blocks a token chooses from; 0 for a dense model.
        active_experts: how many of them it passes.
        extra: further fields of transformers' configuration.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int
    vocabulary: int
    context: int
    tied: bool
    family: str = "llama"
    state: int = 0
    every: int = 0
    experts: int = 0
    active_experts: int = 0
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "kv_heads", "ffn_width", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"shape.{name} must be at least 1, got {getattr(self, name)}")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"shape.head_dim must be even, got {self.head_dim}")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"shape.heads ({self.heads}) must be a multiple of shape.kv_heads "
                f"({self.kv_heads})"
            )
