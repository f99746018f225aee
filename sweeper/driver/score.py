"""New skills for trained models: a foreign trainer's `evaluate` command over kept trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.errors import SpecError
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from sweeper.spec.spec import Spec
from trainables.foreign.command import Place, run
from trainables.foreign.losses import LOSSES
from trainables.foreign.trial import ForeignTrial

TRAINED = "losses.trained.json"
"""Where the losses that the training wrote are kept while others are measured."""


def score(
    spec: Spec, root: str | Path, skills: Mapping[str, str], *, say: Callable[[str], None] = print
) -> int:
    """Measure skills of every finished trial that is kept, one after the other, on this machine.

    Args:
        skills: skill -> class, what ``trainer.evaluate`` writes to ``losses.json``.
        say: told of each trial.

    Returns:
        How many trials could not be scored; those that were are passed over next time.

    Raises:
        SpecError: the spec has no ``trainer.evaluate``, or no trial was kept.
    """
    if spec.trainer is None or not spec.trainer.evaluate:
        raise SpecError(
            "trainer.evaluate: name the command that scores a kept trial, such as [python, "
            "score.py, '--ckpt={directory}/ckpt', '--out={directory}/losses.json']"
        )
    directory = Directory(root).require()
    with directory.driven(), Ledger(directory.ledger) as ledger:
        table = ledger.observations()
        known = table.dropna(subset=["loss"]).groupby("trial_id")["skill"].agg(set).to_dict()
        finished = ledger.allocations("finished")
        kept = {t: a for t, a in finished.items() if (directory.trials / t).is_dir()}
        if not kept:
            raise SpecError(
                f"{directory.trials}: no finished trial was kept; trainer.keep: true keeps them"
            )
        failures = 0
        for trial, allocation in kept.items():
            had = known.get(trial, ())
            wanted = {name: kind for name, kind in skills.items() if name not in had}
            if not wanted:
                continue
            record = evaluated(spec.foreign_trial(allocation), directory.trials / trial, wanted)
            if record["status"] == "finished":
                ledger.add(trial, record["losses"])
            failures += record["status"] != "finished"
            say(f"{trial}: {record['status']} {record['reason']}".rstrip())
    return failures


def evaluated(trial: ForeignTrial, directory: Path, skills: Mapping[str, str]) -> dict[str, Any]:
    """The record of one kept trial, scored again."""
    directory = directory.resolve()
    if (directory / LOSSES).exists() and not (directory / TRAINED).exists():
        (directory / LOSSES).replace(directory / TRAINED)
    (directory / LOSSES).unlink(missing_ok=True)
    own = trial.trainer
    evaluate = replace(own, command=own.evaluate, call="", skills=dict(skills), losses=None)
    held = {"gpus": 1, "cpus": 1, "nodes": 1, "node_rank": 0}
    place = Place(directory, {}, held)
    return run(replace(trial, trainer=evaluate, skills=()), place)
