"""docker-compose.yml: by the official schema (compose-spec.json beside this file is the Compose Specification's own,
Apache-2.0), by the promises it makes, and by running its commands without containers."""

import json
import re
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.cli.main import main
from tests.deploy.image import lay_out, stages
from tests.deploy.stack import SECRETS, Stack, compose, interpolate
from tests.shared import ROOT

RAW = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = RAW["services"]
SCHEMA = json.loads((ROOT / "tests/deploy/compose-spec.json").read_text())


def test_the_file_is_valid_by_the_compose_specification() -> None:
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(RAW)] == []


def test_the_schema_would_tell_a_mistake() -> None:
    wrong = {"services": {"gateway": {"image": "x:1", "helthcheck": {}}}}
    assert not Draft202012Validator(SCHEMA).is_valid(wrong)


def test_the_whole_picture_is_there() -> None:
    assert set(SERVICES) == {"gateway", "local-backend", "redis", "prometheus", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_checked_restarted_and_has_no_rights_to_spare(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), "a tag that names one release"
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_refers_to_is_there(name: str) -> None:
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).is_dir() if source.startswith("./") else source in RAW["volumes"], volume
    assert set(service["networks"]) <= set(RAW["networks"])
    assert set(service.get("secrets", [])) <= set(RAW["secrets"])
    assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_redis_and_the_engine_are_reached_from_inside_alone() -> None:
    assert RAW["networks"]["back"]["internal"] is True
    for name in ("redis", "local-backend"):
        assert SERVICES[name]["networks"] == ["back"]
        assert "ports" not in SERVICES[name]
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith(("127.0.0.1:", "${LISTEN:-127.0.0.1}:")) for port in published), published


def test_no_secret_is_in_a_file_and_none_has_a_default() -> None:
    wanted = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert wanted == {*SECRETS, "GRAFANA_PASSWORD"}
    for name in wanted:
        others = {one: "x" for one in wanted if one != name}
        with pytest.raises(KeyError, match=name):
            compose(others)
    example = (ROOT / ".env.example").read_text()
    assert {name for name in wanted if f"\n{name}=\n" in example} == wanted
    assert "/.env\n" in (ROOT / ".gitignore").read_text()


def test_variables_are_read_as_compose_reads_them() -> None:
    read = interpolate(["${A:-b}$$c", {"x": "${D}"}, 3], {"D": "e"})
    assert read == ["b$c", {"x": "e"}, 3]


def test_health_checks_are_the_images_own() -> None:
    images = stages((ROOT / "Dockerfile").read_text())
    for name in ("gateway", "local-backend"):
        assert SERVICES[name]["build"]["target"] == name
        assert SERVICES[name]["healthcheck"]["test"][1:] == images[name].words("HEALTHCHECK")


def test_the_gateway_gets_longer_to_end_than_its_calls() -> None:
    gateway = SERVICES["gateway"]
    drain = int(gateway["environment"]["GATEWAY_DRAIN_TIMEOUT"].removesuffix("s"))
    assert int(gateway["stop_grace_period"].removesuffix("s")) >= drain + 5


def test_the_policies_of_the_compose_file_pass_their_check() -> None:
    assert main(["check", str(ROOT / "deploy/policies")]) == 0


def test_every_service_is_healthy_by_its_own_check(stack: Stack) -> None:
    for name in ("redis", "local-backend", "gateway", "prometheus"):
        assert stack.is_healthy(name), name


def test_a_key_made_as_the_file_says_gets_an_answer_of_the_engine(stack: Stack) -> None:
    words = ["python", "-m", "gateway", "keys", "create", "--name", "first", "--team", "default"]
    made = stack.run("gateway", *words, GATEWAY_ADMIN_URL=stack.url("8081"))
    assert made.returncode == 0, made.stderr
    key = made.stdout.split()[0]
    body = {"model": "demo", "messages": [{"role": "user", "content": "What is Gatehouse?"}]}
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=stack.url("8080"), headers=headers, timeout=30) as client:
        until = time.monotonic() + 5
        while client.get("/v1/models").status_code == 401 and time.monotonic() < until:
            time.sleep(0.05)  # every worker looks for new keys twice a second
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-target"] == "local/bundled"
    assert answer.json()["choices"][0]["message"]["content"]
    words = ["python", "-m", "gateway", "usage", "--by", "model", "--json"]
    usage = json.loads(stack.run("gateway", *words, GATEWAY_ADMIN_URL=stack.url("8081")).stdout)
    assert {row["model"]: row["calls"] for row in usage["rows"]} == {"demo": 1}


def test_redis_asks_for_its_password(stack: Stack) -> None:
    port = str(stack.ports["6379"])
    said = stack.run("redis", "redis-cli", "-p", port, "ping")
    assert "NOAUTH" in said.stdout + said.stderr


def test_limits_are_kept_in_redis(stack: Stack) -> None:
    port = str(stack.ports["6379"])
    keys = stack.run("redis", "redis-cli", "-p", port, "keys", "*", REDISCLI_AUTH=SECRETS["REDIS_PASSWORD"])
    assert "gatehouse:v1:" in keys.stdout


def test_metrics_take_the_token_of_prometheus_which_opens_nothing_else(stack: Stack) -> None:
    token = {"authorization": f"Bearer {SECRETS['METRICS_TOKEN']}"}
    admin = stack.url("8081")
    nobody = {
        "authorization": "Bearer of-nobody"
    }  # of loopback, where the tests are, metrics ask none at all
    assert "gateway_policy_info" in httpx.get(f"{admin}/metrics", headers=token).text
    assert httpx.get(f"{admin}/admin/v1/keys", headers=nobody).status_code == 401
    assert httpx.get(f"{admin}/admin/v1/keys", headers=token).status_code == 403


def test_the_data_folder_is_the_gateways_alone(stack: Stack) -> None:
    folder = stack.mounted("gateway", "/var/lib/gatehouse")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert any(folder.iterdir())


@pytest.mark.parametrize("name", ["gateway", "local-backend"])
def test_nothing_is_written_where_the_root_is_read_only(stack: Stack, tmp_path: Path, name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    fresh = lay_out(stages((ROOT / "Dockerfile").read_text())[name], tmp_path)
    assert _files(stack.folder / "images" / name) == _files(tmp_path)
    assert (fresh / "healthy.py").is_file()


def _files(root: Path) -> set[str]:
    """Without what the interpreter keeps: in an image it is compiled already."""
    found = (file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    return {file for file in found if "__pycache__" not in file}
