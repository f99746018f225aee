"""The training sequences of one trial on a prepared corpus, and its held-out documents.

Sequence n of a trial is a pure function of (world seed, trial seed, n). A sequence is of one
class, drawn with the class's share of tokens. Within a class sequences come in a random order
without repeats; an epoch later in another.
The token files are mapped, not read: all trials of a node share the operating system's pages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from trainables.corpora.documents import Documents, Family, IntArray
from trainables.corpora.whole import check_whole
from trainables.data import Prepared
from trainables.manifest import TOKEN_BYTES, read_unchanged

BLOCK = 512
"""Sequences whose classes are drawn together, in counts as near to the mix as can be."""

TRAINING = 5
"""First entropy word after the world seed; the built-in corpora use 1 to 4."""

ROUNDS = 6
"""Of the Feistel network: four make a random permutation of one that is keyed at random (Luby
and Rackoff 1988); two more for the small domains of small corpora."""

Words = npt.NDArray[np.uint64]


def token_type(vocabulary: int) -> np.dtype[Any]:
    """The type of the token ids in files: 2 bytes where they are enough."""
    return np.dtype("<u2" if vocabulary <= 2**16 else "<u4")


class Packed:
    """One trial's view of a prepared corpus.

    Attributes:
        vocabulary: tokens of the tokenizer.
        begin: token that stands before every sequence.
        token_bytes: bytes of text of each token, (vocabulary,).

    Raises:
        CorpusError: the directory is missing, has changed, or is not whole.
        ValueError: a class is shorter than a sequence.
    """

    def __init__(self, data: Prepared, *, context: int, seed: int) -> None:
        root, manifest = Path(data.path), read_unchanged(data.path, data.packed)
        check_whole(root, manifest)
        data.packed.check_context(context)
        self.vocabulary, self.begin = data.packed.vocabulary, data.packed.begin
        self.token_bytes = np.fromfile(root / TOKEN_BYTES, dtype="<u2").astype(np.int64)
        self._data, self._context = data, context
        self._root, self._manifest = root, manifest
        self._names = [name for name, share in data.token_mix.items() if share > 0]
        self._cumulated = np.cumsum([data.token_mix[name] for name in self._names])[:-1]
        self._streams = [self._stream(name) for name in self._names]
        self._entropy = (data.world_seed, TRAINING, seed)
        # Sequences of each class before each block, grown as blocks are asked for.
        self._before = np.zeros((1, len(self._names)), dtype=np.int64)

    def _stream(self, name: str) -> _Tokens:
        """The tokens of one class."""
        shards = self._manifest["classes"][name]["shards"]
        files = [self._root / shard["file"] for shard in shards]
        return _Tokens(files, token_type(self.vocabulary))

    def sequences(self, first: int, count: int) -> IntArray:
        """Sequences first..first+count of the trial, (count, context) tokens."""
        out = np.empty((count, self._context), dtype=np.int64)
        last = first + count
        for block in range(first // BLOCK, -(-last // BLOCK)):
            low, high = max(first, block * BLOCK), min(last, (block + 1) * BLOCK)
            kinds = self._kinds(block)
            for kind in range(len(self._names)):
                places = np.flatnonzero(kinds == kind)
                number = self._before[block, kind] + np.arange(places.size)
                asked = (places >= low - block * BLOCK) & (places < high - block * BLOCK)
                rows = places[asked] + block * BLOCK - first
                out[rows] = self._rows(kind, number[asked])
        return out

    def _kinds(self, block: int) -> IntArray:
        """The class of each sequence of a block."""
        if block + 2 > len(self._before):
            # The first draws of a generator do not depend on how many are asked for.
            offsets = np.random.default_rng(self._entropy).random(2 * block + 2)
            edges = np.ceil(BLOCK * self._cumulated - offsets[:, None]).clip(0, BLOCK)
            counts = np.diff(edges, axis=1, prepend=0, append=BLOCK).astype(np.int64)
            self._before = np.pad(np.cumsum(counts, axis=0), ((1, 0), (0, 0)))
        counts = self._before[block + 1] - self._before[block]
        rng = np.random.default_rng([*self._entropy, 1, block])
        return rng.permutation(np.repeat(np.arange(counts.size), counts))

    def _rows(self, kind: int, number: IntArray) -> IntArray:
        """The sequences that a class's n-th draws are, (draws, context)."""
        stream = self._streams[kind]
        size = stream.size // self._context
        epoch, place = number // size, number % size
        for one in np.unique(epoch):
            seeds = np.random.SeedSequence([*self._entropy, 2, kind, int(one)])
            keys = seeds.generate_state(ROUNDS, np.uint64).astype(np.uint64)
            here = epoch == one
            place[here] = permuted(place[here], size, keys)
        return stream.rows(place, self._context)

    def evaluation_sets(self) -> dict[str, Documents]:
        """Held-out sequences of each class: the same for every trial, none scored as a skill."""
        sets = {}
        for name, entry in self._manifest["classes"].items():
            path = self._root / entry["validation"]["file"]
            stream = _Tokens([path], token_type(self.vocabulary))
            count = min(stream.size // self._context, self._data.documents)
            tokens = stream.rows(np.arange(count), self._context)
            sets[name] = Documents(tokens, np.full_like(tokens, Family.NONE))
        return sets


class _Tokens:
    """Token files, mapped and read as one long row."""

    def __init__(self, paths: list[Path], dtype: np.dtype[Any]) -> None:
        # An empty file cannot be mapped, and holds nothing.
        kept = [path for path in paths if path.stat().st_size > 0]
        self._parts = [np.memmap(path, dtype=dtype, mode="r") for path in kept]
        self._ends = np.cumsum([part.size for part in self._parts], dtype=np.int64)
        self.size = int(self._ends[-1]) if kept else 0

    def rows(self, index: IntArray, context: int) -> IntArray:
        """Sequences by number, (len(index), context)."""
        out = np.empty((index.size, context), dtype=np.int64)
        starts = index * context
        parts = np.searchsorted(self._ends, starts, side="right")
        whole = starts + context <= self._ends[parts]
        for part in np.unique(parts[whole]):
            here = whole & (parts == part)
            begins = starts[here] - (self._ends[part] - self._parts[part].size)
            out[here] = sliding_window_view(self._parts[part], context)[begins]
        split = np.flatnonzero(~whole)
        for row, start, part in zip(split, starts[split], parts[split], strict=True):
            offset, filled = start - int(self._ends[part] - self._parts[part].size), 0
            while filled < context:  # a sequence may run over the end of a file
                piece = self._parts[part][offset : offset + context - filled]
                out[row, filled : filled + piece.size] = piece
                filled, part, offset = filled + piece.size, part + 1, 0
        return out


def permuted(index: IntArray, size: int, keys: Words) -> IntArray:
    """Where a pseudo-random permutation of 0..size puts some indices, in constant memory.

    A Feistel network permutes the next power of four; what falls outside is sent through again.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    out = _feistel(index.astype(np.uint64), half, keys)
    while (outside := out >= size).any():
        out[outside] = _feistel(out[outside], half, keys)
    return out.astype(np.int64)


def _feistel(value: Words, half: np.uint64, keys: Words) -> Words:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    for key in keys:
        left, right = right, left ^ (_scrambled(right ^ key) & mask)
    return (left << half) | right


def _scrambled(word: Words) -> Words:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
