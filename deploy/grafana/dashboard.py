"""The Grafana dashboard as a program: `python -m deploy.grafana.dashboard` writes dashboards/gatehouse.json, and
with `--check` says whether that is what lies there. What is on it stands in panels/."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.registry import SECTIONS

TARGET = Path(__file__).parent / "dashboards" / "gatehouse.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24


def dashboard(sections: tuple[Section, ...]) -> dict[str, Any]:
    """Classic JSON model (schema 39), which Grafana 10.4 and newer read."""
    return {
        "uid": "gatehouse",
        "title": "Gatehouse",
        "description": "Calls, failures, added latency, tokens, limits and targets of the gateway.",
        "tags": ["gatehouse"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair in all panels
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": list(_laid_out(sections)),
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return [{**source, "current": {}, "hide": 0}, _choice("model", "Model"), _choice("team", "Team")]


def _choice(label: str, title: str) -> dict[str, Any]:
    """Any number of a label's values; all of them at first."""
    query = f"label_values(gateway_requests_total, {label})"
    return {
        "name": label,
        "label": title,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }


def _laid_out(sections: tuple[Section, ...]) -> Iterator[dict[str, Any]]:
    """A header per section, panels left to right below it, a new line where one does not fit."""
    number, y = 0, 0
    for section in sections:
        number += 1
        yield _header(section.title, number, y)
        x, y, tallest = 0, y + 1, 0
        for panel in section.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": x, "y": y})
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _header(title: str, number: int, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": place,
        "panels": [],
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
        "targets": [_target(panel, query, "ABCDEFGH"[n]) for n, query in enumerate(panel.queries)],
    }


def _target(panel: Panel, query: Query, ref: str) -> dict[str, Any]:
    at_once = panel.kind in ("bargauge", "table")
    kinds = {"heatmap": "heatmap", "table": "table"}
    return {
        "refId": ref,
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": kinds.get(panel.kind, "time_series"),
        "instant": at_once,
        "range": not at_once,
    }


def _field(panel: Panel) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": panel.unit, "color": {"mode": "palette-classic"}}
    if panel.limits is not None:
        field["thresholds"] = {"mode": "absolute", "steps": _steps(*panel.limits)}
        field["color"] = {"mode": "thresholds"}
    if panel.words:
        field["mappings"] = [
            {"type": "value", "options": {str(value): {"text": text, "color": color, "index": value}}}
            for value, text, color in panel.words
        ]
    if panel.kind == "timeseries":
        field["min"] = 0
        field["custom"] = {
            "fillOpacity": 30 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return field


def _steps(first: float, second: float) -> list[dict[str, Any]]:
    colors = ("green", "orange", "red") if first < second else ("red", "orange", "green")
    low, high = sorted((first, second))
    return [{"color": color, "value": at} for color, at in zip(colors, (None, low, high), strict=True)]


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    options: dict[str, dict[str, Any]] = {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {"reduceOptions": last, "graphMode": "area", "colorMode": "value", "textMode": "auto"},
        "bargauge": {"reduceOptions": last, "orientation": "horizontal", "displayMode": "gradient"},
        "heatmap": {"calculate": False, "yAxis": {"unit": panel.unit}, "cellGap": 1},
        "state-timeline": {"mergeValues": True, "showValue": "never", "legend": {"showLegend": True}},
        "table": {"showHeader": True},
    }
    return options[panel.kind]


def text() -> str:
    """What belongs into the JSON file."""
    return json.dumps(dashboard(SECTIONS), indent=1) + "\n"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        TARGET.write_text(text(), encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != text():
        sys.exit(f"{TARGET.name} is not what dashboard.py writes; run: python -m deploy.grafana.dashboard")
