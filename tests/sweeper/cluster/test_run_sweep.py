"""Sweeps through the real Ray Tune and TorchTrainer, on one shared local cluster."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from sweeper import (
    Cluster,
    DirectoryError,
    Resources,
    Results,
    SearchSettings,
    Sizes,
    Sweep,
)
from sweeper.budget import Allocation
from sweeper.record.ledger import Ledger
from trainables.data import Data

pytestmark = pytest.mark.ray

SURFACE = {
    "knowledge": {"E": 1.5, "A": 200, "B": 150, "alpha": 0.5, "beta": 0.45},
    "code": {"E": 1.0, "A": 60, "B": 540, "alpha": 0.5, "beta": 0.45},
    "validation": {"E": 1.2, "A": 150, "B": 300, "alpha": 0.5, "beta": 0.45},
}
SIMULATED = Data(source="simulated", surface=SURFACE, noise=0.005)
SMALL = Data(evaluation_documents=16)


def simulated(**changes):
    settings = {"budgets": [1e11, 2e11, 4e11], "allowance": 2e12, "data": SIMULATED}
    return Sweep(**{**settings, "skills": ["knowledge", "code"], **changes})


def real(**changes):
    settings = {
        "budgets": [2e9, 4e9],
        "allowance": 2e10,
        "data": SMALL,
        "sizes": Sizes(7e3, 4e4),
        "skills": ["knowledge", "code"],
        "search": SearchSettings(policy="grid", sizes_per_budget=3),
    }
    return Sweep(**{**settings, **changes})


def losses(results):
    table = results.table.set_index(["flops", "params", "seed", "skill"])["nll"]
    return table.sort_index().to_dict()


def test_an_adaptive_sweep_ends_within_its_allowance_and_leaves_its_files(
    ray_cluster, tmp_path, monkeypatch, capsys, replay
):
    results = simulated().run(tmp_path / "a", progress=False)
    assert results.finished.reason in ("tolerance", "allowance")
    assert (results.trials["state"] == "finished").all()
    assert results.spent_flops <= 2e12
    assert results.trials["reserved_flops"].sum() == 0
    ratio = results.trials["spent_flops"] / results.trials["flops"]
    assert ratio.between(0.99, 1.0).all()
    for name in (
        "sweep.yaml",
        "ledger.sqlite",
        "observations.parquet",
        "fits.json",
        "report.html",
    ):
        assert (tmp_path / "a" / name).stat().st_size > 0
    assert replay(results)["same"].all()
    # Nothing is left to train: the same command starts no Ray, and says the same.
    monkeypatch.setattr("sweeper.cluster.run_sweep.connected", None)
    again = simulated().run(tmp_path / "a")
    assert len(again.trials) == len(results.trials)
    assert again.finished == results.finished
    said = capsys.readouterr().out
    assert f"nothing is left to train: {len(again.trials)} trials have ended" in said


def test_a_trial_with_workers_gets_a_worker_group_and_the_same_losses(
    ray_cluster, tmp_path, alone
):
    group = Cluster(resources=(Resources(), Resources(from_params=1.2e4, workers=2)))
    both = real(
        budgets=[2e9],
        allowance=1e10,
        sizes=Sizes(7e3, 2e4),
        search=SearchSettings(policy="grid", sizes_per_budget=3),
        cluster=group,
    ).run(tmp_path / "group", progress=False)
    assert (both.trials["state"] == "finished").all()
    assert losses(both) == pytest.approx(alone(both, tmp_path / "alone"), rel=1e-4)
    large = both.trials[both.trials["params"] >= 1.2e4]
    expected = {f"{_name(t)},{t.trial_id}".replace(" ", ",") for t in large.itertuples()}
    assert expected and expected <= set(_train_runs())


def _name(trial):
    return str(Allocation(trial.flops, int(trial.params), int(trial.tokens), trial.seed))


def _train_runs():
    """Names of the Train runs that the dashboard's API knows."""
    import ray
    from ray._private.authentication.http_token_authentication import (
        get_auth_headers_if_auth_enabled,
    )

    url = f"http://{ray.get_runtime_context().worker.node.webui_url}/api/train/v2/runs/v1"
    request = urllib.request.Request(url, headers=get_auth_headers_if_auth_enabled({}))
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [run["name"] for run in json.load(answer)["train_runs"]]


def test_a_trial_that_raises_fails_alone(ray_cluster, tmp_path):
    broken = Data(source="simulated", surface={"knowledge": SURFACE["knowledge"]})
    # Each that raises takes its process with it: three starts of a process are enough.
    search = SearchSettings(policy="grid", sizes_per_budget=3)
    sweep = simulated(budgets=[1e11], allowance=1e12, data=broken, search=search)
    results = sweep.run(tmp_path / "a", progress=False)
    assert set(results.trials["state"]) == {"failed"}
    assert "data.surface" in results.trials["reason"].iloc[0]
    assert results.spent_flops == 0


def _start(spec: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sweeper", "run", str(spec), "--out", str(out), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def _wait_for_trials(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    while process.poll() is None:
        with contextlib.suppress(DirectoryError):  # not there yet
            ledger = Ledger(out / "ledger.sqlite", read_only=True)
            ended = len(ledger.allocations("finished"))
            ledger.close()
            if ended >= count:
                return
        time.sleep(0.1)
    raise AssertionError(f"the driver ended before {count} trials had")


def test_a_killed_driver_goes_on_trains_nothing_twice_and_ends_at_the_same_losses(
    ray_cluster, tmp_path, alone
):
    sweep = real(cluster=Cluster(cpus=2, dashboard=False))
    sweep.save(tmp_path / "sweep.yaml")
    out = tmp_path / "a"
    process = _start(tmp_path / "sweep.yaml", out)
    try:
        _wait_for_trials(process, out, 2)
    finally:
        process.kill()  # may have ended: then its own words are to be seen
        process.wait()
    before = Results(out).trials.query("state == 'finished'").set_index("trial_id")["ended_at"]
    results = sweep.run(out, progress=False)
    assert (results.trials["state"] == "finished").all()
    after = results.trials.set_index("trial_id")["ended_at"]
    assert (after[before.index] == before).all()
    assert len(results.trials) > 3
    assert losses(results) == alone(results, tmp_path / "b")


def test_a_cluster_that_scales_itself_is_asked_for_what_it_may_grow_to():
    from sweeper.cluster.capacity import _grown

    now = {"CPU": 4.0, "node:head": 1.0}
    assert _grown(now, Cluster(address="auto", gpus=8)) == {**now, "GPU": 8}
    assert _grown(now, Cluster(address="auto", cpus=2))["CPU"] == 4
    assert _grown(now, Cluster(cpus=64)) == now
