"""What the cluster has, and whether another trial fits."""

from __future__ import annotations

import os
import time

from sweeper.errors import ClusterError
from sweeper.spec.placement import Resources
from sweeper.spec.sections import Cluster
from sweeper.spec.spec import Spec

CAPACITY_S = 5.0
"""Seconds for which the cluster's size is believed; nodes may join and leave."""

MOST_PENDING = 1000
"""Trials that may wait for nodes of a cluster at once (assumption: more than any adds at a time);
the searcher proposes no more than fit. Tune by itself lets one wait at a time (ray 2.60,
``_get_max_pending_trials``), so that nodes and processes would come one after the other."""


class Capacity:
    """What the cluster has, and whether another trial fits."""

    def __init__(self, sweep: Spec) -> None:
        self._sweep = sweep
        self._read_at = -CAPACITY_S
        self._here, self._now, self._most = (
            dict[str, float](),
            dict[str, float](),
            dict[str, float](),
        )
        self._short_since: float | None = None

    def forget(self) -> None:
        """Something died: look again."""
        self._read_at = -CAPACITY_S

    def fits(self, params: float, training: list[int]) -> bool:
        """Whether a trial of so many params finds room beside those in training.

        Raises:
            ClusterError: it is too large for the whole cluster, and nodes that were here before
                have not come back for `cluster.hang_s`.
        """
        total = self._total()
        wanted = demand(self._sweep.placement.rule(params))
        if not training:
            self._require(params, wanted, total)
        return self._beside(wanted, training, total)

    def has_room(self, params: float, training: list[int]) -> bool:
        """As `fits`, on the nodes that are here now."""
        self._total()
        return self._beside(demand(self._sweep.placement.rule(params)), training, self._here)

    def _beside(
        self, wanted: dict[str, float], training: list[int], total: dict[str, float]
    ) -> bool:
        held = [demand(self._sweep.placement.rule(p)) for p in training]
        return all(
            sum(each.get(name, 0.0) for each in held) + amount <= total.get(name, 0.0) + 1e-9
            for name, amount in wanted.items()
        )

    def _require(self, params: float, wanted: dict[str, float], total: dict[str, float]) -> None:
        short = {n: a for n, a in wanted.items() if a > total.get(n, 0.0)}
        if not short:
            self._short_since = None
            return
        now = time.monotonic()
        self._short_since = self._short_since or now
        once = all(a <= self._most.get(n, 0.0) for n, a in short.items())
        if once and now - self._short_since < self._sweep.cluster.hang_s:
            return  # a node was lost; another may come
        name, amount = next(iter(short.items()))
        raise ClusterError(
            f"cluster.resources: a trial of {params:.3g} params needs {amount:g} {name}, "
            f"the cluster has {total.get(name, 0.0):g}; add nodes or ask for less"
        )

    def _total(self) -> dict[str, float]:
        import ray

        if time.monotonic() - self._read_at > CAPACITY_S:
            self._read_at = time.monotonic()
            self._here = dict(ray.cluster_resources())
            self._now = _grown(self._here, self._sweep.cluster)
            for name, amount in self._now.items():
                self._most[name] = max(amount, self._most.get(name, 0.0))
        return self._now


def _grown(total: dict[str, float], cluster: Cluster) -> dict[str, float]:
    """Resources of a cluster once it has scaled itself as far as the spec says it may."""
    if cluster.address == "local":
        return total
    limits = {"CPU": cluster.cpus or 0, "GPU": cluster.gpus or 0}
    return total | {name: max(total.get(name, 0.0), limit) for name, limit in limits.items()}


def most_pending(cluster: Cluster) -> int:
    """Trials that may wait at once for nodes, or here for their processes to start.

    A trial that ends hands its process to one that waits, whose own is then dropped half-started:
    on this machine no more start at once than it has cores for.
    """
    return (os.cpu_count() or 1) if cluster.address == "local" else MOST_PENDING


def demand(rule: Resources) -> dict[str, float]:
    """What a trial holds in all."""
    processes = max(rule.workers, 1)
    wanted = {"CPU": rule.cpus * processes, "GPU": rule.gpus * processes}
    return {name: amount for name, amount in wanted.items() if amount > 0}
