"""Train one allocation and measure its skills: the main path, in plain torch.

Read `train` first. It runs the same in a test, in a Ray Tune actor that has trained other trials
before, and in a worker group: all it knows of its surroundings is a `Context`.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainables.config import TrialConfig
from trainables.context import Context, LocalContext, checkpoints
from trainables.corpora.training_data import Ahead, open_data
from trainables.engine import checkpoint, compiling
from trainables.engine.checkpoint import CheckpointError
from trainables.engine.compiling import uncompiled
from trainables.engine.export import to_hf
from trainables.engine.loss import Objective
from trainables.engine.model import Network, build
from trainables.engine.parallel import Group, choose_device, device_name
from trainables.engine.step import Stepper
from trainables.skills import Skill, resolve
from trainables.skills.encode import Encoded
from trainables.skills.scoring import BATCH_TOKENS, Workers, read_examples, score_skills

__all__ = ["CheckpointError", "Context", "EvaluationError", "LocalContext", "evaluate", "train"]

REPORT_EVERY_S = 2.0
"""Seconds between progress reports (assumption: what a person watching wants)."""

CHECK_STEPS = 10
"""Steps between looks at the loss, the clock and the caller: each costs a GPU a halt and a
worker group a broadcast."""

COMPILED = "compiled"
"""Directory beside the trials' own in which compiled code is kept for all of a sweep's nodes."""

SMOOTHING = 0.02
"""Weight of the newest step in the running training loss: a memory of some 50 steps."""

SAVING_SHARE = 0.05
"""Largest share of the time that goes into checkpoints (assumption): where writing one is slow
they come more rarely than the spec asks."""


class EvaluationError(Exception):
    """The skills could not be scored; the trained model is kept, and can be scored again."""


def train(config: TrialConfig, context: Context) -> dict[str, Any]:
    """Train one model on one allocation and score its skills.

    Training goes on from the context's last sound checkpoint. The last one is written before the
    scoring, so that a failure there costs no training: a trial started again goes straight to it.

    Returns:
        The record: ``status`` ("finished", "diverged" with a ``reason``, or "stopped" as asked),
        ``losses`` by skill (empty unless the last step was reached), counts, FLOPs by both
        conventions, speed, where it was resumed, and ``questions`` by skill where they are kept.

    Raises:
        EvaluationError: the skills could not be scored; the last checkpoint is kept.
        ValueError: the config cannot be trained, or the checkpoint is another trial's.
    """
    skills = resolve(config.skills, config.data)
    examples = read_examples(skills, config.data, context=config.shape.context)
    with _resumed(config, context) as trial:
        status, reason = trial.run()
        record = {"status": status, "reason": reason, "losses": {}}
        if trial.step == trial.steps and math.isfinite(trial.train_loss()):
            trial.keep_final()
            try:
                record |= trial.measure(skills, examples)
            except Exception as error:  # whatever it was, the training is kept
                raise EvaluationError(f"trained, but not scored: {error}") from error
        return trial.record() | record


def evaluate(config: TrialConfig, context: Context) -> dict[str, Any]:
    """Score a trained model from its last checkpoint: the record that `train` would return.

    The config's skills may be others than those it was trained with.

    Raises:
        CheckpointError: there is no sound checkpoint of the last step.
        ValueError: the checkpoint is another trial's.
    """
    skills = resolve(config.skills, config.data)
    examples = read_examples(skills, config.data, context=config.shape.context)
    with _resumed(config, context) as trial:
        if trial.step < trial.steps:
            found = f"the last is of step {trial.step} of {trial.steps}"
            raise CheckpointError(f"no checkpoint of the trained model: {found}; train it first")
        status, reason = trial.outcome()
        record = {"status": status, "reason": reason, "losses": {}}
        return trial.record() | record | trial.measure(skills, examples)


@contextlib.contextmanager
def _resumed(config: TrialConfig, context: Context) -> Iterator[_Trial]:
    """A trial from its last checkpoint; puts back what torch keeps per process for the others."""
    before = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(config.train.threads)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.random.fork_rng(devices=[]):
            trial = _Trial(config, context)
            trial.resume()
            yield trial
    finally:
        torch.set_num_threads(before[0])
        torch.set_default_dtype(before[1])


class _Trial:
    """Model, optimiser, data and progress of one running trial."""

    def __init__(self, config: TrialConfig, context: Context) -> None:
        self.config, self.context = config, context
        shape, settings = config.shape, config.train
        self.group = Group(context, choose_device(settings.device, context.device))
        self.data = open_data(
            config.data, context=shape.context, seed=config.seed, vocabulary=shape.vocabulary
        )
        sharded = settings.parallel == "fsdp" and self.group.count > 1

        def made(*, meta: bool) -> Network:
            return build(shape, seed=config.seed, attention=settings.attention, meta=meta)

        self.ahead = Ahead(self.data, on=self.group.device.type == "cuda")
        self.network = made(meta=sharded)
        if not sharded:
            self.network.to(self.group.device)
        # Of a sharded model one worker makes the weights, and hands each its part.
        weights = made(meta=False).state_dict() if sharded and self.group.rank == 0 else {}
        self.objective = Objective(self.network, begin=self.data.begin, z_loss=settings.z_loss)
        self.stepper = Stepper(self.objective, config, self.group, weights)
        self.sequences = round(config.tokens / shape.context)
        self.recipe = config.recipe
        self.batch, self.steps = self.recipe.batch, self.recipe.steps
        self.step = 0
        # This worker's share of the loss at the first step, and of the running loss.
        self.first_loss = torch.zeros((), device=self.group.device)
        self.loss = torch.zeros((), device=self.group.device)
        self.refused: list[str] = []
        self.earlier_s, self.resumed_at, self.save_s = 0.0, 0, 0.0
        self.started = self.reported = self.saved = time.monotonic()
        self.first_step_at = time.time()

    def tokens_at(self, step: int) -> int:
        """Tokens trained on after this many steps; the last is trimmed to the allocation."""
        return min(step * self.batch, self.sequences) * self.config.shape.context

    def run(self) -> tuple[str, str]:
        """Take the steps that are left; returns the status and, if diverged, its reason."""
        self.started, self.first_step_at = time.monotonic(), time.time()
        self.network.train()
        kept = None if self.context.directory is None else self.context.directory.parent / COMPILED
        if kept is not None and self.stepper.compiled:
            compiling.load(kept, self.config.shape)
        while self.step < self.steps:
            self._one_step()
            if self.step % CHECK_STEPS == 0 and self.step < self.steps:
                if (outcome := self.outcome())[0] == "diverged":
                    return outcome
                if self._look_around():
                    return "stopped", f"asked to stop at step {self.step} of {self.steps}"
        if kept is not None and self.stepper.compiled and self.group.rank == 0:
            compiling.keep(kept, self.config.shape)
        return self.outcome()

    def _one_step(self) -> None:
        """One optimiser step on this worker's slice of the batch."""
        # A worker left without a row must still take part in the step: it takes one that is not
        # its own, with no weight.
        rows, first, mine = self._slice(self.step)
        tokens = torch.from_numpy(self.ahead.sequences(first, max(1, mine)))
        if self.step + 1 < self.steps:
            _, first, following = self._slice(self.step + 1)
            self.ahead.fetch(first, max(1, following))
        loss = self.stepper.take(tokens, valid=mine, rows=rows, step=self.step)
        if self.step == 0:
            self.first_loss, self.loss = loss.clone(), loss.clone()
        self.loss.lerp_(loss, SMOOTHING)
        self.step += 1

    def _slice(self, step: int) -> tuple[int, int, int]:
        """Rows of a step on all workers; the first of this worker's, and how many they are."""
        first = step * self.batch
        rows = min(self.batch, self.sequences - first)
        start, stop = self.group.rows(rows)
        return rows, first + start, stop - start

    def train_loss(self) -> float:
        """Running training loss, nats per token."""
        return float(self.group.total(self.loss))

    def outcome(self) -> tuple[str, str]:
        """Whether the training has diverged so far, and why.

        A loss above its own start counts at the end, and on the way once the running loss has
        forgotten the warm-up.
        """
        loss = self.train_loss()
        if not math.isfinite(loss):
            return "diverged", f"training loss is {loss} at step {self.step} of {self.steps}"
        settled = self.step - self.recipe.warmup > 1 / SMOOTHING
        if settled or self.step == self.steps:
            first = float(self.group.total(self.first_loss))
            if loss > first:
                text = f"training loss {loss:.3f} above the first, {first:.3f}"
                return "diverged", f"{text}, at step {self.step} of {self.steps}"
        return "finished", ""

    def _look_around(self) -> bool:
        """Report and save when it is time; returns whether to stop. Workers act as one."""
        now = time.monotonic()
        every = self.config.train.checkpoint_every_s
        wait = max(every, self.save_s / SAVING_SHARE)
        stop, save, report = self.group.agree(
            self.context.should_stop(),
            every > 0 and now - self.saved >= wait,
            now - self.reported >= REPORT_EVERY_S,
        )
        if save or stop:
            self._save()
        elif report:
            self.context.report(self._metrics())
        if save or stop or report:
            self.reported = now
        return stop

    def _metrics(self) -> dict[str, Any]:
        """Progress, for a person watching."""
        return {
            "step": self.step,
            "steps": self.steps,
            "tokens": self.tokens_at(self.step),
            "train_loss": self.train_loss(),
            "tokens_per_s": self._tokens_per_s(),
            "resumed_at_tokens": self.tokens_at(self.resumed_at),
        }

    def _tokens_per_s(self) -> float:
        """Speed since training started or resumed."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        return (self.tokens_at(self.step) - self.tokens_at(self.resumed_at)) / elapsed

    def keep_final(self) -> None:
        """Keep the trained model: a checkpoint to score from, and an export where asked for."""
        if self.config.train.checkpoint_every_s > 0 and self.resumed_at < self.steps:
            self._save()
        if self.config.train.export and self.context.directory is not None:
            weights = checkpoint.whole_weights(self.network)
            if self.group.rank == 0:
                place = self.context.directory / "export"
                to_hf(self.network, place, begin=self.data.begin, weights=weights)

    def _save(self) -> None:
        """Hand a checkpoint to the context, each worker its part."""
        if self.context.directory is None:
            return
        began = time.monotonic()
        progress = {
            "config": _identity(self.config),
            "step": self.step,
            "wall_s": self._wall_s(),
            "first_loss": float(self.group.total(self.first_loss)),
            "loss": self.train_loss(),
        }
        place = self.context.scratch()
        state = checkpoint.tensors(self.network, self.stepper.optimizer)
        checkpoint.write(place, state, progress, rank=self.group.rank, workers=self.group.count)
        self.context.report(self._metrics(), checkpoint=place)
        self.saved = time.monotonic()
        self.save_s = self.saved - began

    def resume(self) -> None:
        """Go on from the last sound checkpoint, if there is one; remember those refused."""
        for directory in self.group.first(checkpoints(self.context.directory)):
            try:
                self._load(directory)
                return
            except CheckpointError as error:
                self.refused.append(str(error))

    def _load(self, directory: Path) -> None:
        """Read one checkpoint.

        Raises:
            CheckpointError: it is damaged.
            ValueError: it is another trial's.
        """
        rank, workers = self.group.rank, self.group.count
        problem = ""
        try:
            progress = checkpoint.read_progress(directory, rank=rank, workers=workers)
        except CheckpointError as error:
            problem = str(error)
        if not self.group.all(not problem):
            raise CheckpointError(problem or f"{directory} was refused by another worker")
        if progress["config"] != _identity(self.config):
            raise ValueError(
                f"checkpoint {directory} is of another trial than the one asked for; "
                "use another directory or delete it"
            )
        state = checkpoint.tensors(self.network, self.stepper.optimizer)
        checkpoint.read_tensors(directory, state, workers=workers)
        checkpoint.set_steps(self.stepper.optimizer, progress["step"])
        self.step = self.resumed_at = progress["step"]
        self.earlier_s = progress["wall_s"]
        mine = 1.0 if rank == 0 else 0.0  # the sum over workers was saved
        self.first_loss.fill_(progress["first_loss"] * mine)
        self.loss.fill_(progress["loss"] * mine)

    def measure(self, skills: Sequence[Skill], examples: dict[str, Encoded]) -> dict[str, Any]:
        """Losses by skill, and by question where they are kept."""
        losses, questions = score_skills(
            self.score, skills, {**self.data.evaluation_sets(), **examples}, self.config.data,
            token_bytes=self.data.token_bytes,
            workers=Workers(self.group.rank, self.group.count, self._summed),
            batch_tokens=max(BATCH_TOKENS, self.stepper.micro * self.config.shape.context)
            if self.group.device.type == "cuda" else BATCH_TOKENS,
        )  # fmt: skip
        if not self.config.train.keep_questions:
            return {"losses": losses}
        kept = {name: found.columns() for name, found in questions.items()}
        return {"losses": losses, "questions": kept}

    def score(self, sequences: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """NLL of every token of sequences of one length, nats."""
        self.network.eval()
        device, dtype = self.group.device, self.stepper.dtype
        tokens = torch.from_numpy(sequences).to(device)
        narrow = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
        with uncompiled(self.stepper.compiled), narrow:
            nll = self.objective.nll(tokens).double().cpu()
        scored: npt.NDArray[np.float64] = nll.numpy()
        return scored

    def _summed(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sum of an array over the workers."""
        total = self.group.total(torch.from_numpy(values).to(self.group.device))
        summed: npt.NDArray[np.float64] = total.cpu().numpy()
        return summed

    def _wall_s(self) -> float:
        """Seconds trained, those before a resume among them."""
        return self.earlier_s + time.monotonic() - self.started

    def record(self) -> dict[str, Any]:
        """What was trained, and how fast."""
        shape, tokens = self.config.shape, self.tokens_at(self.step)
        return {
            "params_total": shape.params_total,
            "params_without_embeddings": shape.params_without_embeddings,
            "params_with_head": shape.params_with_head,
            "tokens": tokens,
            "steps": self.step,
            "flops_6p": tokens * shape.flops_per_token("6p"),
            "flops_exact": tokens * shape.flops_per_token("exact"),
            "train_loss": self.train_loss(),
            "wall_s": self._wall_s(),
            "tokens_per_s": self._tokens_per_s(),
            "first_step_at": self.first_step_at,
            "dtype": str(self.stepper.dtype).removeprefix("torch."),
            "device": device_name(self.group.device),
            "engine": self.stepper.engine,
            "resumed_at_step": self.resumed_at,
            "resumed_at_tokens": self.tokens_at(self.resumed_at),
            "refused_checkpoints": self.refused,
        }


def _identity(config: TrialConfig) -> Any:
    """What a checkpoint must agree with, as JSON brings it back: all but what is measured."""
    values = config.identity()
    del values["skills"]
    corpus = values["data"].get("corpus")
    if corpus:  # with further skills it is the same for training
        values["data"]["corpus"] = corpus["text"]
    return json.loads(json.dumps(values))
