"""What a running sweep prints of a trial: as much as the terminal is wide."""

from types import SimpleNamespace

import pytest
from rich.console import Console

from sweeper import text
from sweeper.budget import Allocation
from sweeper.driver.progress import Progress
from sweeper.spec.spec import Spec


@pytest.mark.parametrize(("width", "shown"), [(200, 4), (80, 1), (60, 0), (20, 0)])
def test_a_line_holds_as_many_losses_as_fit(width, shown):
    sweep = Spec((1e11, 2e11, 4e11), 6e12)
    ledger = SimpleNamespace(totals=lambda: (3e12, 0.0))
    progress = Progress(sweep, ledger, "", False, lambda: None)
    progress._console = Console(width=width, force_terminal=True)
    names = sweep.measured
    record = {"wall_s": 9.5, "losses": {n: {"nll": 2.0, "tokens": 1} for n in names}}
    start = SimpleNamespace(allocation=Allocation(1e11, 17_800, 937_000))
    line = progress._line("finished", start, record)
    assert line.startswith("[  0] C=1e11 p= 17.8k t=  937k    9.5 s")
    assert line.endswith("50 % spent")
    assert sum(f"{name} 2.000" in line for name in names) == shown
    assert len(line) <= max(width, 53)


def test_a_failure_is_told_whole_on_a_narrow_screen(monkeypatch, capsys):
    monkeypatch.setattr(text, "screen_width", lambda: 40)
    ledger = SimpleNamespace(totals=lambda: (3e12, 0.0), allocations=lambda *states: [])
    progress = Progress(Spec((1e11, 2e11, 4e11), 6e12), ledger, "", True, lambda: None)
    start = SimpleNamespace(allocation=Allocation(1e11, 17_800, 937_000))
    progress("failed", start, {"reason": "the loss is not a number after 12 steps of 288"})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines).split()).endswith("not a number after 12 steps of 288")
