"""Skills that a sweep's finished trials were not scored on, measured from kept checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sweeper.driver.faults import reason_of
from sweeper.record.changes import unmeasured
from sweeper.record.directory import Directory
from sweeper.record.ledger import Ledger
from sweeper.spec.spec import Spec
from trainables.progress import counted
from trainables.trainer import evaluate


@dataclass(frozen=True)
class Scored:
    """What was measured.

    Attributes:
        trials: that were scored.
        failed: reason by trial for those that could not be.
    """

    trials: int
    failed: dict[str, str]

    def __str__(self) -> str:
        """In words."""
        said = [f"{self.trials} trials were scored"]
        said += [f"  {trial}: not scored: {why}" for trial, why in self.failed.items()]
        return "\n".join(said)


def score(sweep: Spec, path: Path, *, say: Callable[[str], None]) -> Scored:
    """Measure the spec's skills on every finished trial that lacks some, in this process.

    Args:
        sweep: the spec, with skills that the directory's sweep did not measure.
        say: where to say how far it is.

    Raises:
        DirectoryError: the directory holds another sweep, or a driver holds it.
    """
    directory, failed, done = Directory(path).require(), dict[str, str](), 0
    with directory.driven():
        sweep = directory.claim(sweep, unscored=True)
        with Ledger(directory.ledger) as ledger:
            missing, allocations = unmeasured(sweep, ledger), ledger.allocations("finished")
            for trial, skills in counted(missing.items(), "trials", say=say):
                config = replace(sweep.own_trial(allocations[trial]), skills=tuple(skills))
                try:
                    ledger.add(trial, evaluate(config, directory.trials / trial)["losses"])
                    done += 1
                except Exception as error:  # of one trial: the others are scored
                    failed[trial] = reason_of(error)
    return Scored(done, failed)
