"""Runs where trackers keep them, read through their own libraries, each an optional extra."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fitting.errors import TableError


def wandb(place: str) -> pd.DataFrame:
    """Runs of a W&B project: config and last values.

    Args:
        place: ENTITY/PROJECT.
    """
    api = _library("wandb", "wandb").Api()
    try:
        runs = list(api.runs(place))
    except Exception as error:
        raise TableError(
            f"wandb:{place}: {error}. Give ENTITY/PROJECT, and log in by `wandb login`"
        ) from error
    rows = []
    for run in runs:
        summary = getattr(run.summary, "_json_dict", run.summary)
        rows.append({"id": run.id, "name": run.name, "state": run.state,
                     "config": dict(run.config), "summary": dict(summary)})  # fmt: skip
    return _table(rows, f"wandb:{place}")


def mlflow(place: str) -> pd.DataFrame:
    """Runs of an MLflow experiment: parameters and last metrics.

    Args:
        place: tracking URI, and after "#" the experiment's name; all experiments without.
    """
    library = _library("mlflow", "mlflow-skinny")
    uri, _, name = place.partition("#")
    client = library.MlflowClient(tracking_uri=uri)
    try:
        experiments = [e for e in client.search_experiments() if name in ("", e.name)]
        known = ", ".join(e.name for e in client.search_experiments())
    except Exception as error:
        raise TableError(f"mlflow:{place}: {error}") from error
    if not experiments:
        raise TableError(f"mlflow:{place}: no experiment {name!r}; there are: {known}")
    rows, token = [], None
    while True:
        page = client.search_runs([e.experiment_id for e in experiments], page_token=token)
        for run in page:
            rows.append({"run_id": run.info.run_id, "status": run.info.status,
                         "hparams": run.data.params, "metrics": run.data.metrics})  # fmt: skip
        token = page.token
        if not token:
            return _table(rows, f"mlflow:{place}")


def tensorboard(place: str) -> pd.DataFrame:
    """Last values of every run under a log directory, with what its folder says of it.

    Args:
        place: log directory; each folder with event files is a run. Its sizes come from scalars,
            from hyperparameters (`add_hparams`), or from config.json or hparams.yaml beside them.
    """
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = _library(module, "tensorboard").EventAccumulator
    folders = sorted({path.parent for path in Path(place).rglob("*tfevents*")})
    rows: list[dict[str, Any]] = []
    for folder in folders:
        events = accumulator(str(folder), size_guidance={"scalars": 1, "tensors": 1})
        events.Reload()
        row: dict[str, Any] = {"run": str(folder.relative_to(place)), **_beside(folder, place)}
        row |= dict(_hyperparameters(events))
        for tag in events.Tags()["scalars"]:
            last = events.Scalars(tag)[-1]
            row |= {tag: last.value, "step": max(last.step, row.get("step", 0))}
        for tag in events.Tags()["tensors"]:
            row |= _scalar(events, tag)
        rows.append(row)
    return _table(rows, f"tensorboard:{place}")


def _scalar(events: Any, tag: str) -> dict[str, Any]:
    """A scalar that TensorFlow 2 wrote as a tensor."""
    tensor_util = importlib.import_module("tensorboard.util.tensor_util")
    value = tensor_util.make_ndarray(events.Tensors(tag)[-1].tensor_proto)
    return {tag: float(value)} if value.ndim == 0 and value.dtype.kind in "fiu" else {}


def _hyperparameters(events: Any) -> Iterator[tuple[str, Any]]:
    """What `add_hparams` kept."""
    plugin_data_pb2 = importlib.import_module("tensorboard.plugins.hparams.plugin_data_pb2")
    content = events.summary_metadata.get("_hparams_/session_start_info")
    if content is None:
        return
    data = plugin_data_pb2.HParamsPluginData.FromString(content.plugin_data.content)
    for name, value in data.session_start_info.hparams.items():
        kind = value.WhichOneof("kind")
        yield name, getattr(value, kind) if kind else None


def _beside(folder: Path, root: str) -> dict[str, Any]:
    """Settings kept in the run's folder or above it, below the root."""
    for parent in (folder, *folder.parents):
        for name in ("config.json", "hparams.yaml", "config.yaml"):
            file = parent / name
            if file.is_file():
                return _settings(file)
        if parent == Path(root):
            break
    return {}


def _settings(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        found = json.loads(text)
    else:
        import yaml

        found = yaml.safe_load(text)
    return {"config": found} if isinstance(found, Mapping) else {}


def hf(place: str) -> pd.DataFrame:
    """A data set of the Hugging Face Hub.

    Args:
        place: ID, ID#SPLIT or ID/CONFIG#SPLIT; the first split without.
    """
    name, _, split = place.partition("#")
    library = _library("datasets", "datasets")
    parts = name.split("/")
    remote = not Path(name).exists() and len(parts) > 2
    where = ("/".join(parts[:2]), parts[2]) if remote else (name,)
    try:
        found = library.load_dataset(*where)
    except Exception as error:
        raise TableError(f"hf:{place}: {error}") from error
    if split and split not in found:
        raise TableError(f"hf:{place}: no split {split!r}; there are: {', '.join(found)}")
    frame: pd.DataFrame = found[split or next(iter(found))].to_pandas()
    return frame


def _library(module: str, package: str) -> Any:
    """Import an optional library, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TableError(f"this source needs {package}: pip install {package}") from error


def _table(rows: list[dict[str, Any]], source: str) -> pd.DataFrame:
    if not rows:
        raise TableError(f"{source}: there are no runs")
    return pd.json_normalize(rows)


READERS: Mapping[str, Callable[[str], pd.DataFrame]] = {
    "wandb": wandb,
    "mlflow": mlflow,
    "tensorboard": tensorboard,
    "hf": hf,
}
