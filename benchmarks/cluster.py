"""A sweep as a job of a Ray cluster that loses a node and gains one, against the same at home.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py [--write]

Three Ray nodes as separate raylets on this machine, one slot each; the sweep goes in through
examples/cluster/submit.sh (`ray job submit`). Once two of its trials have ended one node is
killed, and another joins at once; its trials are told by the processes that it started. The same
spec then runs on local Ray: the sets of allocations must be equal and the losses bit for bit. A
grid is searched, since an adaptive search rightly asks for other trials when others end first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from sweeper import Results, SearchSettings, Sizes, Sweep
from sweeper.cluster.connect import ENVIRONMENT
from sweeper.driver.faults import RESPONSES
from sweeper.errors import DirectoryError
from sweeper.text import si
from trainables.data import Data

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cluster.md"
PATIENCE_S = 1500.0
KILL_AFTER = 2
"""Ended trials of 12 after which a node is killed and another joins."""


def spec() -> Sweep:
    """12 real trainings of ten seconds, on one budget: a grid centres each next on results."""
    return Sweep(
        name="on-three-nodes",
        budgets=(4e10,),
        allowance=4.95e11,
        skills=("knowledge", "code"),
        data=Data(evaluation_documents=16),
        sizes=Sizes(8e3, 8e4),
        search=SearchSettings(policy="grid", sizes_per_budget=12),
    )


def ended(directory: Path) -> int:
    """Trials that have ended so far."""
    try:
        return int((Results(directory).trials["state"] != "running").sum())
    except DirectoryError:
        return 0


def wait(condition: Any, job: subprocess.Popen[bytes]) -> None:
    """Until the condition holds.

    Raises:
        RuntimeError: the job ended first, or patience did.
    """
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until or job.poll() not in (None, 0):
            raise RuntimeError(f"waited in vain; the job's exit status is {job.poll()}")
        time.sleep(0.5)


def submit(sweep_file: Path, directory: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the job; a head takes jobs only once its agent is up, some seconds after itself."""
    command = [ROOT / "examples" / "cluster" / "submit.sh", sweep_file, directory]
    server = os.environ | {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}"}
    until = time.monotonic() + PATIENCE_S
    while True:
        with (directory.parent / "job.log").open("wb") as log:
            job = subprocess.Popen(command, env=server, stdout=log, stderr=subprocess.STDOUT)
        while job.poll() is None and not directory.exists():
            time.sleep(0.5)
        if job.poll() in (None, 0):
            return job
        if time.monotonic() > until:
            raise RuntimeError((directory.parent / "job.log").read_text())
        time.sleep(2.0)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def on_cluster(directory: Path) -> tuple[list[str], set[int]]:
    """Run the sweep through `ray job submit`.

    Returns:
        What happened, in words, and the processes of the node that joined.
    """
    from ray.cluster_utils import Cluster

    port, agent = free_port(), free_port()
    dashboard = {
        "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port,
        "dashboard_agent_listen_port": agent,
    }  # fmt: skip
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0, **dashboard}
    )
    nodes = [cluster.add_node(num_cpus=1, num_gpus=0) for _ in range(2)]
    sweep_file = directory.parent / "on-three-nodes.yaml"
    spec().save(sweep_file)
    job = submit(sweep_file, directory, port)
    told = ["three nodes of one slot"]
    newcomers: set[int] = set()
    try:
        wait(lambda: ended(directory) >= KILL_AFTER, job)
        cluster.remove_node(nodes[0], allow_graceful=False)
        told.append(f"one killed after {ended(directory)} trials")
        joined = cluster.add_node(num_cpus=1, num_gpus=0)
        told.append(f"one joined after {ended(directory)}")
        raylet = joined.all_processes["raylet"][0].process.pid

        def over() -> bool:
            newcomers.update(children(raylet))
            return job.poll() == 0

        wait(over, job)
    except RuntimeError:
        print((directory.parent / "job.log").read_text())
        raise
    finally:
        job.terminate()
        cluster.shutdown()
    return told, newcomers


def children(parent: int) -> set[int]:
    """Processes that a process has started and that are alive."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after = stat.read_text().rpartition(")")[2].split()
            if int(after[1]) == parent:
                found.add(int(stat.parent.name))
    return found


def table(results: Results) -> pd.Series:
    """Losses by allocation and skill."""
    keys = ["flops", "params", "tokens", "seed", "skill"]
    losses: pd.Series = results.table.set_index(keys)["nll"].sort_index()
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the result")
    arguments = parser.parse_args()
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as name:
        told, newcomers = on_cluster(Path(name) / "cluster")
        far = Results(Path(name) / "cluster")
        near = spec().run(Path(name) / "local", progress=False)
        one, other = table(far), table(near)
        same_places = one.index.equals(other.index)
        same_losses = same_places and bool((one == other).all())
        workers = far.trials["worker"].nunique()
        there = far.trials[far.trials["worker"].str.rpartition(":")[2].astype(int).isin(newcomers)]
        faults = far.events[far.events["kind"].isin(RESPONSES)]
    lines = [
        f"# A sweep on a Ray cluster that changes, {date.today().isoformat()}",
        "",
        "`python benchmarks/cluster.py --write`, 2 CPU cores, seed 0.",
        "",
        f"* {'; '.join(told)}; {len(far.trials)} trials on {workers} processes",
        f"* on the node that joined: {len(there)} trials, of "
        f"{', '.join(si(p) for p in there['params']) or 'no'} params",
        f"* faults in the ledger: {len(faults)}; states: "
        f"{far.trials['state'].value_counts().to_dict()}",
        f"* same allocations as on local Ray: {same_places}; losses equal bit for bit: "
        f"{same_losses}",
    ]
    print("\n".join(lines))
    if arguments.write:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(0 if same_losses else 1)


if __name__ == "__main__":
    main()
