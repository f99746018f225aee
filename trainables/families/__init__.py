"""Models in closed form: what each holds, computes and needs. Floor 1 of trainables."""

from trainables.families.family import Family
from trainables.families.known import FAMILIES
from trainables.families.model import Model
from trainables.families.shape import Count, Shape
from trainables.families.tally import Tally

__all__ = ["FAMILIES", "Count", "Family", "Model", "Shape", "Tally"]
