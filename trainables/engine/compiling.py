"""Blocks compiled for many sizes in one process, and what compiling made, kept for other nodes.

A process trains one size after another. Each compiles its blocks for one number of sequences;
what differs (the last, smaller batch, and scoring) runs uncompiled, so that a size met again
compiles nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from trainables.families import Shape

SIZES = 256
"""Compiled versions of a block that are kept in a process: some 12 sizes a decade with room to
spare. torch's own limit of 8 would send the second trial back to eager code."""

_loaded: set[Path] = set()


def compile_blocks(layers: nn.ModuleList) -> None:
    """Compile every block for the sizes it will meet, each for itself."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = SIZES
    torch._dynamo.config.accumulated_recompile_limit = 8 * SIZES
    for layer in layers:
        layer.compile(dynamic=False)


@contextlib.contextmanager
def uncompiled(compiled: bool) -> Iterator[None]:
    """Run blocks as they are written, whether they have been compiled or not."""
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def load(directory: Path, shape: Shape) -> None:
    """Take what another process, perhaps on another node, has compiled for this shape."""
    path = directory / _name(shape)
    if path not in _loaded and path.is_file():
        _loaded.add(path)
        torch.compiler.load_cache_artifacts(path.read_bytes())


def keep(directory: Path, shape: Shape) -> None:
    """Leave what was compiled for this shape to other processes, where nobody has."""
    path = directory / _name(shape)
    if path in _loaded or path.exists():
        return
    _loaded.add(path)
    made = torch.compiler.save_cache_artifacts()
    if made is not None:
        directory.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(made[0])
        partial.replace(path)


def _name(shape: Shape) -> str:
    """File of a shape, torch and device."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    text = repr((sorted(asdict(shape).items()), torch.__version__, device))
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.bin"
