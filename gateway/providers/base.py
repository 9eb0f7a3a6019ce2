"""What a provider must offer."""

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.core.address import WireRequest
from gateway.core.credential import Source
from gateway.core.exchange import Call, Headers, Target
from gateway.core.failure import Failure
from gateway.wire.base import Quirks


class Provider(Protocol):
    """A stateless adapter. `Spec` is the dataclass of its own YAML fields; `facts` compiles one."""

    @property
    def spec(self) -> type[Any]: ...

    @property
    def dialects(self) -> frozenset[str]:
        """The dialects this provider speaks as they are."""
        ...

    def speaks(self, dialect: str, model: str, facts: Any = None) -> str:
        """The dialect in which a call is put to this model: its own, or the one it is translated to. `facts` are
        the endpoint's, whose policy may say what it speaks; without them, what all of its kind do."""
        ...

    @property
    def cap_name(self) -> str:
        """What its chat calls the output bound."""
        ...

    @property
    def quirks(self) -> Quirks:
        """How its chat differs from OpenAI's."""
        ...

    def facts(self, spec: Any) -> Any:
        """The frozen view that calls need, made once per policy load. Raises ValueError naming the field."""
        ...

    def misnamed(self, model: str) -> str:
        """Why this can be no model of the provider's; "" for one that may be."""
        ...

    def enabled(self, spec: Any) -> bool:
        """Whether this provider can be used; one whose key is empty is off."""
        ...

    def keys(self, facts: Any) -> int:
        """How many credentials of its own it has to show, one at a time; at least 1, be it none."""
        ...

    def source(self, facts: Any) -> Source | None:
        """Where the credential comes from that its requests show beside what `request` writes; None where
        nothing expires."""
        ...

    def params(self, facts: Any) -> Mapping[str, Any]:
        """Defaults for the body."""
        ...

    def request(
        self, target: Target, call: Call, spoken: str, body: bytes, extra: Headers, turn: int
    ) -> WireRequest:
        """`spoken` is the dialect of `body`, the call's own or `native`. `turn` tells which of
        several keys it shows; `extra` are headers of this call."""
        ...

    def status(self, status: int, body: bytes) -> int:
        """What an error's status means: some put a model's own behind one of theirs."""
        ...

    def classify(self, status: int, body: bytes) -> Failure: ...

    def mask(self, facts: Any, body: bytes) -> bytes:
        """An error's body without the gateway's own credentials."""
        ...


_BY_STATUS = {
    401: Failure.UNAUTHORIZED,
    402: Failure.UNAUTHORIZED,
    403: Failure.UNAUTHORIZED,
    408: Failure.TIMED_OUT,
    429: Failure.THROTTLED,
    503: Failure.OVERLOADED,
    504: Failure.TIMED_OUT,
    524: Failure.TIMED_OUT,  # Cloudflare's
    529: Failure.OVERLOADED,
}


def failure_from_status(status: int) -> Failure:
    """Status first: wording changes, and a 500 that mentions "policy" is still an outage."""
    return _BY_STATUS.get(status) or (Failure.BROKEN if status >= 500 else Failure.REJECTED)
