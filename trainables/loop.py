"""Train one allocation and measure its skills: the main path, in plain torch.

Read `train` first. It runs the same in a test, in a Ray Tune actor that has trained other trials
before, and in a worker group: all it knows of its surroundings is a `Context`.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

from trainables.config import TrialConfig
from trainables.context import STATE, Context, LocalContext
from trainables.data import open_data
from trainables.model import Network, build, token_nll
from trainables.optim import make_optimizer, rate_at
from trainables.skills import resolve
from trainables.skills.scoring import Measured, Workers, read_examples, score_skills

__all__ = ["Context", "LocalContext", "train"]

REPORT_EVERY_S = 2.0
"""Seconds between progress reports (assumption: what a person watching wants)."""

CHECK_STEPS = 10
"""Steps between looks at the loss, the clock and the caller: each costs a GPU a halt and a
worker group a broadcast."""

SMOOTHING = 0.02
"""Weight of the newest step in the running training loss: a memory of some 50 steps."""


def train(config: TrialConfig, context: Context) -> dict[str, Any]:
    """Train one model on one allocation and score its skills.

    Args:
        config: the trial.
        context: where it runs; training goes on from its last checkpoint.

    Returns:
        The record: ``status`` ("finished", "diverged" with a ``reason``, or "stopped" when the
        context asked for it), ``losses`` by skill, parameter counts, realised tokens, FLOPs by
        both conventions, speed, and ``questions`` by skill where they are kept. Losses are empty
        unless the last step was reached.

    Raises:
        ValueError: the config cannot be trained, or the checkpoint is another trial's.
    """
    skills = resolve(config.skills, config.data)
    examples = read_examples(skills, config.data, context=config.shape.context)
    with _clean_process(config.train.threads):
        trial = _Trial(config, context)
        trial.resume()
        status, reason = trial.run()
        losses: dict[str, dict[str, Any]] = {}
        questions: dict[str, Measured] = {}
        if trial.step == trial.steps and math.isfinite(trial.train_loss()):
            losses, questions = score_skills(
                trial.score, skills, {**trial.data.evaluation_sets(), **examples}, config.data,
                token_bytes=trial.data.token_bytes, workers=trial.workers,
            )  # fmt: skip
        outcome = {"status": status, "reason": reason, "losses": losses}
        if config.train.keep_questions:
            outcome["questions"] = {name: found.columns() for name, found in questions.items()}
        return trial.record() | outcome


@contextlib.contextmanager
def _clean_process(threads: int) -> Iterator[None]:
    """Set what torch keeps per process, and put it back: other trials run here too."""
    before = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_default_dtype(before[1])


class _Trial:
    """Model, optimiser, data and progress of one running trial."""

    def __init__(self, config: TrialConfig, context: Context) -> None:
        self.config, self.context = config, context
        self.device = _device(config.train.device, context.device)
        shape, seed = config.shape, config.seed
        self.network = build(shape, seed=seed, attention=config.train.attention)
        self.network.to(self.device)
        self.parallel = _parallel(self.network, context)
        self.recipe = config.recipe
        self.optimizer = make_optimizer(self.network, config.train, self.recipe)
        self.data = open_data(
            config.data, context=shape.context, seed=seed, vocabulary=shape.vocabulary
        )
        self.sequences = round(config.tokens / shape.context)
        self.batch, self.steps = self.recipe.batch, self.recipe.steps
        self.step = 0
        # This worker's share of the loss at the first step, and of the running loss.
        self.first_loss = torch.zeros((), device=self.device)
        self.loss = torch.zeros((), device=self.device)
        self.earlier_s, self.resumed_at_tokens = 0.0, 0
        self.started = self.reported = self.saved = time.monotonic()
        self.first_step_at = time.time()

    @property
    def tokens(self) -> int:
        """Tokens trained on so far; the last step is trimmed to the allocation."""
        return min(self.step * self.batch, self.sequences) * self.config.shape.context

    def run(self) -> tuple[str, str]:
        """Take the steps that are left; returns the status and, if diverged, its reason."""
        self.started, self.first_step_at = time.monotonic(), time.time()
        self.network.train()
        while self.step < self.steps:
            self._one_step()
            if self.step % CHECK_STEPS == 0 or self.step == self.steps:
                if not math.isfinite(loss := self.train_loss()):
                    return "diverged", f"training loss is {loss} at step {self.step}"
                if self.step < self.steps and self._look_around(loss):
                    return "stopped", f"asked to stop at step {self.step} of {self.steps}"
        first = self._total(self.first_loss)
        if self.train_loss() > first:
            return "diverged", f"final loss {self.train_loss():.3f} above the first, {first:.3f}"
        return "finished", ""

    def _one_step(self) -> None:
        """One optimiser step on this worker's slice of the batch."""
        first = self.step * self.batch
        rows = min(self.batch, self.sequences - first)
        rank, workers = self.context.rank, self.context.world_size
        start, stop = rows * rank // workers, rows * (rank + 1) // workers
        # A worker left without a row must still take part in the step: it takes one that is not
        # its own, with no weight.
        tokens = self.data.sequences(first + start, max(1, stop - start))
        nll = token_nll(self.parallel, torch.from_numpy(tokens).to(self.device), self.data.begin)
        loss = nll[: stop - start].sum() / (rows * self.config.shape.context)
        # Data parallelism averages gradients over workers; the loss is a sum over their slices.
        (loss * workers).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.clip)
        rate = rate_at(self.config.train, self.recipe, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss = loss.detach()
        if self.step == 0:
            self.first_loss, self.loss = loss.clone(), loss.clone()
        self.loss.lerp_(loss, SMOOTHING)
        self.step += 1

    def _total(self, share: Tensor) -> float:
        """Sum of the workers' shares of a loss."""
        total = share.clone()
        if self.context.world_size > 1:
            distributed.all_reduce(total)
        return float(total)

    def train_loss(self) -> float:
        """Running training loss, nats per token."""
        return self._total(self.loss)

    def _look_around(self, loss: float) -> bool:
        """Report and save when it is time; returns whether to stop. Workers act as one."""
        now = time.monotonic()
        every = self.config.train.checkpoint_every_s
        report = now - self.reported >= REPORT_EVERY_S
        stop, save, report = self._agree(
            self.context.should_stop(), 0 < every <= now - self.saved, report
        )
        if save or stop:
            self._save(loss)
        elif report:
            self.context.report(self._metrics(loss))
        if save or stop or report:
            self.reported = now
        return stop

    def _agree(self, *flags: bool) -> list[bool]:
        """The first worker's flags, on all workers."""
        if self.context.world_size == 1:
            return list(flags)
        shared = torch.tensor(flags, dtype=torch.int32, device=self.device)
        distributed.broadcast(shared, src=0)
        return [bool(flag) for flag in shared.tolist()]

    def _metrics(self, loss: float) -> dict[str, Any]:
        """Progress, for a person watching."""
        return {
            "step": self.step,
            "steps": self.steps,
            "tokens": self.tokens,
            "train_loss": loss,
            "tokens_per_s": self._tokens_per_s(),
        }

    def _tokens_per_s(self) -> float:
        """Speed since training started or resumed."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        return (self.tokens - self.resumed_at_tokens) / elapsed

    def _save(self, loss: float) -> None:
        """Hand a checkpoint to the context; only the first worker writes."""
        with tempfile.TemporaryDirectory(prefix="isoskill-") as name:
            first_loss = torch.tensor(self._total(self.first_loss))
            if self.context.rank == 0:
                state = {
                    "config": _identity(self.config),
                    "step": self.step,
                    "wall_s": self._wall_s(),
                    "first_loss": first_loss,
                    "loss": torch.tensor(loss),
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                }
                torch.save(state, Path(name) / STATE)
            kept = Path(name) if self.context.rank == 0 else None
            self.context.report(self._metrics(loss), checkpoint=kept)
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the context's last checkpoint, if it has one."""
        directory = self.context.latest_checkpoint()
        if directory is None:
            return
        state = torch.load(directory / STATE, map_location=self.device, weights_only=True)
        if state["config"] != _identity(self.config):
            raise ValueError(
                f"checkpoint {directory} is of another trial than the one asked for; "
                "use another directory or delete it"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.earlier_s = state["step"], state["wall_s"]
        self.resumed_at_tokens = self.tokens
        mine = 1.0 if self.context.rank == 0 else 0.0  # the sum over workers was saved
        self.first_loss, self.loss = state["first_loss"] * mine, state["loss"] * mine

    def score(self, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """NLL of every token of sequences of one length, nats."""
        self.network.eval()
        with torch.no_grad():
            tokens = torch.from_numpy(documents).to(self.device)
            nll = token_nll(self.network, tokens, self.data.begin).double().cpu()
        scored: npt.NDArray[np.float64] = nll.numpy()
        return scored

    @property
    def workers(self) -> Workers:
        """The workers of this trial, for scoring."""
        return Workers(self.context.rank, self.context.world_size, self._summed)

    def _summed(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sum of an array over the workers."""
        total = torch.from_numpy(values).to(self.device)
        if self.context.world_size > 1:
            distributed.all_reduce(total)
        summed: npt.NDArray[np.float64] = total.cpu().numpy()
        return summed

    def _wall_s(self) -> float:
        """Seconds trained, those before a resume among them."""
        return self.earlier_s + time.monotonic() - self.started

    def record(self) -> dict[str, Any]:
        """What was trained, and how fast."""
        shape = self.config.shape
        return {
            "params_total": shape.params_total,
            "params_without_embeddings": shape.params_without_embeddings,
            "params_with_head": shape.params_with_head,
            "tokens": self.tokens,
            "steps": self.step,
            "flops_6p": self.tokens * shape.flops_per_token("6p"),
            "flops_exact": self.tokens * shape.flops_per_token("exact"),
            "train_loss": self.train_loss(),
            "wall_s": self._wall_s(),
            "tokens_per_s": self._tokens_per_s(),
            "first_step_at": self.first_step_at,
        }


def _identity(config: TrialConfig) -> str:
    """What a checkpoint must agree with."""
    return json.dumps(config.identity(), sort_keys=True)


def _device(wanted: str, offered: str) -> torch.device:
    """The device to use: the spec's, unless the context offers a particular one of its kind."""
    if offered != "auto" and wanted in ("auto", torch.device(offered).type):
        return torch.device(offered)
    if wanted != "auto":
        return torch.device(wanted)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _parallel(network: Network, context: Context) -> nn.Module:
    """The network itself, or its data-parallel wrapper in a worker group."""
    if context.world_size == 1:
        return network
    return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)
