"""Text Embeddings Inference: embeddings as OpenAI has them, and a rerank of its own that stands beside `/v1`."""

from dataclasses import dataclass, replace

from gateway.core.exchange import Call, Target
from gateway.providers.compatible import Compatible, Endpoint, Place


@dataclass(slots=True, frozen=True)
class Tei(Compatible):
    def facts(self, spec: Endpoint) -> Place:
        """The address is the server's, with or without `/v1`. Raises ValueError that begins with the field's name."""
        host = spec.base_url.rstrip("/").removesuffix("/v1")
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        return Compatible.facts(self, replace(spec, base_url=host))

    def path(self, target: Target, call: Call, spoken: str) -> str:
        version = "" if spoken == self.rerank else "/v1"
        return version + Compatible.path(self, target, call, spoken)
