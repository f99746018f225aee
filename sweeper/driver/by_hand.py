"""A sweep whose trials somebody else launches: ask for the next ones, tell what became of them.

No Ray and no torch. The ledger, the search and the accounting are those of `Sweep.run`; a Slurm
user's loop is twenty lines (examples/12_trainers/slurm).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweeper.budget import Allocation
from sweeper.driver.faults import MOST_RETURNS, RESPONSES
from sweeper.errors import DirectoryError, SpecError, did_you_mean
from sweeper.record import proof
from sweeper.record.directory import Directory
from sweeper.record.ledger import ENDED, RETURNED, Ledger
from sweeper.search.build import policy
from sweeper.search.protocol import Finished
from sweeper.spec.spec import Spec
from sweeper.text import write_whole
from trainables.foreign.command import Place, arguments, measured
from trainables.foreign.losses import LossesError, read, source, sums

PATIENCE_S = 30.0
"""Seconds to wait for another who holds the directory (assumption: jobs that end together)."""


@dataclass(frozen=True)
class Asked:
    """A trial to launch.

    Attributes:
        id: by which `tell` knows it; the same trial always has the same id.
        allocation: size, tokens, seed and mix.
        directory: where it keeps its checkpoints, the same at every attempt.
        command: of the spec's trainer, filled; empty without one.
        attempt: 1 for the first.
    """

    id: str
    allocation: Allocation
    directory: Path
    command: tuple[str, ...] = ()
    attempt: int = 1
    row: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the allocation's and the size's beside the rest."""
        own = {"id": self.id, "attempt": self.attempt, "directory": str(self.directory)}
        return {**self.row, **own, **asdict(self.allocation), "command": list(self.command)}


@contextmanager
def _opened(spec: Spec, root: str | Path) -> Iterator[tuple[Spec, Directory, Ledger]]:
    """A directory held as its driver holds it, for the length of one question."""
    directory = Directory(root)
    with ExitStack() as held:
        _hold(directory, held)
        spec = directory.claim(spec)
        with Ledger(directory.ledger) as ledger:
            yield spec, directory, ledger
            back = _returned(ledger)
            out = {t: asdict(a) for t, a in ledger.allocations("running").items() if t not in back}
            write_whole(directory.out, json.dumps(out, indent=1))


