"""Foreign trainers on Ray: commands, functions, launchers, and the faults of each."""

import re
import subprocess

import pytest

from sweeper import Allocation, SpecError, Sweep
from trainables.trainer import run_foreign

SCRIPT = """
import json, os, sys, time
a = dict(x[2:].split("=", 1) for x in sys.argv[1:])
p, t, out = float(a["params"]), float(a["tokens"]), a["out"]
rank, mode = int(a.get("rank", 0)), a.get("mode", "")
tried = os.path.join(out, f"tried-{rank}")
first = not os.path.exists(tried)
open(tried, "w").close()
with open(os.path.join(out, "progress.jsonl"), "a") as file:
    file.write(json.dumps({"tokens": t / 2, "loss": 3.0}) + "\\n")
if mode == "ends" and p < 2e6 and first:
    sys.exit(75)
if mode == "ends" and 2e6 < p < 4e6 and first:
    os.kill(os.getpid(), 9)
if mode == "ends" and p > 4e6:
    sys.exit("cannot build %d" % p)
first = first and p > 4e6
if mode == "pair" and rank and first:
    os.kill(os.getppid(), 9)  # its keeper
    time.sleep(60)
if mode == "pair" and not rank and first:
    time.sleep(60)
if rank == 0:
    loss = {"code": 1.5 + 400 / p**.34 + 410 / t**.28, "validation": 1.6 + 400 / p**.34}
    part = os.path.join(out, "part")
    json.dump(loss, open(part, "w"))
    os.replace(part, os.path.join(out, "losses.json"))
"""

CALLS = """
import os

def train(trial, context):
    context.report(trial.tokens / 2, 3.0)
    if context.world_size > 1:
        import torch
        import torch.distributed as dist
        seen = torch.ones(1)
        dist.all_reduce(seen)
        assert seen.item() == context.world_size
    return {"code": 2.0 + 1 / trial.params, "validation": float(trial.row["depth"])}
"""

COMMAND = ["{python}", "-S", "script.py", "--params={params}", "--tokens={tokens}",
           "--out={directory}", "--rank={node_rank}"]  # fmt: skip


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "foreign_calls_on_ray.py").write_text(CALLS)

    def make(mode="", rules=({"cpus": 1},), **trainer):
        values = {
            "budgets": [1e15],
            "allowance": 2e16,
            "search": {"policy": "grid", "sizes_per_budget": 3},
            "trainer": {
                "command": [*COMMAND, f"--mode={mode}"],
                "skills": {"code": "code", "validation": "aggregate"},
                "workdir": str(tmp_path),
                "grace_s": 1.0,
                **trainer,
            },
            "sizes": {"ladder": [{"params": 10**6 * d, "depth": d} for d in (1, 3, 8)]},
            "cluster": {"device": "cpu-core", "resources": list(rules)},
        }
        return Sweep.from_dict(values)

    return make


def states(results):
    return results.trials["state"].value_counts().to_dict()


def nothing_is_left():
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return not re.search(r"^\S*python\S* -S script\.py .*--mode=pair", listed, re.MULTILINE)


@pytest.mark.ray
def test_commands_of_every_kind_of_end(ray_cluster, sweep, tmp_path):
    results = sweep("ends", keep=True).run(tmp_path / "out", progress=False)
    assert states(results) == {"finished": 2, "failed": 1}
    assert dict(zip(results.trials["params"], results.trials["attempts"], strict=True)) == {
        1_000_000: 2, 3_000_000: 2, 8_000_000: 1,
    }  # fmt: skip
    assert {"interrupted", "worker-died"} <= set(results.events["kind"])
    (reason,) = results.trials["reason"][results.trials["state"] == "failed"]
    assert "ended with exit code 1; last it said: cannot build 8000000" in reason
    assert set(results.table["class"].dropna()) == {"code", "aggregate"}
    assert len(list((tmp_path / "out" / "trials").iterdir())) == 3  # kept


@pytest.mark.ray
def test_functions_in_the_actor_and_in_a_worker_group(ray_cluster, sweep, tmp_path):
    made = sweep(command=[], call="foreign_calls_on_ray:train")
    alone = made.run(tmp_path / "alone", progress=False)
    assert states(alone) == {"finished": 3}
    one = alone.trials.iloc[0]
    trial = made.foreign_trial(Allocation(one.flops, int(one.params), int(one.tokens)))
    record = run_foreign(
        trial, directory=tmp_path / "group", name="", workers=2, held={"CPU": 1},
        hang_s=600.0, report=print,
    )  # fmt: skip
    rows = alone.table[alone.table["trial_id"] == one.trial_id]
    found = {name: loss["nll"] for name, loss in record["losses"].items()}
    assert found == dict(zip(rows["skill"], rows["loss"], strict=True))


@pytest.mark.ray
def test_one_of_two_launchers_is_lost_and_the_trial_goes_on(ray_cluster, sweep, tmp_path):
    rules = [{"cpus": 1}, {"from_params": 4e6, "cpus": 1, "workers": 2}]
    results = sweep("pair", rules).run(tmp_path / "pair", progress=False)
    assert states(results) == {"finished": 3}
    lost = results.events[results.events["kind"] == "worker-died"]
    assert len(lost) == 1
    assert lost["detail"].str.contains("its keeper was killed").all()
    assert nothing_is_left()


def test_what_cannot_start_is_refused_before_ray(sweep, tmp_path):
    with pytest.raises(SpecError, match="there is no program 'no-such-program' here"):
        sweep(command=["no-such-program"]).run(tmp_path / "a")
    with pytest.raises(SpecError, match="has neither command nor call"):
        sweep(command=[]).run(tmp_path / "a")
    with pytest.raises(SpecError, match="there is no directory"):
        sweep(workdir="/nowhere/at/all").run(tmp_path / "a")
    with pytest.raises(SpecError, match=r"there is no missing\.py in"):
        sweep(command=["{python}", "-u", "missing.py"]).run(tmp_path / "a")
    warned = sweep(command=["no-such-program"]).plan().warnings
    assert any("no-such-program" in warning for warning in warned)
