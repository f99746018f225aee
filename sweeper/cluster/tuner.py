"""Ray Tune as sweep and tuning use it: it schedules, and keeps nothing that is read back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from sweeper.cluster.trial import Work, name_of, resources, train_trial


class Unsaved:
    """Tune pickles what it is given into a snapshot that is never read back: keep nothing."""

    def __getstate__(self) -> dict[str, Any]:
        """An empty state."""
        return {}


class Shell(Unsaved, Searcher):
    """A searcher that passes on what somebody else decides, and remembers what went wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    def work(self, trial_id: str) -> Work | str | None:
        """The work of a new Tune trial, None to be asked again, or FINISHED."""
        raise NotImplementedError

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's config, None to be asked again, or FINISHED."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        try:
            work = self.work(trial_id)
        except Exception as error:
            self.error = error
            return str(Searcher.FINISHED)
        return {"work": work} if isinstance(work, Work) else work

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        """Accept whatever Tune says; losses are read from the record."""
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Accept Tune's limit for what it is used for here, how many trials may wait at once: how
        many train is limited by what fits.
        """
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: ledger and studies hold everything."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def fit(
    shell: Shell,
    *,
    name: str,
    storage: Path,
    retries: int = 0,
    most_waiting: int | None = None,
    callbacks: Sequence[tune.Callback] = (),
    stop: tune.Stopper | None = None,
) -> None:
    """Train what a shell asks for until it is finished.

    Args:
        shell: says what to train, and is told what became of it.
        name: of Ray's directory in the storage.
        storage: where Ray's files go.
        retries: by Tune itself, of a trial whose process died.
        most_waiting: trials that may wait for a slot at once.
        callbacks: told what happens.
        stop: ends it before the shell does.
    """
    # Our own record says what became of each trial, and a snapshot that fails is never read.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tune.Tuner(
        tune.with_resources(train_trial, resources),
        tune_config=tune.TuneConfig(
            search_alg=shell,
            num_samples=-1,
            max_concurrent_trials=most_waiting,
            reuse_actors=True,
            trial_name_creator=name_of,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage.resolve()),
            failure_config=tune.FailureConfig(max_failures=retries),
            callbacks=list(callbacks),
            stop=stop,
            verbose=0,
        ),
    ).fit()
