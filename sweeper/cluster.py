"""Ray: how it is reached, and the settings a sweep needs of it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sweeper.errors import ClusterError
from sweeper.spec import Cluster

REACH_S = 5.0
"""Seconds to wait for a connection to a named address (assumption)."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_worker_niceness": "0",  # Ray's default of 15 starves trials on a shared machine
    "RAY_AIR_NEW_OUTPUT": "0",  # the progress lines are ours
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s is added to every group
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # Train runs appear in the dashboard's API
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is the record; halves Tune's cost
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Set before Ray starts, where the user has not set them."""


@contextmanager
def connected(cluster: Cluster, name: str = "") -> Iterator[str]:
    """Connect to Ray, yield the dashboard's URL (or nothing), and leave Ray as it was found.

    Args:
        cluster: where, and with what.
        name: of the sweep; Ray's list of jobs carries it.

    Raises:
        ClusterError: nothing answers at the address.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import ray

    if ray.is_initialized():
        address = _url(ray.init(ignore_reinit_error=True, logging_level=logging.ERROR))
        yield f"http://{address}" if address else ""
        return
    address = _connect(cluster, name)
    try:
        yield f"http://{address}" if address else ""
    finally:
        ray.shutdown()


def _connect(cluster: Cluster, name: str) -> str | None:
    import ray

    quiet = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray.job_config.JobConfig(metadata={"job_name": name}),
    }
    if cluster.address == "local":
        context = ray.init(
            address="local",
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            include_dashboard=cluster.dashboard or needs_dashboard(cluster),
            dashboard_host="127.0.0.1",
            **quiet,
        )
        return _url(context)
    _knock(cluster.address)
    try:
        return _url(ray.init(address=cluster.address, **quiet))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"cluster.address={cluster.address!r}: no Ray cluster answers ({_first(error)}); "
            "start one with `ray start --head`, or use address: local"
        ) from error


def needs_dashboard(cluster: Cluster) -> bool:
    """Whether trials run in worker groups, whose slots Ray frees only with its dashboard on."""
    return any(rule.workers > 0 for rule in cluster.resources)


def _knock(address: str) -> None:
    """Fail at once where Ray would retry for a minute."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise ClusterError(
            f"cluster.address={address!r}: nothing answers there ({error}); "
            "start Ray with `ray start --head`, or use address: local"
        ) from error


def metrics_ports() -> list[str]:
    """host:port at which each living node serves its metrics, Ray's and ours."""
    import ray

    return [
        f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
        for node in ray.nodes()
        if node["Alive"]
    ]


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _url(context: Any) -> str | None:
    return getattr(context, "dashboard_url", None)
