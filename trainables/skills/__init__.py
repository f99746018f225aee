"""Skills: families of held-out examples, and the loss of their target tokens.

`catalog` names them and loads no torch; `scoring` measures them on a model.
"""

from trainables.skills.catalog import Skill, catalog, resolve

__all__ = ["Skill", "catalog", "resolve"]
