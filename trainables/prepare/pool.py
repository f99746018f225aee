"""The processes of a preparation: started, listened to, and ended with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.prepare.shards import Job, forget_from, records_of, verify, write_part
from trainables.prepare.sources import Part
from trainables.prepare.spec import PrepareError
from trainables.progress import Countdown

Say = Callable[[str], None]

_queue: Any = None
"""Where this process tells its progress; set when a pool starts it."""

_NONE_BEGAN = (
    "no process could be started: each reads the calling script anew, so a script calls prepare "
    'under `if __name__ == "__main__":`, or with workers=0 in its own process'
)
_KILLED = (
    "a process was killed, perhaps for want of memory; finished shards are kept: run the same "
    "command again, with fewer --workers if memory was short"
)


def cores() -> int:
    """Cores this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


@contextlib.contextmanager
def open_pool(workers: int) -> Iterator[tuple[Executor, Any]]:
    """Processes that die with this one, and the queue they tell their progress on."""
    if workers == 0:
        told: Any = queue.SimpleQueue()
        with ThreadPoolExecutor(1, initializer=_tell_on, initargs=(told,)) as threads:
            yield threads, told
        return
    spawn = multiprocessing.get_context("spawn")
    told, begun = spawn.Queue(), spawn.Event()
    threads_each = max(1, cores() // workers)
    pool = ProcessPoolExecutor(
        workers, mp_context=spawn, initializer=_start, initargs=(told, begun, threads_each)
    )
    try:
        yield pool, told
    except BrokenProcessPool as error:
        raise PrepareError(_KILLED if begun.is_set() else _NONE_BEGAN) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _tell_on(told: Any) -> None:
    global _queue
    _queue = told


def _start(told: Any, begun: Any, threads: int) -> None:
    """Set a process up: its share of the cores, and an end when the parent's comes."""
    _tell_on(told)
    begun.set()
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # of the tokenizers library
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """A killed parent cannot stop its pool, which would go on writing."""
    parent.join()
    os._exit(1)


def write_shards(job: Job, parts: list[Part], pool: Executor, told: Any, say: Say) -> None:
    """Write all shards that are missing."""
    left = [part for part in parts if not _finished(job.root, part)]
    if len(left) < len(parts):
        say(f"{len(parts) - len(left)} of {len(parts)} parts are finished already")
    if not left:
        return
    say(f"tokenising {len(left)} parts")
    progress = Progress(left, say)
    waiting = {pool.submit(_one_part, job, part, i): i for i, part in enumerate(left)}
    try:
        while waiting:
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            _drain(told, progress)
            for future in done:
                future.result()
                progress.done.add(waiting.pop(future))
    finally:
        for future in waiting:
            future.cancel()


@dataclass
class Progress:
    """Counts what processes tell of the parts that are left, and says how long the rest takes."""

    parts: list[Part]
    say: Callable[[str], None]
    done: set[int] = field(default_factory=set)
    text_bytes: dict[int, int] = field(default_factory=dict)
    tokens: int = 0
    _countdown: Countdown = field(init=False)

    def __post_init__(self) -> None:
        """The clock starts with the first batch: what comes before is starting processes."""
        self._countdown = Countdown(self.say, started=False)

    def told(self, part: int, text_bytes: int, tokens: int) -> None:
        """Take one batch of a part."""
        self.text_bytes[part] = self.text_bytes.get(part, 0) + text_bytes
        self.tokens += tokens
        self._countdown.tell(self.share(), self.line)

    def line(self, elapsed_s: float) -> str:
        """What is done: parts, tokens, speed."""
        return (
            f"{len(self.done)} of {len(self.parts)} parts, {self.tokens / 1e6:.1f}M tokens, "
            f"{self.tokens / 1e6 / elapsed_s:.2f}M a second"
        )

    def share(self) -> float | None:
        """Share of the work that is done; None while it cannot be told.

        Bytes of text per byte on disk are learned from finished parts; before there are any, they
        are taken as equal for plain files, and as unknown for compressed and remote ones.
        """
        weight = sum(part.weight for part in self.parts)
        finished = [i for i in self.done if self.text_bytes.get(i)]
        if finished:
            ratio = sum(self.text_bytes[i] for i in finished) / sum(
                self.parts[i].weight for i in finished
            )
        elif all(part.plain for part in self.parts):
            ratio = 1.0
        else:
            return None
        read = sum(
            part.weight
            if i in self.done
            else min(self.text_bytes.get(i, 0) / ratio, 0.99 * part.weight)
            for i, part in enumerate(self.parts)
        )
        return min(read / weight, 1.0)


def _one_part(job: Job, part: Part, index: int) -> None:
    write_part(job, part, lambda size, tokens: _queue.put((index, size, tokens)))


def _drain(told: Any, progress: Progress) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            progress.told(*told.get_nowait())


def _finished(root: Path, part: Part) -> bool:
    records = records_of(root, part)
    return bool(records) and bool(records[-1]["ended"])


def drop_broken(root: Path, parts: list[Part], pool: Executor, say: Say) -> None:
    """Forget shards that are not what their records say, and those after them."""
    kept = [(part, record) for part in parts for record in records_of(root, part)]
    good = pool.map(verify, [root] * len(kept), [record for _, record in kept])
    for (part, record), is_good in zip(kept, good, strict=True):
        if not is_good:
            say(f"{record['file']} is damaged or gone: it is written again")
            forget_from(root, part, record["file"])
