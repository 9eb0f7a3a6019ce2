"""Whether and as whose telemetry is exported, by the standard variables."""

import pytest

from gateway.core.meters import Meters
from gateway.telemetry.house import check_otel
from gateway.telemetry.otlp import is_wanted, resource
from gateway.telemetry.push import Push

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


def test_it_is_told_under_the_name_that_the_environment_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert resource().attributes["service.name"] == "gatehouse"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=of-attributes,deployment.environment=prod")
    told = resource().attributes
    assert (told["service.name"], told["deployment.environment"]) == ("of-attributes", "prod")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert resource().attributes["service.name"] == "mine"
