"""Triton Inference Server: its OpenAI-compatible front end, or the generate endpoint of the server itself."""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.core.exchange import Call, Target
from gateway.providers.compatible import IN_PATH, Compatible, Endpoint, Place


@dataclass(slots=True, frozen=True)
class TritonEndpoint(Endpoint):
    """`generate` says that models are asked by the generate endpoint, and which engine runs them behind it."""

    generate: Literal["vllm", "tensorrt-llm"] | None = None


@dataclass(slots=True, frozen=True)
class TritonPlace(Place):
    spoken: str = ""  # by the generate endpoint


@dataclass(slots=True, frozen=True)
class Triton(Compatible):
    spec: type[Endpoint] = TritonEndpoint
    names: re.Pattern[str] | None = IN_PATH

    def speaks(self, dialect: str, model: str, facts: Any = None) -> str:
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        return (facts.spoken if facts else "") or Compatible.speaks(self, dialect, model, facts)

    def facts(self, spec: Any) -> TritonPlace:
        """Of the server itself the address is that of the host. Raises ValueError that begins with the field's name."""
        if spec.generate:
            spec = replace(spec, base_url=spec.base_url or "http://127.0.0.1:8000")
        place = Compatible.facts(self, spec)
        found = (place.origin, place.prefix, place.heads, place.secrets, place.params)
        return TritonPlace(
            *found, f"triton.{spec.generate}" if spec.generate else "", responses=place.responses
        )

    def path(self, target: Target, call: Call, spoken: str) -> str:
        if not spoken.startswith("triton."):
            return Compatible.path(self, target, call, spoken)
        return f"/v2/models/{self.named(target, call)}/generate{'_stream' if call.stream else ''}"
