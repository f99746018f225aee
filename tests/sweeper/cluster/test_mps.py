"""NVIDIA's service is started where trials share a GPU, and ended with the sweep."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweeper import Sweep
from sweeper.cluster.mps import CONTROL, PIPE, shared_gpus

SHARING = {"device": "h100", "gpus": 1}


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the service's program, which keeps what it was told."""
    program, told = tmp_path / CONTROL, tmp_path / "told"
    program.write_text(f'#!/bin/sh\necho "$1 $(cat) in ${PIPE}" >> {told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv(PIPE, raising=False)
    return told


def _sweep(**cluster: object) -> Sweep:
    return Sweep(budgets=[1e13, 2e13], allowance=4e14, cluster={**SHARING, **cluster})


def test_trials_that_share_a_gpu_find_the_service(control: Path) -> None:
    events: list[tuple[str, str]] = []
    sweep = _sweep()
    assert 0 < sweep.placement.rules[0].gpus < 1
    with shared_gpus(sweep, lambda *event: events.append(event)):
        place = os.environ[PIPE]
        assert Path(place).is_dir()
    assert PIPE not in os.environ
    assert control.read_text() == f"-d  in {place}\n quit in {place}\n"
    assert [kind for kind, _ in events] == ["mps-on"]


def test_where_it_does_not_start_trials_share_without_it(control: Path) -> None:
    program = control.parent / CONTROL
    program.write_text("#!/bin/sh\necho no device >&2\nexit 3\n")
    events: list[tuple[str, str]] = []
    with shared_gpus(_sweep(), lambda *event: events.append(event)):
        assert PIPE not in os.environ
    assert events == [("mps-off", f"{CONTROL} ended with 3: no device")]


@pytest.mark.parametrize(
    "cluster", [{"mps": False}, {"device": "cpu-core", "gpus": None}, {"address": "10.0.0.1:6379"}]
)
def test_others_are_left_alone(control: Path, cluster: dict[str, object]) -> None:
    with shared_gpus(_sweep(**cluster), lambda *event: pytest.fail(str(event))):
        assert PIPE not in os.environ
    assert not control.exists()


def test_a_service_of_the_users_is_left_as_it_is(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PIPE, "/run/mps")
    with shared_gpus(_sweep(), lambda *event: pytest.fail(str(event))):
        assert os.environ[PIPE] == "/run/mps"
    assert not control.exists()
