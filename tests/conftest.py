"""What the tests share: one local Ray cluster, started when the first test asks for it."""

import logging
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


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

    from sweeper.cluster import ENVIRONMENT

    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ["RAY_metrics_report_interval_ms"] = "1000"  # 10 s would outlast a test's sweep
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


def pytest_addoption(parser):
    parser.addoption(
        "--long", action="store_true", help="fuzz and kill for minutes, as a release does"
    )


@pytest.fixture(scope="session")
def long_run(request) -> bool:
    """Whether to take the long way round."""
    return bool(request.config.getoption("--long"))
