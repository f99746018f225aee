"""How fast this machine trains a sweep's models: timed for a moment, kept beside the spec.

Loads no torch: the timing runs in processes of its own, one for each device, as trials will.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from sweeper.budget import Allocation
from sweeper.plan.speed import NEAR, Speed, devices_at_hand, trained
from sweeper.spec.roofline import TRIAL_S
from sweeper.spec.sections import Cluster
from sweeper.spec.spec import Spec
from sweeper.text import write_whole

MOMENT_S = 1.0
"""Seconds each size is timed for: some hundred steps of small models on a core (assumption)."""

LONGEST_S = 300.0
"""Seconds after which timing is given up: a GPU may compile first (assumption)."""

MOST_AT_ONCE = 8
"""Processes that time side by side at most (assumption: as many show what sharing costs)."""


def timed(spec: Spec, memory: Path | None = None) -> pd.DataFrame | None:
    """Trials of three sizes as this machine would train them, for `sweeper.plan.speed.speed_of`.

    Args:
        spec: of our own trainer; its budgets choose the sizes.
        memory: file in which timings are kept, and looked for first.

    Returns:
        Columns ``state, flops, params, wall_s, worked_out_s, core`` (share of a core that training
        got while it was timed); None where it cannot be timed here:
        another device than this machine's, another's trainer, or nothing to train on.
    """
    if spec.trainer is not None or spec.data.source == "simulated" or not devices_at_hand(
        spec.cluster
    ) or Cluster().device != spec.cluster.device:  # fmt: skip
        return None
    places = _places(spec)
    key = _key(spec)
    kept = _remembered(memory)
    found = kept.get(key) or _measured(spec, places)
    if found is None:
        return None
    if memory is not None and key not in kept:
        with contextlib.suppress(OSError):  # it is timed again next time
            write_whole(memory, json.dumps({**kept, key: found}, indent=1))
    return _as_trials(spec, places, found)


def _places(spec: Spec) -> list[Allocation]:
    """The guessed optima of the least and the largest budget, and a small size near the first.

    Small sizes have the longest trials of a budget: their speed decides how long cheap ones take.
    """
    least, most = ((c, spec.search.guess(c)) for c in (spec.budgets[0], spec.budgets[-1]))
    wanted = ((least[0], least[1] / NEAR), least, most)
    return [spec.space.allocation(flops, params) for flops, params in wanted]


def _key(spec: Spec) -> str:
    """What a timing holds for: host, models, batch, data and devices."""
    values = spec.to_dict()
    parts = [platform.node(), os.cpu_count(), values["model"], values["train"], spec.dtype]
    parts += [[a.params for a in _places(spec)], spec.documents, spec.measured]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _remembered(memory: Path | None) -> dict[str, Any]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8")) if memory else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _measured(spec: Spec, places: Sequence[Allocation]) -> list[dict[str, float]] | None:
    """The pace of each size, the median over processes that run side by side."""
    configs = json.dumps([spec.own_trial(each).to_dict() for each in places])
    count = max(1, min(devices_at_hand(spec.cluster), MOST_AT_ONCE))
    count = 1 if spec.cluster.hardware.is_gpu else count
    command = [sys.executable, "-m", "trainables.engine.pace", str(MOMENT_S)]
    each: list[list[dict[str, float]]] = []
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, text=True,
                )
            )
            for _ in range(count)
        ]  # fmt: skip
        for process in running:
            stack.callback(process.kill)
        for process in running:
            assert process.stdin is not None
            process.stdin.write(configs)
            process.stdin.close()
            process.stdin = None
        for process in running:
            with contextlib.suppress(ValueError, IndexError, subprocess.TimeoutExpired):
                each.append(json.loads(process.communicate(timeout=LONGEST_S)[0].splitlines()[-1]))
    return [
        {name: median(one[i][name] for one in each) for name in each[0][i]}
        for i in range(len(places))
    ] if each else None  # fmt: skip


def _as_trials(
    spec: Spec, places: Sequence[Allocation], found: Sequence[dict[str, float]]
) -> pd.DataFrame:
    """What trials at the places would take, beside what was worked out for them.

    The share of a core that others left belongs to the machine, not to a size: the median counts,
    so that a moment's stall does not pass for a slow model.
    """
    gpu = spec.cluster.hardware.is_gpu
    usual = median(pace["core"] for pace in found)
    plain = Speed(Cluster(device=spec.cluster.device), "")
    start_s = TRIAL_S["gpu" if gpu else "cpu"]
    rows = []
    for place, pace in zip(places, found, strict=True):
        model = trained(spec, place.params, place.tokens)
        speed = pace["tokens_per_s"] * (1.0 if gpu else usual / max(pace["core"], 0.01))
        rows.append({
            "state": "finished", "flops": place.flops, "params": float(place.params),
            "wall_s": place.tokens / speed + pace["aside_s"] + start_s,
            "core": pace["core"],
            "worked_out_s": plain.wall_s(place.flops, place.params, spec.placement, model),
        })  # fmt: skip
    return pd.DataFrame(rows)
