"""Where a trial computes and how its workers act as one: device, precision, DDP, FSDP2.

Everything here runs unchanged with one worker, where it does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from trainables.context import Context
from trainables.engine.compiling import compile_blocks
from trainables.engine.loss import Objective
from trainables.training import Train


class Group:
    """The workers of one trial, as seen by one of them.

    Args:
        context: says which worker this is.
        device: where its tensors live.
    """

    def __init__(self, context: Context, device: torch.device) -> None:
        self.rank, self.count, self.device = context.rank, context.world_size, device

    def total(self, share: Tensor) -> Tensor:
        """Sum of the workers' shares."""
        total = share.clone()
        if self.count > 1:
            distributed.all_reduce(total)
        return total

    def agree(self, *flags: bool) -> list[bool]:
        """The first worker's flags, on all workers."""
        if self.count == 1:
            return list(flags)
        shared = torch.tensor(flags, dtype=torch.int32, device=self.device)
        distributed.broadcast(shared, src=0)
        return [bool(flag) for flag in shared.tolist()]

    def all(self, flag: bool) -> bool:
        """Whether it holds on every worker."""
        return not self.total(torch.tensor(int(not flag), device=self.device)).item()

    def first(self, value: Any) -> Any:
        """The first worker's value, on all workers."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def rows(self, count: int) -> tuple[int, int]:
        """This worker's slice of this many rows."""
        return count * self.rank // self.count, count * (self.rank + 1) // self.count


def choose_device(wanted: str, offered: str) -> torch.device:
    """The device to use: the spec's, unless the context offers a particular one of its kind."""
    if offered != "auto" and wanted in ("auto", torch.device(offered).type):
        return torch.device(offered)
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """What a record calls a device."""
    return str(torch.cuda.get_device_name(device) if device.type == "cuda" else device.type)


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Precision of matrix products: the spec's, by default bfloat16 on a GPU that has it."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if capable else torch.float32


def wrap(
    objective: Objective,
    settings: Train,
    group: Group,
    dtype: torch.dtype,
    *,
    compiled: bool,
    weights: Mapping[str, Tensor],
) -> nn.Module:
    """Make the objective what the step calls: compiled, sharded or replicated as the spec says.

    Weights stay in fp32; under FSDP they travel in the precision of the products.

    Args:
        objective: network and loss; to be sharded, its weights are on the meta device.
        compiled: whether to compile the blocks.
        weights: of the whole network, on the first worker; for shards.
    """
    network = objective.network
    if settings.recompute:
        network.causal.activation_checkpointing_enable({"use_reentrant": False})
    if compiled:
        compile_blocks(network.layers)
    if group.count == 1:
        return objective
    if settings.parallel == "ddp":
        return nn.parallel.DistributedDataParallel(
            objective, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    return _shard(objective, group, dtype, weights)


def _shard(
    objective: Objective, group: Group, dtype: torch.dtype, weights: Mapping[str, Tensor]
) -> nn.Module:
    """Shard weights, gradients and moments over the workers, block by block (FSDP2)."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    narrow = dtype if dtype != torch.float32 else None
    # The residual stream stays in float32, as it does with one worker and under DDP.
    policy = MixedPrecisionPolicy(
        param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for layer in objective.network.separate_layers:
        fully_shard(layer, mp_policy=policy)
    # Embedding, last norm and head stay in float32 too; blocks are most of what travels.
    fully_shard(objective, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
    buffers = dict(objective.named_buffers())
    objective.to_empty(device=group.device)
    for name, buffer in buffers.items():
        objective.get_buffer(name).copy_(buffer)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(objective.network, dict(weights), options=options)
    register_fsdp_forward_method(objective, "nll")
    return objective


@contextlib.contextmanager
def synchronised(model: nn.Module, last: bool) -> Iterator[None]:
    """Exchange gradients on the last micro-batch of a step only."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        with contextlib.nullcontext() if last else model.no_sync():
            yield
        return
    if hasattr(model, "set_requires_gradient_sync"):
        model.set_requires_gradient_sync(last)
    yield
