"""What traces and metrics share of OTLP: whether they are wanted, how they travel, and as whose they are told."""

from collections.abc import Mapping
from typing import Any, Literal

SERVICE = "gatehouse"  # where OTEL_SERVICE_NAME does not say otherwise


def is_wanted(environ: Mapping[str, str], what: Literal["TRACES", "METRICS"]) -> bool:
    """Raises ValueError for a protocol that is not spoken here: a collector's gRPC port takes no HTTP."""
    endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{what}_ENDPOINT") or environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    off = environ.get(f"OTEL_{what}_EXPORTER") == "none"
    if not endpoint or off or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    for name in (f"OTEL_EXPORTER_OTLP_{what}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := environ.get(name):
            if protocol != "http/protobuf":
                told = (
                    f"takes http/protobuf, not {protocol!r}; set it, and the endpoint's port for HTTP (4318)"
                )
                raise ValueError(f"{name}: {told}")
            break
    return True


def resource() -> Any:
    """Who exports, by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES; an instance of its own per process."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    told = Resource.create()
    is_named = not str(told.attributes[SERVICE_NAME]).startswith("unknown_service")
    return told if is_named else told.merge(Resource({SERVICE_NAME: SERVICE}))
