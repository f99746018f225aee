"""From a parameter count to a model that can be built, and what it costs. Pure Python.

Three counts of parameters are kept side by side, since published exponents differ by counting
convention as much as by effect (Pearce & Song 2024, Porian et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from trainables.config import Model

Count = Literal["params_with_head", "params_total", "params_without_embeddings"]

FLOPS_PER_WEIGHT = 6
"""2 forward and 4 backward per weight of a matrix product and token (Kaplan et al. 2020, 2.1)."""

ATTENTION_FLOPS = 12
"""Scores and weighted sum, 2 x 2 forward and twice that backward, per layer, inner width, and key
(Kaplan et al. 2020, table 1, with all keys computed: masked ones cost as much in plain code)."""

MAX_RATIO = 1.06
"""Consecutive sizes of the ladder are no farther apart than this (assumption: a tenth of the
spacing at which isoFLOP curves are usually sampled)."""

FFN_SHARE = 0.01
"""The feed-forward width moves in steps of at most this share of all parameters, which bounds the
rounding error of a size by half of it."""

EMBEDDING_HEAVY = 48
"""Above this many vocabulary rows per unit of width the embedding outweighs two blocks twice over,
and only the width can tune the size (12 x 2 layers x width weights per unit of width)."""

BYTES_PER_PARAM = 16
"""fp32 weight, gradient, and AdamW's two moments."""

ACTIVATION_BYTES = 34
"""Per token, layer and unit of width at 2 bytes a value (Korthikanti et al. 2022, equation 1)."""

SCORE_BYTES = 5
"""Per token, layer, head and key at 2 bytes a value (same equation)."""

MIN_WIDTH = 8
"""Narrowest model of a default range of sizes (assumption: one head of eight)."""


