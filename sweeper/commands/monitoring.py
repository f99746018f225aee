"""The command that connects a running sweep to Prometheus and Grafana."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from sweeper.commands.console import Where, app, open_results


@app.command()
def monitor(
    directory: Where,
    prometheus: Annotated[
        str, typer.Option("--prometheus", help="URL of Prometheus.", metavar="URL")
    ] = "http://127.0.0.1:9090",
) -> None:
    """Write settings for Prometheus and Grafana beside a sweep, and say how to open them."""
    from sweeper.driver.grafana import write
    from sweeper.errors import SpecError
    from sweeper.record.live import read

    address = urlsplit(prometheus)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise SpecError(f"--prometheus {prometheus!r}: write a URL such as http://127.0.0.1:9090")
    found = open_results(directory)
    live = read(found.directory.live)
    files = write(
        directory / "monitor",
        targets=found.directory.targets.resolve(),
        prometheus=prometheus,
    )
    running = found.directory.holder() is not None
    dashboard = live.dashboard if running else "not up: no driver runs here"
    lines = [
        f"Ray dashboard  {dashboard or 'off (cluster.dashboard)'}",
        f"Prometheus     prometheus --config.file={files['prometheus']} "
        f"--web.listen-address={address.netloc}",
        f"               then {prometheus}/graph?g0.expr=ray_isoskill_flops",
        f"Grafana        GF_PATHS_PROVISIONING={files['provisioning'].resolve()} "
        "GF_SERVER_HTTP_ADDR=127.0.0.1 grafana server",
        "               then http://127.0.0.1:3000/d/isoskill",
        f"Own Grafana    import {files['dashboard']}",
    ]
    print("\n".join(lines))
