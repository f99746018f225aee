"""The first signal asks, the second ends."""

import os
import signal
import subprocess
import sys

import pytest

from sweeper.cluster.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_and_handlers_are_given_back(number, capfd):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        assert not interrupts.asked
        os.kill(os.getpid(), number)
        assert interrupts.asked == number
    assert signal.getsignal(number) is before
    assert "once more stops at once" in capfd.readouterr().err


def test_the_second_signal_ends_the_process_whatever_it_does():
    code = (
        "import os, signal\n"
        "from sweeper.cluster.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stdout == "still here\n"
    assert "the same command goes on" in done.stderr
