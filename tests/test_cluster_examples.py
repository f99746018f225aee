"""The cluster examples as far as a machine without a cluster can hold them to account."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import typer
import yaml

from sweeper.cli import app

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"

FAKES = {
    "srun": 'case "$*" in *hostname*) echo 10.0.0.1;; *) exec /bin/sleep 600;; esac',
    "scontrol": 'case "$1" in show) printf "node1\\nnode2\\nnode3\\n";; esac',
    "ray": "",
    "isoskill": "trap 'exit 130' TERM; touch started; while :; do /bin/sleep .1; done",
    "sleep": "",
}


def parse(command):
    """What the console would make of a command line, without running it."""
    known = typer.main.get_command(app).commands
    return known[command[0]].make_context(command[0], command[1:]).params


def test_ray_accepts_the_cloud_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((CLUSTER / "ray-up.yaml").read_text())
    filled = prepare_config(config)
    validate_config(filled)
    workers = filled["available_node_types"]["gpu"]
    assert workers["min_workers"] == 0, "nodes come when trials wait for them"
    assert workers["max_workers"] <= filled["max_workers"]
    assert filled["available_node_types"][filled["head_node_type"]]["resources"] == {"CPU": 0}
    assert f"pip install {next(iter(filled['file_mounts']))}" in filled["setup_commands"]


def test_the_ray_job_holds_together():
    job = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    program, *command = spec["entrypoint"].split()
    assert program == "isoskill"
    assert parse(command)["set_"] == ["cluster.address=auto"]
    assert str(parse(command)["out"]).startswith("/shared/")
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = [m for c in pod["containers"] for m in c["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == volumes
        assert str(command[1]).startswith(mounts[0]["mountPath"])
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert groups[0]["rayStartParams"]["num-cpus"] == "0", "the head trains nothing"


@pytest.mark.parametrize("script", sorted(CLUSTER.glob("*.sh")), ids=lambda path: path.name)
def test_the_scripts_are_sound_bash(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


def test_the_slurm_script_starts_every_node_and_asks_to_be_started_again(tmp_path):
    calls, tools = tmp_path / "calls", tmp_path / "tools"
    tools.mkdir()
    for name, body in FAKES.items():
        said = f'#!/bin/bash\necho "{name} $*" >> {calls}\n{body}\n'
        (tools / name).write_text(said)
        (tools / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_ID": "7"}
    paths = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    job = subprocess.Popen(
        ["bash", CLUSTER / "slurm.sh", "a/sweep.yaml", tmp_path / "out"],
        env=os.environ | slurm | paths, cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(600):
            if (tmp_path / "started").exists():
                break
            time.sleep(0.1)
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    lines = calls.read_text().splitlines()
    nodes = [line for line in lines if "ray start" in line]
    assert len(nodes) == 3
    assert sum("--head" in line for line in nodes) == 1
    assert sum("--address=10.0.0.1:6379" in line for line in nodes) == 2
    run = next(line for line in lines if line.startswith("isoskill"))
    assert parse(run.split()[1:])["set_"] == ["cluster.address=10.0.0.1:6379"]
    assert lines[-1] == "scontrol requeue 7"
