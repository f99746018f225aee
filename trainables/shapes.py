"""From a parameter count to a model that can be built, by one regular ladder. Pure Python.

What a size does not decide must not jump from one size to the next, or the jumps are read as
skills: heads are 64 wide (or 128, one of them all along a ladder) and half the width where
that is less; depth follows from the width; widths are multiples of what tensor cores tile by. The
feed-forward width takes up what is left of a size.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, get_args

from trainables.families import FAMILIES, Count, Family, Model, Shape
from trainables.families.checks import require

PER_DECADE = 12
"""Sizes per factor of ten: a ratio of 1.21 (assumption: isoFLOP curves are usually sampled at 1.3
to 2, and few sizes, met again on every budget, are compiled once)."""

NEAR = 0.005
"""A size is met within this, as |ln ratio|, wherever the rules leave room."""

FAR = math.log(1.06)
"""A size that is missed by more cannot be built (assumption: a third of a rung)."""

MIN_WIDTH = 8
"""Narrowest model of a default range of sizes (assumption: one head of eight)."""

MAX_WIDTH = 1 << 17
"""Widest model considered: 14 trillion parameters at the usual proportions."""

LARGE = 1e9
"""From this size on widths are multiples of 128, and heads 128 wide in a ladder that begins here
(as in Llama 3; assumption for the bound)."""

HEADS = 2
"""Heads of narrow models: half the model wide, as those of 128 with heads of 64 are. On 1.5e10
FLOPs they are no worse than four at widths 16 to 64, and faster on a CPU
(benchmarks/results/ladder.md); at 115 k params four gained .35 and .62 nats of knowledge (two
seeds), so that a rule which jumps between them bends curves."""

UNEVEN = 1.15
"""Heads may differ by this factor from their usual width where nothing else divides a width."""

MIN_HEAD_DIM = 6
"""Width of a head below which there is but one (assumption)."""

STEPS = (64, 32, 16, 8, 4, 2, 1)
"""Units of the feed-forward width, the coarsest that meets the size being best: matrix products of
multiples of 64 fill a GPU's tiles."""

STATE_STEPS = (16, 8, 4, 2, 1)
"""The same of a recurrent state (assumption: what scan kernels tile by)."""

MIN_STATE = 16
"""Smallest default state of a recurrent mixer: Mamba-1's (Gu & Dao 2023)."""

FINEST = 16
"""Most by which the spacing of widths is divided where a size cannot be met otherwise."""

COARSE = 0.15
"""What halving the unit weighs beside the dial's departure from the usual, both as |ln ratio|
(assumption)."""

REACH = 2.2
"""Feed-forward width, or state, over the family's usual ratio lies within this factor: loss is
flat in it over a wider range (Kaplan et al. 2020, figure 5)."""


def solve(
    params: float, model: Model, *, count: Count = "params_with_head", head_dim: int | None = None
) -> Shape:
    """The regular shape of a parameter count.

    Args:
        params: parameters wanted.
        model: family and rules.
        count: which of the three counts ``params`` means.
        head_dim: width of the heads of wide models where ``model`` does not say it; None for 64,
            or 128 from `LARGE` on.

    Raises:
        ValueError: the size cannot be built within 6 %, or an argument is out of its domain.
    """
    require(0 < params < math.inf, f"params={params}: give a positive finite number")
    _check_count(count)
    require(head_dim is None or head_dim >= 2, f"head_dim={head_dim}: give 2 or more, or None")
    best: _Candidate | None = None
    for finer in (1, 2, 4, 8, FINEST):
        grid = _Grid(model, params > LARGE, head_dim or (128 if params > LARGE else 64), finer)
        for found in _candidates(grid, params, count):
            if best is None or found < best:
                best = found
        if best is not None and not best.missed:
            break
    if best is None or best.missed > FAR:
        near = "none is near" if best is None else f"the nearest is {best.describe(count)}"
        raise ValueError(
            f"size {params:,.0f} cannot be built: {near}; raise the size, or lower "
            "model.vocabulary, model.layers or model.min_layers"
        )
    return best.shape


def _check_count(count: str) -> None:
    """Refuse a way of counting that there is not."""
    known = get_args(Count)
    require(count in known, f"count={count!r}: choose one of {', '.join(known)}")


