"""Trackers see allocations and losses, and never stop a sweep."""

from types import SimpleNamespace

import pytest

from sweeper import SpecError, Sweep
from sweeper.cluster import tracking
from sweeper.cluster.tracking import Shown, allocation, check, metrics
from sweeper.cluster.trial import Ended
from trainables.data import Data

SURFACE = {
    name: {"E": 1.2, "A": 150, "B": 300, "alpha": 0.5, "beta": 0.45}
    for name in ("knowledge", "validation")
}


class Trial:
    """What the trackers touch of a Tune trial."""

    def __init__(self):
        self.trial_id, self.evaluated_params = "a", {"trial/tokens": 1}
        config = SimpleNamespace(flops=6e3, params=10, tokens=100, seed=1)
        self.config = {"work": SimpleNamespace(config=config)}


class Inner:
    """A tracker that remembers what it was told, or fails."""

    def __init__(self, fails=False):
        self.told, self.fails = [], fails

    def __getattr__(self, method):
        def take(*args, **kwargs):
            if self.fails:
                raise ConnectionError("no server")
            self.told.append((method, args))

        return take


def test_a_tracker_sees_the_allocation_and_the_losses():
    inner, trial = Inner(), Trial()
    shown = Shown("mlflow", inner, pytest.fail)
    shown.log_trial_start(trial)
    shown.log_trial_result(1, trial, {"tokens": 50, "tokens_per_s": 5.0, "training_iteration": 1})
    record = {"losses": {"code": {"nll": 3.0, "tokens": 2}}, "tokens": 100, "worker": "h:1"}
    shown.log_trial_result(2, trial, {"record": Ended(record), "training_iteration": 2})
    shown.log_trial_end(trial)
    (_, (start,)), (_, (_, first, said)), (_, (_, last, result)), (end, _) = inner.told
    assert start.config == {
        "flops": 6e3, "params": 10, "tokens": 100, "tokens_per_param": 10.0, "seed": 1,
    }  # fmt: skip
    assert trial.config["work"].config.tokens == 100  # the real trial keeps its own
    assert start is first is last
    assert said == {"training_iteration": 1, "tokens": 50.0, "tokens_per_s": 5.0}
    assert result == {"training_iteration": 2, "tokens": 100.0, "skill/code/loss": 1.5}
    assert end == "log_trial_end"


def test_a_failing_tracker_is_switched_off_with_the_reason():
    said = []
    shown = Shown("wandb", Inner(fails=True), said.append)
    shown.setup()
    shown.log_trial_start(Trial())
    assert said == ["wandb is switched off: ConnectionError: no server"]
    assert shown.__getstate__() == {}


def test_a_missing_package_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setitem(tracking.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(SpecError, match=r"wandb needs the package.*isoskill\[track\]"):
        check(["wandb"])


def test_records_without_losses_and_configs_are_plain_numbers():
    assert metrics({"record": Ended({"status": "failed", "reason": "x"})}) == {}
    assert allocation(Trial().config["work"].config)["tokens_per_param"] == 10


@pytest.mark.ray
@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_real_sweep_reaches_the_tracker(ray_cluster, tmp_path, name):
    if name == "mlflow":
        pytest.importorskip("mlflow")
    sweep = Sweep(
        name="tracked",
        budgets=[1e11, 2e11, 4e11],
        allowance=6e11,
        skills=["knowledge"],
        trackers=[name],
        data=Data(source="simulated", surface=SURFACE, noise=0.002),
    )
    results = sweep.run(tmp_path, progress=False)
    assert "tracker-off" not in set(results.events["kind"])
    if name == "tensorboard":
        found = list(tmp_path.glob("ray/tracked/*/events.out.tfevents.*"))
        assert all(b"skill/knowledge/loss" in path.read_bytes() for path in found)
    else:
        found = list(tmp_path.glob("mlruns/*/*/metrics/skill/knowledge/loss"))
        assert list(tmp_path.glob("mlruns/*/*/params/tokens_per_param"))
    assert len(found) == len(results.trials)
