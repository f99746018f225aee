"""The one door to training data, whatever it comes from.

`open_data` gives an object whose `sequences(first, count)` is a pure function of the spec, the
trial's seed and the numbers asked for: a resumed trial goes on exactly where it stopped, and
workers take slices of one and the same batch.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from trainables.corpora.documents import IntArray
from trainables.corpora.prepared import Packed
from trainables.corpora.stream import Stream
from trainables.corpora.vocabulary import check_vocabulary
from trainables.data import BuiltIn, Data, Prepared

TrainingData = Stream | Packed
"""One trial's data, from either source."""


class Ahead:
    """Sequences of a trial, the next of them read by a thread while a GPU works.

    Args:
        data: where they come from.
        on: whether there is anything to gain: on a CPU the thread would take the cores it needs.
    """

    def __init__(self, data: TrainingData, *, on: bool) -> None:
        self._data, self._on = data, on
        self._thread: ThreadPoolExecutor | None = None
        self._fetched: tuple[tuple[int, int], Future[IntArray]] | None = None

    def fetch(self, first: int, count: int) -> None:
        """Begin to read what will be asked for next."""
        if not self._on:
            return
        self._thread = self._thread or ThreadPoolExecutor(1)
        self._fetched = (first, count), self._thread.submit(self._data.sequences, first, count)

    def sequences(self, first: int, count: int) -> IntArray:
        """As of the data itself."""
        fetched, self._fetched = self._fetched, None
        if fetched is not None:
            # The data remember where they are, so that nobody else may ask meanwhile.
            found = fetched[1].result()
            if fetched[0] == (first, count):
                return found
        return self._data.sequences(first, count)


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