def sizes(
    low: float,
    high: float,
    model: Model,
    *,
    count: Count = "params_with_head",
    per_decade: int = PER_DECADE,
) -> list[Shape]:
    """The rungs of the ladder between two parameter counts, ascending and distinct.

    Rungs are powers of 10^(1/per_decade), the same whatever the bounds, and share one width of
    heads.

    Args:
        low: smallest parameter count.
        high: largest parameter count.
        model: family and rules.
        count: which of the three counts the bounds mean.
        per_decade: rungs per factor of ten.

    Raises:
        ValueError: the bounds are not increasing, or no size between them can be built.
    """
    _check_count(count)
    require(per_decade >= 1, f"per_decade={per_decade}: give 1 or more")
    if not 0 < low <= high:
        raise ValueError(f"sizes: {low:g}..{high:g} is no range; give 0 < low <= high")
    if low < getattr(smallest(model), count):
        solve(low, model, count=count)  # or says why not
    head_dim = 128 if low > LARGE else 64
    first, last = (per_decade * math.log10(bound) for bound in (low, high))
    rungs = [10 ** (k / per_decade) for k in range(math.ceil(first - 0.02), int(last + 0.02) + 1)]
    found, refused = {}, None
    for rung in rungs or [math.sqrt(low * high)]:
        try:
            shape = solve(rung, model, count=count, head_dim=head_dim)
        except ValueError as error:
            refused = error  # between two widths of a model that is nearly all embedding
            continue
        found[getattr(shape, count)] = shape
    if refused is not None and not found:
        raise refused
    return [found[params] for params in sorted(found)]


def smallest(model: Model) -> Shape:
    """The smallest shape worth training: `MIN_WIDTH` wide and as shallow as the model allows."""
    grid = _Grid(model, False, 64, 1)
    width = next(w for w in grid.widths() if w >= MIN_WIDTH)
    return grid.start(width, grid.depth(width), "params_with_head").shape


class _Candidate(NamedTuple):
    """A shape, ordered by how well it serves.

    Attributes:
        missed: distance from the size, |ln ratio|, where above `NEAR`; else 0.
        bent: departure from the usual proportions.
        shape: the shape.
    """

    missed: float
    bent: float
    shape: Shape

    def describe(self, count: Count) -> str:
        """The shape in words."""
        shape = self.shape
        found = f"{getattr(shape, count):,}"
        return f"{found} with width {shape.width} and {shape.layers} layers"

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        return self[:2] < other[:2]


class _Grid(NamedTuple):
    """The widths there are, and what follows from one.

    Attributes:
        model: family and rules.
        large: whether widths are those of large models.
        head_dim: width of a head in wide models.
        finer: by what the spacing of widths is divided: the embedding of a large vocabulary leaves
            gaps between regular widths that nothing else can fill.
    """

    model: Model
    large: bool
    head_dim: int
    finer: int

    @property
    def family(self) -> Family:
        """The model's family."""
        return FAMILIES[self.model.family]

    @property
    def reach(self) -> float:
        """How far the dial may be turned: farther where no grid is left to try."""
        return REACH if self.finer < FINEST else REACH**2

    def widths(self) -> tuple[int, ...]:
        """All widths of the grid, ascending."""
        return _widths(*self)

    def heads(self, width: int) -> tuple[int, int] | None:
        """Heads and their width; None if this width cannot be divided so."""
        family, asked = self.family, self.model.head_dim
        inner, unit = family.head_share * width, family.head_multiple
        if not family.attends:
            return 1, inner
        usual = asked or self.head_dim
        narrow = inner < (usual if asked else HEADS * usual)
        if narrow:
            heads = 1 if asked else min(HEADS, max(1, round(inner / MIN_HEAD_DIM)))
            usual = inner // heads
        else:
            heads = round(inner / usual)
        if family.free_heads and not asked:
            return heads, unit * math.floor(inner / heads / unit + 0.5) if narrow else usual
        dim, near = inner // heads, 1.0 if asked and not narrow else UNEVEN
        even = inner % (unit * heads) == 0 and max(dim, usual) <= near * min(dim, usual)
        return (heads, dim) if even else None

    def depth(self, width: int) -> int:
        """Layers at a width: fixed, or by the aspect."""
        if self.model.layers is not None:
            return self.model.layers
        return max(self.model.min_layers, round(width / self.model.aspect))

    def depths(self, width: int) -> range:
        """Layers allowed at a width, where a family cannot be sized by its other dials."""
        usual, slack = self.depth(width), self.family.depth_slack
        if self.model.layers is not None or (slack == 1 and self.finer < 8):
            return range(usual, usual + 1)
        low = min(usual, max(self.model.min_layers, math.floor(min(usual - 1, usual / slack))))
        return range(low, max(usual + 1, math.ceil(usual * slack)) + 1)

    def start(self, width: int, layers: int, count: Count) -> _Start:
        """The shape of a width and depth with the usual other proportions."""
        return _start(*self, width, layers, count)


