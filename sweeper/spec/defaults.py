"""What a spec leaves out on a corpus of its own: context, vocabulary, batch and rate, by rules.

The built-in corpora have numbers of their own (`trainables.training.Train`, tuned on them); text
that somebody brings gets what published rules say for its budgets and device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sweeper.spec.devices import Device
from trainables.data import Data, Prepared
from trainables.families import Model
from trainables.manifest import PADDING
from trainables.recipe import deepseek_batch
from trainables.training import BUILT_IN, RuleName, Train

CONTEXTS = {False: (64, 256), True: (512, 2048)}
"""Shortest and longest context by default, on CPU cores and on GPUs: a power of two that holds an
average document. 2048 is the usual one of published sweeps (Hoffmann et al. 2022; Porian et al.
2024); 256 on a core is an assumption, as attention grows with it."""

HELD_OUT_SEQUENCES = 16
"""Held-out sequences that a class keeps at the default context (what scoring takes at least,
`sweeper.spec.scoring.FEWEST`)."""

RULES: tuple[tuple[float, RuleName], ...] = ((1e16, "width"), (1e20, "deepseek"))
"""Rule by the largest budget, up to this many FLOPs; "llama3" above. DeepSeek's was measured from
1e17 to 1e20, Llama 3's from 6e18 to 1e22; below a tenth of its range none is published, and the
rule "width" stands in, with DeepSeek's batch and the rate scaled as its square root."""


def model_of(model: Model, data: Data, device: Device, train: Train) -> Model:
    """The model, with what was left out of it taken from a prepared corpus."""
    if not isinstance(data, Prepared):
        return model
    found: dict[str, Any] = {}
    if "vocabulary" in model.left_out:
        size = data.packed.vocabulary
        found["vocabulary"] = -(-size // PADDING) * PADDING if device.is_gpu else size
    if "context" in model.left_out:
        batch = math.inf if "batch_tokens" in train.left_out else train.batch_tokens
        found["context"] = int(min(context_of(data, device), batch))
    return replace(model, **found) if found else model


def context_of(data: Prepared, device: Device) -> int:
    """The default context: a power of two that an average document of any class fits in."""
    low, high = CONTEXTS[device.is_gpu]
    classes = data.packed.classes.values()
    longest = max(entry.mean_tokens for entry in classes)
    held_out = min(entry.validation_tokens for entry in classes) // HELD_OUT_SEQUENCES
    wanted = 1 << math.ceil(math.log2(min(max(longest, low), high)))
    return max(2, min(wanted, 1 << int(math.log2(max(held_out, 2)))))


def train_of(train: Train, data: Data, budgets: Sequence[float], context: int) -> Train:
    """The training, with the rule, batch and rate that were left out filled in for own text."""
    if not isinstance(data, Prepared) or "rule" not in train.left_out or train.law.batch:
        return train
    numbers = {"batch_tokens", "learning_rate"} & train.left_out
    rule: RuleName = next((name for most, name in RULES if budgets[-1] < most), "llama3")
    own = len(numbers) < 2 or train.own_numbers or train.law.learning_rate is not None
    if rule != "width" and not own:
        return replace(train, rule=rule)
    found: dict[str, Any] = {}
    batch = train.batch_tokens
    if "batch_tokens" in numbers:
        power = 2 ** round(math.log2(deepseek_batch(budgets[0])))
        batch = found["batch_tokens"] = int(max(power, context))
    if "learning_rate" in numbers:
        found["learning_rate"] = scaled_rate(batch)
    return replace(train, **found)


def scaled_rate(batch_tokens: float) -> float:
    """The built-in rate at another batch: Adam's best rate grows as the batch's square root
    (Malladi et al. 2022, arXiv 2205.10287).
    """
    rate = BUILT_IN["learning_rate"] * math.sqrt(batch_tokens / BUILT_IN["batch_tokens"])
    return float(f"{rate:.2g}")
