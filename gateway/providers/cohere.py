"""Cohere: its second version, and of rerank the version that the client asks for."""

from dataclasses import dataclass

from gateway.core.exchange import Call, Target
from gateway.providers.compatible import Compatible


@dataclass(slots=True, frozen=True)
class Cohere(Compatible):
    def path(self, target: Target, call: Call, spoken: str) -> str:
        version = "/v1" if spoken == "cohere.rerank_v1" else "/v2"
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        return version + Compatible.path(self, target, call, spoken)
