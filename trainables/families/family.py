"""What planning needs to know of a model family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainables.families.dimensions import Dimensions
from trainables.families.tally import Tally

Fields = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A causal architecture of transformers, in closed form.

    Attributes:
        body: what a shape holds and computes between input embedding and head.
        fields: the shape in the words of transformers' configuration class.
        ffn_ratio: usual feed-forward width over width (of one expert, where there are experts);
            None where there is no such block.
        head_multiple: a head's width is a multiple of this.
        free_heads: whether heads together may be wider or narrower than the model.
        state: largest default state of a recurrent mixer; 0 without one.
        every: layers per layer with attention, by default; 0 where the family leaves no choice.
        experts: default number of experts and how many a token passes; None for a dense family.
        head_share: width of all heads together over width.
        depth_slack: depth may differ from the aspect rule by this factor, where the other
            dials move the size by too little (loss is flat over it, see `Model.aspect`).
        always_tied: whether embedding and head must share weights.
        attends: whether there are attention layers at all.
    """

    body: Callable[[Dimensions], Tally]
    fields: Callable[[Dimensions], Fields]
    ffn_ratio: float | None = 8 / 3
    head_multiple: int = 2
    free_heads: bool = False
    state: int = 0
    every: int = 0
    experts: tuple[int, int] | None = None
    head_share: int = 1
    depth_slack: float = 1.0
    always_tied: bool = False
    attends: bool = True


def common(shape: Dimensions) -> Fields:
    """Fields that all families share. No token is special, so no embedding row stays untrained."""
    return {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def attending(shape: Dimensions) -> tuple[int, ...]:
    """Layers of a hybrid that attend: the middle one of each period, as in Jamba (AI21 2024)."""
    period = min(shape.every, shape.layers)
    return tuple(i for i in range(shape.layers) if i % period == period // 2)
