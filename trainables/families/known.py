"""All families by name."""

from trainables.families.dense import DENSE, MIXTURES
from trainables.families.family import Family
from trainables.families.recurrent import RECURRENT

FAMILIES: dict[str, Family] = {**DENSE, **MIXTURES, **RECURRENT}
"""By transformers' model type."""