def _hold(directory: Directory, held: ExitStack) -> None:
    """Wait for those who ask and tell at the same moment."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            held.enter_context(directory.driven())
            return
        except DirectoryError:
            if time.monotonic() > until:
                raise


def ask(spec: Spec, root: str | Path, n: int = 1) -> list[Asked] | Finished:
    """Reserve the next trials, those that were given back first; see `Sweep.ask`."""
    if not isinstance(n, int) or n < 1:
        raise SpecError(f"n={n!r}: ask for one trial or more")
    if spec.trainer is None:
        raise SpecError(
            "trainer: a sweep launched by hand says by trainer.skills what its trainings measure, "
            "such as {code: code, validation: aggregate}"
        )
    with _opened(spec, root) as (spec, directory, ledger):
        back = _returned(ledger)
        out = ledger.allocations("running")
        again = [(trial, out[trial]) for trial in back if trial in out][:n]
        spent, reserved = ledger.totals()
        search = policy(spec, spec.measured)
        proposed = search.propose(
            ledger.observations(), list(out.values()), spec.allowance - spent - reserved,
            n - len(again),
        ) if n > len(again) else []  # fmt: skip
        if isinstance(proposed, Finished):
            if not out:
                ledger.set_meta("finished", json.dumps(asdict(proposed)))
                return proposed
            proposed = []
        chosen = again + [(spec.trial_id(a), a) for a in proposed]
        ledger.forget_meta("finished")  # of an allowance that was raised since
        for trial, allocation in chosen:
            proof.keep(ledger, spec.of(allocation).space, trial, allocation)
            ledger.reserve(trial, allocation)
        _keep(ledger, [trial for trial in back if trial not in dict(chosen)])
        return [_asked(spec, directory, ledger, *each) for each in chosen]


def _asked(
    spec: Spec, directory: Directory, ledger: Ledger, trial: str, allocation: Allocation
) -> Asked:
    place = (directory.trials / trial).resolve()
    place.mkdir(parents=True, exist_ok=True)
    own = spec.of(allocation)
    config = own.foreign_trial(allocation)
    attempt = ledger.progress(trial).attempts
    rule = own.placement.rule(allocation.params)
    held = {"gpus": math.ceil(rule.gpus), "cpus": math.ceil(rule.cpus), "nodes": 1}
    command = arguments(config, Place(place, {}, held))
    return Asked(trial, allocation, place, tuple(command), attempt, dict(config.row))


def tell(
    spec: Spec,
    root: str | Path,
    trial: str,
    losses: Mapping[str, Any] | None = None,
    *,
    failed: str = "",
    kind: str = "error",
    tokens: float | None = None,
    correct: bool = False,
) -> str:
    """Record what became of a trial that was asked for; see `Sweep.tell`."""
    Directory(root).require()
    if failed and losses:
        raise SpecError(f"trial {trial}: give its losses, or say why it failed, not both")
    with _opened(spec, root) as (spec, directory, ledger):
        allocation, ended = _asked_for(ledger, trial, correct)
        cost = spec.of(allocation).space.cost(allocation)
        if failed:
            _known(kind)
            trained = _trained(tokens, allocation)
        else:
            record = _measured(spec, directory, trial, allocation, losses)
        if ended:
            ledger.reopen(trial, f"told anew, it had {ended}")
            ledger.forget_meta("finished")
        if failed:
            spent = trained / allocation.tokens * cost
            return _failed(spec, ledger, trial, failed, kind, spent, trained)
        ledger.settle(trial, record, spent_flops=cost)
        return str(record["status"])


def _asked_for(ledger: Ledger, trial: str, correct: bool) -> tuple[Allocation, str]:
    """The allocation of a trial of which may be told, and how it has ended, "" if it is out."""
    if not isinstance(trial, str):
        raise SpecError(f"give the id of a trial, such as asked.id, got {trial!r:.80}")
    for state in ("running", *ENDED):
        found = ledger.allocations(state)
        if trial not in found:
            continue
        if state == "running":
            return found[trial], ""
        if correct:
            return found[trial], state
        raise SpecError(
            f"trial {trial} has {state} already, and what was told of it counts; --correct "
            "(correct=True) replaces that by what is told now"
        )
    out = ledger.allocations("running")
    near = did_you_mean(trial, out)
    raise SpecError(f"trial {trial!r} was not asked for{near}; out: {', '.join(out) or 'none'}")


def _trained(tokens: float | None, allocation: Allocation) -> int:
    """Tokens that a trial was trained on when it failed."""
    if tokens is not None and not 0 <= tokens <= allocation.tokens:
        raise SpecError(
            f"tokens {tokens:g}: the trial has {allocation.tokens}; say how many of them it was "
            "trained on, or leave it out"
        )
    return round(tokens or 0)


def _measured(
    spec: Spec,
    directory: Directory,
    trial: str,
    allocation: Allocation,
    losses: Mapping[str, Any] | None,
) -> dict[str, Any]:
    config, place = spec.foreign_trial(allocation), directory.trials / trial
    try:
        if losses is not None:
            return measured(config, sums(losses, config.classes, where=f"losses of {trial}"))
        found = read(place, config.classes, config.trainer.losses)
    except (LossesError, ValueError) as error:
        raise SpecError(str(error)) from None
    if found is None:
        where = place / source(config.trainer.losses)
        raise SpecError(f"{where}: is not there; give the losses, or say why it failed")
    return measured(config, found)


def _known(kind: str) -> None:
    if kind not in RESPONSES:
        raise SpecError(
            f"kind {kind!r} is unknown{did_you_mean(kind, RESPONSES)}; known: "
            f"{', '.join(RESPONSES)}"
        )


def _failed(
    spec: Spec, ledger: Ledger, trial: str, why: str, kind: str, spent: float, tokens: int
) -> str:
    """Give a trial back or settle it as failed, as the driver would."""
    response, progress = RESPONSES[kind], ledger.progress(trial)
    allowed = spec.cluster.retries if response.counts else MOST_RETURNS
    if response.retried and progress.faults < allowed and progress.attempts <= MOST_RETURNS:
        ledger.fault(trial, kind, why, tokens=tokens, counts=response.counts)
        _keep(ledger, [*_returned(ledger), trial])
        return "running"
    ledger.fail(trial, why, spent_flops=spent + progress.wasted_flops, fault=kind)
    return "failed"


def _returned(ledger: Ledger) -> list[str]:
    return list(json.loads(ledger.meta(RETURNED) or "[]"))


def _keep(ledger: Ledger, trials: list[str]) -> None:
    ledger.set_meta(RETURNED, json.dumps(list(dict.fromkeys(trials))))
