"""One trial of a foreign trainer inside a Ray actor: command or function, one node or more."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.context import run_name
from trainables.foreign import call, command, launch
from trainables.foreign.call import CallContext
from trainables.foreign.command import Place, Report, visible_gpus
from trainables.foreign.trial import ForeignTrial


def run_foreign(
    trial: ForeignTrial,
    *,
    directory: Path,
    name: str,
    workers: int,
    held: Mapping[str, float],
    hang_s: float,
    report: Report,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train one trial by a user's command or function and return its record.

    Args:
        trial: what to train, and by what.
        directory: the trial's own, on storage every node sees.
        name: what Ray's dashboard calls a group's run.
        workers: 0 for one process, else launchers of a command or workers of a function.
        held: Ray resources of each process, "CPU" and "GPU".
        hang_s: seconds without progress after which a command is ended.
        report: called with progress metrics; groups of a function report by callback.
        callbacks: Ray Train user callbacks of such a group.

    Returns:
        The record of `trainables.foreign.command.run`, with ``worker`` and ``ended_at``.

    Raises:
        Exception: whatever a function raises.
    """
    gpus, cpus = float(held.get("GPU", 0.0)), float(held.get("CPU", 0.0))
    values: dict[str, str | int | float]
    values = {"gpus": _whole(gpus), "cpus": _whole(cpus), "nodes": max(1, workers), "node_rank": 0}
    if trial.trainer.call:
        record = _called(trial, directory, name, workers, held, report, callbacks)
    elif workers:
        place = Place(directory, {}, values, hang_s)
        record = launch.run(trial, place, launchers=workers, held=(cpus, gpus), report=report)
    else:
        values |= {"master_addr": "127.0.0.1", "master_port": launch.free_port()}
        place = Place(directory, visible_gpus(_gpu_ids()), values, hang_s)
        record = command.run(trial, place, report=report)
    return record | {"worker": f"{socket.gethostname()}:{os.getpid()}", "ended_at": time.time()}


def _whole(number: float) -> int | float:
    """A count as a command takes it: a share of a GPU is one that it sees."""
    return 1 if 0 < number < 1 else int(number) if number == int(number) else number


def _gpu_ids() -> list[str]:
    """The GPUs that Ray has given this actor."""
    import ray

    return list(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))


def _called(
    trial: ForeignTrial,
    directory: Path,
    name: str,
    workers: int,
    held: Mapping[str, float],
    report: Report,
    callbacks: Sequence[Any],
) -> dict[str, Any]:
    """By a function: in this process, or in a worker group of Ray Train."""
    if not workers:
        return call.run(trial, CallContext(directory, report))
    import ray.train as ray_train
    from ray.train.torch import TorchTrainer

    directory.mkdir(parents=True, exist_ok=True)
    group = TorchTrainer(
        _called_in_group,
        train_loop_config={"trial": trial.to_dict(), "directory": str(directory.resolve())},
        scaling_config=ray_train.ScalingConfig(
            num_workers=workers,
            use_gpu=held.get("GPU", 0) > 0,
            resources_per_worker=dict(held),
            placement_strategy="PACK",
        ),
        run_config=ray_train.RunConfig(
            name=run_name(name, directory),
            storage_path=str(directory.resolve()),
            callbacks=list(callbacks),
            failure_config=ray_train.FailureConfig(max_failures=0),  # the driver retries
            logging_config=ray_train.LoggingConfig(log_level="WARNING"),
        ),
    )
    return dict(group.fit().return_value)


def _called_in_group(settings: dict[str, Any]) -> dict[str, Any]:
    import ray
    import ray.train as ray_train

    context = ray_train.get_context()
    group = ray.util.get_current_placement_group()
    slots = {"placement_group": group.id.hex()} if group else {}
    given = CallContext(
        Path(settings["directory"]),
        lambda metrics: ray_train.report(metrics | slots),
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
    )
    return call.run(ForeignTrial.from_dict(settings["trial"]), given)
