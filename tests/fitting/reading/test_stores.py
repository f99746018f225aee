"""Trackers' stores, real ones on this disk; W&B by the shape of its API."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fitting import read_runs
from fitting.errors import TableError


def runs() -> pd.DataFrame:
    params = np.array([1e7, 3e7, 1e8, 3e8, 1e9])
    loss = 1.7 + 400 / params**0.34 + 410 / 2e9**0.28
    return pd.DataFrame({"params": params, "tokens": 2e9, "loss": loss})


def same(found: pd.DataFrame) -> None:
    found = found.sort_values("params")
    for name in ("params", "tokens", "loss"):
        np.testing.assert_allclose(found[name], runs()[name], rtol=1e-5)


def test_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs as wandb.Api returns them: config, and a summary behind ``_json_dict``."""
    shown = [
        SimpleNamespace(
            id=f"r{i}", name="calm-frog-1", state="finished" if i < 5 else "crashed",
            config={"model": {"n_params": r.params}, "train_tokens": r.tokens, "lr": 1e-3},
            summary=SimpleNamespace(_json_dict={"eval/loss": r.loss, "_step": 10, "_wandb": {}}),
        )
        for i, r in enumerate([*runs().itertuples(), runs().iloc[0]])
    ]  # fmt: skip

    def api() -> Any:
        return SimpleNamespace(runs=lambda place: {"lab/ladder": shown}[place])

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=api))
    found = read_runs("wandb:lab/ladder")
    same(found.table)
    assert found.read["loss"] == "summary.eval/loss" and found.read["trial_id"] == "id"
    assert list(found.excluded["reason"]) == ["status is 'crashed'"]
    with pytest.raises(TableError, match="Give ENTITY/PROJECT"):
        read_runs("wandb:nobody/nothing")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TableError, match="pip install wandb"):
        read_runs("wandb:lab/ladder")


@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow's stores need mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = tmp_path.as_uri()
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("ladder")
    for r in runs().itertuples():
        run = client.create_run(experiment, run_name=f"p{r.params:.0f}").info.run_id
        client.log_param(run, "n_params", int(r.params))
        client.log_param(run, "tokens", "2B")
        for step, extra in enumerate((1.0, 0.0)):
            client.log_metric(run, "val_loss", r.loss + extra, step=step)
        client.set_terminated(run)
    client.set_terminated(client.create_run(experiment).info.run_id, "FAILED")
    found = read_runs(f"mlflow:{uri}#ladder")
    same(found.table)
    assert found.read["params"] == "hparams.n_params"
    with pytest.raises(TableError, match=r"no experiment 'lader'; there are: .*ladder"):
        read_runs(f"mlflow:{uri}#lader")


@pytest.mark.parametrize("beside", [False, True])
def test_tensorboard(tmp_path: Path, beside: bool) -> None:
    """Sizes come from scalars, or from settings beside the events, as trainers write them."""
    pytest.importorskip("tensorboard", reason="event files are read through tensorboard")
    from tensorboardX import SummaryWriter

    for i, r in enumerate(runs().itertuples()):
        sizes = {"params": r.params, "tokens": r.tokens}
        folder = tmp_path / f"run{i}"
        with SummaryWriter(str(folder)) as writer:
            for step, extra in enumerate((1.0, 0.5, 0.0)):
                writer.add_scalar("eval/loss", r.loss + extra, step * 100)
                writer.add_scalar("train/loss", 9.0, step * 100)
            for name, value in sizes.items() if not beside else ():
                writer.add_scalar(name, value, 0)
        if beside:
            (folder / "config.json").write_text(json.dumps({"model": sizes}))
    same(read_runs(f"tensorboard:{tmp_path}").table)
    same(read_runs(tmp_path).table)


def test_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "ladder"
    folder.mkdir()
    runs().to_csv(folder / "train.csv", index=False)
    same(read_runs(f"hf:{folder}").table)
    with pytest.raises(TableError, match="no split 'dev'; there are: train"):
        read_runs(f"hf:{folder}#dev")
