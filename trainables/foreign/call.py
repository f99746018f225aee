"""A trial that is a function of the user's: ``train(trial, context) -> {skill: loss}``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainables.context import stop_asked
from trainables.foreign import losses
from trainables.foreign.command import Report, failed, measured
from trainables.foreign.imports import load
from trainables.foreign.losses import LossesError
from trainables.foreign.trial import ForeignTrial


@dataclass(frozen=True)
class Sums:
    """One skill's loss as sums over its targets: nll in nats, tokens, and bytes (0 if unknown)."""

    nll: float
    tokens: int
    bytes: int = 0


class CallContext:
    """What a function is given beside its trial.

    Attributes:
        directory: the trial's own, the same at every attempt; on storage all workers see.
        rank: which worker this is; the first one's losses count.
        world_size: how many there are; above 1 torch's process group is set up.
        metrics: what was reported last.
    """

    def __init__(
        self, directory: Path, report: Report, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.directory, self.rank, self.world_size = directory, rank, world_size
        self.metrics: dict[str, Any] = {}
        self._report, self._first = report, (time.monotonic(), math.nan)

    def report(
        self, tokens: float, loss: float = math.nan, *, resumed_at_tokens: float = 0.0
    ) -> None:
        """Say how far the training is: the sign that it does not hang. All workers call it.

        Args:
            loss: of the training, nats per token.
            resumed_at_tokens: those that the checkpoint held from which this attempt began.
        """
        now = time.monotonic()
        if math.isnan(self._first[1]):
            self._first = (now, tokens)
        seconds, trained = now - self._first[0], tokens - self._first[1]
        self.metrics = {
            "tokens": tokens,
            "tokens_per_s": trained / seconds if seconds > 0 else 0.0,
            "resumed_at_tokens": resumed_at_tokens,
        }
        if math.isfinite(loss):
            self.metrics["train_loss"] = loss
        self._report(dict(self.metrics))

    def should_stop(self) -> bool:
        """Whether to write a checkpoint and return None: the sweep is asked to stop."""
        return stop_asked(self.directory)


def run(trial: ForeignTrial, context: CallContext) -> dict[str, Any]:
    """Train one trial by its function.

    Returns:
        The record, as of `trainables.foreign.command.run`.

    Raises:
        Exception: whatever the function raises.
    """
    began = time.time()
    context.directory.mkdir(parents=True, exist_ok=True)
    train = load(trial.trainer.call, trial.trainer.workdir, field="trainer.call")
    record = _record(trial, context, train(trial, context))
    timed = {"wall_s": time.time() - began, "first_step_at": began}
    return {**context.metrics, **record, **timed}


def _record(trial: ForeignTrial, context: CallContext, returned: Any) -> dict[str, Any]:
    if returned is None and context.should_stop():
        tokens = context.metrics.get("tokens", 0.0)
        return {"status": "stopped", "reason": "asked to stop", "tokens": tokens}
    if context.rank:
        return {"status": "finished"}
    if not isinstance(returned, Mapping):
        return failed(
            "losses", f"{trial.trainer.call} returned {returned!r:.80}, no {{skill: loss}}"
        )
    found = {k: asdict(v) if isinstance(v, Sums) else v for k, v in returned.items()}
    try:
        return measured(trial, losses.sums(found, trial.classes, where=trial.trainer.call))
    except LossesError as error:
        return failed("losses", str(error))
