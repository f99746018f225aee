"""One trial through Ray: the training loop wrapped in a TorchTrainer, or a foreign trainer.

A trial of one process runs in TorchTrainer's local mode, inside the process of its caller (a
reused Tune actor: milliseconds per trial instead of eight new processes). A trial of several
workers gets a worker group of its own. Both run the same `trainables.engine.loop.train`, which
knows no Ray.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train as ray_train

from trainables.config import TrialConfig
from trainables.context import KEPT, Context, LocalContext, checkpoints, run_name, stop_asked
from trainables.foreign import call, command, launch
from trainables.foreign.call import CallContext
from trainables.foreign.command import Place, Report, visible_gpus
from trainables.foreign.trial import ForeignTrial

QUESTIONS = "questions.parquet"
"""Every question's loss, in a trial's directory: skill, example, nll (nats), target_tokens."""

RAYS_LIST = "checkpoint_manager_snapshot.json"
"""Where Ray Train (2.60) lists a run's checkpoints."""


def run_trial(
    config: TrialConfig,
    *,
    directory: Path,
    name: str = "",
    workers: int = 0,
    resources_per_worker: Mapping[str, float] | None = None,
    report: Report | None = None,
    callbacks: Sequence[Any] = (),
    max_failures: int = 3,
) -> dict[str, Any]:
    """Train one allocation and return its record.

    Args:
        directory: where this trial's checkpoints live, on storage every node sees; a trial
            started again with the same directory goes on from its last checkpoint.
        name: what Ray's dashboard calls a group's run, before the directory's own name; nothing
            is found by it.
        workers: 0 trains in this process (local mode), more in a worker group of that size.
        report: called with progress metrics (local mode only; groups report by callback).
        max_failures: restarts of a worker group before the trial fails.

    Returns:
        The record of `trainables.engine.loop.train`, with ``worker`` (host:pid) and ``ended_at``;
        its questions are kept in the directory instead, as `QUESTIONS`.

    Raises:
        ray.train.TrainingFailedError: a group's workers failed more than ``max_failures`` times.
    """
    from ray.train.torch import TorchTrainer  # loads torch

    if workers:
        _tidy(directory, run_name(name, directory))
        held = dict(resources_per_worker or {"CPU": 1})
        returned = _in_group(
            _train_in_group, config.to_dict(), directory, name, workers=workers, held=held,
            callbacks=callbacks, max_failures=max_failures,
        )  # fmt: skip
    else:
        trainer = TorchTrainer(
            lambda settings: _train(settings, LocalContext(directory, on_report=report)),
            train_loop_config=config.to_dict(),
            scaling_config=ray_train.ScalingConfig(num_workers=0),
        )
        returned = trainer.fit().return_value
    return keep_questions(returned, directory)


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
        workers: 0 for one process, else launchers of a command or workers of a function.
        held: Ray resources of each process, "CPU" and "GPU".
        hang_s: seconds without progress after which a command is ended.

    Returns:
        The record of `trainables.foreign.command.run`, with ``worker`` and ``ended_at``.

    Raises:
        Exception: whatever a function raises.
    """
    gpus, cpus = float(held.get("GPU", 0.0)), float(held.get("CPU", 0.0))
    values: dict[str, str | int | float]
    values = {"gpus": _whole(gpus), "cpus": _whole(cpus), "nodes": max(1, workers), "node_rank": 0}
    if trial.trainer.call and workers:
        directory.mkdir(parents=True, exist_ok=True)
        record = _in_group(
            _call_in_group, trial.to_dict(), directory, name, workers=workers, held=held,
            callbacks=callbacks,
        )  # fmt: skip
    elif trial.trainer.call:
        record = call.run(trial, CallContext(directory, report))
    elif workers:
        place = Place(directory, {}, values, hang_s)
        record = launch.run(trial, place, launchers=workers, held=(cpus, gpus), report=report)
    else:
        values |= {"master_addr": "127.0.0.1", "master_port": launch.free_port()}
        own = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
        place = Place(directory, visible_gpus(own), values, hang_s)
        record = command.run(trial, place, report=report)
    return _signed(record)


def _call_in_group(settings: dict[str, Any]) -> dict[str, Any]:
    context, slots = ray_train.get_context(), _slots()
    given = CallContext(
        Path(settings["directory"]),
        lambda metrics: ray_train.report(metrics | slots),
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
    )
    return call.run(ForeignTrial.from_dict(settings["trial"]), given)


def _whole(number: float) -> int | float:
    """A count as a command takes it: a share of a GPU is one that it sees."""
    return 1 if 0 < number < 1 else int(number) if number == int(number) else number


def _in_group(
    loop: Callable[[dict[str, Any]], dict[str, Any]],
    trial: dict[str, Any],
    directory: Path,
    name: str,
    *,
    workers: int,
    held: Mapping[str, float],
    callbacks: Sequence[Any],
    max_failures: int = 0,
) -> dict[str, Any]:
    """What a loop returns in a worker group of its own."""
    from ray.train.torch import TorchTrainer  # loads torch

    group = TorchTrainer(
        loop,
        train_loop_config={"trial": trial, "directory": str(directory.resolve())},
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
            failure_config=ray_train.FailureConfig(max_failures=max_failures),
            checkpoint_config=ray_train.CheckpointConfig(num_to_keep=KEPT),
            logging_config=ray_train.LoggingConfig(log_level="WARNING"),
        ),
    )
    return dict(group.fit().return_value)


def _tidy(directory: Path, run: str) -> None:
    """Make a group's place ready for another start.

    Ray Train's own list of checkpoints, which a cut or stale copy of would end every start, is
    not needed: the loop finds its checkpoints by itself. Without it their old ones are ours.
    """
    (directory / run / RAYS_LIST).unlink(missing_ok=True)
    for path in checkpoints(directory)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def keep_questions(returned: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Write a record's questions to the trial's directory; returns the record without them."""
    record = dict(returned)
    questions = record.pop("questions", {})
    if questions:
        import pyarrow as pa
        from pyarrow import parquet

        tables = [
            pa.table({"skill": [skill] * len(columns["nll"]), **columns})
            for skill, columns in questions.items()
        ]
        directory.mkdir(parents=True, exist_ok=True)
        partial = directory / f"{QUESTIONS}.partial"
        parquet.write_table(pa.concat_tables(tables), partial)
        partial.replace(directory / QUESTIONS)
    return record


