"""Learning rate, batch, second moment and warm-up of a trial: published rules, or a fitted law.

Pure Python, so that a plan can show what a rule comes to. Printed rules hold for their own count
of params; each says which. A law that `isoskill tune` measured is given by its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from trainables.training import Train

PUBLISHED_WARMUP_STEPS = 2000
"""Linear warm-up of Llama 3's sweep (arXiv 2407.21783, section 3.2.1) and DeepSeek LLM
(2401.02954, section 2.3); for Step Law (2503.04715) an assumption."""

LONGEST_WARMUP = 0.5
"""Share of the steps a published warm-up is cut to in short trials (assumption: half the training
is left to the schedule)."""

USUAL_BETA2 = 0.95
"""Second moment of DeepSeek LLM (2401.02954, section 2.3) and Llama 2 (2307.09288, section 2.2);
for Llama 3's sweep, which prints none, and Step Law (2503.04715) an assumption."""


class Sized(Protocol):
    """What a rule may ask of a model: a shape, or a size that a user states."""

    @property
    def width(self) -> int:
        """Of the residual stream."""

    @property
    def context(self) -> int:
        """Tokens of a sequence."""

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""

    @property
    def params_with_head(self) -> int:
        """All parameters but the input embedding's."""

    @property
    def params_without_embeddings(self) -> int:
        """Those of the blocks."""

    def flops_per_token(self, convention: Literal["6p", "exact"] = "6p") -> float:
        """Training FLOPs per token."""


@dataclass(frozen=True)
class Recipe:
    """What the rule and the law come to for one trial.

    Attributes:
        batch: sequences per step.
        beta2: AdamW's second moment.
        warmup: steps with a linearly rising rate.
        steps: optimiser steps of the whole trial; the last one may be smaller.
    """

    learning_rate: float
    batch: int
    beta2: float
    warmup: int
    steps: int


@dataclass(frozen=True)
class _Advice:
    """A rule's answer, before rounding; ``warmup`` in steps of a training of this many."""

    learning_rate: float
    batch_tokens: float
    beta2: float = USUAL_BETA2
    warmup: Callable[[int], float] = field(default=lambda steps: PUBLISHED_WARMUP_STEPS)


def recipe(settings: Train, shape: Sized, tokens: int) -> Recipe:
    """The recipe of one trial."""
    advice, law = _RULES[settings.rule](settings, shape, tokens), settings.law
    params, rate, batch_tokens = shape.params_with_head, advice.learning_rate, advice.batch_tokens
    if law.learning_rate is not None:
        rate = law.learning_rate(params, tokens)
    if law.batch is not None:
        batch_tokens = law.batch(params, tokens)
    batch = max(1, round(batch_tokens / shape.context))
    steps = math.ceil(round(tokens / shape.context) / batch)
    own = settings.rule == "width"
    longest = steps if own else math.floor(LONGEST_WARMUP * steps)
    warmup = min(longest, math.ceil(advice.warmup(steps)))
    return Recipe(rate, batch, advice.beta2, warmup, steps)


def fewest_tokens(settings: Train, shape: Sized, steps: int) -> int:
    """Fewest tokens on which a model takes this many steps.

    The batch may grow with the tokens, more slowly than they do, so the answer is the limit of
    "as many tokens as the batch of the last guess needs".
    """
    tokens, needed = 0, shape.context
    while needed > tokens:
        tokens = needed
        needed = steps * recipe(settings, shape, tokens).batch * shape.context
    return tokens


def _width(settings: Train, shape: Sized, tokens: int) -> _Advice:
    """The spec's own numbers, the rate falling with the width."""
    return _Advice(
        learning_rate=settings.peak_rate(shape.width),
        batch_tokens=settings.batch_tokens,
        beta2=settings.beta2,
        warmup=lambda steps: settings.warmup * steps,
    )


def _between(value: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """Log-linear between two (value, result) points, held outside them."""
    share = math.log(value / low[0]) / math.log(high[0] / low[0])
    return low[1] * math.pow(high[1] / low[1], min(max(share, 0.0), 1.0))


def _llama3(settings: Train, shape: Sized, tokens: int) -> _Advice:
    """Llama 3's isoFLOP sweep (arXiv 2407.21783, section 3.2.1).

    Printed are ranges: peak rates 2e-4 to 4e-4 by size for 40 M to 16 B params, batches of 250 K
    to 4 M, fixed within a budget of 6e18 to 1e22. Log-linear between their ends, held outside,
    and batches in tokens, are assumptions. Its cosine ended at .1 of the peak, decay .1.
    """
    flops = 6.0 * shape.params_with_head * tokens
    return _Advice(
        learning_rate=_between(shape.params_with_head, (40e6, 4e-4), (16e9, 2e-4)),
        batch_tokens=_between(flops, (6e18, 250e3), (1e22, 4e6)),
    )


def deepseek_batch(flops: float) -> float:
    """DeepSeek LLM's batch in tokens (arXiv 2401.02954, equation 1), measured from 1e17 FLOPs."""
    return float(0.2920 * math.pow(flops, 0.3271))


def _deepseek(settings: Train, shape: Sized, tokens: int) -> _Advice:
    """DeepSeek LLM (arXiv 2401.02954, equation 1), measured from 1e17 to 1e20 FLOPs.

    Its C counts the blocks' matrix products, attention included, and no embedding or head. Its
    schedule fell in steps, to .316 at 80 % and .1 at 90 % of the training; decay .1.
    """
    head = 6 * shape.vocabulary * shape.width
    flops = float(shape.flops_per_token("exact") - head) * tokens
    return _Advice(
        learning_rate=0.3118 * math.pow(flops, -0.1250),
        batch_tokens=deepseek_batch(flops),
    )


PORIAN_SEQUENCE = 2048
"""Tokens per sequence behind Porian et al.'s batch law."""

PORIAN_LARGE_BATCH = 128 * PORIAN_SEQUENCE
"""Largest batch at which they found beta2 = .95 poor, tokens."""


def _porian(settings: Train, shape: Sized, tokens: int) -> _Advice:
    """Porian et al. 2024 (arXiv 2406.19146, section 3.4), fitted on 25 to 110 M params.

    Params are linear layers and head; near 20 tokens per parameter, constant rate, decay 1e-4.
    Warm-up as long as there are params. Of the beta2 they found better than .95 at small
    batches, .99 and .999, the lower.
    """
    params = shape.params_with_head
    batch = 0.00037 * math.pow(params, 0.703) * PORIAN_SEQUENCE
    return _Advice(
        learning_rate=3.7 * math.pow(params, -0.36),
        batch_tokens=batch,
        beta2=USUAL_BETA2 if batch > PORIAN_LARGE_BATCH else 0.99,
        warmup=lambda steps: steps * params / tokens,
    )


def _steplaw(settings: Train, shape: Sized, tokens: int) -> _Advice:
    """Step Law (Li et al. 2025, arXiv 2503.04715), for .2 to 1.1 B params and 4 to 100 B tokens.

    Params without embeddings. Its cosine ended at a rate of 1e-5 whatever the peak; decay .1.
    """
    body = math.pow(shape.params_without_embeddings, -0.713)
    return _Advice(
        learning_rate=1.79 * body * math.pow(tokens, 0.307),
        batch_tokens=0.58 * math.pow(tokens, 0.571),
    )


_RULES: dict[str, Callable[[Train, Sized, int], _Advice]] = {
    "width": _width,
    "llama3": _llama3,
    "deepseek": _deepseek,
    "porian": _porian,
    "steplaw": _steplaw,
}
