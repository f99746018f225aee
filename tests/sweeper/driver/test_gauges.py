"""Metrics of a sweep, and the Grafana dashboard that asks for them."""

import json
import re
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper import Sweep
from sweeper.cli import app
from sweeper.commands.monitoring import LATEST, SETTINGS
from sweeper.driver import gauges as monitor
from sweeper.driver.driver import Start
from sweeper.driver.gauges import METRICS, Gauges
from sweeper.record.ledger import Ledger
from sweeper.record.live import read
from trainables.data import Data

BOARD = Path(monitor.__file__).with_name("grafana.json")

SURFACE = {
    "knowledge": {"E": 1.5, "A": 200, "B": 150, "alpha": 0.5, "beta": 0.45},
    "validation": {"E": 1.2, "A": 150, "B": 300, "alpha": 0.5, "beta": 0.45},
}


class Recorder:
    """Gauges that only remember."""

    def __init__(self):
        self.values = {}

    def make(self, metric):
        recorder = self

        class Gauge:
            def set(self, value, tags=None):
                assert set(tags) == {"sweep", *metric.labels}
                assert all(value.isascii() for value in tags.values())  # or Ray raises
                rest = tuple(v for k, v in sorted(tags.items()) if k != "sweep")
                recorder.values[(metric.name, *rest)] = value

        return Gauge()


def sweep(**changes):
    data = Data(source="simulated", surface=SURFACE, noise=0.002)
    settings = {"budgets": [1e11, 2e11, 4e11], "allowance": 4e12, "skills": ["knowledge"]}
    return Sweep(**{**settings, "data": data, **changes})


def test_the_gauges_follow_a_trial():
    spec, ledger, seen = sweep(), Ledger(":memory:"), Recorder()
    gauges = Gauges(spec, ledger, make=seen.make, left_s=lambda: 12.0)
    allocation = spec.space.allocation(1e11, 2e4)
    start = Start.of(spec, allocation, "a")
    ledger.reserve("a", allocation)
    gauges("started", start, {})
    assert seen.values["isoskill_trials", "running"] == 1
    assert seen.values["isoskill_flops", "reserved"] == 1e11
    gauges("progressed", start, {"tokens": allocation.tokens / 4, "tokens_per_s": 1e5})
    name = str(allocation)
    assert seen.values["isoskill_progress", name] == pytest.approx(0.25)
    per_token = spec.space.cost(allocation) / allocation.tokens
    assert seen.values["isoskill_mfu", name] == pytest.approx(1e5 * per_token / 65e9)
    losses = {"knowledge": {"class": "knowledge", "nll": 30.0, "tokens": 10, "bytes": 20,
                            "examples": 2}}  # fmt: skip
    record = {"status": "finished", "tokens": allocation.tokens, "losses": losses}
    ledger.settle("a", record, spent_flops=9.9e10)
    gauges("finished", start, record)
    assert seen.values["isoskill_trials", "running"] == 0
    assert seen.values["isoskill_trials", "finished"] == 1
    assert seen.values["isoskill_flops", "spent"] == 9.9e10
    assert seen.values["isoskill_progress", name] == 0
    key = ("isoskill_skill_loss", "1e+11", str(allocation.params), "knowledge", name)
    assert seen.values[key] == 3.0
    assert seen.values[("isoskill_seconds_left",)] == 12.0


def test_names_that_ray_would_not_take_are_spelled_for_it():
    spec, ledger, seen = sweep(name="größe"), Ledger(":memory:"), Recorder()
    gauges = Gauges(spec, ledger, make=seen.make, left_s=lambda: 12.0)
    allocation = replace(spec.space.allocation(1e11, 2e4), mix="code×4")
    gauges("progressed", Start.of(spec, allocation, "a"), {"tokens": 1, "tokens_per_s": 1e5})
    name = str(allocation).replace("×", "x")
    assert seen.values["isoskill_tokens_per_second", name] == 1e5
    gauges("failed", Start.of(spec, allocation, "a"), {"status": "failed"})
    assert seen.values["isoskill_tokens_per_second", name] == 0