def evaluate(config: TrialConfig, directory: Path) -> dict[str, Any]:
    """Score a trained model from its last checkpoint, in this process and without training.

    Args:
        config: the trial; its skills may be others than those it was trained with.

    Returns:
        The record that the training would have returned.

    Raises:
        trainables.engine.checkpoint.CheckpointError: there is no sound checkpoint of the last
        step. ValueError: the checkpoint is another trial's.
    """
    from trainables.engine.loop import evaluate

    return _signed(evaluate(config, LocalContext(directory)))


def _train_in_group(settings: dict[str, Any]) -> dict[str, Any]:
    return _train(settings["trial"], GroupContext(Path(settings["directory"])))


def _train(settings: dict[str, Any], context: Context) -> dict[str, Any]:
    config = TrialConfig.from_dict(settings)
    if config.data.source == "simulated":
        from trainables.simulated import train
    else:
        from trainables.engine.loop import train
    return _signed(train(config, context))


def _signed(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"worker": f"{socket.gethostname()}:{os.getpid()}", "ended_at": time.time()}


def _slots() -> dict[str, str]:
    """The placement group that a worker of a group is in."""
    group = ray.util.get_current_placement_group()
    return {"placement_group": group.id.hex()} if group else {}


class GroupContext:
    """The loop's context inside a Ray Train worker group."""

    def __init__(self, directory: Path) -> None:
        from ray.train.torch import get_device

        context = ray_train.get_context()
        self.directory: Path | None = directory
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self.device = str(get_device())
        self._slots = _slots()

    def scratch(self) -> Path:
        """A directory on this worker's node, from which Ray Train collects all workers' parts."""
        return Path(tempfile.mkdtemp(prefix="isoskill-"))

    def report(self, metrics: dict[str, Any], checkpoint: Path | None = None) -> None:
        """Report progress and the slots held; all ranks must call it at the same step."""
        metrics = metrics | self._slots
        if checkpoint is None:
            ray_train.report(metrics)
            return
        kept = ray_train.Checkpoint.from_directory(str(checkpoint))
        ray_train.report(metrics, checkpoint=kept, delete_local_checkpoint_after_upload=True)

    def should_stop(self) -> bool:
        """Whether the trial's directory holds a stop file."""
        return stop_asked(self.directory)
