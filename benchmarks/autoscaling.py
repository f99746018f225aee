"""A sweep on a Ray cluster that scales itself: do waiting trials bring nodes, do idle ones go?

    OMP_NUM_THREADS=1 python benchmarks/autoscaling.py [--write]

Ray's own autoscaler (version 2) with its provider of fake nodes: raylets on this machine, one slot
each, three at most, and a head that trains nothing. The sweep asks for three slots
(``cluster.cpus: 3``) while there is none. Ray's `AutoscalingCluster` is not used: it stops every
Ray of the machine first, and ray 2.60's wheel lacks its template.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

from cluster import free_port

from sweeper import Cluster, SearchSettings, Sizes, Sweep
from sweeper.cluster.connect import ENVIRONMENT
from trainables.data import Data

RESULT = Path(__file__).parent / "results" / "autoscaling.md"
HEAD_ID = "f" * 51 + "00000"  # what the fake provider calls the head
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
NODES = 3
IDLE_S = 20.0
PATIENCE_S = 600.0


def spec(address: str) -> Sweep:
    """Eight real trainings of seconds."""
    return Sweep(
        name="on-nodes-that-come",
        budgets=(2e10,),
        allowance=1.7e11,
        skills=("knowledge", "code"),
        data=Data(evaluation_documents=16),
        sizes=Sizes(8e3, 8e4),
        search=SearchSettings(policy="grid", sizes_per_budget=8),
        cluster=Cluster(address=address, cpus=NODES),
    )


def autoscaler(gcs: str) -> dict[str, Any]:
    """What `ray start --autoscaling-config` is given."""
    head: dict[str, Any] = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    worker = {"resources": {"CPU": 1, "object_store_memory": 100 * 2**20}, "node_config": {}}
    return {
        "cluster_name": "fake",
        "max_workers": NODES,
        "idle_timeout_minutes": IDLE_S / 60,
        "upscaling_speed": 10.0,
        "provider": {
            "type": "external",  # by its own name Ray looks for a template that its wheel lacks
            "module": PROVIDER,
            "gcs_address": gcs, "launch_multiple": True, "head_node_id": HEAD_ID,
        },
        "available_node_types": {
            "ray.head.default": head,
            "worker": worker | {"min_workers": 0, "max_workers": NODES},
        },
        "head_node_type": "ray.head.default",
        "auth": {}, "file_mounts": {}, "cluster_synced_files": [], "setup_commands": [],
        "initialization_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
        "head_start_ray_commands": [], "worker_start_ray_commands": [],
    }  # fmt: skip


@contextlib.contextmanager
def head(directory: Path, address: str) -> Any:
    """A head node with an autoscaler, and none of their processes afterwards."""
    config = directory / "autoscaling.json"
    config.write_text(json.dumps(autoscaler(address)))
    fake = {
        "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }  # fmt: skip
    command: list[str | Path] = [
        Path(sys.executable).parent / "ray", "start", "--head", "--block",
        f"--port={address.partition(':')[2]}", "--num-cpus=0", "--dashboard-host=127.0.0.1",
        f"--dashboard-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}",
        "--object-store-memory=104857600", f"--autoscaling-config={config}",
    ]  # fmt: skip
    with (directory / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | fake, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        for member in session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """Processes of the session that a process leads."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(stat.parent.name))
    return found


class Count(threading.Thread):
    """Counts the nodes that train, now and then; keeps every change."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.changes: list[tuple[float, int]] = []
        self.over = threading.Event()
        self._began = time.monotonic()

    def run(self) -> None:
        """Look until told that it is over."""
        import ray

        while not self.over.wait(1.0):
            nodes = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
            if not self.changes or self.changes[-1][1] != len(nodes):
                self.changes.append((time.monotonic() - self._began, len(nodes)))
                print(f"{self.changes[-1][0]:6.0f} s: {len(nodes)} nodes", flush=True)


def connect(address: str) -> None:
    """Join the cluster as soon as its head is up."""
    import ray

    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            return
        except ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the result")
    arguments = parser.parse_args()
    os.environ.update(ENVIRONMENT | {"RAY_AUTH_MODE": "token"})
    import ray

    address = f"{ray.util.get_node_ip_address()}:{free_port()}"
    with tempfile.TemporaryDirectory() as name, head(Path(name), address):
        connect(address)
        count = Count()
        count.start()
        found = spec(address).run(Path(name) / "a", progress=False)
        ended = time.monotonic() - count._began
        until = time.monotonic() + PATIENCE_S
        while count.changes[-1][1] and time.monotonic() < until:
            time.sleep(1.0)
        count.over.set()
        count.join()
        states = found.trials["state"].value_counts().to_dict()
        workers = found.trials["worker"].nunique()
        ray.shutdown()
    most = max(nodes for _, nodes in count.changes)
    lines = [
        f"# A sweep on a cluster that scales itself, {date.today().isoformat()}",
        "",
        "`python benchmarks/autoscaling.py --write`, 2 CPU cores, seed 0; fake nodes of one slot.",
        "",
        f"* nodes, by seconds after the start: "
        f"{', '.join(f'{nodes} at {at:.0f}' for at, nodes in count.changes)}",
        f"* the sweep ended after {ended:.0f} s: {states}, on {workers} processes",
        f"* idle nodes go after {IDLE_S:.0f} s",
    ]
    print("\n".join(lines))
    if arguments.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(0 if most == NODES and count.changes[-1][1] == 0 else 1)


if __name__ == "__main__":
    main()
