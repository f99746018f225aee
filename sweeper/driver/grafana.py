"""The Grafana dashboard of a sweep, and the files that put it and Prometheus into place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

VERSION = 1
"""Of the dashboard; Grafana replaces an older one of the same uid."""

UID = "isoskill"
SWEEP = '{sweep="$sweep"}'
WIDTH, HEIGHT = 12, 8
"""Of a panel, in Grafana's units: two side by side."""

SCRAPE = "15s"


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana's JSON: what runs, cost, optima, what comes."""
    made = [
        _stat("FLOPs spent of the allowance", _share("spent"), unit="percentunit"),
        _stat("Left, about", f"ray_isoskill_seconds_left{SWEEP}", unit="s"),
        _stat("Trials by state", f"ray_isoskill_trials{SWEEP}", legend="{{state}}"),
        _stat("Remarks on the fits (alarms)", f"ray_isoskill_warnings{SWEEP}", warn=1),
        _lines("FLOPs", f"ray_isoskill_flops{SWEEP}", legend="{{kind}}"),
        _lines("Trials", f"ray_isoskill_trials{SWEEP}", legend="{{state}}"),
        _lines(
            "Optimum of each skill at the largest budgets, params",
            'ray_isoskill_optimum_params{sweep="$sweep", skill=~"$skill", bound="best"}',
            legend="{{skill}} at {{budget}}",
            log=True,
        ),
        _lines(
            "Width of the 90 % interval: upper over lower bound",
            'ray_isoskill_optimum_params{sweep="$sweep", skill=~"$skill", bound="high"}'
            " / ignoring(bound) "
            'ray_isoskill_optimum_params{sweep="$sweep", skill=~"$skill", bound="low"}',
            legend="{{skill}} at {{budget}}",
        ),
        _table(
            "Loss by size, nats per token",
            'ray_isoskill_skill_loss{sweep="$sweep", skill=~"$skill"}',
        ),
        _lines(
            "Progress of running trials",
            f"ray_isoskill_progress{SWEEP} > 0",
            legend="{{trial}}",
            unit="percentunit",
        ),
        _lines(
            "Tokens per second",
            f"ray_isoskill_tokens_per_second{SWEEP} > 0",
            legend="{{trial}}",
        ),
        _lines(
            "Share of the device's peak (MFU)",
            f"ray_isoskill_mfu{SWEEP} > 0",
            legend="{{trial}}",
            unit="percentunit",
        ),
    ]
    return {
        "uid": UID,
        "title": "isoskill",
        "version": VERSION,
        "schemaVersion": 39,
        "refresh": SCRAPE,
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_variable("sweep"), _variable("skill", many=True)]},
        "panels": _placed(made),
    }


def _share(kind: str) -> str:
    part = f'ray_isoskill_flops{{sweep="$sweep", kind="{kind}"}}'
    return f'{part} / ignoring(kind) ray_isoskill_flops{{sweep="$sweep", kind="allowance"}}'


def _variable(label: str, *, many: bool = False) -> dict[str, Any]:
    metric = "ray_isoskill_optimum_params" if many else "ray_isoskill_flops"
    return {
        "name": label,
        "type": "query",
        "query": f"label_values({metric}, {label})",
        "refresh": 2,
        "multi": many,
        "includeAll": many,
        **({"current": {"text": "All", "value": "$__all"}} if many else {}),
    }


def _panel(kind: str, title: str, query: str, legend: str, unit: str) -> dict[str, Any]:
    return {
        "type": kind,
        "title": title,
        "targets": [{"refId": "A", "expr": query, "legendFormat": legend}],
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }


def _stat(
    title: str, query: str, *, legend: str = "", unit: str = "none", warn: float | None = None
) -> dict[str, Any]:
    panel = _panel("stat", title, query, legend, unit)
    if warn is not None:
        steps = [{"color": "green", "value": None}, {"color": "orange", "value": warn}]
        panel["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": steps}
    return panel


def _lines(
    title: str, query: str, *, legend: str, unit: str = "short", log: bool = False
) -> dict[str, Any]:
    panel = _panel("timeseries", title, query, legend, unit)
    if log:
        scale = {"scaleDistribution": {"type": "log", "log": 10}}
        panel["fieldConfig"]["defaults"]["custom"] = scale
    return panel


def _table(title: str, query: str) -> dict[str, Any]:
    panel = _panel("table", title, query, "", "short")
    panel["targets"][0] |= {"format": "table", "instant": True}
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job", "sweep", "SessionName"), True)
    panel["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return panel


def _placed(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Figures in a row of four, then everything else two by two."""
    row = [p for p in panels if p["type"] == "stat"]
    rest = [p for p in panels if p["type"] != "stat"]
    small = 2 * WIDTH // len(row)
    places = [{"x": small * i, "y": 0, "w": small, "h": HEIGHT // 2} for i in range(len(row))]
    for i in range(len(rest)):
        y = HEIGHT // 2 + HEIGHT * (i // 2)
        places.append({"x": WIDTH * (i % 2), "y": y, "w": WIDTH, "h": HEIGHT})
    return [
        {**panel, "id": i + 1, "gridPos": place, "datasource": {"type": "prometheus", "uid": UID}}
        for i, (panel, place) in enumerate(zip([*row, *rest], places, strict=True))
    ]


def write(directory: Path, *, targets: Path, prometheus: str) -> dict[str, Path]:
    """Write the settings with which Prometheus scrapes Ray and Grafana shows the dashboard.

    Args:
        directory: where to; created.
        targets: the file of metrics ports that the driver keeps, in Prometheus's ``file_sd`` form.
        prometheus: URL at which Grafana finds Prometheus.

    Returns:
        The files by what they are: ``prometheus``, ``dashboard``, ``provisioning``.
    """
    provisioning = directory / "provisioning"
    boards = directory / "dashboards"
    for folder in (provisioning / "datasources", provisioning / "dashboards", boards):
        folder.mkdir(parents=True, exist_ok=True)
    files = {
        directory / "prometheus.yml": {
            "global": {"scrape_interval": SCRAPE},
            "scrape_configs": [
                {"job_name": "ray", "file_sd_configs": [{"files": [str(targets)]}]}
            ],
        },
        provisioning / "datasources" / "isoskill.yml": {
            "apiVersion": 1,
            "datasources": [
                {"name": "isoskill", "uid": UID, "type": "prometheus", "url": prometheus}
            ],
        },
        provisioning / "dashboards" / "isoskill.yml": {
            "apiVersion": 1,
            "providers": [
                {"name": "isoskill", "type": "file", "options": {"path": str(boards.resolve())}}
            ],
        },
    }
    for path, values in files.items():
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    board = boards / "isoskill.json"
    board.write_text(json.dumps(dashboard(), indent=1), encoding="utf-8")
    return {
        "prometheus": directory / "prometheus.yml",
        "dashboard": board,
        "provisioning": provisioning,
    }
