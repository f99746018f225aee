"""Checkpoints: safetensors shards, one JSON file of progress, and a hash of each file.

Written through torch.distributed.checkpoint, each worker its own part, so that a trial may go on
with another number of workers; its safetensors storage keeps no pickles, so that reading one runs
nothing that lies in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import checkpoint as distributed_checkpoint
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from trainables.context import PROGRESS
from trainables.manifest import file_hash

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each weight."""


class CheckpointError(Exception):
    """A checkpoint is damaged or incomplete; an older one, or none, must serve."""


def tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of a training by name: weights and AdamW's moments, made where missing.

    Tied weights appear once. What is read into these tensors is what the training goes on with.
    """
    state = {f"network.{name}": p.detach() for name, p in network.named_parameters()}
    for name, parameter in network.named_parameters():
        moments = optimizer.state[parameter]
        if not moments:
            moments["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            moments.update({key: torch.zeros_like(parameter) for key in MOMENTS})
        state |= {f"{key}.{name}": moments[key] for key in MOMENTS}
    return state


def set_steps(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Tell AdamW how many steps it has taken: all its weights take them together."""
    for moments in optimizer.state.values():
        moments["step"].fill_(steps)


def write(
    directory: Path, state: dict[str, Tensor], progress: dict[str, Any], *, rank: int, workers: int
) -> None:
    """Write this worker's part of a checkpoint; all workers call it together.

    Args:
        directory: empty, on this worker's node; the parts are joined by whoever keeps them.
        state: see `tensors`.
        progress: what else to go on with; JSON values.
    """
    writer = HuggingFaceStorageWriter(str(directory), save_distributed=True)
    with _quiet():
        distributed_checkpoint.save(state, storage_writer=writer, no_dist=workers == 1)
    files = {path.name: file_hash(path) for path in sorted(directory.glob("*.safetensors"))}
    if rank == 0:
        content = {**progress, "workers": workers}
        _write_json(directory / PROGRESS, {**content, "sha256": _digest(content)})
    _write_json(directory / _manifest(rank), files)


def read_progress(directory: Path, *, rank: int = 0, workers: int = 1) -> dict[str, Any]:
    """What `write` was given as progress, once this worker's share of the files has been checked.

    Raises:
        CheckpointError: a file is missing or is not what was written.
    """
    content = _read_json(directory / PROGRESS)
    if content.pop("sha256", None) != _digest(content):
        raise CheckpointError(f"{directory / PROGRESS} is not what was written")
    for part in range(rank, int(content["workers"]), workers):
        for name, digest in _read_json(directory / _manifest(part)).items():
            path = directory / name
            if not path.is_file() or file_hash(path) != digest:
                raise CheckpointError(f"{path} is missing or is not what was written")
    return content


def read_tensors(directory: Path, state: dict[str, Tensor], *, workers: int) -> None:
    """Read a checkpoint into the tensors given; all workers call it together.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    reader = HuggingFaceStorageReader(str(directory))
    try:
        with _quiet():
            distributed_checkpoint.load(state, storage_reader=reader, no_dist=workers == 1)
    except Exception as error:  # each layer below raises its own kinds
        raise CheckpointError(f"{directory} cannot be read: {error}") from error


def whole_weights(network: nn.Module) -> dict[str, Tensor]:
    """The network's state dict in the first worker's memory; all workers call it together."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return dict(get_model_state_dict(network, options=options))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from warning that a single process is single."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _manifest(rank: int) -> str:
    return f"files-{rank}.json"


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
