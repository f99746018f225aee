"""A whole optimiser step as one CUDA graph: small models wait for launches, not for the GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_STEPS = 3
"""Steps taken before one is recorded: libraries set themselves up in the first (torch's notes on
CUDA graphs take three)."""


class StepGraph:
    """Takes the first steps as they come, records one, and replays it from then on.

    Args:
        step: a whole step on (sequences, context) tokens, without a wait for the GPU; returns
            this worker's share of the loss.
        rows: sequences of a full step; a smaller one, the last, is taken as it comes.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], rows: int) -> None:
        self._step, self._rows, self._taken = step, rows, 0
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._tokens = self._share = torch.empty(0)

    def take(self, sequences: Tensor) -> Tensor:
        """Take one step; what it returns stays as it is while others follow."""
        if len(sequences) != self._rows:
            return self._step(sequences)
        self._taken += 1
        if self._taken <= WARM_STEPS:
            return self._warm(sequences)
        if self._graph is None:
            self._record(sequences)
        self._tokens.copy_(sequences)
        assert self._graph is not None
        self._graph.replay()
        return self._share.clone()

    def _warm(self, sequences: Tensor) -> Tensor:
        """A step on the stream that will be recorded."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            share = self._step(sequences)
        torch.cuda.current_stream().wait_stream(self._stream)
        return share

    def _record(self, sequences: Tensor) -> None:
        """Record a step; nothing is computed by it."""
        self._tokens = sequences.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._share = self._step(self._tokens)
