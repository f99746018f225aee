"""Skills: families of held-out examples, the loss of their target tokens. Floor 4 of trainables.

`catalog` names what a sweep can measure and loads no torch; `scoring` measures it on a model.
`benchmarks` turns datasets into examples, `paper` has the nineteen of the paper, `harness` borrows
tasks of lm-evaluation-harness, and `encode` makes tokens of examples.
"""

from trainables.skills.catalog import Skill, catalog, resolve

__all__ = ["Skill", "catalog", "resolve"]
