"""How far a sweep is, while it runs and afterwards."""

import json
import os

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from sweeper import Allocation, Results, Sweep, text
from sweeper.cli import app
from sweeper.commands import status
from sweeper.commands.status import render, snapshot, watch
from sweeper.driver.driver import Start
from sweeper.driver.pulse import Pulse, TimeLeft
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from sweeper.record.live import Live, Progress, read
from sweeper.record.timeleft import AHEAD, left_s, trial_left_s
from trainables.data import Data
from trainables.foreign.settings import Trainer


@pytest.fixture
def running(tmp_path):
    """A directory with one finished and one running trial."""
    sweep = Sweep(budgets=[1e11, 2e11, 4e11], allowance=4e12, data=Data(source="simulated"))
    directory = Directory(tmp_path / "a")
    directory.claim(sweep)
    ledger = Ledger(directory.ledger)
    done, doing = sweep.space.allocation(1e11, 2e4), sweep.space.allocation(2e11, 3e4)
    loss = {"class": "code", "nll": 30.0, "tokens": 10, "bytes": 20, "examples": 2}
    ledger.reserve("done", done)
    record = {"status": "finished", "tokens": done.tokens, "losses": {"code": loss}, "wall_s": 10}
    ledger.settle("done", record, spent_flops=1e11)
    ledger.reserve("doing", doing)
    ledger.advance("doing", doing.tokens // 4)
    ledger.event("worker-died", "killed by signal 9\nand more", trial_id="doing")
    ledger.close()
    return directory, doing


def start_of(directory, allocation):
    return Start.of(Results(directory.root).sweep, allocation, "doing")


def pulse(directory):
    return Pulse(directory.live, dashboard="http://127.0.0.1:8265", ray_files="/tmp/ray/a")


def test_a_driven_sweep_shows_what_its_trials_last_said(running):
    directory, doing = running
    with directory.driven():
        beat = pulse(directory)
        start = start_of(directory, doing)
        beat("started", start, {})
        beat("progressed", start, {"tokens": doing.tokens / 2, "tokens_per_s": 100})
        beat.write()
        values = snapshot(Results(directory.root))
    assert values["driver"]["pid"] == os.getpid()
    assert values["dashboard"] == "http://127.0.0.1:8265"
    (trial,) = values["in_training"]
    assert trial["share"] == pytest.approx(0.5)
    assert trial["left_s"] == pytest.approx(doing.tokens / 200)
    # The opening lacks 1.4e12 FLOPs, at 1e10 FLOP/s, and one trial is half done.
    assert values["left_s"] == pytest.approx(140 + doing.tokens / 200)


def test_a_dead_drivers_sweep_says_how_to_go_on(running):
    directory, _ = running
    values = snapshot(Results(directory.root))
    assert values["driver"] is None
    assert values["left_s"] is None
    assert values["in_training"][0]["share"] == pytest.approx(0.25, rel=1e-3)  # as last noted
    assert values["in_training"][0]["tokens_per_s"] is None
    shown = _drawn(values)
    assert "the same `isoskill run` goes on with it" in shown
    assert "worker-died doing killed by signal 9" in shown
    assert "and more" not in shown


def test_an_ended_trial_is_forgotten(running):
    directory, doing = running
    beat = pulse(directory)
    beat("progressed", start_of(directory, doing), {"tokens": 1, "tokens_per_s": 1})
    assert beat.live.trials
    beat("finished", start_of(directory, doing), {})
    assert not beat.live.trials


def test_a_damaged_or_absent_file_is_an_empty_one(tmp_path):
    assert read(tmp_path / "live.json") == Live()
    (tmp_path / "live.json").write_text('{"at": 1')
    assert read(tmp_path / "live.json") == Live()
    (tmp_path / "live.json").write_text('{"trials": {}, "unknown": 1}')
    assert read(tmp_path / "live.json") == Live()


def test_a_full_disk_does_not_stop_the_pulse(tmp_path):
    pulse(Directory(tmp_path / "gone")).write()


COLUMNS = ("trial_id", "state", "flops", "params", "tokens", "spent_flops", "reserved_flops",
           "wall_s", "ended_at")  # fmt: skip


def test_time_left_needs_a_measured_speed():
    assert left_s(pd.DataFrame([], columns=COLUMNS), Live(), 1e12, None) is None
    rows = [
        ("a", "finished", 1e10, 1e4, 10, 1e10, 0.0, 1.0, 1.0),
        ("b", "finished", 1e10, 1e4, 10, 1e10, 0.0, 4.0, 2.0),  # the later half: 4e-10 s per FLOP
        ("c", "running", 1e10, 1e4, 10, 0.0, 1e10, None, None),
        ("d", "running", 1e10, 1e4, 10, 0.0, 1e10, None, None),
    ]
    trials = pd.DataFrame(rows, columns=COLUMNS)
    live = Live(trials={"c": Progress(5, 1.0), "d": Progress(6, 1.0)})
    # 6e10 free: 24 s; c: 5 s; d: 4 s; on two slots.
    assert left_s(trials, live, 1e11, None) == pytest.approx(5 + 24 / 2)
    assert left_s(trials, live, 4e10, None) == pytest.approx(5)  # the longest of what remains
    assert trial_left_s(Progress(5, 0.0), 10) is None


def test_time_left_is_that_of_the_trials_ahead_at_their_sizes():
    rows = [
        ("a", "finished", 1e10, 1e4, 10, 1e10, 0.0, 8.0, 1.0),
        ("b", "finished", 1e10, 1e6, 10, 1e10, 0.0, 1.0, 2.0),
        ("c", "running", 1e10, 1e6, 10, 0.0, 1e10, None, None),
    ]
    trials = pd.DataFrame(rows, columns=COLUMNS)

    def left(*ahead):
        live = Live(trials={"c": Progress(10, 1.0)})
        return left_s(trials, live, 1e11, [Allocation(c, int(p), 10) for c, p in ahead])

    assert left() == 0  # the search would stop now
    assert left((1e10, 1e4), (1e10, 1e4)) == pytest.approx(16)
    assert left((1e10, 1e6)) == pytest.approx(1)
    assert left((1e10, 1e6), (2e11, 1e6)) == pytest.approx(1)  # the second is not affordable
    assert left(*[(1e9, 1e6)] * AHEAD) == pytest.approx(7)  # cut short: 7e10 FLOPs are free


def test_the_search_is_asked_now_and_then_what_it_would_start_next(running):
    directory, doing = running

    asked = []

    class Search:
        def propose(self, observations, pending, remaining_flops, n):
            asked.append((len(observations), pending, remaining_flops, n))
            return [doing] * 2

    sweep = Results(directory.root).sweep
    ledger = Ledger(directory.ledger, read_only=True)
    left = TimeLeft(sweep, ledger, Search(), pulse(directory))
    seconds = [left() for _ in range(3)]
    ledger.close()
    assert asked == [(1, [doing], pytest.approx(4e12 - 3e11), AHEAD)]
    # One runs and two come, each of 2e11 FLOPs at 1e10 a second.
    assert seconds == [pytest.approx(60)] * 3


def test_watching_ends_with_the_driver(running, capsys):
    directory, _ = running
    watch(lambda: Results(directory.root))
    assert "1 finished, 1 interrupted" in capsys.readouterr().out


def test_the_command_prints_both_forms(running):
    directory, _ = running
    said = CliRunner().invoke(app, ["status", str(directory.root)])
    assert "1 finished, 1 interrupted" in said.output
    values = json.loads(CliRunner().invoke(app, ["status", str(directory.root), "--json"]).output)
    assert values["trials"] == {"finished": 1, "running": 1}
    assert values["events"][0]["kind"] == "worker-died"


def test_a_narrow_screen_shows_all(running, monkeypatch):
    monkeypatch.setattr(text, "screen_width", lambda: 40)
    monkeypatch.setattr(status, "screen_width", lambda: 40)
    rows = [
        {"skill": "validation/function-bodies", "flops": c, "params": 1.47e4, "low": low,
         "high": 3e4, "status": "ok"} for c, low in ((1e11, 1e4), (1.8e11, 5e3))
    ]  # fmt: skip
    values = snapshot(Results(running[0].root)) | {"optima": rows, "warnings": ["a word " * 9]}
    said = render(values).plain
    assert max(map(len, said.splitlines())) <= 40 and "…" not in said
    assert "validation/function-bodies\n  1e11 FLOPs: 14.7k ±73 %" in said
    assert "1.8e11 FLOPs: 14.7k within a factor" in said


def test_an_optimum_at_the_edge_is_marked(running):
    row = {"skill": "code", "params": 4e3, "low": 3.9e3, "high": 4.1e3}
    rows = [row | {"flops": 1e10, "status": "edge"}, row | {"flops": 3e10, "status": "ok"}]
    said = render(snapshot(Results(running[0].root)) | {"optima": rows}).plain
    assert "4k ±2.5 %, edge  4k ±2.5 %\n" in said


def _drawn(values):
    console = Console(width=100, record=True, highlight=False)
    console.print(render(values))
    return console.export_text()


def test_trials_that_are_out_are_listed_with_the_ids_that_tell_takes(tmp_path):
    own = Trainer(command=("x",), skills={"code": "code"})
    sweep = Sweep(budgets=[1e12], allowance=2e13, trainer=own)
    [asked] = sweep.ask(tmp_path, 1)
    lines = str(render(snapshot(Results(tmp_path)))).splitlines()
    [row] = [line for line in lines if line.startswith("C=1e12")]
    assert row.split()[-1] == asked.id
