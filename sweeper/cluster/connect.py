"""Ray: how it is reached, and the settings a sweep needs of it."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants, worker
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.util import metrics

from sweeper.cluster.interrupts import hangups_ignored
from sweeper.cluster.surroundings import (
    allow_files,
    own_temporary_directory,
    remedy,
    short_temporary_names,
    temporary_directory,
    token_below,
)
from sweeper.driver.gauges import Gauge, Metric
from sweeper.errors import ClusterError
from sweeper.spec.sections import Cluster
from trainables.prepare.files import caches_below

REACH_S = 5.0
"""Seconds to wait for a connection to a named address (assumption)."""

STARTS = 3
"""Tries to start a Ray of our own: on a busy machine its processes may miss Ray's 30 s (at a load
of eight on two cores twice in a row)."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_worker_niceness": "0",  # Ray's default of 15 starves trials on a shared machine
    "RAY_AIR_NEW_OUTPUT": "0",  # the progress lines are ours
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s is added to every group
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # Train runs appear in the dashboard's API
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is the record; halves Tune's cost
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: trials write a checkpoint first
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the driver says in a line what died, and why
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # its snapshots are never read back
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Set before Ray starts, where the user has not set them."""


@contextmanager
def connected(
    cluster: Cluster, name: str = "", *, worker_groups: bool = False, files: Path | None = None
) -> Iterator[str]:
    """Connect to Ray, yield the dashboard's URL (or nothing), and leave Ray as it was found.

    Args:
        cluster: where, and with what.
        name: of the sweep; Ray's list of jobs carries it.
        worker_groups: whether trials run in them: Ray frees their slots only with its dashboard.
        files: where a Ray of our own keeps what it would keep in the home directory, if that
            cannot be written; None for the temporary directory.

    Raises:
        ClusterError: nothing answers at the address, or a Ray of our own does not start.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    # Read when Ray is imported, which may have been before us.
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = ray_constants.env_bool(
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False
    )
    if ray.is_initialized():
        yield _url(ray.init(ignore_reinit_error=True, logging_level=logging.ERROR))
        return
    if worker_groups:
        cluster = replace(cluster, dashboard=True)
    dashboard = _connect(cluster, name, files or own_temporary_directory())
    try:
        yield dashboard
    finally:
        ray.shutdown()


def _connect(cluster: Cluster, name: str, files: Path) -> str:
    quiet = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray.job_config.JobConfig(metadata={"job_name": name}),
    }
    if cluster.address == "local":
        return _url(_start(cluster, quiet, files))
    _check_reachable(cluster.address)
    try:
        context = ray.init(address=cluster.address, **quiet)
        _warn_unauthenticated(cluster.address)
        return _url(context)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"cluster.address={cluster.address!r}: no Ray cluster answers ({_first(error)}); "
            "start one with `ray start --head`, or use address: local"
        ) from error


def _start(cluster: Cluster, quiet: dict[str, Any], files: Path) -> Any:
    """Start a Ray of our own on this machine."""
    place = temporary_directory()
    allow_files()
    if caches_below(files):
        token_below(files)
    for attempt in range(1, STARTS + 1):
        try:
            with loopback(), hangups_ignored(), short_temporary_names(place):
                return ray.init(
                    address="local",
                    num_cpus=cluster.cpus,
                    num_gpus=cluster.gpus,
                    include_dashboard=cluster.dashboard,
                    dashboard_host="127.0.0.1",
                    _temp_dir=place,
                    **quiet,
                )
        except Exception as error:  # Ray raises it bare when a process of its own does not start
            ray.shutdown()
            if attempt == STARTS:
                logs = Path(place or get_default_ray_temp_dir(), "session_latest", "logs")
                raise ClusterError(
                    "cluster.address: local: Ray did not start on this machine in "
                    f"{STARTS} tries ({_first(error)}); {remedy(error, logs)}"
                ) from error


def own_ray_ended() -> bool:
    """Whether the process that runs trials, of a Ray that was started here, has ended."""
    node = worker._global_node  # Ray has no public way to ask without waiting for it
    return node is not None and any(kind == "raylet" for kind, _ in node.dead_processes())


@contextmanager
def loopback() -> Iterator[None]:
    """Let a Ray that is started here take 127.0.0.1 for its own address.

    Otherwise all of its processes but the dashboard listen on every interface. Ray does so by
    itself on macOS and Windows, and there is no argument for it: ``ray.init`` replaces a loopback
    address by an outer one (ray 2.60, ``services.resolve_ip_for_localhost``). Its processes read
    the variable; without it the dashboard would seek the cluster at the outer address, and
    answer nothing about Train runs.
    """
    before, variable = ray_constants.ENABLE_RAY_CLUSTER, ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    set_before = os.environ.get(variable)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[variable] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        if set_before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = set_before


def _warn_unauthenticated(address: str) -> None:
    """Say so where anybody who reaches the cluster can run programs on it."""
    if not is_token_auth_enabled():
        warnings.warn(
            f"cluster.address={address!r}: the cluster takes commands without a token, so "
            "whoever reaches its ports can run programs on it; start its nodes with "
            "RAY_AUTH_MODE=token (see SECURITY.md)",
            stacklevel=2,
        )


def _check_reachable(address: str) -> None:
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


def session_directory() -> str:
    """Where the connected Ray keeps its files, its settings for Prometheus among them."""
    return str(worker._global_node.get_session_dir_path())


def ray_gauge(metric: Metric) -> Gauge:
    """A gauge of the running Ray driver."""
    labels = ("sweep", *metric.labels)
    gauge: Gauge = metrics.Gauge(metric.name, description=metric.description, tag_keys=labels)
    return gauge


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _url(context: Any) -> str:
    address = getattr(context, "dashboard_url", None)
    return f"http://{address}" if address else ""
