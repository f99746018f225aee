"""What a spec says of its models: a family, and the rules that turn a size into a shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from trainables.families.checks import Strict, did_you_mean, fill, require
from trainables.families.known import FAMILIES
from trainables.families.template import check_fields, template

BUILT_IN = {"vocabulary": 256, "context": 60}
"""Tokens and length of the built-in corpora's documents."""


@dataclass(frozen=True)
class Model(Strict):
    """A family of models and the rules that turn a parameter count into a shape.

    Attributes:
        family: architecture by transformers' model type: a key of `trainables.families.FAMILIES`.
        vocabulary: rows of the embedding; 0, left out: a prepared corpus's, else the built-in
            corpora's (`BUILT_IN`).
        context: tokens per sequence; 0, left out: in a sweep on a prepared corpus as its
            documents and the device ask (`sweeper.spec.defaults`), else `BUILT_IN`.
        tied: whether input embedding and head share their weights; None for what ``config``
            says, else True.
        layers: fixed depth, or None for the aspect rule.
        aspect: width per layer aimed at when ``layers`` is None. 64 is assumed; loss is flat to a
            few per cent over a wide range of aspects (Kaplan et al. 2020, figure 5).
        min_layers: depth below which the aspect rule does not go (assumption).
        head_dim: width of one attention head aimed at, or None for 16 below width 256, 64 below
            2048, 128 from there (16 against 8 trains 1.3-1.5x faster on CPU, measured; 64 and
            128 are what Llama 3 uses).
        kv_groups: query heads per key-value head; heads that do not divide fall back to 1.
        ffn_ratio: feed-forward width (of one expert) over width aimed at, or None for the
            family's: 8/3 gives a gated block the weights of a plain one at 4 (Shazeer 2020).
        state: state per channel of recurrent mixers, or None for the family's, less in narrow
            models.
        attention_every: in hybrids, layers per layer with attention, or None for the family's.
        experts: feed-forward blocks per layer of a mixture, or None for the family's.
        active_experts: how many of them a token passes, or None for the family's.
        config: further fields of the family's transformers configuration, such as
            ``{rope_theta: 500000}``, or the path of a Hugging Face config.json, which gives the
            family, its proportions where they are left out here, and those fields.
    """

    family: str = "llama"
    vocabulary: int = 0
    context: int = 0
    tied: bool | None = None
    layers: int | None = None
    aspect: float = 64.0
    min_layers: int = 2
    head_dim: int | None = None
    kv_groups: int = 1
    ffn_ratio: float | None = None
    state: int | None = None
    attention_every: int | None = None
    experts: int | None = None
    active_experts: int | None = None
    config: str | dict[str, Any] = field(default_factory=dict, hash=False)

    left_out: ClassVar[frozenset[str]]
    """Of vocabulary and context, those that were not given; set by each instance."""

    def __post_init__(self) -> None:
        left_out = frozenset(name for name in BUILT_IN if not getattr(self, name))
        fill(self, left_out=left_out, **{name: BUILT_IN[name] for name in left_out})
        if isinstance(self.config, str):
            fill(self, **template(self.config, vars(self)))
        fill(self, tied=self.tied is not False)
        self._check_family()
        require(self.vocabulary >= 2, "model.vocabulary must be at least 2")
        require(self.context >= 2, "model.context must be at least 2 tokens")
        require(
            self.layers is None or self.layers >= 1,
            "model.layers must be at least 1, or left out for the aspect rule",
        )
        require(self.aspect > 0, "model.aspect must be positive (64 is usual)")
        require(self.min_layers >= 1, "model.min_layers must be at least 1")
        require(
            self.head_dim is None or (self.head_dim >= 2 and self.head_dim % 2 == 0),
            "model.head_dim must be even (rotary embeddings turn pairs), or left out",
        )
        require(self.kv_groups >= 1, "model.kv_groups must be at least 1")

    def _check_family(self) -> None:
        """Check that the family exists and has what the spec asks of it."""
        family = FAMILIES.get(self.family)
        if family is None:
            raise ValueError(
                f"model.family: {self.family!r} is unknown{did_you_mean(self.family, FAMILIES)}; "
                f"use one of {', '.join(FAMILIES)}"
            )
        has = {
            "ffn_ratio": family.ffn_ratio is not None,
            "state": family.state > 0,
            "attention_every": family.every > 0,
            "experts": family.experts is not None,
            "active_experts": family.experts is not None,
        }
        for name, there in has.items():
            value = getattr(self, name)
            if value is not None and not there:
                raise ValueError(f"model.{name}: {self.family} has none; leave it out")
            if value is not None and not value > 0:
                raise ValueError(f"model.{name}={value}: must be positive, or left out")
        if family.always_tied and not self.tied:
            raise ValueError(f"model.tied: {self.family} shares its weights; leave it out")
        experts, active = self.mixture
        if active > experts:
            raise ValueError(f"model.active_experts={active}: there are only {experts} experts")
        check_fields(self.family, self.extra)

    @property
    def extra(self) -> dict[str, Any]:
        """Further fields of the library's configuration."""
        return self.config if isinstance(self.config, dict) else {}

    @property
    def mixture(self) -> tuple[int, int]:
        """Experts per layer and how many a token passes; 0 and 0 for a dense family."""
        usual = FAMILIES[self.family].experts
        if usual is None:
            return 0, 0
        experts = self.experts or usual[0]
        return experts, self.active_experts or min(usual[1], experts)
