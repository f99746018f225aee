"""What the cluster has, and whether another trial fits."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

import ray

from sweeper.errors import ClusterError
from sweeper.spec.placement import Resources
from sweeper.spec.sections import Cluster
from sweeper.text import si

CAPACITY_S = 5.0
"""Seconds for which the cluster's size is believed; nodes may join and leave."""

MOST_PENDING = 1000
"""Trials that may wait for nodes of a cluster at once (assumption: more than any adds at a time);
the searcher proposes no more than fit. Tune by itself lets one wait at a time (ray 2.60,
``_get_max_pending_trials``), so that nodes and processes would come one after the other."""


class Capacity:
    """What the cluster has, asked of Ray now and then, and whether another trial fits."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._read_at = -CAPACITY_S
        self._here: Mapping[str, float] = {}
        self._most: dict[str, float] = {}
        self._short_since: float | None = None

    def forget(self) -> None:
        """Something died: look again."""
        self._read_at = -CAPACITY_S

    def fits(self, wanted: Resources, held: Sequence[Resources]) -> bool:
        """Whether a trial finds room beside those in training, on all there may be.

        Raises:
            ClusterError: it is too large for the whole cluster, and nodes that were here before
                have not come back for `cluster.hang_s`.
        """
        total = _grown(self._resources(), self._cluster)
        for name, amount in total.items():
            self._most[name] = max(amount, self._most.get(name, 0.0))
        if not held:
            self._require(wanted, total)
        return _room(total, [wanted, *held])

    def has_room(self, wanted: Resources, held: Sequence[Resources]) -> bool:
        """As `fits`, on the nodes that are here now."""
        return _room(self._resources(), [wanted, *held])

    def _require(self, wanted: Resources, total: Mapping[str, float]) -> None:
        short = {n: a for n, a in wanted.held.items() if a > total.get(n, 0.0)}
        if not short:
            self._short_since = None
            return
        now = time.monotonic()
        self._short_since = self._short_since or now
        once = all(a <= self._most.get(n, 0.0) for n, a in short.items())
        if once and now - self._short_since < self._cluster.hang_s:
            return  # a node was lost; another may come
        name, amount = next(iter(short.items()))
        raise ClusterError(
            f"cluster.resources: trials from {si(wanted.from_params)} params need {amount:g} "
            f"{name}, the cluster has {total.get(name, 0.0):g}; add nodes or ask for less"
        )

    def _resources(self) -> Mapping[str, float]:
        if time.monotonic() - self._read_at > CAPACITY_S:
            self._read_at = time.monotonic()
            self._here = dict(ray.cluster_resources())
        return self._here


def _room(total: Mapping[str, float], trials: Sequence[Resources]) -> bool:
    """Whether trials fit together into what there is in all."""
    held = [trial.held for trial in trials]
    return all(
        sum(each.get(name, 0.0) for each in held) <= total.get(name, 0.0) + 1e-9
        for name in held[0]
    )


def _grown(total: Mapping[str, float], cluster: Cluster) -> dict[str, float]:
    """Resources of a cluster once it has scaled itself as far as the spec says it may."""
    if cluster.address == "local":
        return dict(total)
    limits = {"CPU": cluster.cpus or 0, "GPU": cluster.gpus or 0}
    return {**total, **{name: max(total.get(name, 0.0), most) for name, most in limits.items()}}


def most_pending(cluster: Cluster) -> int:
    """Trials that may wait at once for nodes, or here for their processes to start.

    A trial that ends hands its process to one that waits, whose own is then dropped half-started:
    on this machine no more start at once than it has cores for.
    """
    return (os.cpu_count() or 1) if cluster.address == "local" else MOST_PENDING
