"""docs/deploying.md: what it shows is taken by the programs it is meant for."""

import re
from typing import Any

import httpx
import pytest
import yaml

from gateway.cli.main import main
from gateway.settings import Settings
from tests.deploy.promql import FOLDER, rules
from tests.deploy.stack import Stack
from tests.shared import ROOT

TEXT = (ROOT / "docs/deploying.md").read_text()
MANIFEST, SCRAPE = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
POD: dict[str, Any] = MANIFEST["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]


def test_the_gateway_takes_the_arguments_of_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CONTAINER["args"], "--workers=0"]) == 2
    assert "worker" in capsys.readouterr().err, "all else was understood"


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_for_what_a_gateway_answers(stack: Stack, probe: str) -> None:
    asked = CONTAINER[probe]["httpGet"]
    ports = {port["name"]: str(port["containerPort"]) for port in CONTAINER["ports"]}
    assert httpx.get(stack.url(ports[asked["port"]]) + asked["path"]).status_code == 200


def test_a_pod_gets_longer_to_end_than_its_calls() -> None:
    wait = float(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] >= wait + Settings().drain_timeout + 5


def test_the_data_folder_is_below_the_volume_and_not_the_volume_itself() -> None:
    """The gateway makes its folder private, which only the owner of a folder may do."""
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    folder = {one["name"]: one["value"] for one in CONTAINER["env"]}["GATEWAY_DATA_DIR"]
    assert folder.startswith(mounts["data"] + "/")


def test_the_scrape_shown_is_the_one_that_ships() -> None:
    shipped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert SCRAPE["scrape_configs"][0] == shipped[0]


def test_every_alert_is_told() -> None:
    told = set(re.findall(r"`(Gateway[A-Z]\w+)`", TEXT))
    assert told == {rule["alert"] for rule in rules() if "alert" in rule}


def test_every_service_and_port_of_the_compose_file_is_told() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    table = TEXT.split("## Images")[0]
    for name, service in services.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}`"))
        for port in service.get("ports", []):
            assert port.split(":")[-1] in row, (name, port)