@dataclass(frozen=True)
class Shape:
    """A decoder with rotary attention and a gated feed-forward block, ready to be built.

    Attributes:
        layers: blocks.
        width: residual stream.
        heads: query heads.
        kv_heads: key-value heads.
        head_dim: width of one head; even.
        ffn_width: hidden units of the gated block.
        vocabulary: rows of the embedding.
        context: tokens per sequence.
        tied: whether the head is the transposed input embedding.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_width: int
    vocabulary: int
    context: int
    tied: bool

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

    @property
    def matrix_weights(self) -> int:
        """Weights that take part in matrix products: all but norms and the input lookup."""
        inner, kv_inner = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.width * inner + 2 * self.width * kv_inner
        block = attention + 3 * self.width * self.ffn_width
        return self.layers * block + self.vocabulary * self.width

    @property
    def params_with_head(self) -> int:
        """All parameters but the input lookup: the p of 6pt unless the spec says otherwise."""
        return self.matrix_weights + (2 * self.layers + 1) * self.width

    @property
    def params_total(self) -> int:
        """Every parameter; equals `params_with_head` when the embedding is tied."""
        lookup = 0 if self.tied else self.vocabulary * self.width
        return self.params_with_head + lookup

    @property
    def params_without_embeddings(self) -> int:
        """Parameters of the blocks and the last norm only."""
        return self.params_with_head - self.vocabulary * self.width

    def flops_per_token(self, convention: Literal["6p", "exact"] = "6p") -> int:
        """Training FLOPs per token.

        Args:
            convention: "6p" is six times `params_with_head`; "exact" counts matrix products and
                attention over the whole context, as torch's FLOP counter does.
        """
        if convention == "6p":
            return FLOPS_PER_WEIGHT * self.params_with_head
        attention = ATTENTION_FLOPS * self.layers * self.heads * self.head_dim * self.context
        return FLOPS_PER_WEIGHT * self.matrix_weights + attention

    def memory_bytes(self, batch_tokens: int, *, value_bytes: int = 4) -> int:
        """Estimate of the memory a training step needs.

        Args:
            batch_tokens: tokens held at once on one device.
            value_bytes: bytes of one activation, 4 for fp32.
        """
        per_layer = ACTIVATION_BYTES * self.width + SCORE_BYTES * self.heads * self.context
        activations = self.layers * per_layer * value_bytes / 2
        logits = 3 * self.vocabulary * 4  # logits, log-probabilities, their gradient: always fp32
        return int(BYTES_PER_PARAM * self.params_total + batch_tokens * (activations + logits))


def solve(params: float, model: Model, *, count: Count = "params_with_head") -> Shape:
    """The realisable shape nearest to a parameter count.

    Width and depth are chosen with the feed-forward block at its usual ratio; then the
    feed-forward width takes up what is left.

    Args:
        params: parameters wanted.
        model: family and rules.
        count: which of the three counts ``params`` means.

    Raises:
        ValueError: the size cannot be built within 6 %.
    """
    nearest = min(_regular(params, model, count), key=lambda s: _distance(s, params, count))
    shape = _fill(nearest, params, count, ratio=model.ffn_ratio)
    if _distance(shape, params, count) > math.log(MAX_RATIO):
        raise ValueError(
            f"size {params:.4g} cannot be built: the nearest is {getattr(shape, count):,} with "
            f"width {shape.width} and {shape.layers} layers; raise the size, or lower "
            "model.vocabulary, model.layers or model.min_layers"
        )
    return shape


def smallest(model: Model) -> Shape:
    """The smallest shape worth training: `MIN_WIDTH` wide and as shallow as the model allows."""
    return _shape(MIN_WIDTH, min(_depths(MIN_WIDTH, model)), model)


def sizes(
    low: float, high: float, model: Model, *, count: Count = "params_with_head"
) -> list[Shape]:
    """All shapes of a dense ladder between two parameter counts, ascending and distinct.

    Args:
        low: smallest parameter count.
        high: largest parameter count.
        model: family and rules.
        count: which of the three counts the bounds mean.

    Raises:
        ValueError: the bounds are not increasing, or one cannot be built.
    """
    if not 0 < low <= high:
        raise ValueError(f"sizes: {low:g}..{high:g} is no range; give 0 < low <= high")
    # Half the admitted spacing leaves room for the rounding of either neighbour.
    steps = max(1, math.ceil(2 * math.log(high / low) / math.log(MAX_RATIO)))
    targets = [low * (high / low) ** (i / steps) for i in range(steps + 1)]
    found = {getattr(s, count): s for s in (solve(p, model, count=count) for p in targets)}
    return [found[params] for params in sorted(found)]


def _distance(shape: Shape, params: float, count: Count) -> float:
    """How far a shape is from a parameter count, as |ln ratio|."""
    return abs(math.log(max(1, getattr(shape, count)) / params))


def _regular(params: float, model: Model, count: Count) -> Iterator[Shape]:
    """Shapes with the usual feed-forward ratio, for widths up to the first above the target."""
    width = 2
    while True:
        smallest = math.inf
        for layers in _depths(width, model):
            shape = _shape(width, layers, model)
            smallest = min(smallest, getattr(shape, count))
            yield shape
        if smallest > params:
            return
        width = _next_width(width, model)


def _depths(width: int, model: Model) -> tuple[int, ...]:
    """Depths allowed at a width: the fixed one, or those either side of the aspect rule."""
    if model.layers is not None:
        return (model.layers,)
    depth = width / model.aspect
    return tuple(
        {max(model.min_layers, math.floor(depth)), max(model.min_layers, math.ceil(depth))}
    )


def _head_dim(width: int, model: Model) -> int:
    """Width of one head aimed at; see `Model.head_dim`."""
    if model.head_dim is not None:
        return model.head_dim
    return 16 if width < 256 else 64 if width < 2048 else 128


def _next_width(width: int, model: Model) -> int:
    """The next width: 2 or 8 on at small scale, whole heads (about 3 % and up) at large."""
    head_dim = _head_dim(width, model)
    if width < 2 * head_dim:
        return width + 2
    if model.vocabulary > EMBEDDING_HEAVY * width:
        return width + (2 if width < 128 else 8)
    if width < 8 * head_dim:
        return width + max(2, head_dim // 2)
    return width + head_dim * max(1, width // (32 * head_dim))


def _shape(width: int, layers: int, model: Model) -> Shape:
    """The shape of given width and depth with the usual feed-forward ratio."""
    most = max(1, width // _head_dim(width, model))
    heads = next(h for h in range(most, 0, -1) if width % (2 * h) == 0)
    kv_heads = heads // model.kv_groups if heads % model.kv_groups == 0 else heads
    return Shape(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width // heads,
        ffn_width=max(1, round(model.ffn_ratio * width)),
        vocabulary=model.vocabulary,
        context=model.context,
        tied=model.tied,
    )


def _fill(shape: Shape, params: float, count: Count, *, ratio: float) -> Shape:
    """Move the feed-forward width, by a factor of 2 at most, to bring the count to the target."""
    unit = 3 * shape.width * shape.layers
    finest = max(1.0, min(FFN_SHARE * params / unit, shape.width / 8))
    step = 2 ** math.floor(math.log2(finest))
    rest = params - (getattr(shape, count) - unit * shape.ffn_width)
    lowest, highest = ratio * shape.width / 2, ratio * shape.width * 2
    wanted = min(max(rest / unit, lowest), highest)
    return replace(shape, ffn_width=max(1, step * round(wanted / step)))
