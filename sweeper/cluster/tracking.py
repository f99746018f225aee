"""Experiment trackers by name: Ray's own callbacks, shown allocations and losses, not our records.

A tracker never stops a sweep: one that fails is switched off and the ledger says why.
"""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.logger import LoggerCallback

from sweeper.cluster.trial import record_of
from sweeper.cluster.tuner import Unsaved
from sweeper.errors import SpecError
from sweeper.spec.spec import Spec
from trainables.config import TrialConfig
from trainables.foreign.trial import ForeignTrial

PACKAGES = {"mlflow": "mlflow", "tensorboard": "tensorboardX", "wandb": "wandb"}
"""The module each tracker needs."""

MEASURED = ("train_loss", "tokens", "steps", "step", "tokens_per_s", "flops_6p", "flops_exact",
            "wall_s")  # fmt: skip
"""Numbers of a report that a tracker shows, beside the skills' losses."""

Warn = Callable[[str], None]


def check(names: Sequence[str]) -> None:
    """Refuse trackers that cannot work, before anything is trained.

    Raises:
        SpecError: a tracker's package is not installed.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise SpecError(
                f"trackers: {name} needs the package {PACKAGES[name]!r}; "
                'install it with `pip install "isoskill[track]"`'
            )


def callbacks(sweep: Spec, directory: Path, warn: Warn) -> list[LoggerCallback]:
    """Tune callbacks of the spec's trackers.

    One group per sweep, one run per trial: its config is the allocation, its metrics
    ``skill/<name>/loss`` and the progress of training.

    Args:
        sweep: the spec; ``trackers`` names them.
        directory: the sweep's; MLflow's files go there unless MLFLOW_TRACKING_URI says otherwise.
        warn: told why a tracker was switched off.
    """
    return [Shown(name, _inner(name, sweep, directory), warn) for name in sweep.trackers]


def _inner(name: str, sweep: Spec, directory: Path) -> LoggerCallback:
    if name == "tensorboard":
        from ray.tune.logger import TBXLoggerCallback

        return TBXLoggerCallback()
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        # MLflow 3 asks for this before it writes files; a database would need more packages.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        local = (directory / "mlruns").resolve().as_uri()
        uri = os.environ.get("MLFLOW_TRACKING_URI", local)
        return MLflowLoggerCallback(tracking_uri=uri, experiment_name=sweep.name)
    from ray.air.integrations.wandb import WandbLoggerCallback

    project = os.environ.get("WANDB_PROJECT", "isoskill")
    return WandbLoggerCallback(project=project, group=sweep.name)


class Shown(Unsaved, LoggerCallback):
    """A tracker that sees each trial as its allocation and each record as its losses."""

    def __init__(self, name: str, inner: LoggerCallback, warn: Warn) -> None:
        self._name, self._inner, self._warn = name, inner, warn
        self._seen: dict[str, Any] = {}
        self._works = True

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        if not self._works:
            return
        try:
            getattr(self._inner, method)(*args, **kwargs)
        except Exception as error:  # whatever a tracker's server does, the sweep goes on
            self._works = False
            self._warn(f"{self._name} is switched off: {type(error).__name__}: {error}")

    def _view(self, trial: Any) -> Any:
        """The trial with its allocation as config; the same object each time, as trackers ask."""
        if trial.trial_id not in self._seen:
            view = copy.copy(trial)
            view.config = allocation(trial.config["work"].config)
            view.evaluated_params.clear()
            view.evaluated_params.update(view.config)
            self._seen[trial.trial_id] = view
        return self._seen[trial.trial_id]

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Prepare the tracker."""
        self._call("setup", *args, **kwargs)

    def log_trial_start(self, trial: Any) -> None:
        """Open a run."""
        self._call("log_trial_start", self._view(trial))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Log what a trial reported."""
        kept = {key: result[key] for key in ("training_iteration", "pid") if key in result}
        self._call("log_trial_result", iteration, self._view(trial), kept | metrics(result))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Close a run."""
        self._call("log_trial_end", self._view(trial), failed)
        self._seen.pop(trial.trial_id, None)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Let the tracker finish its uploads."""
        self._call("on_experiment_end", trials, **info)


def allocation(trial: TrialConfig | ForeignTrial) -> dict[str, Any]:
    """What a tracker shows as a run's config, of a trial's settings."""
    return {
        "flops": trial.flops,
        "params": trial.params,
        "tokens": trial.tokens,
        "tokens_per_param": trial.tokens / trial.params,
        "seed": trial.seed,
    }


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a report: progress, or the record of an ended trial with its losses."""
    record = record_of(result) or result
    found = {key: float(record[key]) for key in MEASURED if record.get(key) is not None}
    for skill, loss in record.get("losses", {}).items():
        found[f"skill/{skill}/loss"] = loss["nll"] / loss["tokens"]
    return found
