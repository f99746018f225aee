"""Surroundings in which a Ray of our own has failed to start, and what is said where it cannot."""

import errno
import os
import re
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.cluster import surroundings
from sweeper.cluster.surroundings import (
    SOCKET_BYTES,
    allow_files,
    remedy,
    short_temporary_names,
    temporary_directory,
    token_below,
)
from sweeper.errors import ClusterError
from trainables.prepare.files import CACHES, caches_below


@pytest.fixture
def variables(monkeypatch):
    """None of the variables that the code sets, and all as before afterwards."""
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", *CACHES):
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "x")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    return monkeypatch


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_temporary_directory_is_replaced(name, variables, tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    variables.setenv(name, str(long))
    place = temporary_directory()
    assert place is not None
    assert len(place) <= SOCKET_BYTES
    with short_temporary_names(place):
        assert len(os.environ.get("TMPDIR", "")) <= SOCKET_BYTES
    assert os.environ[name] == str(long)


def test_a_usable_one_is_kept(variables, tmp_path):
    short = Path("/tmp") / f"isoskill-test-{os.getpid()}"
    short.mkdir()
    variables.setenv("RAY_TMPDIR", str(short))
    try:
        assert temporary_directory() is None
    finally:
        short.rmdir()


def test_another_users_is_not_used(variables):
    place = Path("/tmp") / f"isoskill-test-{os.getpid()}"
    (place / "ray").mkdir(parents=True)
    variables.setenv("TMPDIR", str(place))
    uid = os.getuid()
    variables.setattr(os, "getuid", lambda: uid + 1)
    try:
        assert temporary_directory() == f"/tmp/ray-{uid + 1}"
    finally:
        (place / "ray").rmdir()
        place.rmdir()


def test_without_any_place_the_cause_and_the_remedy_are_said(variables):
    variables.setenv("TMPDIR", "/nowhere")
    variables.setattr(surroundings, "SHORT", ("/proc/none",))
    with pytest.raises(ClusterError, match=r"/nowhere/ray cannot be written .*set RAY_TMPDIR to"):
        temporary_directory()


@pytest.mark.parametrize("home", ["/proc/nowhere", "/sys"])
def test_without_a_home_caches_and_token_lie_below_the_sweep(home, variables, tmp_path):
    variables.setenv("HOME", home)
    assert caches_below(tmp_path / "cache")
    assert os.environ["HF_HOME"] == str(tmp_path / "cache" / "huggingface")
    token_below(tmp_path / "cache")
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert len(path.read_text()) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text()
    del os.environ["RAY_AUTH_TOKEN_PATH"]
    token_below(tmp_path / "cache")  # another start keeps it
    assert path.read_text() == token


def test_with_a_home_nothing_is_changed(variables, tmp_path):
    variables.setenv("HOME", str(tmp_path))
    assert not caches_below(tmp_path / "cache")
    assert not CACHES.keys() & os.environ.keys()


def test_a_token_or_mode_of_the_users_is_kept(variables, tmp_path):
    variables.setenv("RAY_AUTH_MODE", "disabled")
    token_below(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_limit_of_open_files_is_raised():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("error", "free", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), 9e9, "raise the limit .ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device"), 9e9, "no room in /tmp/ray: free some"),
        (PermissionError(errno.EACCES, "denied", "/tmp/ray/x"), 9e9, "/tmp/ray/x cannot be wri"),
        (Exception("timed out during startup"), 1e8, "100 MB of memory are free: end other"),
        (Exception("timed out during startup"), 9e9, "may be busy: try again, .*logs says more"),
    ],
)
def test_each_cause_has_its_remedy(error, free, words, monkeypatch):
    monkeypatch.setattr(surroundings, "_free_bytes", lambda: free)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (4096, 4096))
    said = remedy(error, Path("/tmp/ray/session_latest/logs"))
    assert re.search(words, said), said


def test_python_without_docstrings_is_refused_in_words():
    done = subprocess.run(
        [sys.executable, "-OO", "-c", "import sweeper.cluster.connect"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Ray cannot be imported without them: use python -O" in done.stderr


def test_uv_does_not_pack_the_working_directory():
    code = "import sweeper.cluster.trial, ray._private.ray_constants as c; print(c.{})"
    name = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
    done = subprocess.run(
        [sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=True,
        env={k: v for k, v in os.environ.items() if k != name},
    )  # fmt: skip
    assert done.stdout == "False\n"
