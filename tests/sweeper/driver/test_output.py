"""What is printed cannot end a sweep, and is read as nothing but text."""

import io
import os
import subprocess
import sys

import pytest

from sweeper import Sweep
from sweeper.driver.driver import Start
from sweeper.driver.output import Calm, calm_output
from sweeper.driver.progress import Progress
from sweeper.record.ledger import Ledger
from sweeper.record.redaction import redact

SWEEP = Sweep(budgets=[1e11, 2e11], allowance=1e12)
REASONS = [
    "RuntimeError: [/gloo/transport/tcp/pair.cc:534] Connection closed by peer",
    "[red]user[/red] text [/]",
    "[@click=x]link[/@click]",
    ":warning: \udcff half a character",
]


def shown(reason):
    """The line of a failed trial."""
    ledger = Ledger(":memory:")
    start = Start.of(SWEEP, SWEEP.space.allocation(1e11, 1e4))
    with Progress(SWEEP, ledger, "", True, lambda: None) as progress:
        progress("started", start, {})
        progress("failed", start, {"reason": reason})
    ledger.close()


@pytest.mark.parametrize("reason", REASONS)
def test_nothing_is_read_as_markup(reason, capsys):
    with calm_output():
        shown(reason)
    assert reason.replace("\udcff", "?") in capsys.readouterr().out


def test_a_closed_pipe_and_a_full_disk_cost_lines(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    for stream in (os.fdopen(writing, "w", buffering=1), open("/dev/full", "w", buffering=1)):
        monkeypatch.setattr(sys, "stdout", stream)
        with calm_output():
            shown("it died")
            print("and more", flush=True)
        monkeypatch.undo()
        with pytest.raises(OSError):
            stream.close()


def test_a_terminal_without_the_character_gets_another():
    bytes_ = io.BytesIO()
    calm = Calm(io.TextIOWrapper(bytes_, encoding="ascii"))
    calm.write("124M ×/÷1.15\n")
    calm.flush()
    assert bytes_.getvalue() == b"124M ?/?1.15\n"


def test_a_stream_that_was_never_opened_stays_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with calm_output():
        print("to nowhere", file=sys.stderr)
        assert sys.stderr is None


def test_colours_do_not_reach_the_ledger():
    assert redact("\x1b[36mray::train()\x1b[39m (pid=1)\r\n\x1b]0;title\x07 ok") == (
        "ray::train() (pid=1)\n ok"
    )


CODE = """
import sys
from sweeper import cli
from sweeper.commands.console import app
@app.command()
def say(lines: int) -> None:
    for i in range(lines):
        print("×" * 100)
cli.main()
"""


def _console(*, stdout, env=None):
    return subprocess.run(
        [sys.executable, "-c", CODE, "say", "2000"], stdout=stdout, stderr=subprocess.PIPE,
        text=True, env=env, check=False,
    )  # fmt: skip


def test_the_console_says_in_a_line_that_it_cannot_write():
    with open("/dev/full", "w") as full:
        done = _console(stdout=full)
    assert done.returncode == 2
    assert done.stderr == "isoskill: the output cannot be written: No space left on device\n"
    done = _console(stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout) == {"?", "\n"}


def test_the_console_ends_quietly_when_its_reader_has_gone():
    done = subprocess.run(
        f"{sys.executable} -c '{CODE}' say 2000 | head -1", shell=True, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert len(done.stdout) == 101
