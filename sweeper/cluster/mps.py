"""NVIDIA's Multi-Process Service: trials that share a GPU compute at once instead of in turns."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sweeper.spec.spec import Spec

CONTROL = "nvidia-cuda-mps-control"
PIPE = "CUDA_MPS_PIPE_DIRECTORY"
ANSWER_S = 30
"""Seconds that the service has to start or end (assumption)."""


@contextmanager
def shared_gpus(sweep: Spec, note: Callable[[str, str], object]) -> Iterator[None]:
    """Run the service while a local sweep has trials that share a GPU, where it can be started.

    Ray's processes find it by their environment, so that they are to be started inside. A service
    of the user's, named by CUDA_MPS_PIPE_DIRECTORY, is left as it is.

    Args:
        sweep: the spec; ``cluster.mps: false`` leaves the service off.
        note: takes the kind and the detail of an event.
    """
    control = shutil.which(CONTROL)
    local = sweep.cluster.mps and sweep.cluster.address == "local"
    shared = any(0 < rule.gpus < 1 for rule in sweep.placement.rules)
    if control is None or not (local and shared) or PIPE in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="isoskill-mps-") as place:
        own = {PIPE: place, "CUDA_MPS_LOG_DIRECTORY": place}
        problem = _told(control, "-d", env=os.environ | own)
        note(
            "mps-off" if problem else "mps-on", problem or "trials that share a GPU use NVIDIA MPS"
        )
        if problem:
            yield
            return
        os.environ.update(own)
        try:
            yield
        finally:
            for name in own:
                os.environ.pop(name, None)
            _told(control, env=os.environ | own, said="quit\n")


def _told(*command: str, env: dict[str, str], said: str = "") -> str:
    """Tell the service something; returns what went wrong, or nothing."""
    try:
        ended = subprocess.run(
            command, env=env, input=said, text=True, capture_output=True, timeout=ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{CONTROL}: {error}"
    why = ended.stderr.strip() or ended.stdout.strip()
    return f"{CONTROL} ended with {ended.returncode}: {why}" if ended.returncode else ""
