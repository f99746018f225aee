"""What may change in a sweep whose trials are partly trained, and what may not.

More money, other machines and another search never make finished trials wrong. Nor do further
budgets, sizes, mixes, or skills that were measured on all of them; whatever decides a loss does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sweeper.errors import DirectoryError
from sweeper.record.ledger import Ledger
from sweeper.spec.spec import Spec
from sweeper.text import number
from trainables.data import Prepared

EVALUATION = "evaluation_documents"

MEASURED = ("finished", "diverged")
"""States of trials that have losses."""


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What two nests of plain values differ in, in words: of the first "there", then "here"."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted(ours.keys() | theirs.keys())
        return [
            line
            for key in keys
            for line in differences(ours.get(key), theirs.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if ours == theirs else [f"{path} is {ours!r} there and {theirs!r} here"]


def taken_over(
    before: Spec,
    now: Spec,
    ledger: Ledger,
    *,
    manifests: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    unscored: bool = False,
) -> Spec:
    """The spec by which a directory's sweep goes on.

    Args:
        now: the one it is to go on with.
        unscored: accept skills that finished trials were not scored on: they are about to be.

    Returns:
        ``now``, with the number of held-out documents that ``before`` came to.

    Raises:
        DirectoryError: what differs would make trials useless that are paid for; says why.
    """
    now = _as_measured(before, now)
    trials = ledger.trials()
    if trials.empty:
        return now
    measured = bool(trials["state"].isin(MEASURED).any())
    refused = differences(_decisive(before, now, measured), _decisive(now, now, measured))
    refused += _dropped_budgets(now, trials["flops"].value_counts().to_dict())
    refused += _changed_mixes(before, now, set(trials["mix"]))
    refused += _changed_variants(before, now, set(trials["mix"]))
    refused += _changed_skills(manifests, before.measured)
    if refused:
        raise DirectoryError(
            f"the directory belongs to another sweep: {'; '.join(refused)}. The {len(trials)} "
            "trials in it would not be comparable: make the spec agree, or choose another "
            "directory" + _mixed(refused)
        )
    if not unscored:
        _require_scored(now, ledger)
    return now


def _mixed(refused: list[str]) -> str:
    """How to mix precisions after all, where that is all that is refused."""
    if [line.split()[0] for line in refused] != ["train.dtype"]:
        return ""
    return "; or train.mixed_dtypes: true, if you want both in one law"


def _as_measured(before: Spec, now: Spec) -> Spec:
    """Keep the number of held-out documents, whose default follows from budgets and sizes."""
    if now.documents == before.documents or getattr(now.data, EVALUATION, None) is not None:
        return now
    if before.documents is None:
        return now
    return replace(now, data=replace(now.data, evaluation_documents=before.documents))


def _decisive(spec: Spec, other: Spec, measured: bool) -> dict[str, Any]:
    """What must agree: the identity without what has a check of its own.

    Args:
        measured: some trial has losses; until then it may be said anew how they are read.
    """
    values = spec.identity
    for name in ("budgets", "skills", "mixes", "variants"):
        del values[name]
    for end in ("low", "high"):
        values["sizes"].pop(end, None)
    if spec.trainer and not measured:
        for name in ("skills", "losses"):
            del values["trainer"][name]
    if other.train.mixed_dtypes:
        del values["train"]["dtype"]
    if isinstance(spec.data, Prepared) and isinstance(other.data, Prepared):
        # A corpus that has further skills is the same for training.
        values["data"]["corpus"] = spec.data.packed.text
    return values


def _dropped_budgets(now: Spec, trained: Mapping[float, int]) -> list[str]:
    return [
        f"budgets: {count} trial{'s' * (count > 1)} of {number(flops)} FLOPs, and the list "
        "lacks it"
        for flops, count in trained.items()
        if not any(abs(flops / budget - 1) < 0.01 for budget in now.budgets)
    ]


def _changed_mixes(before: Spec, now: Spec, trained: set[str]) -> list[str]:
    theirs, ours = before.mix_shares, now.mix_shares
    return [
        f"mixes.{name}: trials of it are trained, with shares {theirs[name]} there and "
        f"{ours.get(name, 'none')} here"
        for name in sorted(trained & theirs.keys())
        if ours.get(name) != theirs[name]
    ]


def _changed_variants(before: Spec, now: Spec, trained: set[str]) -> list[str]:
    return [
        f"variants.{name}: trials of it are trained, with {dict(before.variants[name])} there and "
        f"{dict(now.variants[name]) if name in now.variants else 'none'} here"
        for name in sorted(trained & before.variants.keys())
        if now.variants.get(name) != before.variants[name]
    ]


def _changed_skills(
    manifests: tuple[Mapping[str, Any], Mapping[str, Any]] | None, measured: tuple[str, ...]
) -> list[str]:
    """Skills of a prepared corpus whose examples are not those that trials were scored on."""
    if manifests is None:
        return []
    theirs, ours = (manifest["skills"] for manifest in manifests)
    return [
        f"skills.{name}: its examples in the corpus have changed"
        for name in measured
        if name in theirs and theirs[name]["sha256"] != ours.get(name, {}).get("sha256")
    ]


def unmeasured(spec: Spec, ledger: Ledger) -> dict[str, list[str]]:
    """Skills of a spec that finished trials have no loss of, by trial."""
    table = ledger.observations()
    found = table[table["status"] == "finished"].groupby("trial_id", sort=False)["skill"].agg(set)
    missing = {str(t): [s for s in spec.measured if s not in had] for t, had in found.items()}
    return {trial: skills for trial, skills in missing.items() if skills}


def _require_scored(now: Spec, ledger: Ledger) -> None:
    missing = unmeasured(now, ledger)
    if missing:
        names = sorted({name for each in missing.values() for name in each})
        raise DirectoryError(
            f"skills: {', '.join(names)}: not measured in {len(missing)} finished trials; "
            "`isoskill score DIRECTORY --skills NAMES` measures them from kept checkpoints "
            "(train.keep: true); without those leave the skills out, or start another sweep"
        )
