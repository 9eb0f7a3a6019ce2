"""Whether and as whose telemetry is exported, by the standard variables."""

import traceback
from pathlib import Path

import pytest

from gateway.core.meters import Meters
from gateway.telemetry.otlp import is_wanted, resource
from gateway.telemetry.push import Push
from gateway.telemetry.telemetry import check_otel
from tests.running import gateway, policies

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize("what", ["TRACES", "METRICS"])
@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_what_is_exported_is_what_is_wanted(what: str, environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ, what) is wanted  # type: ignore[arg-type]


def test_one_of_the_two_may_be_wanted_alone() -> None:
    environ = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9"}
    assert (is_wanted(environ, "TRACES"), is_wanted(environ, "METRICS")) == (False, True)
    environ = {**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}
    assert (is_wanted(environ, "TRACES"), is_wanted(environ, "METRICS")) == (True, False)


def test_a_protocol_that_is_not_spoken_is_refused_with_what_is() -> None:
    with pytest.raises(
        ValueError, match=r"^OTEL_EXPORTER_OTLP_PROTOCOL: takes http/protobuf, not 'grpc'; set it"
    ):
        check_otel({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    own = {
        **ENDPOINT,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    assert is_wanted(own, "TRACES")
    with pytest.raises(ValueError, match=r"^OTEL_EXPORTER_OTLP_PROTOCOL: "):
        Push.open(own, Meters(), lambda: 0.0)


@pytest.mark.parametrize(
    "address",
    [
        "collector:4318",
        "//collector:4318",
        "htp://collector:4318",
        "grpc://collector:4317",
        "http:/collector:4318",
        "http://",
        "http://:4318",
        "http:///v1/traces",
        "http://collector:70000",
        "http://collector:0",
        "http://collector:-1",
        "http://collector:port",
        "http://collector:４３１８",
        "http://fe80::1:4318",
        "http://[fe80::1",
        "http://[collector]:4318",
        "http://collector :4318",
        "http://colle\tctor:4318",
        "http://collector:4318 ",
        "http://collector:4318\n",
        " ",
    ],
)
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_an_address_that_can_never_work_is_refused_by_the_name_of_its_variable(
    name: str, address: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: .*; write it as http://collector:4318"):
        check_otel({name: address})


@pytest.mark.parametrize("what", ["TRACES", "METRICS"])
def test_the_address_that_is_used_is_the_one_that_must_be_good(what: str) -> None:
    own = f"OTEL_EXPORTER_OTLP_{what}_ENDPOINT"
    with pytest.raises(ValueError, match=rf"^{own}: "):
        check_otel({**ENDPOINT, own: "collector:4318"})
    general = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics",
    }
    check_otel(general)
    check_otel({own: "collector:4318", f"OTEL_{what}_EXPORTER": "none"})
    check_otel({own: "collector:4318", "OTEL_SDK_DISABLED": "true"})


@pytest.mark.parametrize(
    "address", ["http://user:hunter2@h:99999?token=hunter2", "user:hunter2@h?token=hunter2"]
)
def test_secrets_in_an_address_are_not_told(address: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_otel({"OTEL_EXPORTER_OTLP_ENDPOINT": address})
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


async def test_no_log_shows_what_follows_the_path_of_an_address(tmp_path: Path) -> None:
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces?token=hunter2"}
    told = "Max retries exceeded with url: /v1/traces?token=hunter2 (Connection refused)"
    policy = policies("http://127.0.0.1:9/v1")
    async with gateway(tmp_path, policy, environ) as running:
        assert "hunter2" not in running.house.log.clean(told)
        (running.folder / "gateway.yaml").write_text(policy + "\n# another version\n")
        async with running.admin() as admin:
            assert (await admin.post("/admin/v1/policies/reload")).status_code == 200
        assert "hunter2" not in running.house.log.clean(told)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9",
        "HTTPS://collector",
        "http://collector:",
        "http://user:pass@collector:4318/v1/traces?token=x",
        "http://[::1]:4318/",
        "https://otlp_gateway.example.com:443/otlp",
        "http://no-such-host.invalid:65535",
    ],
)
def test_a_collector_that_may_be_there_one_day_is_no_reason_not_to_start(address: str) -> None:
    check_otel({"OTEL_EXPORTER_OTLP_ENDPOINT": address})


def test_it_is_told_under_the_name_that_the_environment_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert resource().attributes["service.name"] == "gatehouse"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=of-attributes,deployment.environment=prod")
    told = resource().attributes
    assert (told["service.name"], told["deployment.environment"]) == ("of-attributes", "prod")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert resource().attributes["service.name"] == "mine"
