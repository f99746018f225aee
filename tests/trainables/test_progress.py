"""What long tasks say of the time they still need."""

import pytest

from trainables import progress
from trainables.progress import Countdown, counted, duration, left


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_comes_from_the_share_that_is_done(clock: list[float]) -> None:
    said: list[str] = []
    for item in counted(range(10), "sweeps", say=said.append):
        clock[0] += 2.0
        assert item < 10
    # A line each five seconds or more; none before the first item is done.
    assert said == [
        "  3 of 10 sweeps, about 14 s left",
        "  6 of 10 sweeps, about 8 s left",
        "  9 of 10 sweeps, about 2 s left",
    ]


def test_what_ends_before_a_line_is_due_is_silent(clock: list[float]) -> None:
    said: list[str] = []
    assert list(counted([1, 2, 3], "trainings", say=said.append)) == [1, 2, 3]
    assert said == []


def test_preparation_does_not_count_and_little_progress_promises_nothing(
    clock: list[float],
) -> None:
    said: list[str] = []
    countdown = Countdown(said.append, started=False)
    clock[0] += 1000.0
    countdown.tell(0.0, "nothing yet")
    clock[0] += 6.0
    countdown.tell(0.01, lambda elapsed_s: f"{elapsed_s:.0f} s so far")
    clock[0] += 6.0
    countdown.tell(0.5, "half")
    assert said == ["  6 s so far, time left not known yet", "  half, about 12 s left"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40, "40 s"), (800, "13 min"), (5390, "90 min"), (12600, "3.5 h"), (180000, "2.1 d")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds, digits=2) == words


def test_unknown_shares_give_no_time() -> None:
    assert left(None, 10.0) == "time left not known yet"
