"""Train one model on one budget and measure its skills.

Read `loop` first: `loop.train(config, context)` is the whole path, in plain torch. `config` says
what a training is, `shapes` turns parameter counts into models, `data` is the one door to training
text (`corpora` generates it, `prepare` packs real text once), `skills` scores held-out text,
`trainer` wraps the loop for Ray, and `simulated` stands in for it without torch. Nothing imported
here loads torch.
"""

from trainables.config import Data, Model, TrialConfig
from trainables.shapes import Shape, sizes, solve
from trainables.skills.catalog import Skill, catalog
from trainables.training import Train

__all__ = ["Data", "Model", "Shape", "Skill", "Train", "TrialConfig", "catalog", "sizes", "solve"]
