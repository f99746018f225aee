"""The gauges of a running Ray driver."""

from __future__ import annotations

from sweeper.driver.gauges import Gauge, Metric


def ray_gauge(metric: Metric) -> Gauge:
    """A gauge of the running Ray driver."""
    from ray.util import metrics

    gauge: Gauge = metrics.Gauge(
        metric.name, description=metric.description, tag_keys=("sweep", *metric.labels)
    )
    return gauge
