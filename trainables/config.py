"""One training: an allocation of a budget, and what all trials of a sweep share.

Pure Python and JSON-able, so that a spec can embed it and a cluster can ship it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from trainables.data import Data, decisive
from trainables.families import Shape
from trainables.families.checks import Strict, require
from trainables.recipe import Recipe, recipe
from trainables.training import RUN_ONLY, Train


@dataclass(frozen=True)
class TrialConfig(Strict):
    """One training: an allocation (shape, tokens) of a budget, a seed, and what all trials share.

    Attributes:
        shape: the model to train.
        tokens: tokens to train on; realised to the nearest sequence.
        seed: of initial weights and of the order of documents.
        skills: names to measure; empty for the catalog's defaults.
        flops: budget the allocation was cut from, for the record; 0 if there was none.
        params: parameter count the search asked for, for the record; 0 if there was none.
        halvings: times that memory ran out in earlier attempts; each halves the micro-batch.
    """

    shape: Shape
    tokens: int
    seed: int = 0
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    skills: tuple[str, ...] = ()
    flops: float = 0.0
    params: float = 0.0
    halvings: int = 0

    def __post_init__(self) -> None:
        require(
            self.tokens >= self.shape.context,
            f"trial.tokens: {self.tokens} is less than one sequence of {self.shape.context}; "
            "raise the budget or lower the size",
        )
        require(self.seed >= 0, "trial.seed must not be negative")
        if self.data.corpus is not None:
            self.data.corpus.check_vocabulary(self.shape.vocabulary)
        require(
            self.train.rule != "width"
            or self.train.law.batch is not None
            or self.train.batch_tokens >= self.shape.context,
            f"train.batch_tokens: {self.train.batch_tokens} is less than one sequence of "
            f"{self.shape.context}; raise it or lower model.context",
        )

    def to_dict(self) -> dict[str, Any]:
        """The config as nested dicts that JSON can carry."""
        return {**asdict(self), "skills": list(self.skills)}

    def identity(self) -> dict[str, Any]:
        """What decides the outcome: the config without `RUN_ONLY` settings."""
        values = self.to_dict()
        for name in RUN_ONLY:
            del values["train"][name]
        del values["halvings"]
        values["data"] = decisive(values["data"])
        return values

    @property
    def recipe(self) -> Recipe:
        """Peak rate, batch, beta2, warm-up and steps of this training."""
        return recipe(self.train, self.shape, self.tokens)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrialConfig:
        """Rebuild a config from `to_dict`'s output.

        Raises:
            ValueError: an unknown key, a wrong type, or a value outside its domain.
        """
        from pydantic import TypeAdapter  # kept out of import time, which planning pays

        return TypeAdapter(cls).validate_python(values)
