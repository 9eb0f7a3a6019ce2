"""The dashboard as a file; that its queries find something is tried in test_live.py."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.dashboard import TARGET, dashboard, text
from deploy.grafana.panels.base import Panel, Query, Section
from deploy.grafana.panels.registry import SECTIONS
from tests.deploy.promql import rules, unknown
from tests.shared import ROOT

DASHBOARD: dict[str, Any] = json.loads(TARGET.read_text())
ROWS = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def test_the_file_is_what_the_program_writes() -> None:
    assert TARGET.read_text() == text(), "run: python -m deploy.grafana.dashboard"


def test_the_program_says_when_the_file_is_not_what_it_writes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy/grafana", tmp_path / "deploy/grafana")
    board = tmp_path / "deploy/grafana/dashboards/gatehouse.json"
    board.write_text("{}")

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "deploy.grafana.dashboard", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    refused = run("--check")
    assert refused.returncode == 1
    assert "run: python -m deploy.grafana.dashboard" in refused.stderr
    assert run().returncode == 0
    assert run("--check").returncode == 0
    assert board.read_text() == TARGET.read_text()


def test_the_sections_are_there() -> None:
    titles = [row["title"] for row in ROWS]
    wanted = ["Traffic", "Errors", "Added latency", "Tokens", "Limits", "Targets"]
    assert [title for title in titles if title in wanted] == wanted


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_all_that_its_reader_needs(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_that_do_not_fit_begin_a_new_line() -> None:
    wide = [Panel(f"p{n}", "d.", "s", (Query("up"),), width=10, height=4) for n in range(3)]
    drawn = dashboard((Section("one", tuple(wide)), Section("two", tuple(wide[:1]))))["panels"]
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in drawn]
    assert places == [(0, 0), (0, 1), (10, 1), (0, 5), (0, 9), (0, 10)]


def test_titles_are_not_used_twice() -> None:
    titles = [panel.title for section in SECTIONS for panel in section.panels]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_exist(title: str, query: str) -> None:
    assert not unknown(query), title


def test_a_query_for_what_does_not_exist_would_be_told() -> None:
    assert unknown("sum(rate(gateway_requests[5m]))") == {"gateway_requests"}
    assert unknown('sum by (key) (gateway_requests_total{model="x"})') == {"key"}
    assert not unknown('histogram_quantile(0.9, sum by (le) (gateway_overhead_seconds_bucket{phase="a"}))')


def test_records_that_panels_use_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set(re.findall(r"gateway:[a-z_:0-9]+", " ".join(query for _, query in QUERIES)))
    assert used
    assert used <= recorded


def test_variables_are_defined_and_used() -> None:
    defined = {one["name"] for one in DASHBOARD["templating"]["list"]}
    queries = " ".join(query for _, query in QUERIES)
    used = set(re.findall(r"\$(?:\{)?([a-z]\w*)", queries + json.dumps(PANELS[0]["datasource"])))
    assert defined == used == {"datasource", "model", "team"}


def test_grafana_finds_the_source_and_the_dashboard_where_they_are_mounted() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    provisioning = ROOT / "deploy/grafana/provisioning"
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    boards = yaml.safe_load((provisioning / "dashboards/gatehouse.yml").read_text())["providers"]
    assert boards[0]["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{boards[0]['options']['path']}/{TARGET.name}"
    sources = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (sources[0]["type"], sources[0]["url"]) == ("prometheus", "http://prometheus:9090")
