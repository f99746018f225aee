"""The command that shows where a running sweep can be watched."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from sweeper.commands.console import Where, app, open_results, opt
from sweeper.errors import SpecError

LATEST = "/tmp/ray/session_latest"
"""Where Ray (2.60) keeps the files of its newest run, unless it is told otherwise."""

SETTINGS = "metrics/prometheus/prometheus.yml"
"""Ray's own settings for Prometheus, below: they follow the nodes as these come and go."""


@app.command()
def monitor(
    directory: Where,
    prometheus: str = opt(
        "--prometheus", "URL of Prometheus.", "http://127.0.0.1:9090", metavar="URL"
    ),
) -> None:
    """Say how to watch a sweep in Prometheus and Grafana."""
    import sweeper.driver
    from sweeper.record.live import read

    address = urlsplit(prometheus)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise SpecError(f"--prometheus {prometheus!r}: write a URL such as http://127.0.0.1:9090")
    found = open_results(directory)
    running = found.directory.holder() is not None
    live = read(found.directory.live)
    dashboard = live.dashboard if running else "not up: no driver runs here"
    settings = Path(live.ray_files if running and live.ray_files else LATEST) / SETTINGS
    board = Path(sweeper.driver.__path__[0]) / "grafana.json"
    lines = [
        f"Ray dashboard  {dashboard or 'off (cluster.dashboard)'}",
        f"Prometheus     prometheus --config.file={settings} "
        f"--web.listen-address={address.netloc}",
        "               on the head node of Ray, while its dashboard is up",
        f"               then {prometheus}/graph?g0.expr=ray_isoskill_flops",
        f"Grafana        Dashboards > New > Import, with Prometheus at {prometheus}:",
        f"               {board}",
    ]
    print("\n".join(lines))
