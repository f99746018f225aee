"""From a parameter count to a model that can be built. Pure Python."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from trainables.families import FAMILIES, Count, Model, Shape

__all__ = ["Count", "Shape", "sizes", "smallest", "solve"]

MAX_RATIO = 1.06
"""Consecutive sizes of the ladder are no farther apart than this (assumption: a tenth of the
spacing at which isoFLOP curves are usually sampled)."""

DIAL_SHARE = 0.01
"""The dial (see `_fill`) moves in steps of at most this share of all parameters, which bounds the
rounding error of a size by half of it."""

NEAR = DIAL_SHARE / 2
"""A shape this near to a wanted size, as |ln ratio|, is taken without looking further."""

EMBEDDING_HEAVY = 48
"""Above this many vocabulary rows per unit of width the embedding outweighs two blocks twice over,
and only the width can tune the size (12 x 2 layers x width weights per unit of width)."""

MIN_WIDTH = 8
"""Narrowest model of a default range of sizes (assumption: one head of eight)."""

MAX_WIDTH = 1 << 17
"""Widest model considered: 14 trillion parameters at the usual proportions."""

MIN_STATE = 16
"""Smallest default state of a recurrent mixer: Mamba-1's (Gu & Dao 2023)."""

STATE_STEP = 16
"""States of wide models are multiples of this (assumption: what scan kernels tile by)."""


def solve(params: float, model: Model, *, count: Count = "params_with_head") -> Shape:
    """The realisable shape nearest to a parameter count.

    Width and depth are chosen with the other proportions as usual; then the feed-forward width
    (where there is none, the recurrent state) takes up what is left.

    Args:
        params: parameters wanted.
        model: family and rules.
        count: which of the three counts ``params`` means.

    Raises:
        ValueError: the size cannot be built within 6 %.
    """
    starts = sorted(_regular(params, model, count), key=lambda s: _distance(s, params, count))
    shape = _fill(starts[0], params, count)
    for start in starts[1:]:
        if _distance(shape, params, count) <= NEAR:
            break
        filled = _fill(start, params, count)
        shape = min(shape, filled, key=lambda s: _distance(s, params, count))
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
    """Shapes of usual proportions, of the widths that can come near the target."""
    family = FAMILIES[model.family]
    widths = _widths(model.head_dim, model.vocabulary, family.head_multiple, family.granule)

    def at(pick: Any) -> int:
        """Index of the first width whose shallowest or deepest shape reaches the target."""
        return bisect_left(
            widths,
            params,
            key=lambda w: getattr(_shape(w, pick(_depths(w, model)), model), count),
        )

    # Counts are not quite monotone in the width, as heads must divide it: a few more either side.
    for width in widths[max(0, at(max) - 3) : at(min) + 3]:
        for layers in _depths(width, model):
            yield _shape(width, layers, model)


def _depths(width: int, model: Model) -> tuple[int, ...]:
    """Depths allowed at a width: the fixed one, or those either side of the aspect rule."""
    if model.layers is not None:
        return (model.layers,)
    depth = width / model.aspect
    slack = FAMILIES[model.family].depth_slack
    lowest, highest = math.floor(depth / slack), math.ceil(depth * slack)
    step = max(1, (highest - lowest) // 12)
    wanted = range(lowest, highest + step, step)
    return tuple(sorted({max(model.min_layers, layers) for layers in wanted}))


def _head_dim(width: int, head_dim: int | None) -> int:
    """Width of one head aimed at; see `Model.head_dim`."""
    if head_dim is not None:
        return head_dim
    return 16 if width < 256 else 64 if width < 2048 else 128


@lru_cache(maxsize=64)
def _widths(
    head_dim: int | None, vocabulary: int, head_multiple: int, granule: int
) -> tuple[int, ...]:
    """All widths, ascending."""
    widths, width = [], head_multiple
    while width <= MAX_WIDTH:
        widths.append(width)
        width += _step(width, _head_dim(width, head_dim), vocabulary)
        # Narrow models may break the granule, or no two of them would be near in size.
        unit = max(
            head_multiple, min(granule, 1 << int(math.log2(width / 16) if width > 127 else 1))
        )
        width = math.ceil(width / unit) * unit
    return tuple(widths)


def _step(width: int, head_dim: int, vocabulary: int) -> int:
    """To the next width: 2 or 8 at small scale, whole heads (about 3 % and up) at large."""
    if width < 2 * head_dim:
        return 2
    if vocabulary > EMBEDDING_HEAVY * width:
        return 2 if width < 128 else 8
    if width < 8 * head_dim:
        return max(2, head_dim // 2)
    return head_dim * max(1, width // (32 * head_dim))


@lru_cache(maxsize=1 << 14)
def _shape(width: int, layers: int, model: Model) -> Shape:
    """The shape of given width and depth with the usual other proportions."""
    family = FAMILIES[model.family]
    inner = family.head_share * width
    most = max(1, width // _head_dim(width, model.head_dim))
    heads = next(h for h in range(most, 0, -1) if inner % (family.head_multiple * h) == 0)
    kv_heads = heads // model.kv_groups if heads % model.kv_groups == 0 else heads
    experts, active = model.mixture
    return Shape(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=inner // heads,
        ffn_width=max(1, round((model.ffn_ratio or family.ffn_ratio or 1) * width)),
        vocabulary=model.vocabulary,
        context=model.context,
        tied=bool(model.tied),
        family=model.family,
        state=_state(width, model),
        every=model.attention_every or family.every,
        experts=experts,
        active_experts=active,
        extra=dict(model.extra),
    )


def _state(width: int, model: Model) -> int:
    """The state asked for, or the family's, less in narrow models."""
    most = FAMILIES[model.family].state
    return model.state or min(most, max(MIN_STATE, width // 4 // STATE_STEP * STATE_STEP))


def _fill(shape: Shape, params: float, count: Count) -> Shape:
    """Move the dial, by a factor of 2 (a state: 4) at most, to bring the count to the target."""
    dial = "ffn_width" if FAMILIES[shape.family].ffn_ratio else "state"
    value: int = getattr(shape, dial)
    now = getattr(shape, count)
    unit = getattr(_turned(shape, dial, value + 1), count) - now
    coarsest = shape.width / 8 if dial == "ffn_width" else min(STATE_STEP, shape.width / 32)
    step = 2 ** math.floor(math.log2(max(1.0, min(DIAL_SHARE * params / unit, coarsest))))
    furthest = 2 if dial == "ffn_width" else 4
    wanted = min(max(value + (params - now) / unit, value / 2), value * furthest)
    return _turned(shape, dial, max(1, step * round(wanted / step)))


def _turned(shape: Shape, dial: str, value: int) -> Shape:
    """The shape with its dial at a value."""
    changed: dict[str, Any] = {dial: value}
    return replace(shape, **changed)
