"""One trial of a foreign trainer: plain values, which a cluster can ship. Pure Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainables.foreign.placeholders import Value
from trainables.foreign.settings import Log, Trainer


@dataclass(frozen=True)
class ForeignTrial:
    """A training that a command or a function does.

    Attributes:
        params: p, as the ladder counts it.
        flops: budget the allocation was cut from.
        flops_per_token: training FLOPs of a token by the sweep's convention.
        row: the size's row of the ladder, or the dimensions of its shape.
    """

    trainer: Trainer
    params: int
    tokens: int
    seed: int = 0
    flops: float = 0.0
    mix: str = "base"
    flops_per_token: float = 0.0
    row: Mapping[str, Value] = field(default_factory=dict)
    recipe: Mapping[str, Value] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    skills: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As nested dicts that JSON can carry."""
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ForeignTrial:
        """Rebuild from `to_dict`'s output."""
        trainer = dict(values["trainer"])
        if trainer["losses"]:
            trainer["losses"] = Log(**trainer["losses"])
        return cls(**{**values, "trainer": Trainer(**trainer), "skills": tuple(values["skills"])})

    def identity(self) -> dict[str, Any]:
        """What decides the outcome: all but what is measured of it."""
        values = {**self.to_dict(), "trainer": self.trainer.identity()}
        del values["skills"]
        return values

    @property
    def classes(self) -> dict[str, str]:
        """Class of each skill that is wanted."""
        return {name: self.trainer.skills[name] for name in self.skills or self.trainer.skills}

    def values(self, directory: Path, **resources: Value) -> dict[str, Value]:
        """What every placeholder of a command stands for."""
        own: dict[str, Value] = {
            "directory": str(directory), "trial_id": directory.name, "params": self.params,
            "tokens": self.tokens, "seed": self.seed, "flops": self.flops, "mix": self.mix,
        }  # fmt: skip
        shares = {f"share.{name}": share for name, share in self.shares.items()}
        return {**self.recipe, **self.row, **shares, **own, **resources}
