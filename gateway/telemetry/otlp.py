"""What traces and metrics share of OTLP: whether they are wanted, how they travel, and as whose they are told."""

import re
from collections.abc import Mapping
from typing import Any, Literal

SERVICE = "gatehouse"  # where OTEL_SERVICE_NAME does not say otherwise
# What may lead to a collector some day. Blanks before it, and within its path, the exporter takes.
_ADDRESS = re.compile(
    r"\s*https?://(?:[^/?#]*@)?(?:\[[0-9a-f:.]+(?:%[^]\s]+)?]|[^][@:/?#\s]+)(?::(?P<port>[0-9]{0,5}))?(?:[/?#].*)?(?<!\s)",
    re.IGNORECASE | re.DOTALL,
)


def is_wanted(environ: Mapping[str, str], what: Literal["TRACES", "METRICS"]) -> bool:
    """Raises ValueError for an address that can never work, and for a protocol that is not spoken here: a collector's
    gRPC port takes no HTTP."""
    places = {f"OTEL_EXPORTER_OTLP_{what}_ENDPOINT": f"/v1/{what.lower()}", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    endpoint = next((name for name in places if environ.get(name)), None)
    off = environ.get(f"OTEL_{what}_EXPORTER") == "none"
    if endpoint is None or off or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    for name in (f"OTEL_EXPORTER_OTLP_{what}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := environ.get(name):
            if protocol != "http/protobuf":
                told = (
                    f"takes http/protobuf, not {protocol!r}; set it, and the endpoint's port for HTTP (4318)"
                )
                raise ValueError(f"{name}: {told}")
            break
    address = _ADDRESS.fullmatch(environ[endpoint])
    if address is None or not 0 < int(address["port"] or 4318) < 1 << 16:
        takes = "takes http:// or https://, a host and no blanks, and a port from 1 to 65535 where it has one"
        raise ValueError(f"{endpoint}: {takes}; write it as http://collector:4318{places[endpoint]}")
    return True


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """What no log may show of the addresses: a failed export is told with its path and query."""
    names = (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        *(f"OTEL_EXPORTER_OTLP_{what}_ENDPOINT" for what in ("TRACES", "METRICS")),
    )
    return [query for name in names if (query := environ.get(name, "").partition("?")[2])]


def resource() -> Any:
    """Who exports, by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES; an instance of its own per process."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    told = Resource.create()
    is_named = not str(told.attributes[SERVICE_NAME]).startswith("unknown_service")
    return told if is_named else told.merge(Resource({SERVICE_NAME: SERVICE}))
