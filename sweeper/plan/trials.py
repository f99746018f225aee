"""The first trials of a sweep as a list to submit: what a grid is, what an adaptive search opens
with.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pandas as pd

from sweeper.plan.speed import held, speed_of, trained
from sweeper.search.build import policy
from sweeper.search.protocol import COLUMNS, Finished
from sweeper.spec.spec import Spec
from trainables.foreign.command import Place, arguments

MOST = 1000
"""Trials listed at most (assumption)."""


def first_trials(spec: Spec, directory: str | Path) -> pd.DataFrame:
    """The trials that can be started before any has ended.

    Args:
        spec: of the sweep.
        directory: where the sweep is to live.

    Returns:
        One row per trial: ``id, flops, params, tokens, seed, mix, workers, gpus`` (of each
        worker) ``, device_hours, wall_hours``, and with a foreign trainer ``command``.
    """
    nothing = pd.DataFrame(columns=list(COLUMNS))
    asked = policy(spec, spec.measured).propose(nothing, [], spec.allowance, MOST)
    speed, rows = speed_of(spec.cluster), []
    for allocation in [] if isinstance(asked, Finished) else asked:
        own = spec.of(allocation)
        rule = own.placement.rule(allocation.params)
        model = trained(own, allocation.params, allocation.tokens)
        wall_s = speed.wall_s(allocation.flops, allocation.params, own.placement, model)
        trial = spec.trial_id(allocation)
        row = {
            "id": trial, "flops": allocation.flops, "params": allocation.params,
            "tokens": allocation.tokens, "seed": allocation.seed, "mix": allocation.mix,
            "workers": rule.workers, "gpus": rule.gpus,
            "device_hours": wall_s / 3600 * held(rule), "wall_hours": wall_s / 3600,
        }  # fmt: skip
        if own.trainer is not None:
            place = Path(directory).resolve() / "trials" / trial
            slots = {"gpus": math.ceil(rule.gpus), "cpus": math.ceil(rule.cpus), "nodes": 1}
            filled = arguments(own.foreign_trial(allocation), Place(place, {}, slots))
            row["command"] = shlex.join(filled)
        rows.append(row)
    return pd.DataFrame(rows)
