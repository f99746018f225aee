"""A ledger rebuilt from what else a sweep directory holds.

Finished trials come from the export, those in training from their checkpoints, those out by hand
from a list of them. What ended after the last export has neither, and is trained again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sweeper.budget import Allocation
from sweeper.errors import DirectoryError
from sweeper.record.directory import Directory
from sweeper.record.ledger import ENDED, RECORDED, RETURNED, Ledger
from sweeper.spec.spec import Spec
from trainables.context import PROGRESS, checkpoints

ASIDE = ".damaged"
"""Appended to the name of a ledger that cannot be read."""


@dataclass(frozen=True)
class Repaired:
    """What a repair has found.

    Attributes:
        ended: trials whose result is known again.
        resumed: trials that go on from a checkpoint.
        lost: directories of trials of which too little is left.
        out: trials launched by hand that have yet to be told of.
    """

    ended: int
    resumed: int
    lost: tuple[str, ...]
    out: int = 0

    def __str__(self) -> str:
        """In words."""
        said = f"{self.ended} ended trials are known again, {self.resumed} go on from a checkpoint"
        if self.out:
            said += f", {self.out} still out"
        if self.lost:
            said += f"; of {len(self.lost)} too little is left, and they are trained again"
        return said


def repair(root: str | Path) -> Repaired:
    """Rebuild a sweep directory's ledger.

    Args:
        root: the directory; a ledger that cannot be read is put aside.

    Raises:
        DirectoryError: there is nothing to make it from, the ledger is sound, or a driver runs.
    """
    directory = Directory(root)
    if not directory.spec.exists():
        raise DirectoryError(
            f"{root}: sweep.yaml is missing too; copy the sweep's spec there, then repair"
        )
    with directory.driven():
        _put_aside(directory)
        spec = Spec.load(directory.spec)
        try:
            return _rebuilt(directory, spec)
        except BaseException:  # half a ledger would be taken for the sweep's
            directory.ledger.unlink(missing_ok=True)
            raise


def _rebuilt(directory: Directory, spec: Spec) -> Repaired:
    """Make the ledger from what is left."""
    with Ledger(directory.ledger) as ledger:
        ended, out = _ended(directory, ledger), _out(directory, ledger)
        resumed, lost = _resumed(directory, spec, ledger)
        found = Repaired(ended, resumed, tuple(lost), out)
        ledger.event("repaired", str(found))
        if spec.trainer is not None and not directory.ray.exists():  # by hand: no Ray was here
            ledger.set_meta(RETURNED, "[]")
    if not ended + resumed + out:
        raise DirectoryError(
            f"{directory.root}: neither observations.parquet nor trials/ holds a result of this "
            "spec's"
        )
    return found


def _put_aside(directory: Directory) -> None:
    """Move a damaged ledger away; refuse to replace a sound one."""
    if not directory.ledger.exists():
        return
    try:
        with Ledger(directory.ledger, read_only=True) as ledger:
            sound, counts = ledger.check() == "ok", sum(ledger.counts().values())
    except DirectoryError:
        sound, counts = False, 0
    if sound:
        raise DirectoryError(
            f"{directory.root}: its ledger is sound ({counts} trials); nothing to repair"
        )
    for path in directory.root.glob(f"{directory.ledger.name}*"):
        if not path.name.endswith(ASIDE):
            path.replace(path.with_name(path.name + ASIDE))


def _ended(directory: Directory, ledger: Ledger) -> int:
    """Take over the trials of the export."""
    if not directory.observations.exists():
        return 0
    try:
        table = pd.read_parquet(directory.observations)
    except (OSError, ValueError) as error:
        raise DirectoryError(f"{directory.observations} cannot be read: {error}") from error
    for trial, rows in table.groupby("trial_id", sort=False):
        first = rows.iloc[0].to_dict()
        ledger.reserve(str(trial), _allocation(first, str(first["mix"])))
        spent = float(first["spent_flops"])
        if first["status"] == "failed":
            ledger.fail(str(trial), str(first["reason"]), spent_flops=spent)
            continue
        losses = {row["skill"]: _loss(row) for row in rows.to_dict("records") if row["class"]}
        ledger.settle(
            str(trial),
            {name: _known(first.get(name)) for name in RECORDED}
            | {"status": first["status"], "reason": str(first["reason"]), "losses": losses},
            spent_flops=spent,
        )
    return int(table["trial_id"].nunique())


def _out(directory: Directory, ledger: Ledger) -> int:
    """Take over the trials that somebody has launched by hand."""
    if not directory.out.exists():
        return 0
    ended = ledger.allocations(*ENDED)
    try:
        listed = json.loads(directory.out.read_text(encoding="utf-8"))
        out = {t: Allocation(**row) for t, row in listed.items() if t not in ended}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DirectoryError(
            f"{directory.out} cannot be read ({error}): move it away, and repair again; `ask` "
            "then names the jobs that are out anew"
        ) from error
    for trial, allocation in out.items():
        ledger.reserve(trial, allocation)
    return len(out)


def _allocation(row: Mapping[str, Any], mix: str) -> Allocation:
    params, tokens, seed = (int(row[name]) for name in ("params", "tokens", "seed"))
    return Allocation(float(row["flops"]), params, tokens, seed, mix)


def _known(value: Any) -> Any:
    """A cell, None for a missing one; plain, as SQLite knows no others."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _loss(row: dict[str, Any]) -> dict[str, Any]:
    names = {"nll": "nll", "tokens": "target_tokens", "bytes": "target_bytes"}
    values = {name: _known(row[column]) for name, column in names.items()}
    return {"class": row["class"], "examples": _known(row["examples"]), **values}


def _resumed(directory: Directory, spec: Spec, ledger: Ledger) -> tuple[int, list[str]]:
    """Take over the trials that have a checkpoint, and name those of which less is left."""
    known, count, lost = set(ledger.allocations("running", *ENDED)), 0, []
    for place in sorted(p for p in directory.trials.glob("*") if p.is_dir()):
        if place.name in known or place.name.startswith("tune-"):
            continue
        found = next(_trials_of(place, spec), None)
        if found is None:
            lost.append(place.name)
            continue
        allocation, tokens = found
        ledger.reserve(place.name, allocation)
        ledger.advance(place.name, tokens)
        count += 1
    return count, lost


def _trials_of(place: Path, spec: Spec) -> Iterator[tuple[Allocation, int]]:
    """Which trial of the spec a directory's checkpoints are of, and tokens of the best."""
    for path in checkpoints(place):
        try:
            progress = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
            config = progress["config"]
            for mix in spec.mix_shares:
                allocation = _allocation(config, mix)
                trial = spec.of(allocation).own_trial(allocation)
                if spec.trial_id(allocation) == place.name:
                    done = trial.recipe.batch * trial.shape.context * int(progress["step"])
                    yield allocation, min(done, allocation.tokens)
        except (OSError, ValueError, TypeError, KeyError):
            continue
