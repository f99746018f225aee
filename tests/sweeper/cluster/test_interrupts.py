"""The first signal asks, the second ends."""

import os
import signal
import subprocess
import sys

import pytest

from sweeper.cluster.interrupts import Interrupts, hangups_ignored


@pytest.fixture(autouse=True)
def signals_are_heard():
    """Whoever started the tests may ignore some: nohup hangups, a shell's background Ctrl-C."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_wish_and_handlers_are_given_back(number, capfd):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        assert not interrupts.asked
        signal.raise_signal(number)
        assert interrupts.asked == number
    assert signal.getsignal(number) is before
    assert "once more stops at once" in capfd.readouterr().err


def test_the_second_signal_ends_the_process_whatever_it_does():
    code = (
        "import os, signal\n"
        "from sweeper.cluster.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('not here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stdout == "still here\n"
    assert "the same command goes on" in done.stderr


def test_a_signal_that_ended_ray_too_waits_for_nothing():
    code = (
        "import signal, time\n"
        "from sweeper.cluster.interrupts import Interrupts\n"
        "with Interrupts(lambda: True):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 128 + signal.SIGTERM
    assert "Ray's own processes were ended, too: stopped at once" in done.stderr


def test_a_closed_terminal_is_one_wish_however_often_it_is_said():
    with Interrupts() as interrupts:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        assert interrupts.asked == signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(number)
        assert not interrupts.asked
    finally:
        signal.signal(number, before)


def test_processes_started_for_a_sweep_outlive_its_terminal():
    before = signal.getsignal(signal.SIGHUP)
    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    with hangups_ignored():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert signal.getsignal(signal.SIGHUP) is before


@pytest.mark.parametrize("stderr", [None, "closed"])
def test_a_signal_is_heeded_without_a_place_to_say_so(stderr, monkeypatch):
    file = None if stderr is None else open(os.devnull, "w")
    if file is not None:
        file.close()
    monkeypatch.setattr(sys, "stderr", file)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.asked == signal.SIGTERM
