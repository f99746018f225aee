"""A command over several nodes: a launcher on each, and one who watches them all.

The launchers are Ray actors on the trial's own slots, so that what becomes of it frees them. Each
keeps one command (`trainables.foreign.process`); where one is lost or fails the others are ended.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainables.foreign import command
from trainables.foreign.command import Place, Report, failed, visible_gpus
from trainables.foreign.process import Ended
from trainables.foreign.trial import ForeignTrial

START_S = 300.0
"""Seconds for the launchers to start (assumption: their slots were there when the trial was)."""

ANSWER_S = 60.0
"""Seconds in which a launcher has to answer (assumption: longer, and its node is gone)."""


def free_port() -> int:
    """A port that nobody listens on, here and now."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


class Launcher:
    """Keeps one node's command."""

    def __init__(self, trial: Mapping[str, Any], rank: int) -> None:
        self._trial, self._rank = ForeignTrial.from_dict(trial), rank

    def address(self) -> tuple[str, int]:
        """This node's address, and a port that is free there."""
        return str(ray.util.get_node_ip_address()), free_port()

    def start(self, directory: str, values: Mapping[str, str | int | float]) -> None:
        """Start the command."""
        gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
        place = Place(Path(directory), visible_gpus(gpus), {**values, "node_rank": self._rank})
        self._process = command.start(command.arguments(self._trial, place), self._trial, place)

    def poll(self) -> tuple[Ended | None, Seen]:
        """How it ended, if it has; and what it has printed."""
        ended, output = self._process.poll(), self._process.output
        return ended, Seen(output.size, output.problem, output.tail)

    def ask(self) -> None:
        """Ask it to end."""
        self._process.ask()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()


@dataclass(frozen=True)
class Seen:
    """What a launcher's command has printed."""

    size: int = 0
    problem: str = ""
    tail: str = ""


class Group:
    """All launchers of a trial, as if they were one command.

    Attributes:
        output: of the first launcher; of one that failed, once one has.
        lost: which launcher was lost, in words.
    """

    def __init__(self, actors: list[Any], grace_s: float) -> None:
        self.output, self.lost = Seen(), ""
        self._actors, self._grace_s = actors, grace_s
        self._ended: dict[int, Ended] = {}
        self._first: Ended | None = None
        self._failed_at = 0.0

    def poll(self, wait_s: float = 0.0) -> Ended | None:
        """Ask every launcher; returns how they ended once all have, or one is lost."""
        time.sleep(wait_s)
        for rank in range(len(self._actors)):
            if rank not in self._ended and not self._look(rank):
                self.lost = f"launcher {rank} of {len(self._actors)} was lost"
                return Ended(None)
        if self._first and time.monotonic() - self._failed_at > self._grace_s:
            self.kill()
        if len(self._ended) < len(self._actors):
            return None
        left = tuple(name for each in self._ended.values() for name in each.left)
        stuck = tuple(name for each in self._ended.values() for name in each.stuck)
        return replace(self._first or self._ended[0], left=left, stuck=stuck)

    def _look(self, rank: int) -> bool:
        """Ask one launcher; returns whether it is there."""
        try:
            ended, seen = ray.get(self._actors[rank].poll.remote(), timeout=ANSWER_S)
        except (ray.exceptions.RayError, TimeoutError):
            return False
        fails = ended is not None and ended.code != 0 and self._first is None
        if fails or (rank == 0 and self._first is None):
            self.output = seen
        if ended is not None:
            self._ended[rank] = ended
        if fails:
            self._first, self._failed_at = ended, time.monotonic()
            self.ask()
        return True

    def ask(self) -> None:
        """Ask all to end."""
        for actor in self._actors:
            actor.ask.remote()

    def kill(self) -> None:
        """Kill all."""
        for actor in self._actors:
            actor.kill.remote()


def run(
    trial: ForeignTrial, place: Place, *, launchers: int, held: tuple[float, float], report: Report
) -> dict[str, Any]:
    """Train one trial by a command on each of several nodes.

    Args:
        place: directory that all nodes see, and placeholders of a launcher.
        launchers: how many; the trial's placement group has a bundle for each after its first.
    """
    began = time.time()
    place.directory.mkdir(parents=True, exist_ok=True)
    if (found := command.earlier(trial, place.directory)) is not None:
        return found | {"wall_s": 0.0}
    actors = _actors(trial, launchers, held)
    try:
        _start(actors, place)
        group = Group(actors, trial.trainer.grace_s)
        record = command.watched(trial, place, group, report)
        if group.lost:
            record |= failed("worker-died", group.lost)
    except ray.exceptions.RayError as error:
        record = failed("worker-died", f"a launcher did not start: {str(error).splitlines()[0]}")
    finally:
        for actor in actors:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor)  # whose keeper then ends its command, should it still run
    return record | {"wall_s": time.time() - began, "first_step_at": began}


def _actors(trial: ForeignTrial, launchers: int, held: tuple[float, float]) -> list[Any]:
    """A launcher in each of the trial's bundles but the first, its coordinator's."""
    group = ray.util.get_current_placement_group()
    return [
        ray.remote(Launcher)
        .options(
            num_cpus=held[0],
            num_gpus=held[1],
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=1 + rank
            ),
        )
        .remote(trial.to_dict(), rank)
        for rank in range(launchers)
    ]


def _start(actors: list[Any], place: Place) -> None:
    address, port = ray.get(actors[0].address.remote(), timeout=START_S)
    own = {"nodes": len(actors), "master_addr": address, "master_port": port}
    values = {**place.values, **own}
    starts = [actor.start.remote(str(place.directory), values) for actor in actors]
    ray.get(starts, timeout=START_S)
