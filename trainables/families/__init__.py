"""Model families: closed forms of what transformers would build. Pure Python."""

from trainables.families.dense import DENSE, MIXTURES
from trainables.families.family import Family
from trainables.families.recurrent import RECURRENT
from trainables.families.tally import Tally

__all__ = ["FAMILIES", "Family", "Tally"]

FAMILIES: dict[str, Family] = {**DENSE, **MIXTURES, **RECURRENT}
"""By transformers' model type."""
