"""Keeps a command and everything it starts: a program of its own, standard library only.

    python -I -S keeper.py STATUS_FD LOCK MARK PROGRAM ARGUMENT...

It adopts whatever the command leaves behind (Linux's child subreaper), so that daemons are found,
and ends with nothing of it running. Orders come on standard input: ``t`` asks the command to end
(SIGTERM to its group), ``k`` kills all. When standard input closes, whoever started the keeper is
dead, whatever killed it, and all is killed. What happened is told on STATUS_FD, a Python literal
a line. It imports little: a trial's slot waits for its start.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "ISOSKILL_TRIAL"
"""Environment variable by which what a killed keeper left behind is found again."""

LINGER_S = 2.0
"""Seconds that processes have to end after the command they belong to has (assumption: what a
logger takes to write its last lines)."""

LOCK_S = 60.0
"""Seconds to wait for the last of an earlier attempt to be gone (assumption)."""

STUCK_S = 30.0
"""Seconds to wait for killed processes; only the kernel can hold them longer, in a device's or a
file system's call."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def _prctl(option: int, value: int) -> None:
    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # not Linux: the command's group is all that can be ended


def _processes() -> Iterator[tuple[int, int, str]]:
    """Every process: its id, its parent's, and its state."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue  # it is gone
            yield int(name), int(parent), state.decode()


def descendants(root: int) -> list[int]:
    """Living processes that come from one, itself left out; zombies are none."""
    children: dict[int, list[int]] = {}
    states = {}
    for pid, parent, state in _processes():
        children.setdefault(parent, []).append(pid)
        states[pid] = state
    found, todo = [], [root]
    while todo:
        born = children.get(todo.pop(), [])
        todo += born
        found += [pid for pid in born if states[pid] not in "ZX"]
    return found


def marked(mark: str) -> list[int]:
    """Living processes of this user whose environment bears a mark."""
    wanted, found = f"{MARK}={mark}\0".encode(), []
    for pid, _, state in _processes():
        if pid != os.getpid() and state not in "ZX":
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    here = wanted in file.read() + b"\0"
            except OSError:
                continue  # it is gone, or another user's
            if here:
                found.append(pid)
    return found


def name_of(pid: int) -> str:
    """How a process was called."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(200).replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def send(pids: list[int], number: int) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def end_marked(mark: str) -> list[str]:
    """Kill what bears a mark; returns what it was called."""
    names: list[str] = []
    began = time.monotonic()
    while (pids := marked(mark)) and time.monotonic() - began < STUCK_S:
        names = names or [name_of(pid) for pid in pids]
        send(pids, signal.SIGKILL)
        time.sleep(0.02)
    return names


class Keeper:
    """One command and its descendants."""

    def __init__(self, status: int) -> None:
        self._status = status
        self.child = 0
        self.code: int | None = None

    def tell(self, **values: object) -> None:
        """Say something to whoever started us, if that still lives."""
        try:
            os.write(self._status, f"{values!r}\n".encode())
        except OSError:
            pass

    def start(self, arguments: list[str]) -> bool:
        """Start the command in a session of its own; False where it cannot be started."""
        read, write = os.pipe()
        self.child = os.fork()
        if not self.child:
            try:
                os.setsid()
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_DFL)
                signal.set_wakeup_fd(-1)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.execvp(arguments[0], arguments)
            except OSError as error:
                os.write(write, str(error.strerror).encode())
            finally:
                os._exit(127)
        os.close(write)
        problem = os.read(read, 200).decode()
        os.close(read)
        self.tell(**({"refused": problem} if problem else {"started": True}))
        return not problem

    def reap(self) -> None:
        """Take the exit codes of all that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.child:
                self.code = os.waitstatus_to_exitcode(status)

    def watch(self, wake: int) -> None:
        """Follow orders until the command has ended."""
        while self.code is None:
            ready, _, _ = select.select([0, wake], [], [], 1.0)
            if wake in ready:
                os.read(wake, 4096)
            if 0 in ready:
                order = os.read(0, 1)
                if order == b"t":
                    send([-self.child], signal.SIGTERM)
                else:
                    send([-self.child], signal.SIGKILL)
                    self.end(0.0)
            self.reap()

    def end(self, linger_s: float) -> list[str]:
        """End what is left, after this many seconds by force; returns what it was called."""
        began, me, asked = time.monotonic(), os.getpid(), False
        names: list[str] = []
        while pids := descendants(me):
            elapsed = time.monotonic() - began
            if elapsed > linger_s + STUCK_S:
                break
            names = names or [name_of(pid) for pid in pids]
            if elapsed >= linger_s:
                send(pids, signal.SIGKILL)
            elif not asked:
                send(pids, signal.SIGTERM)
                asked = True
            time.sleep(0.02)
            self.reap()
        self.reap()
        return names


def _locked(path: str) -> int | None:
    """Hold the trial's directory, as its one keeper; None where another does not let go."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() - began > LOCK_S or select.select([0], [], [], 0.05)[0]:
                return None
        except OSError:  # a file system without locks
            return file


def main(argv: list[str]) -> None:
    """Run the command named by the arguments; see the module's docstring."""
    status, lock, mark, *arguments = argv
    os.set_inheritable(int(status), False)
    if os.fork():
        os._exit(0)  # no child of whoever started us: Ray kills those of a process that ends
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    keeper = Keeper(int(status))
    held = _locked(lock)
    if held is None:
        keeper.tell(refused=f"an earlier attempt still runs: {lock} is held after {LOCK_S:g} s")
        return
    left = end_marked(mark)
    if left:
        keeper.tell(left=left)
    wake, write = os.pipe()
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    os.environ[MARK] = mark
    if keeper.start(arguments):
        keeper.watch(wake)
        left = keeper.end(LINGER_S)
        stuck = descendants(os.getpid())
        keeper.tell(ended=keeper.code, left=left, stuck=[name_of(pid) for pid in stuck])


if __name__ == "__main__":
    main(sys.argv[1:])
