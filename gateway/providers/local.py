"""The bundled engine: OpenAI's HTTP over a unix socket (started by the gateway) or at an address."""

from dataclasses import dataclass, field
from typing import Any

from gateway.providers.compatible import OPENAI_DIALECTS, Compatible, Endpoint, Place, parse_base_url


@dataclass(slots=True, frozen=True)
class Engine:
    """Either `model` (a folder or a name: the gateway starts it) or `address` (it runs elsewhere)."""

    model: str = ""
    address: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Local(Compatible):
    spec: type[Any] = Engine
    dialects: frozenset[str] = OPENAI_DIALECTS

    def enabled(self, spec: Any) -> bool:
        return True

    def facts(self, spec: Any) -> Place:
        """`address` is set by then: the policy's own, or the socket of the engine that will be started."""
        address = spec.address
        if not address:
            raise ValueError('address: give "model" to have an engine started, or "address" to attach to one')
        if not address.startswith("unix:"):
            address = address.rstrip("/").removesuffix("/v1") + "/v1"
        parse_base_url(address, "address")  # what is wrong with it is told by the name it has here
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        return Compatible.facts(self, Endpoint(base_url=address, headers=spec.headers, params=spec.params))
