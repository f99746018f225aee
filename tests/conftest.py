"""What the tests share: one local Ray cluster, started when the first test asks for it."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.cluster.surroundings import (
    own_temporary_directory,
    short_temporary_names,
    temporary_directory,
    token_below,
)
from trainables.manifest import FORMAT, TOKEN_BYTES
from trainables.prepare.files import caches_below

os.environ.setdefault("OMP_NUM_THREADS", "1")
caches_below(own_temporary_directory() / "cache")  # where HOME cannot be written


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Measured public data beside the checkout; tests that need it skip where it is missing."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the measured public data is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def ray_cluster():
    """A local cluster of two CPUs with its dashboard, as worker groups need."""
    import ray

    from sweeper.cluster.connect import ENVIRONMENT, loopback

    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ["RAY_metrics_report_interval_ms"] = "1000"  # 10 s would outlast a test's sweep
    place = temporary_directory()
    if caches_below(own_temporary_directory() / "cache"):
        token_below(own_temporary_directory())
    settings = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "_temp_dir": place}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    for attempt in range(3):  # on a crowded machine Ray's processes may miss its own 30 s
        try:
            with loopback(), short_temporary_names(place):
                ray.init(
                    address="local", include_dashboard=True, dashboard_host="127.0.0.1",
                    **settings, **quiet,
                )  # fmt: skip
            break
        except Exception:
            ray.shutdown()
            if attempt == 2:
                raise
    yield
    ray.shutdown()


def pytest_addoption(parser):
    parser.addoption(
        "--long", action="store_true", help="fuzz and kill for minutes, as a release does"
    )


def pytest_collection_modifyitems(items):
    """Files with Ray's tests come first: they take longest, and would end alone on one process."""
    slow = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def long_run(request) -> bool:
    """Whether to take the long way round."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def alone() -> Callable[..., dict[tuple[Any, ...], float]]:
    """Trains the trials of a sweep again, one after the other in this process."""
    return _alone


def _alone(results: Any, directory: Path) -> dict[tuple[Any, ...], float]:
    """Summed losses by FLOPs, params, seed and skill: what nothing has disturbed.

    Args:
        results: the sweep's directory, read.
        directory: for the trainings' own files.
    """
    from sweeper.budget import Allocation
    from trainables.trainer import run_trial

    found = {}
    for trial in results.trials.itertuples():
        chosen = Allocation(trial.flops, int(trial.params), int(trial.tokens), trial.seed)
        record = run_trial(results.sweep.trial(chosen), directory=directory / trial.trial_id)
        for skill, loss in record["losses"].items():
            found[trial.flops, trial.params, trial.seed, skill] = loss["nll"]
    return found


@pytest.fixture(scope="session")
def write_corpus() -> Callable[..., Path]:
    """Writes a prepared corpus of given sizes, without preparing anything."""
    return _write_corpus


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_corpus(
    root: Path,
    classes: dict[str, tuple[float, int, list[int]]],
    vocabulary: int = 1000,
    context: int = 8,
) -> Path:
    """A corpus whose tokens count up: class k's tokens start at 100 k, shares and shards given.

    Args:
        root: where.
        classes: name -> (share, documents, tokens of each shard).
        vocabulary: says the files' type.
        context: held-out documents are three sequences of this, and one token.
    """
    entries = {}
    dtype = "<u2" if vocabulary <= 2**16 else "<u4"
    for kind, (name, (share, documents, sizes)) in enumerate(classes.items()):
        tokens = 100 * kind + np.arange(sum(sizes))
        shards, first = [], 0
        for i, size in enumerate(sizes):
            file = root / "shards" / name / f"{i}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            tokens[first : first + size].astype(dtype).tofile(file)
            place = str(file.relative_to(root))
            shards.append({"file": place, "tokens": size, "sha256": _sha256(file)})
            first += size
        held_out = root / "validation" / f"{name}.bin"
        held_out.parent.mkdir(exist_ok=True)
        (900 + np.arange(3 * context + 1)).astype(dtype).tofile(held_out)
        entries[name] = {
            "share": share,
            "documents": documents,
            "tokens": sum(sizes),
            "shards": shards,
            "validation": {
                "file": f"validation/{name}.bin",
                "tokens": 3 * context + 1,
                "sha256": _sha256(held_out),
            },
        }
    np.ones(vocabulary, dtype="<u2").tofile(root / TOKEN_BYTES)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": {"vocabulary": vocabulary, "begin": 0, "sha256": "t"},
        "classes": entries,
        "skills": {},
        "contamination": {"ngram": 13, "sets": {}},
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root
