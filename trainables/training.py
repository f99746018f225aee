"""How a trial is trained: the settings of `trainables.engine.loop`. Pure Python and JSON-able."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, get_args

from trainables.families.checks import Strict, fill, require

RuleName = Literal["width", "llama3", "deepseek", "porian", "steplaw"]

OWN_NUMBERS = (
    "batch_tokens", "learning_rate", "reference_width", "width_exponent", "beta2", "warmup",
)  # fmt: skip
"""Fields of `Train` that the rule "width" reads, and no other."""

BUILT_IN: dict[str, float] = {"batch_tokens": 480, "learning_rate": 8e-3}
"""Batch and rate (at width 32) of the built-in corpora, tuned on them by hand
(benchmarks/results/trainables.md)."""

COMPILED_PARAMS = 10e6
"""Params from which compiling pays on a GPU (assumption, to be measured by benchmarks/gpu.py: from
there on memory traffic, which compiling cuts, costs more than launching)."""

CHOICES = {
    "schedule": ("cosine", "wsd"),
    "dtype": ("auto", "float32", "bfloat16"),
    "attention": ("eager", "sdpa"),
    "parallel": ("ddp", "fsdp"),
    "device": ("auto", "cpu", "cuda"),
}
"""Values of fields of `Train`."""

RUN_ONLY = (
    "attention", "compile", "graphs", "recompute", "micro_batch", "parallel", "threads", "device",
    "checkpoint_every_s", "keep", "export", "keep_questions", "mixed_dtypes",
)  # fmt: skip
"""Fields of `Train` that move a result by no more than rounding: not part of a trial's
identity."""


@dataclass(frozen=True)
class Power(Strict):
    """coefficient * params^params_exponent * tokens^tokens_exponent.

    Attributes:
        coefficient: at one parameter and one token.
        params_exponent: of `Shape.params_with_head`; 0 where params do not matter.
        tokens_exponent: of the trial's tokens; below 1 in a batch, or no training would be long
            enough for its own batch.
        params_range: least and greatest params it was measured at; None if unknown.
        tokens_range: least and greatest tokens.
    """

    coefficient: float
    params_exponent: float = 0.0
    tokens_exponent: float = 0.0
    params_range: tuple[float, float] | None = None
    tokens_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("params_range", "tokens_range"):
            ends = getattr(self, name)
            if ends is not None and not 0 < ends[0] <= ends[1]:
                raise ValueError(f"train.law: {name} must be two ascending numbers, got {ends}")
        if not (math.isfinite(self.coefficient) and self.coefficient > 0):
            raise ValueError(f"train.law: coefficient must be positive, got {self.coefficient}")
        for exponent in (self.params_exponent, self.tokens_exponent):
            if not -2 < exponent < 2:
                raise ValueError(f"train.law: an exponent must lie in (-2, 2), got {exponent}")

    def __call__(self, params: float, tokens: float) -> float:
        """The value at one allocation."""
        logarithm = self.params_exponent * math.log(params) + self.tokens_exponent * math.log(
            tokens
        )
        return self.coefficient * math.exp(logarithm)

    def beyond(self, params: float, tokens: float) -> float:
        """Greatest factor by which an allocation leaves the measured ranges; 1 inside them."""
        pairs = ((params, self.params_range), (tokens, self.tokens_range))
        factors = [max(r[0] / value, value / r[1]) for value, r in pairs if r is not None]
        return max(1.0, *factors) if factors else 1.0


@dataclass(frozen=True)
class Law(Strict):
    """Measured laws that take the place of the rule's; None leaves the rule's.

    Attributes:
        learning_rate: peak rate per step.
        batch: tokens per step.
    """

    learning_rate: Power | None = None
    batch: Power | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch.tokens_exponent >= 1:
            raise ValueError(
                f"train.law.batch.tokens_exponent={self.batch.tokens_exponent}: must be below 1, "
                "or longer trainings would have fewer steps"
            )


@dataclass(frozen=True)
class Train(Strict):
    """How a model is trained; the defaults are for seconds on one CPU core.

    In a sweep on a prepared corpus, rule, batch and rate that are left out follow its budgets
    (`sweeper.spec.defaults`).

    Attributes:
        rule: where learning rate, batch, beta2 and warm-up come from: "width", also if left out,
            for the numbers here, or a published rule, "llama3", "deepseek", "porian" or
            "steplaw", as printed (`trainables.recipe`). Schedule, decay and clip are the spec's
            under any rule.
        law: measured laws that take the place of the rule's rate and batch.
        batch_tokens: tokens per step, the same for every size and budget: a batch that grows with
            the tokens starves small models (measured, benchmarks/results/trainables.md). Rounded
            to sequences; 0 is left out (`BUILT_IN`). For the rule "width", as the next five.
        learning_rate: peak rate at ``reference_width``; 0 is left out.
        reference_width: width at which ``learning_rate`` was tuned.
        width_exponent: rate falls as (reference_width / width)^width_exponent.
        beta2: AdamW's second moment; .98 rather than .999 as batches are small (Porian et al.
            2024, section 3.4).
        warmup: share of steps with a linearly rising rate (short, as Porian et al. advise).
        beta1: AdamW's first moment.
        weight_decay: AdamW's, on matrices only.
        clip: largest gradient norm.
        schedule: "cosine" to ``final`` times the peak, or "wsd": constant, then linear to
            ``final`` over the last ``decay`` of the steps.
        final: last rate over peak rate.
        decay: share of the steps in which "wsd" falls; a fifth loses little against cosine
            (Hägele et al. 2024, arXiv 2405.18392, section 3).
        z_loss: weight of the squared log-normaliser of the head, 0 for none; 1e-4 is usual (PaLM,
            Chowdhery et al. 2022, section 5).
        dtype: precision of matrix products: "auto" is bfloat16 on a GPU that has it, else float32.
            Weights, gradients and moments are float32 in any case.
        mixed_dtypes: go on with a sweep whose trials were trained in another ``dtype``.
        attention: "sdpa" or "eager"; sdpa is never slower than noise on CPU, from width 12 to 96
            (measured, benchmarks/train_step.py).
        compile: compile each block with torch.compile; None: on GPUs, from `COMPILED_PARAMS` on.
        graphs: replay the whole step as one CUDA graph; None: on a single GPU, below
            `COMPILED_PARAMS`, where launching kernels takes longer than they do.
        recompute: recompute each block's activations on the way back, for memory.
        micro_batch: sequences of one forward pass on one worker, the others following in turn; 0
            finds it from the free memory. Moves a loss by rounding only.
        parallel: how worker groups share a model: "ddp" on each worker, "fsdp" in shards of it.
        threads: CPU threads of one trial; 1, with one trial per core, is fastest below 1 M
            parameters and keeps results bit-identical.
        device: "cpu", "cuda", or "auto" for what the trial's slot has.
        checkpoint_every_s: seconds between checkpoints, stretched where writing one is slow; the
            trained model is kept as one until its trial is settled. 0 writes none.
        keep: keep that last checkpoint when the trial has been settled.
        export: keep the trained model as a Hugging Face checkpoint, in the trial's directory.
        keep_questions: keep the loss of every single question, for laws of repeated sampling.
    """

    rule: RuleName | Literal[""] = ""
    law: Law = field(default_factory=Law)
    batch_tokens: int = 0
    learning_rate: float = 0.0
    reference_width: int = 32
    width_exponent: float = 0.5
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: float = 0.04
    schedule: Literal["cosine", "wsd"] = "cosine"
    final: float = 0.02
    decay: float = 0.2
    z_loss: float = 0.0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Literal["eager", "sdpa"] = "sdpa"
    compile: bool | None = None
    graphs: bool | None = None
    recompute: bool = False
    micro_batch: int = 0
    parallel: Literal["ddp", "fsdp"] = "ddp"
    threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every_s: float = 60.0
    keep: bool = False
    export: bool = False
    keep_questions: bool = True
    mixed_dtypes: bool = False

    left_out: ClassVar[frozenset[str]]
    """Of rule, batch_tokens and learning_rate, those that were not given; set by each instance."""

    def __post_init__(self) -> None:
        self._fill_in()
        self._check_rule()
        self._check_optimizer()
        for name, known in CHOICES.items():
            value = getattr(self, name)
            require(
                value in known,
                f"train.{name}: {value!r} is unknown; use {' or '.join(map(repr, known))}",
            )
        require(0 <= self.final <= 1, "train.final is a share of the peak rate, in 0..1")
        require(0 < self.decay <= 1, "train.decay is a share of the steps, in (0, 1]")
        require(0 <= self.z_loss < 1, "train.z_loss must lie in [0, 1); 1e-4 is usual")
        require(self.micro_batch >= 0, "train.micro_batch must not be negative; 0 finds it")
        require(self.threads >= 1, "train.threads must be at least 1")
        require(self.checkpoint_every_s >= 0, "train.checkpoint_every_s must not be negative")

    def _fill_in(self) -> None:
        """Take the built-in corpora's numbers for what is left out, and remember what was."""
        usual = {"rule": "width", **BUILT_IN}
        left_out = frozenset(name for name in usual if not getattr(self, name))
        fill(self, left_out=left_out, **{name: usual[name] for name in left_out})

    @property
    def own_numbers(self) -> list[str]:
        """Names of the numbers given that the rule "width" alone reads."""
        usual = {entry.name: entry.default for entry in fields(self)} | BUILT_IN
        return [name for name in OWN_NUMBERS if getattr(self, name) != usual[name]]

    def _check_rule(self) -> None:
        """Refuse an unknown rule, and numbers that a published rule would leave unused."""
        known = get_args(RuleName)
        require(
            self.rule in known,
            f"train.rule: {self.rule!r} is unknown; use {', '.join(known)}",
        )
        for name in self.own_numbers:
            require(
                self.rule == "width",
                f"train.{name} is not used under train.rule {self.rule!r}, which brings "
                "its own; leave it out, or set rate and batch by train.law under rule 'width'",
            )

    def _check_optimizer(self) -> None:
        """Check the domains of rates, moments and warm-up."""
        require(self.batch_tokens >= 1, "train.batch_tokens must be at least 1")
        require(0 < self.learning_rate < 1, "train.learning_rate must lie in (0, 1)")
        require(self.reference_width >= 1, "train.reference_width must be at least 1")
        require(0 <= self.width_exponent <= 2, "train.width_exponent must lie in 0..2")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"train.{name} must lie in [0, 1)")
        require(self.weight_decay >= 0, "train.weight_decay must not be negative")
        require(self.clip > 0, "train.clip must be positive (a large number turns it off)")
        require(0 <= self.warmup < 1, "train.warmup is a share of the steps, in [0, 1)")

    def compiles(self, params: float, *, gpu: bool) -> bool:
        """Whether the blocks of a model of this size are compiled."""
        return gpu and params >= COMPILED_PARAMS if self.compile is None else self.compile

    def graphs_step(self, params: float, *, gpu: bool) -> bool:
        """Whether the step of a model of this size is replayed as a graph."""
        small = params < COMPILED_PARAMS and not self.compile
        return gpu and (small if self.graphs is None else self.graphs)

    def peak_rate(self, width: int) -> float:
        """Peak learning rate of a model of this width by the rule "width"."""
        ratio: float = self.reference_width / width
        return self.learning_rate * math.pow(ratio, self.width_exponent)
