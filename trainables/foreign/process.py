"""A command as one object: start it, read its output, ask it to end, and leave nothing of it.

Each runs under a keeper (`trainables.foreign.keeper`), so that nothing outlives it even where
this process is killed.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.foreign import keeper

OUTPUT = "output.log"
"""A trial's output, in its directory; the older half of it is output.1.log."""

OUTPUT_BYTES = 8 * 2**20
"""Size at which the output's file is turned over: twice this is kept of it at most (assumption:
days of a line a second)."""

CHUNK_BYTES = 2**20
"""Read of a command's output at a time: what a pipe may hold at most."""

CHUNKS = 64
"""Reads between looks at everything else: a command that prints without end is watched too."""

TAIL_BYTES = 16 * 2**10
"""End of the output that is searched for progress, and shown as a reason."""

SHOWN_LINES, SHOWN_COLUMNS = 20, 300
"""Lines of a command's output, and their length, in the reason why a trial failed."""

KEEPER = Path(keeper.__file__)

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\S \t\n]|[\x00-\x08\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, or less than 0 for a signal; None where its keeper was killed.
        left: what it had left running, which was ended.
        stuck: what could not be ended, as the kernel holds it.
    """

    code: int | None = None
    refused: str = ""
    left: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


def last_lines(tail: str) -> str:
    """The last lines of an output, for a person."""
    lines = [line[:SHOWN_COLUMNS] for line in tail.splitlines() if line.strip()]
    return "\n".join(lines[-SHOWN_LINES:])


class Output:
    """A command's output, bounded on the disk and in memory.

    Attributes:
        size: bytes printed so far.
        problem: why it is not kept, where the disk does not take it.
    """

    def __init__(self, directory: Path, name: str = OUTPUT) -> None:
        self.size, self.problem = 0, ""
        self._path = directory / name
        self._tail: deque[bytes] = deque()
        self._kept = 0

    def take(self, chunk: bytes) -> None:
        """Keep what was printed."""
        self.size += len(chunk)
        self._tail.append(chunk[-TAIL_BYTES:])
        self._kept += len(self._tail[-1])
        while self._kept - len(self._tail[0]) >= TAIL_BYTES:
            self._kept -= len(self._tail.popleft())
        try:
            with self._path.open("ab") as file:
                file.write(chunk)
                full = file.tell() > OUTPUT_BYTES
            if full:
                self._path.replace(self._path.with_suffix(f".1{self._path.suffix}"))
        except OSError as error:
            self.problem = f"the output is not kept: {error.strerror}"

    @property
    def tail(self) -> str:
        """The end of it, without colours and other controls."""
        text = b"".join(self._tail)[-TAIL_BYTES:].decode(errors="replace")
        return _CONTROL.sub("", text.replace("\r", "\n"))


class Process:
    """A running command.

    Args:
        directory: of the trial; holds the output, and the lock of its one attempt.

    Attributes:
        started_at: when that was, seconds since the epoch.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        workdir: Path | None = None,
        rank: int = 0,
    ) -> None:
        self.started_at = 0.0
        self.ended: Ended | None = None
        self.output = Output(directory, OUTPUT if not rank else f"output-{rank}.log")
        self._left: tuple[str, ...] = ()
        self._mark = f"{directory}#{rank}"
        self._partial = b""
        lock = directory / (".keeper" if not rank else f".keeper-{rank}")
        self._out, out = os.pipe()
        self._said, status = os.pipe()
        with contextlib.suppress(OSError, AttributeError):  # more than the user may have
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
        os.set_blocking(self._out, False)
        os.set_blocking(self._said, False)
        self._ready = select.poll()
        for end in (self._out, self._said):
            self._ready.register(end, select.POLLIN)
        own = (sys.executable, "-I", "-S", str(KEEPER), str(status), str(lock), self._mark)
        starter = subprocess.Popen(
            [*own, *arguments], stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=workdir,
            env={**os.environ, **environment}, pass_fds=(status,), start_new_session=True,
        )  # fmt: skip
        os.close(out)
        os.close(status)
        assert starter.stdin is not None
        self._orders = starter.stdin
        starter.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of it: closing its orders kills what still runs."""
        with contextlib.suppress(OSError):
            self._orders.close()
        os.close(self._out)
        os.close(self._said)

    def poll(self, wait_s: float = 0.0) -> Ended | None:
        """Read its output; returns how it ended, once it has."""
        self._ready.poll(1000 * wait_s)
        self._drain()
        if self.ended is None:
            self._listen()
            if self.ended is not None:
                self._drain()
        return self.ended

    def ask(self) -> None:
        """Ask it to end: SIGTERM to its group."""
        self._order(b"t")

    def kill(self) -> None:
        """Kill it and all it has started."""
        self._order(b"k")

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # the keeper is gone: `poll` says how it ended
            self._orders.write(order)
            self._orders.flush()

    def _drain(self) -> None:
        for _ in range(CHUNKS):
            with contextlib.suppress(BlockingIOError):
                chunk = os.read(self._out, CHUNK_BYTES)
                if chunk:
                    self.output.take(chunk)
                    continue
            return

    def _listen(self) -> None:
        """Take what the keeper has said; one that falls silent was killed itself."""
        try:
            chunk = os.read(self._said, CHUNK_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            self.ended = Ended(None, left=tuple(keeper.end_marked(self._mark)))
            return
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self._note(ast.literal_eval(line.decode()))

    def _note(self, said: Mapping[str, Any]) -> None:
        if "started" in said:
            self.started_at = time.time()
        self._left += tuple(said.get("left", ()))
        if "refused" in said:
            self.ended = Ended(127, refused=str(said["refused"]))
        elif "ended" in said:
            self.ended = Ended(said["ended"], left=self._left, stuck=tuple(said["stuck"]))
