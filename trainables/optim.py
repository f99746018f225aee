"""The optimiser and its schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from trainables.config import Train


def make_optimizer(network: nn.Module, settings: Train) -> torch.optim.AdamW:
    """AdamW in one kernel, with weight decay on matrices only."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)


def rate_at(settings: Train, width: int, step: int, steps: int) -> float:
    """Learning rate of a step: linear warm-up, then cosine to the final share of the peak."""
    peak = settings.peak_rate(width)
    warmup = math.ceil(settings.warmup * steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (settings.final + (1 - settings.final) * (1 + math.cos(math.pi * done)) / 2)
