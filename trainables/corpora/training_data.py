"""The one door to training data, whatever it comes from.

`open_data` gives an object whose `sequences(first, count)` is a pure function of the spec, the
trial's seed and the numbers asked for: a resumed trial goes on exactly where it stopped, and
workers take slices of one and the same batch.
"""

from __future__ import annotations

from trainables.corpora.prepared import Packed
from trainables.corpora.stream import Stream, check_vocabulary
from trainables.data import BuiltIn, Data, Prepared

TrainingData = Stream | Packed
"""One trial's data, from either source."""


def open_data(data: Data, *, context: int, seed: int, vocabulary: int) -> TrainingData:
    """Open the training data of one trial.

    Raises:
        ValueError: the corpus is missing or has changed, or is not the model's.
    """
    if isinstance(data, Prepared):
        data.packed.check_vocabulary(vocabulary)
        return Packed(data, context=context, seed=seed)
    if not isinstance(data, BuiltIn):
        raise ValueError(f"data.source: {data.source} holds nothing to train on")
    check_vocabulary(vocabulary)
    return Stream(data, context=context, seed=seed)
