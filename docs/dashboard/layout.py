"""The Grafana dashboard, as `make docs` writes it: panels on Grafana's grid of 24 columns."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from docs.dashboard.panel import Panel, Row
from docs.dashboard.parts import BULK, REDIS, TENANTS, WORKERS
from docs.dashboard.requests import LATENCY, OVERVIEW, QUEUES, TRAFFIC

_ROWS = (OVERVIEW, TRAFFIC, LATENCY, QUEUES, WORKERS, REDIS, BULK, TENANTS)
_COLUMNS = 24
_HEIGHT = {"stat": 4, "timeseries": 8}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> str:
    """The file."""
    model = {
        "title": "Millrace",
        "uid": "millrace",
        "description": (
            "What is slow, full or broken: traffic, latency by stage, queues, workers, Redis, bulk jobs, tenants."
        ),
        "tags": ["millrace"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": _placed(_ROWS),
    }
    return json.dumps(model, indent=2) + "\n"


def _variables() -> list[dict[str, Any]]:
    datasource = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return [
        datasource,
        _variable("job", "Job", 'label_values(up{job=~".*millrace.*"}, job)'),
        _variable("model", "Model", "label_values(millrace_workers, model)"),
        _variable("lane", "Lane", "label_values(millrace_queue_length, lane)"),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 1,
        "current": {"text": "All", "value": "$__all"},
    }


def _placed(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """All panels, row by row, from left to right."""
    placed: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        placed.append(_row(row, len(placed) + 1, top))
        top += 1
        left = tallest = 0
        for panel in row.panels:
            height = _HEIGHT[panel.kind]
            if left + panel.width > _COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            placed.append(_panel(panel, len(placed) + 1, place))
            left, tallest = left + panel.width, max(tallest, height)
        top += tallest
    return placed


def _row(row: Row, number: int, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _STAT_OPTIONS if panel.kind == "stat" else _TIMESERIES_OPTIONS,
        "targets": _targets(panel.queries),
    }


def _targets(queries: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend, "range": True}
        for index, (query, legend) in enumerate(queries)
    ]


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"color": "green", "value": None}, *({"color": color, "value": value} for value, color in panel.limits)]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
        }
    return defaults


_STAT_OPTIONS = {
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "colorMode": "value",
    "graphMode": "area",
    "textMode": "auto",
}
_TIMESERIES_OPTIONS = {
    "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max", "lastNotNull"]},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