def test_a_mix_sweep_whose_first_trial_is_not_of_the_reference_mix_has_no_optima_yet():
    spec = sweep(mixes={"base": {}, "more": {"code": 4}})
    ledger, seen = Ledger(":memory:"), Recorder()
    gauges = Gauges(spec, ledger, make=seen.make, left_s=lambda: None)
    start = Start.of(spec, replace(spec.space.allocation(1e11, 2e4), mix="more"), "a")
    loss = {"class": "knowledge", "nll": 30.0, "tokens": 10, "bytes": 20, "examples": 2}
    record = {"status": "finished", "tokens": 1, "losses": {"knowledge": loss}}
    ledger.reserve("a", start.allocation)
    ledger.settle("a", record, spent_flops=1e11)
    gauges("finished", start, record)
    assert any(key[0] == "isoskill_skill_loss" for key in seen.values)
    assert not any(key[0] == "isoskill_optimum_params" for key in seen.values)


def test_every_query_of_the_dashboard_names_a_metric_that_exists():
    board = json.loads(BOARD.read_text())
    queries = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    queries += [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    asked = set(re.findall(r"ray_(\w+)", " ".join(queries)))
    assert asked == set(METRICS)
    for query in queries:
        for name, labels in re.findall(r"ray_(\w+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)=~?\"", labels))
            assert used <= {"sweep", *METRICS[name].labels}
    places = [tuple(p["gridPos"].values()) for p in board["panels"]]
    assert len(set(places)) == len(places)
    assert {p["datasource"]["uid"] for p in board["panels"]} == {"${datasource}"}


def test_only_the_newest_trials_keep_series_of_their_own(monkeypatch):
    monkeypatch.setattr(monitor, "MAX_TRIALS", 1)
    monkeypatch.setattr(monitor, "REPEAT_EVERY_S", 0.01)
    spec, ledger, seen = sweep(), Ledger(":memory:"), Recorder()
    loss = {"class": "knowledge", "nll": 30.0, "tokens": 10, "bytes": 20, "examples": 2}
    allocations = [spec.space.allocation(1e11, p) for p in (1e4, 4e4)]
    with Gauges(spec, ledger, make=seen.make, left_s=lambda: None) as gauges:
        for allocation in allocations:
            record = {"tokens": 1, "losses": {"knowledge": loss}}
            gauges("finished", Start.of(spec, allocation, "a"), record)
        seen.values.clear()
        until = time.monotonic() + 30
        while not seen.values and time.monotonic() < until:
            time.sleep(0.02)
    repeated = [key[-1] for key in seen.values if key[0] == "isoskill_skill_loss"]
    assert repeated == [str(allocations[1])]


def _metrics_port():
    """host:port at which the cluster's one node serves its metrics, Ray's and ours."""
    import ray

    (node,) = ray.nodes()
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


@pytest.mark.ray
def test_ray_serves_every_metric_of_a_real_sweep(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "FIT_EVERY_S", 0.0)
    monkeypatch.setattr(monitor, "FIT_SHARE", 1.0)  # on a busy machine fits take their time
    monkeypatch.setattr(monitor, "REPEAT_EVERY_S", 0.5)
    seen, over = set(), threading.Event()

    def scrape():
        while not over.wait(0.3):
            with urllib.request.urlopen(f"http://{_metrics_port()}/metrics") as page:
                lines = page.read().decode().splitlines()
            seen.update(line.split("{")[0] for line in lines if 'sweep="watched"' in line)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    results = sweep(name="watched", allowance=2e12).run(tmp_path, progress=False)
    over.set()
    scraper.join()
    assert (Path(read(tmp_path / "live.json").ray_files) / SETTINGS).exists()
    assert "listener-off" not in set(results.events["kind"])
    assert seen == {f"ray_{name}" for name in METRICS}
    said = CliRunner().invoke(app, ["monitor", str(tmp_path)])
    assert said.exit_code == 0
    assert f"prometheus --config.file={LATEST}/{SETTINGS}" in said.output
    assert str(BOARD) in said.output.replace("\n", "")


def test_an_address_that_is_no_url_is_refused(tmp_path):
    wrong = CliRunner().invoke(app, ["monitor", str(tmp_path), "--prometheus", "notaurl"])
    assert "write a URL such as" in str(wrong.exception)
