"""One optimiser step: micro-batches that fit the memory, gradients, clipping, rate, descent."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.engine.compiling import uncompiled
from trainables.engine.graph import StepGraph
from trainables.engine.loss import Objective
from trainables.engine.optim import make_optimizer, rate_at, set_rate
from trainables.engine.parallel import Group, choose_dtype, synchronised, wrap
from trainables.families import Shape
from trainables.families.memory import CPU_MICRO_TOKENS, GPU_MICRO_TOKENS, most_tokens
from trainables.training import Train

MEMORY_SHARE = 0.8
"""Share of a GPU's free memory that the first guess may fill: it rests on an estimate."""


OUT_OF_MEMORY = (
    "out of memory with micro-batches of {} sequences: set train.micro_batch lower, "
    "train.recompute: true or train.parallel: fsdp, or give the trial more or larger devices"
)


class Stepper:
    """Takes the optimiser steps of one trial on one worker.

    Args:
        objective: network and loss, on their device.
        config: the trial.
        group: the workers.
        weights: the whole model's, on the first of workers that share it in shards.
    """

    def __init__(
        self,
        objective: Objective,
        config: TrialConfig,
        group: Group,
        weights: Mapping[str, Tensor],
    ) -> None:
        settings, device, params = config.train, group.device, config.shape.params_total
        self.dtype = choose_dtype(settings.dtype, device)
        self.micro = first_micro(settings, config.shape, group, self.dtype)
        largest = math.ceil(config.recipe.batch / group.count)
        if config.halvings:
            self.micro = max(1, min(self.micro, largest) >> config.halvings)
        self.compiled = settings.compiles(params, gpu=device.type == "cuda")
        self._usual = min(self.micro, largest)
        self.model = wrap(
            objective, settings, group, self.dtype, compiled=self.compiled, weights=weights
        )
        graphed = device.type == "cuda" and group.count == 1
        graphed = graphed and settings.graphs_step(params, gpu=True)
        self.optimizer = make_optimizer(
            objective.network, settings, config.recipe, graphed=graphed
        )
        self._graph = StepGraph(self._whole, config.recipe.batch) if graphed else None
        self._settings, self._recipe, self._group = settings, config.recipe, group
        self._context = config.shape.context
        # Walking the module tree at every step would cost a small model several per cent of it.
        self._parameters = list(objective.network.parameters())

    @property
    def engine(self) -> str:
        """What takes the steps, in words: a trial's record keeps it."""
        how = "graph" if self._graph else "compiled" if self.compiled else "eager"
        shared = f" {self._settings.parallel} {self._group.count}" if self._group.count > 1 else ""
        return f"torch {torch.__version__} {how}{shared}"

    def take(self, sequences: Tensor, *, valid: int, rows: int, step: int) -> Tensor:
        """Take one step.

        Args:
            sequences: this worker's (at least one), on the CPU.
            valid: how many of them count; the others keep the workers in step.
            rows: sequences of the step on all workers.

        Returns:
            This worker's share of the mean NLL per token, in nats; nothing waits for it.
        """
        set_rate(self.optimizer, rate_at(self._settings, self._recipe, step))
        if self._group.device.type == "cuda":
            sequences = sequences.pin_memory().to(self._group.device, non_blocking=True)
        if self._graph is not None:
            return self._graph.take(sequences)
        share = None
        while share is None:
            share = self._gradients(sequences, valid, rows)
        self._descend()
        return share

    def _whole(self, sequences: Tensor) -> Tensor:
        """The whole step of one worker, as it is kept in a graph."""
        share = self._gradients(sequences, len(sequences), len(sequences))
        if share is None:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY.format(self.micro * 2))
        self._descend()
        return share

    def _descend(self) -> None:
        """Clip the gradients, take AdamW's step and forget them."""
        nn.utils.clip_grad_norm_(self._parameters, self._settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

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
        # Another number of sequences would be compiled again, for one step.
        odd = self.compiled and (len(part) != self._usual or counted != len(part))
        with uncompiled(odd), torch.autocast(kind, dtype=self.dtype, enabled=enabled):
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
            raise torch.OutOfMemoryError(OUT_OF_MEMORY.format(self.micro))
        self.micro //= 2
        self._usual = self.micro
        self.optimizer.zero_grad()
        torch.cuda.empty_cache()


def first_micro(settings: Train, shape: Shape, group: Group, dtype: torch.dtype) -> int:
    """Sequences per micro-batch: the spec's, or as many as the free memory is likely to hold."""
    if settings.micro_batch:
        return settings.micro_batch
    if group.device.type != "cuda":
        return max(1, CPU_MICRO_TOKENS // shape.context)
    # What this process holds already is its own to use: the weights, which the estimate counts,
    # and blocks cached since an earlier trial.
    free = torch.cuda.mem_get_info(group.device)[0] + torch.cuda.memory_reserved(group.device)
    fitting = most_tokens(
        shape,
        MEMORY_SHARE * free,
        workers=group.count,
        sharded=settings.parallel == "fsdp",
        bf16=dtype == torch.bfloat16,
        recompute=settings.recompute,
        eager=settings.attention == "eager",
        gpu=True,
    )
    return max(1, min(fitting, GPU_MICRO_TOKENS) // shape.context)