class _Start(NamedTuple):
    """A shape of usual proportions, and the line on which its dial moves it.

    Attributes:
        shape: the shape.
        params: its count.
        usual: value of its dial.
        unit: what one more on the dial adds.
    """

    shape: Shape
    params: int
    usual: int
    unit: int

    def at(self, value: float) -> float:
        """The count with the dial at a value."""
        return self.params + (value - self.usual) * self.unit


@lru_cache(maxsize=256)
def _widths(model: Model, large: bool, head_dim: int, finer: int) -> tuple[int, ...]:
    """Multiples of 64 (large models: 128) from 256 on, of 32 from 128 on, of 8 or 4 below."""
    grid = _Grid(model, large, head_dim, finer)
    found, width = [], 0
    while width < MAX_WIDTH:
        narrow = 4 if grid.family.free_heads and width < 64 else 8
        step = narrow if width < 128 else 32 if width < 256 else 128 if large else 64
        width += max(2 if width < 64 else 4 if width < 128 else 8, step // finer)
        if grid.heads(width):
            found.append(width)
    return tuple(found)


@lru_cache(maxsize=1 << 14)
def _start(
    model: Model, large: bool, head_dim: int, finer: int, width: int, layers: int, count: Count
) -> _Start:
    """See `_Grid.start`."""
    grid = _Grid(model, large, head_dim, finer)
    family, (experts, active) = grid.family, model.mixture
    heads, dim = grid.heads(width) or (1, width)
    shape = Shape(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=_kv_heads(heads, model.kv_groups),
        head_dim=dim,
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
    usual: int = getattr(shape, _dial(shape))
    params = getattr(shape, count)
    return _Start(shape, params, usual, getattr(_turned(shape, usual + 1), count) - params)


def _kv_heads(heads: int, groups: int) -> int:
    """Key-value heads: the divisor of the heads nearest to heads / groups."""
    divisors = [h for h in range(1, heads + 1) if heads % h == 0]
    return min(divisors, key=lambda h: abs(math.log(h * groups / heads)))


def _state(width: int, model: Model) -> int:
    """The state asked for, or the family's, less in narrow models."""
    most = FAMILIES[model.family].state
    return model.state or min(most, max(MIN_STATE, width // 4 // MIN_STATE * MIN_STATE))


def _candidates(grid: _Grid, params: float, count: Count) -> Iterator[_Candidate]:
    """Shapes of the widths whose dial can reach a size, and the two just outside."""
    widths = grid.widths()

    def reach(width: int, factor: float, pick: Any) -> float:
        start = grid.start(width, pick(grid.depths(width)), count)
        return start.at(factor * start.usual)

    first = bisect_left(widths, params, key=lambda w: reach(w, grid.reach, max))
    last = bisect_left(widths, params, key=lambda w: reach(w, 1 / grid.reach, min))
    for width in widths[max(0, first - 1) : last + 1]:
        depths = grid.depths(width)
        # Of many depths the two beside the size serve best.
        near = bisect_left([grid.start(width, n, count).params for n in depths], params)
        for layers in {depths[max(0, near - 1)], depths[min(near, len(depths) - 1)]}:
            yield _filled(grid, grid.start(width, layers, count), params)


def _filled(grid: _Grid, start: _Start, params: float) -> _Candidate:
    """The shape with its dial, in the coarsest unit that will do, where it meets a size best."""
    shape, usual = start.shape, start.usual
    wanted = usual + (params - start.params) / start.unit
    wanted = min(max(wanted, usual / grid.reach), usual * grid.reach)
    bent = 2 * abs(math.log(shape.layers / grid.depth(shape.width)))
    bent += 0.5 * abs(math.log(shape.kv_heads * grid.model.kv_groups / shape.heads))
    bent += abs(math.log(shape.heads * shape.head_dim / grid.family.head_share / shape.width))
    options = []
    for place, step in enumerate(STEPS if _dial(shape) == "ffn_width" else STATE_STEPS):
        value = step * max(1, round(wanted / step))
        off = abs(math.log(start.at(value) / params))
        coarse = COARSE * place if shape.width >= 256 else 0.0
        dial = abs(math.log(value / usual))
        options.append((off if off > NEAR else 0.0, bent + dial + coarse, value))
    missed, bent, value = min(options)
    return _Candidate(missed, bent, _turned(shape, value))


def _dial(shape: Shape) -> str:
    """The field that takes up what is left of a size."""
    return "ffn_width" if FAMILIES[shape.family].ffn_ratio else "state"


def _turned(shape: Shape, value: int) -> Shape:
    """The shape with its dial at a value."""
    changed: dict[str, Any] = {_dial(shape): value}
    return replace(shape, **changed)
