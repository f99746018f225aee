"""One optimiser step: micro-batches that fit the memory, gradients, clipping, rate, descent."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.engine.loss import Objective
from trainables.engine.optim import make_optimizer, rate_at
from trainables.engine.parallel import Group, choose_dtype, synchronised, wrap
from trainables.families import Shape
from trainables.families.memory import CPU_MICRO_TOKENS, GPU_MICRO_TOKENS, estimate
from trainables.training import Train

MEMORY_SHARE = 0.8
"""Share of a GPU's free memory that the first guess may fill: it rests on an estimate."""


class Stepper:
    """Takes the optimiser steps of one trial on one worker.

    Args:
        objective: network and loss, on their device.
        config: the trial.
        group: the workers.
    """

    def __init__(self, objective: Objective, config: TrialConfig, group: Group) -> None:
        settings, device = config.train, group.device
        self.dtype = choose_dtype(settings.dtype, device)
        self.micro = first_micro(settings, config.shape, group, self.dtype)
        if config.halvings:
            largest = math.ceil(config.recipe.batch / group.count)
            self.micro = max(1, min(self.micro, largest) >> config.halvings)
        self.model = wrap(objective, settings, group, self.dtype)
        self.optimizer = make_optimizer(objective.network, settings, config.recipe)
        self._settings, self._recipe, self._group = settings, config.recipe, group
        self._context = config.shape.context
        # Walking the module tree at every step would cost a small model several per cent of it.
        self._parameters = list(objective.network.parameters())

    def take(self, sequences: Tensor, *, valid: int, rows: int, step: int) -> Tensor:
        """Take one step.

        Args:
            sequences: this worker's (at least one), on the CPU.
            valid: how many of them count; the others keep the workers in step.
            rows: sequences of the step on all workers.
            step: its number, for the rate.

        Returns:
            This worker's share of the mean NLL per token, in nats; nothing waits for it.
        """
        if self._group.device.type == "cuda":
            sequences = sequences.pin_memory().to(self._group.device, non_blocking=True)
        share = None
        while share is None:
            share = self._gradients(sequences, valid, rows)
        nn.utils.clip_grad_norm_(self._parameters, self._settings.clip)
        rate = rate_at(self._settings, self._recipe, step)
        for part in self.optimizer.param_groups:
            part["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return share

    def _gradients(self, sequences: Tensor, valid: int, rows: int) -> Tensor | None:
        """Accumulate the gradients of a step; None if memory ran out and smaller parts may fit."""
        tokens = rows * self._context
        turns = math.ceil(math.ceil(rows / self._group.count) / self.micro)
        share = torch.zeros((), device=self._group.device)
        try:
            for turn in range(turns):
                first = turn * self.micro
                part = sequences[first : first + self.micro]
                counted = min(max(valid - first, 0), len(part))
                part = part if len(part) else sequences[:1]
                with synchronised(self.model, last=turn == turns - 1):
                    share += self._backward(part, counted, tokens)
        except torch.OutOfMemoryError:
            self._halve()
            return None
        return share

    def _backward(self, part: Tensor, counted: int, tokens: int) -> Tensor:
        """Gradients of one micro-batch; its share of the mean NLL."""
        kind, enabled = self._group.device.type, self.dtype != torch.float32
        with torch.autocast(kind, dtype=self.dtype, enabled=enabled):
            objective, nll = self.model(part, counted)
        # Data parallelism averages gradients over workers; the loss is a sum over their slices.
        (objective * (self._group.count / tokens)).backward()
        share: Tensor = nll / tokens
        return share

    def _halve(self) -> None:
        """Halve the micro-batch after memory ran out.

        Raises:
            torch.OutOfMemoryError: it is one sequence already; or there are other workers, which
                are waiting for gradients by now.
        """
        if self.micro == 1 or self._group.count > 1:
            raise torch.OutOfMemoryError(
                f"out of memory with micro-batches of {self.micro} sequences: set "
                "train.micro_batch lower, train.recompute: true or train.parallel: fsdp, or give "
                "the trial more or larger devices"
            )
        self.micro //= 2
        self.optimizer.zero_grad()
        torch.cuda.empty_cache()


def first_micro(settings: Train, shape: Shape, group: Group, dtype: torch.dtype) -> int:
    """Sequences per micro-batch: the spec's, or as many as the free memory is likely to hold."""
    if settings.micro_batch:
        return settings.micro_batch
    if group.device.type != "cuda":
        return max(1, CPU_MICRO_TOKENS // shape.context)
    # The estimate counts the weights, which lie on the device already.
    free = torch.cuda.mem_get_info(group.device)[0] + torch.cuda.memory_allocated(group.device)
    none, one = (
        estimate(
            shape,
            count * shape.context,
            workers=group.count,
            sharded=settings.parallel == "fsdp",
            bf16=dtype == torch.bfloat16,
            recompute=settings.recompute,
            eager=settings.attention == "eager",
            gpu=True,
        ).total
        for count in (0, 1)
    )
    fitting = int((MEMORY_SHARE * free - none) / (one - none))
    return max(1, min(fitting, GPU_MICRO_TOKENS // shape.context))
