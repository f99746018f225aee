"""Train one model on one budget and measure its skills.

Read `loop` first: `loop.train(config, context)` is the whole path, in plain torch. `config` says
what a training is, `families` what a model holds and costs, `shapes` turns parameter counts into
models, `data` says what is trained on (`corpora` generates or reads it, `prepare` packs real text
once), `skills` scores held-out text, `trainer` wraps the loop for Ray, and `simulated` stands in
for it without torch; `foreign` trains by a user's command or function instead. Nothing imported
here loads torch.
"""

from trainables.config import TrialConfig
from trainables.data import Data
from trainables.families import Model, Shape
from trainables.shapes import sizes, solve
from trainables.skills.catalog import Skill, catalog
from trainables.training import Train

__all__ = ["Data", "Model", "Shape", "Skill", "Train", "TrialConfig", "catalog", "sizes", "solve"]
