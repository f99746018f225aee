"""The optimiser and its schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from trainables.recipe import Recipe
from trainables.training import Train


def make_optimizer(
    network: nn.Module, settings: Train, recipe: Recipe, *, graphed: bool = False
) -> torch.optim.AdamW:
    """AdamW in one kernel, with weight decay on matrices only.

    Args:
        graphed: whether its step is to be recorded: then the rate lies on the device.
    """
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, recipe.beta2)
    rate: Any = recipe.learning_rate
    if graphed:
        rate = torch.tensor(rate, dtype=torch.float32, device=parameters[0].device)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True, capturable=graphed)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step, in place where a recorded step reads it."""
    for part in optimizer.param_groups:
        if isinstance(part["lr"], torch.Tensor):
            part["lr"].fill_(rate)
        else:
            part["lr"] = rate


def rate_at(settings: Train, recipe: Recipe, step: int) -> float:
    """Learning rate of a step: linear warm-up, then the spec's schedule to its final share."""
    peak, steps = recipe.learning_rate, recipe.steps
    if step < recipe.warmup:
        return peak * (step + 1) / (recipe.warmup + 1)
    if settings.schedule == "wsd":
        decaying = math.ceil(settings.decay * steps)
        left = min(1.0, (steps - 1 - step) / decaying)
        return peak * (settings.final + (1 - settings.final) * left)
    done = (step - recipe.warmup) / max(1, steps - 1 - recipe.warmup)
    return peak * (settings.final + (1 - settings.final) * (1 + math.cos(math.pi * done)) / 2)
