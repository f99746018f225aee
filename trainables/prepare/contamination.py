"""Whether benchmarks and held-out documents were seen in training: n tokens in a row that match.

Every run of n tokens of what is checked is hashed (of benchmarks: every run that touches a
target); the shards are gone through once, with the same hash at every place. An example with any
run in common counts as matched, as in GPT-3 (Brown et al. 2020, appendix C); one whose tokens are
covered to four fifths by common runs as covered, as in Llama 2 (Touvron et al. 2023, appendix
A.6). Examples shorter than n tokens cannot be checked and are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Tokens = npt.NDArray[Any]

CHUNK = 2**20
"""Tokens hashed at a time: 8 MB of hashes stay in the cache of most cores (assumption)."""

BITS_PER_RUN = 16
"""Places of the first filter for each wanted run: one place in sixteen lets other text pass."""

COVERED = 0.8
"""Share of tokens from which an example counts as covered (Llama 2's "dirty")."""

BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd, without structure: the golden ratio's fraction in 64 bits."""


def check(
    sets: dict[str, list[Tokens]],
    shards: Sequence[Path],
    *,
    n: int,
    dtype: np.dtype[Any],
    work: Path,
    pool: Executor,
) -> dict[str, dict[str, float]]:
    """Look for examples in training files.

    Args:
        n: tokens in a row that count as the same text.
        work: directory for the runs looked for, which processes share.

    Returns:
        For each set ``examples``, ``matched``, ``covered`` and ``too_short``, in examples.
    """
    hashes = {name: [runs(np.asarray(e), n) for e in examples] for name, examples in sets.items()}
    everything = [h for examples in hashes.values() for h in examples]
    wanted = np.unique(np.concatenate([np.empty(0, np.uint64), *everything]))
    np.save(work / "wanted.npy", wanted)
    tasks = [(path, work / "wanted.npy", n, dtype) for path in shards]
    found = np.zeros(wanted.size, dtype=bool)
    for part in pool.map(_search, tasks):
        found[part] = True
    (work / "wanted.npy").unlink()
    return {
        name: _summary([found[np.searchsorted(wanted, h)] for h in examples], n)
        for name, examples in hashes.items()
    }


def runs(tokens: Tokens, n: int) -> Words:
    """Hash of every n tokens in a row, (max(0, len(tokens) - n + 1),)."""
    count = max(0, tokens.size - n + 1)
    out = np.zeros(count, dtype=np.uint64)
    words = _mixed(tokens.astype(np.uint64))
    for i in range(n):
        out *= BASE
        out += words[i : i + count]
    return out


def _mixed(word: Words) -> Words:
    """Spread small numbers over 64 bits."""
    word = (word + np.uint64(1)) * BASE
    return word ^ (word >> np.uint64(29))


def _search(task: tuple[Path, Path, int, np.dtype[Any]]) -> npt.NDArray[np.int64]:
    """Indices of the wanted runs that a file has."""
    path, wanted_path, n, dtype = task
    wanted: Words = np.load(wanted_path)
    if path.stat().st_size == 0 or wanted.size == 0:
        return np.empty(0, dtype=np.int64)
    tokens = np.memmap(path, dtype=dtype, mode="r")
    bits = np.uint64(max(8, int(wanted.size * BITS_PER_RUN).bit_length()))
    maybe = np.zeros(1 << int(bits), dtype=bool)
    maybe[wanted >> (np.uint64(64) - bits)] = True
    found = np.zeros(wanted.size, dtype=bool)
    for start in range(0, tokens.size, CHUNK):
        have = runs(tokens[start : start + CHUNK + n - 1], n)
        have = have[maybe[have >> (np.uint64(64) - bits)]]
        place = np.searchsorted(wanted, have).clip(max=wanted.size - 1)
        found[place[wanted[place] == have]] = True
    return np.flatnonzero(found)


def _summary(matches: list[npt.NDArray[np.bool_]], n: int) -> dict[str, float]:
    """Counts over a set of examples, from the matches of their runs."""
    checked = [match for match in matches if match.size]
    return {
        "examples": len(matches),
        "matched": sum(bool(match.any()) for match in checked),
        "covered": sum(_coverage(match, n) >= COVERED for match in checked),
        "too_short": len(matches) - len(checked),
    }


def _coverage(match: npt.NDArray[np.bool_], n: int) -> float:
    """Share of an example's tokens that lie in a matched run."""
    edges = np.zeros(match.size + n, dtype=np.int64)
    places = np.flatnonzero(match)
    edges[places] += 1
    edges[places + n] -= 1
    return float((np.cumsum(edges)[:-1] > 0).mean())
