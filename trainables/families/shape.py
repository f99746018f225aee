"""A model ready to be built, and what it costs.

Three counts of parameters are kept side by side, since published exponents differ by counting
convention as much as by effect (Pearce & Song 2024, Porian et al. 2024). Of a mixture of experts
they count what one token passes, since that is what 6 p t pays for; `params_total` counts all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from trainables.families.dimensions import Dimensions
from trainables.families.known import FAMILIES
from trainables.families.tally import Tally

Count = Literal["params_with_head", "params_total", "params_without_embeddings"]

FLOPS_PER_WEIGHT = 6
"""2 forward and 4 backward per weight of a matrix product and token (Kaplan et al. 2020, 2.1)."""

TRAINING_FLOPS = 3
"""Forward and backward over forward (same source): every product has two gradients."""


@dataclass(frozen=True)
class Shape(Dimensions):
    """A causal model ready to be built: `Dimensions` with counts of parameters and FLOPs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.family not in FAMILIES:
            raise ValueError(f"shape.family: {self.family!r} is not one of {', '.join(FAMILIES)}")

    @cached_property
    def body(self) -> Tally:
        """What lies between input embedding and head."""
        return FAMILIES[self.family].body(self)

    @property
    def _embedding(self) -> int:
        return self.vocabulary * self.width

    @property
    def params_with_head(self) -> int:
        """All parameters a token passes but the input lookup: p of 6pt unless the spec differs."""
        return self.params_without_embeddings + self._embedding

    @property
    def params_total(self) -> int:
        """Every parameter, idle experts too; of a tied dense model the same as with head."""
        lookup = 0 if self.tied else self._embedding
        return self.params_with_head + lookup + round(self.body.idle)

    @property
    def params_without_embeddings(self) -> int:
        """Parameters of the blocks and the last norm only, those a token passes."""
        return round(self.body.matrices + self.body.vectors)

    def flops_per_token(self, convention: Literal["6p", "exact"] = "6p") -> int:
        """Training FLOPs per token.

        Args:
            convention: "6p" is six times `params_with_head`; "exact" counts matrix products,
                attention over the whole context, convolutions, scans, and shared blocks as often
                as they are used, as torch's FLOP counter does (see `trainables.families.tally`
                for the one operation that it does not see).
        """
        if convention == "6p":
            return FLOPS_PER_WEIGHT * self.params_with_head
        matrices = self.body.matrices + self._embedding
        return round(FLOPS_PER_WEIGHT * matrices + TRAINING_FLOPS * self.body.forward)
